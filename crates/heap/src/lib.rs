//! The allocator of a process, which is jemalloc: what it holds, what can be set about it while it runs and at the next
//! start, and where its memory was asked for.
//!
//! This crate must never be global state for others: whoever is to read or change the allocator is handed a [`Heap`], and
//! there is one only where the process allocates from jemalloc.
//!
//! ```text
//! asked of the system: mapped = resident + what is mapped without pages; retained: given back, addresses kept
//! resident            = active + dirty (freed not long ago, kept for reuse) + metadata
//! active              = pages that hold something
//! allocated           = bytes the program has asked for and not freed
//! ```
//!
//! A page that is freed is dirty, then muzzy (the system may take it), then gone. **Decay** is how long each step takes; a
//! **purge** takes both at once. A background thread does it in time; without one it waits for the next allocation of
//! its arena.
//!
//! | module | what |
//! |---|---|
//! | [`heap`](Heap) | the handle: one change at a time, whole or not at all |
//! | [`readings`](Readings) | what the allocator says of itself |
//! | [`change`](Change) | what can be set while it runs, with the ranges |
//! | [`policy`](Policy) | named sets of settings |
//! | [`startup`](Startup) | what is set when the process starts |
//! | [`settings`](Settings) | all of these together, and as text, to be kept over a restart: `docs/formats/heap.md` |
//! | [`profile`](pprof) | a dump of the profiler as a pprof file |
//!
//! Not done: an allocator other than jemalloc; arenas of one's own; thread caches of other threads, which only their own
//! threads can empty.

mod change;
mod heap;
mod mallctl;
mod policy;
mod profile;
mod readings;
mod settings;
mod startup;

pub use change::{Change, ChangeError, DECAY_MS_MAX};
pub use heap::{Heap, HeapError, Target};
pub use policy::{Policy, UnknownPolicy};
pub use profile::{ProfileError, pprof};
pub use readings::{ArenaReading, Profiling, Readings};
pub use settings::{Settings, SettingsError};
pub use startup::{
    ARENAS_MAX, CONF_VARIABLE, Merged, Startup, StartupError, THREAD_CACHE_BYTES_MAX,
};
