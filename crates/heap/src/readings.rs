//! What the allocator says of itself.

use crate::mallctl::{self, MallctlError};

/// All figures of one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Readings {
    /// Bytes the program holds.
    pub allocated_bytes: u64,
    /// Bytes of pages that hold something: at least `allocated_bytes`.
    pub active_bytes: u64,
    /// Bytes of the allocator's own.
    pub metadata_bytes: u64,
    /// Bytes of pages in memory, those included that are kept for reuse. The process has others beside these.
    pub resident_bytes: u64,
    /// Bytes of addresses in use.
    pub mapped_bytes: u64,
    /// Bytes of addresses that are kept although their pages were given back.
    pub retained_bytes: u64,
    /// Whether threads of the allocator give pages back in time.
    pub background_threads: bool,
    /// How many there are.
    pub background_thread_count: u64,
    /// How long an arena that is made from now on keeps freed pages, in milliseconds; below 0: for ever.
    pub dirty_decay_ms: i64,
    /// How long it then leaves them to the system's choice, in milliseconds; below 0: for ever.
    pub muzzy_decay_ms: i64,
    /// How many arenas threads are spread over; 0 where each is to have one of its own.
    pub arena_limit: u32,
    /// The longest allocation that threads keep for themselves when it is freed; 0: they keep none.
    pub thread_cache_bytes_max: u64,
    /// What the profiler does.
    pub profiling: Profiling,
    /// Every arena that is in use, by its index.
    pub arenas: Vec<ArenaReading>,
}

/// What the profiler does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Profiling {
    /// Whether the process was started with one.
    pub available: bool,
    /// Whether it samples.
    pub active: bool,
    /// Bytes between two samples, on average.
    pub sample_bytes: u64,
}

/// The figures of one arena.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ArenaReading {
    /// Its index.
    pub index: u32,
    /// Threads that allocate from it.
    pub thread_count: u32,
    /// Bytes held in small allocations.
    pub small_bytes: u64,
    /// Bytes held in large ones.
    pub large_bytes: u64,
    /// Bytes of pages that hold something.
    pub active_bytes: u64,
    /// Bytes of freed pages that are kept.
    pub dirty_bytes: u64,
    /// Bytes of freed pages that the system may take.
    pub muzzy_bytes: u64,
    /// Bytes of pages in memory.
    pub resident_bytes: u64,
    /// Bytes of addresses in use.
    pub mapped_bytes: u64,
    /// Bytes of addresses kept without pages.
    pub retained_bytes: u64,
    /// As in [`Readings`], of this arena.
    pub dirty_decay_ms: i64,
    /// As in [`Readings`], of this arena.
    pub muzzy_decay_ms: i64,
}

impl Readings {
    /// Takes all of them. The arenas' locks are taken one after the other: this is nothing for a hot path.
    pub(crate) fn take() -> Result<Readings, MallctlError> {
        mallctl::refresh()?;
        let page_bytes = mallctl::read_size("arenas.page")?;
        let arenas = initialised_arenas()?.into_iter();
        Ok(Readings {
            allocated_bytes: mallctl::read_size("stats.allocated")?,
            active_bytes: mallctl::read_size("stats.active")?,
            metadata_bytes: mallctl::read_size("stats.metadata")?,
            resident_bytes: mallctl::read_size("stats.resident")?,
            mapped_bytes: mallctl::read_size("stats.mapped")?,
            retained_bytes: mallctl::read_size("stats.retained")?,
            background_threads: mallctl::read_switch("background_thread")?,
            background_thread_count: mallctl::read_size("stats.background_thread.num_threads")?,
            dirty_decay_ms: mallctl::read_signed("arenas.dirty_decay_ms")? as i64,
            muzzy_decay_ms: mallctl::read_signed("arenas.muzzy_decay_ms")? as i64,
            arena_limit: mallctl::read_count("opt.narenas")?,
            thread_cache_bytes_max: thread_cache_bytes_max()?,
            profiling: Profiling::take()?,
            arenas: arenas
                .map(|index| ArenaReading::take(index, page_bytes))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Bytes of freed pages that a purge would give back.
    pub fn purgeable_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.dirty_bytes + arena.muzzy_bytes).sum()
    }
}

impl Profiling {
    pub(crate) fn take() -> Result<Profiling, MallctlError> {
        if !mallctl::read_switch("config.prof")? || !mallctl::read_switch("opt.prof")? {
            return Ok(Profiling::default());
        }
        let sample_log = mallctl::read_size("prof.lg_sample")?;
        Ok(Profiling {
            available: true,
            active: mallctl::read_switch("prof.active")?,
            sample_bytes: 1_u64.checked_shl(u32::try_from(sample_log).unwrap_or(0)).unwrap_or(0),
        })
    }
}

impl ArenaReading {
    fn take(index: u32, page_bytes: u64) -> Result<ArenaReading, MallctlError> {
        let size = |name: &str| mallctl::read_size(&format!("stats.arenas.{index}.{name}"));
        let pages = |name: &str| Ok::<u64, MallctlError>(size(name)? * page_bytes);
        let decay = |name: &str| {
            Ok::<i64, MallctlError>(mallctl::read_signed(&format!("arena.{index}.{name}"))? as i64)
        };
        Ok(ArenaReading {
            index,
            thread_count: mallctl::read_count(&format!("stats.arenas.{index}.nthreads"))?,
            small_bytes: size("small.allocated")?,
            large_bytes: size("large.allocated")?,
            active_bytes: pages("pactive")?,
            dirty_bytes: pages("pdirty")?,
            muzzy_bytes: pages("pmuzzy")?,
            resident_bytes: size("resident")?,
            mapped_bytes: size("mapped")?,
            retained_bytes: size("retained")?,
            dirty_decay_ms: decay("dirty_decay_ms")?,
            muzzy_decay_ms: decay("muzzy_decay_ms")?,
        })
    }
}

fn thread_cache_bytes_max() -> Result<u64, MallctlError> {
    if mallctl::read_switch("opt.tcache")? { mallctl::read_size("opt.tcache_max") } else { Ok(0) }
}

/// The arenas that have been made.
pub(crate) fn initialised_arenas() -> Result<Vec<u32>, MallctlError> {
    let mut found = Vec::new();
    for index in 0..mallctl::read_count("arenas.narenas")? {
        if mallctl::read_switch(&format!("arena.{index}.initialized"))? {
            found.push(index);
        }
    }
    Ok(found)
}
