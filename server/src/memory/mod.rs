//! The memory of the process, where it is this program's own: settings of the allocator, limits, purges.
//!
//! ```text
//! flags, environment, heap.settings --> control --> the allocator (kvorum-heap)
//!                                          |
//!                                          v rules
//!          keeper: look, purge, judge ---> ceiling <--- grants for what is large --- grpc
//! ```
//!
//! A program that embeds the library hands over no [`Heap`](kvorum_heap::Heap): its allocator and its memory are its own
//! business, nothing here runs, nothing is refused, and who asks is told so.

mod ceiling;
mod control;
mod figures;
mod file;
mod keeper;
mod machine;
mod restart;
mod rules;

pub(crate) use ceiling::{Ceiling, Grant, LARGE_BYTES};
pub use control::MemoryError;
pub(crate) use control::{Memory, State, Wish};
pub(crate) use figures::PurgeFigures;
pub use file::SettingsFileError;
pub(crate) use keeper::Keeper;
pub(crate) use restart::restart_if_wanted;
pub use rules::RulesError;
pub(crate) use rules::{LIMIT_BYTES_MIN, QUIET_PURGE_MAX, QUIET_PURGE_MIN};
