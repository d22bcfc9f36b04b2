//! The small vocabulary every other crate shares: ids, revisions, key ranges, log positions, and a cursor that reads
//! bytes without ever reading past their end.
//!
//! This crate must never hold policy: no limits, no defaults, no input or output, no time.

mod cursor;
mod id;
pub mod mutants;
mod position;
mod range;
mod revision;

pub use cursor::{ByteCursor, UnexpectedEnd};
pub use id::{ClusterId, Incarnation, LeaseId, MemberId};
pub use position::Position;
pub use range::{KeyRange, RangeEnd};
pub use revision::{REVISION_BYTES, Revision};
