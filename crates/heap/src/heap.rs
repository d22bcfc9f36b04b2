//! The handle.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::change::{Change, ChangeError, Facts};
use crate::mallctl::{self, ALL_ARENAS, Jemalloc, MallctlError};
use crate::readings::{self, Profiling, Readings};

/// What a process that allocates from something else allocates of it to find that out.
const PROBE_BYTES: usize = 64 * 1024;

/// The allocator of this process. Clones are handles to the same.
///
/// - There is one only where the process does allocate from jemalloc.
/// - One change or purge is made at a time; readings wait for none of them.
#[derive(Clone, Debug)]
pub struct Heap {
    changes: Arc<Mutex<()>>,
}

/// Which arenas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// Every arena.
    All,
    /// The one of that index.
    Arena(u32),
}

/// Why the allocator did not do what it was told to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeapError {
    /// A change that was refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The allocator failed.
    #[error(transparent)]
    Allocator(#[from] MallctlError),
}

impl Heap {
    /// The allocator of this process; none if what the program allocates does not come from jemalloc. Finds out by
    /// allocating something.
    pub fn of_process() -> Option<Heap> {
        let counted = || mallctl::read_wide("thread.allocated").ok();
        let before = counted()?;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(PROBE_BYTES)));
        let is_ours = counted()?.saturating_sub(before) >= PROBE_BYTES as u64;
        is_ours.then(|| Heap { changes: Arc::default() })
    }

    /// What the allocator says of itself now.
    pub fn readings(&self) -> Result<Readings, HeapError> {
        Ok(Readings::take()?)
    }

    /// Makes a change, whole or not at all, and tells how things stand after it.
    pub fn change(&self, change: &Change) -> Result<Readings, HeapError> {
        let _alone = self.alone();
        let facts = Facts {
            arenas: readings::initialised_arenas()?,
            has_profiler: Profiling::take()?.available,
        };
        change.check_against(&facts)?;
        change.make(&Jemalloc, &facts)?;
        Ok(Readings::take()?)
    }

    /// Gives all freed pages back to the system. Other threads keep what they have in caches of their own.
    pub fn purge(&self, target: Target) -> Result<(), HeapError> {
        let _alone = self.alone();
        let index = match target {
            Target::All => ALL_ARENAS,
            Target::Arena(arena) => {
                let arenas = readings::initialised_arenas()?;
                if !arenas.contains(&arena) {
                    return Err(ChangeError::NoArena { arena, arenas }.into());
                }
                arena as usize
            }
        };
        // The thread's own cache goes first, so that its pages are among those that are free.
        mallctl::call("thread.tcache.flush")?;
        Ok(mallctl::call(&format!("arena.{index}.purge"))?)
    }

    /// Has the profiler write what it knows into the file of that name, in the allocator's own format:
    /// [`pprof`](crate::pprof) makes a profile of it.
    pub fn dump_profile(&self, path: &Path) -> Result<(), HeapError> {
        if !Profiling::take()?.available {
            return Err(ChangeError::NoProfiler.into());
        }
        Ok(mallctl::dump_profile(path)?)
    }

    fn alone(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
