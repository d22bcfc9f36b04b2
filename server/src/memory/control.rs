//! What an operator reads and sets while the member runs.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use kvorum_disk::Disk;
use kvorum_heap::{Change, ChangeError, Heap, HeapError, ProfileError, Readings, Settings, Target};
use kvorum_pool::BufferPool;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::CoreMember;
use crate::builder::Builder;

use super::ceiling::{Ceiling, CeilingFigures};
use super::figures::PurgeFigures;
use super::file::{self, SettingsFileError};
use super::keeper::{Keeper, Own, Reason, Steps, Watched};
use super::machine::Machine;
use super::rules::{Rules, RulesError};

/// The longest profile that is made. A dump has a line for each call stack that was sampled.
const PROFILE_BYTES_MAX: u64 = 256 << 20;

/// Why memory is not managed as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A bad value: nothing was changed.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Something that cannot be set so: nothing was changed.
    #[error("{0}")]
    Request(&'static str),
    /// The allocator refused or failed.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// The file of settings.
    #[error(transparent)]
    File(#[from] SettingsFileError),
    /// Settings were to outlive a restart and could not be written: nothing was changed.
    #[error("the settings could not be written, and nothing was changed: {0}")]
    NotPersisted(std::io::Error),
    /// A profile was asked for and there is none.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A profile could not be written.
    #[error("cannot write a profile below the data directory: {0}")]
    ProfileFile(std::io::Error),
    /// The keeper did not start.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What is to be set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) settings: Settings,
    /// The one arena whose decay is meant.
    pub(crate) arena: Option<u32>,
    /// Whether it is to outlive a restart.
    pub(crate) persist: bool,
}

/// How things stand.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) persisted: Option<Settings>,
    pub(crate) readings: Readings,
    pub(crate) ceiling: CeilingFigures,
    pub(crate) purges: PurgeFigures,
    pub(crate) memory_bytes: Option<u64>,
}

/// The memory of a process that is ours. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Inner>);

struct Inner {
    heap: Heap,
    machine: Machine,
    pool: BufferPool,
    ceiling: Ceiling,
    watched: Arc<Watched>,
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    rules: watch::Sender<Rules>,
    /// One change at a time, from its check until it is on the disk. Nothing else waits for this.
    changes: Mutex<()>,
    standing: Mutex<Standing>,
}

#[derive(Clone, Copy, Default)]
struct Standing {
    /// All that is set, by flags, by the file, and since then.
    settings: Settings,
    persisted: Option<Settings>,
}

impl Memory {
    /// Of a member that was handed its process's allocator.
    pub(crate) fn of(
        builder: &Builder,
        disk: &Arc<dyn Disk>,
        pool: &BufferPool,
    ) -> Result<Option<(Memory, Keeper)>, MemoryError> {
        let Some(heap) = builder.heap.clone() else { return Ok(None) };
        let place = (disk.clone(), builder.config.data_dir.clone());
        let name = format!("{}heap", builder.thread_name_prefix);
        Memory::open(heap, &builder.config.memory, place, (name, pool.clone())).map(Some)
    }

    /// Applies flags and file, and starts the keeper.
    fn open(
        heap: Heap,
        flags: &Settings,
        (disk, data_dir): (Arc<dyn Disk>, PathBuf),
        (name, pool): (String, BufferPool),
    ) -> Result<(Memory, Keeper), MemoryError> {
        let machine = Machine::default();
        let persisted = file::read(&*disk, &data_dir)?;
        let settings = persisted.map_or(*flags, |persisted| flags.overlaid(&persisted));
        let rules = Rules::of(&settings, machine.memory_bytes())?;
        heap.change(&changed(&settings, &rules))?;
        let (ceiling, watched) = (Ceiling::default(), Arc::<Watched>::default());
        ceiling.set_hard_limit(rules.hard_limit_bytes);
        let own = Own { heap: heap.clone(), machine: machine.clone(), pool: pool.clone() };
        let steps = Steps::new(own, ceiling.clone(), watched.clone(), std::time::Instant::now());
        let (rules, rules_seen) = watch::channel(rules);
        let keeper = Keeper::start(steps, rules_seen, name).map_err(MemoryError::Thread)?;
        let standing = Mutex::new(Standing { settings, persisted });
        let changes = Mutex::new(());
        let inner = Inner {
            heap,
            machine,
            pool,
            ceiling,
            watched,
            disk,
            data_dir,
            rules,
            changes,
            standing,
        };
        Ok((Memory(Arc::new(inner)), keeper))
    }

    /// Has `member`, while it leads, judge what followers forward to it.
    pub(crate) fn judge_forwarded(&self, member: &CoreMember) {
        let ceiling = self.0.ceiling.clone();
        member.judge_forwarded(Box::new(move |entry| ceiling.admits_forwarded(entry)));
    }

    /// What requests are admitted by.
    pub(crate) fn ceiling(&self) -> &Ceiling {
        &self.0.ceiling
    }

    /// Notes that there is a request.
    pub(crate) fn note_traffic(&self) {
        let has_traffic = &self.0.watched.has_traffic;
        // Read first: a line that all threads write to is dear.
        if !has_traffic.load(Ordering::Relaxed) {
            has_traffic.store(true, Ordering::Relaxed);
        }
    }

    /// How things stand. Takes locks of the allocator one after the other: nothing for a hot path.
    pub(crate) fn state(&self) -> Result<State, MemoryError> {
        let Standing { settings, persisted } = *self.0.standing.lock();
        Ok(State {
            rules: *self.0.rules.borrow(),
            settings,
            persisted,
            readings: self.0.heap.readings()?,
            ceiling: self.0.ceiling.figures(),
            purges: self.0.watched.purges.figures(),
            memory_bytes: self.0.machine.memory_bytes(),
        })
    }

    /// Sets all of it or nothing, and tells how things stand after it. Waits for the disk where it is to persist.
    pub(crate) fn set(&self, wish: &Wish) -> Result<State, MemoryError> {
        {
            let _alone = self.0.changes.lock();
            self.set_alone(wish)?;
        }
        self.state()
    }

    fn set_alone(&self, wish: &Wish) -> Result<(), MemoryError> {
        wish.check()?;
        let standing = *self.0.standing.lock();
        let settings = match wish.arena {
            // Of one arena nothing is kept.
            Some(_) => standing.settings,
            None => standing.settings.overlaid(&wish.settings),
        };
        let rules = Rules::of(&settings, self.0.machine.memory_bytes())?;
        let change = Change { arena: wish.arena, ..wish.settings.change() };
        change.check().map_err(HeapError::from)?;
        let mut persisted = standing.persisted;
        if wish.persist {
            let kept = persisted.unwrap_or_default().overlaid(&wish.settings);
            self.write(Some(&kept))?;
            persisted = Some(kept);
        }
        if !change.is_empty()
            && let Err(error) = self.0.heap.change(&change)
        {
            if wish.persist {
                self.write(standing.persisted.as_ref())?;
            }
            return Err(error.into());
        }
        self.0.ceiling.set_hard_limit(rules.hard_limit_bytes);
        self.0.rules.send_replace(rules);
        *self.0.standing.lock() = Standing { settings, persisted };
        tracing::info!(settings = ?wish.settings, arena = wish.arena, persist = wish.persist, "memory settings changed");
        Ok(())
    }

    fn write(&self, settings: Option<&Settings>) -> Result<(), MemoryError> {
        file::write(&*self.0.disk, &self.0.data_dir, settings).map_err(MemoryError::NotPersisted)
    }

    /// Gives freed pages back, and with those of all arenas the buffers that lie idle; what the process had before and after it.
    pub(crate) fn purge(&self, target: Target) -> Result<(u64, u64), MemoryError> {
        let resident = || self.0.machine.resident_bytes().unwrap_or(0);
        let before = resident();
        if target == Target::All {
            self.0.pool.trim();
        }
        let purged = self.0.heap.purge(target);
        let after = resident();
        if !matches!(purged, Err(HeapError::Change(_))) {
            let given_back = before.saturating_sub(after);
            self.0.watched.purges.count(Reason::Asked, given_back, purged.is_err());
        }
        purged?;
        Ok((before, after))
    }

    /// Who holds what, as far as it was sampled, as a pprof file.
    pub(crate) fn profile(&self) -> Result<Vec<u8>, MemoryError> {
        let file = tempfile::Builder::new().prefix("heap-profile-").tempfile_in(&self.0.data_dir);
        let mut file = file.map_err(MemoryError::ProfileFile)?;
        self.0.heap.dump_profile(file.path())?;
        let mut dump = Vec::new();
        let mut limited = file.as_file_mut().take(PROFILE_BYTES_MAX);
        limited.read_to_end(&mut dump).map_err(MemoryError::ProfileFile)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(kvorum_heap::pprof(&dump, i64::try_from(now.as_nanos()).unwrap_or(0))?)
    }
}

/// What the allocator is told at the start: the policy, and what is set beside it.
fn changed(settings: &Settings, rules: &Rules) -> Change {
    Settings { policy: Some(rules.policy), ..*settings }.change()
}

impl Wish {
    fn check(&self) -> Result<(), MemoryError> {
        let settings = &self.settings;
        if *settings == Settings::default() {
            return Err(MemoryError::Request("nothing is to be set"));
        }
        let at_start = settings.arenas.is_some() || settings.thread_cache_bytes.is_some();
        if at_start && !self.persist {
            return Err(MemoryError::Request(
                "arenas and thread_cache_bytes hold from the next start on: they must be persisted",
            ));
        }
        if self.arena.is_some() {
            let of_arena = Settings {
                dirty_decay_ms: settings.dirty_decay_ms,
                muzzy_decay_ms: settings.muzzy_decay_ms,
                ..Settings::default()
            };
            if self.persist {
                return Err(MemoryError::Request(
                    "what is set of one arena cannot be persisted: arenas are new at every start",
                ));
            }
            if *settings != of_arena {
                return Err(HeapError::from(ChangeError::NothingOfArena).into());
            }
        }
        Ok(())
    }
}
