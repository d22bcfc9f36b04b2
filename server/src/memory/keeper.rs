//! The thread that looks at the process, judges by its limits, and purges.
//!
//! | when | what |
//! |---|---|
//! | always | look what the process has, and judge |
//! | at the hard limit, or somebody would be refused | purge, look again, then judge |
//! | beyond the soft limit | purge; under the policy `latency` only where no requests come |
//! | no requests for the quiet time | purge once |
//!
//! It is the only one that looks and judges, so that no two of them disagree, and it is there from the start of the member
//! whether or not there is a limit: one that is set later holds at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvorum_heap::{Heap, Target};
use kvorum_pool::BufferPool;
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::ceiling::Ceiling;
use super::machine::Machine;
use super::rules::Rules;

/// How long it rests between two looks while there is far less than the limit.
const REST: Duration = Duration::from_millis(100);
/// The same once half of the limit is in use.
const SHORT_REST: Duration = Duration::from_millis(10);
/// The least time between two purges at the hard limit.
const HARD_PAUSE: Duration = Duration::from_millis(100);
/// The same beyond the soft limit, as long as purges give something back, and once they do not.
const SOFT_PAUSE_MIN: Duration = Duration::from_secs(1);
const SOFT_PAUSE_MAX: Duration = Duration::from_secs(64);
/// A purge that gives back less than this part of what there was gives nothing.
const WORTH_PART: u64 = 32;

/// What the keeper looks at and purges. In tests it is something else than this process.
pub(super) trait Process {
    /// Bytes of memory it has.
    fn resident_bytes(&mut self) -> u64;
    /// Gives back what it can.
    fn purge(&mut self) -> Result<(), String>;
}

/// Why memory was purged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reason {
    Quiet,
    SoftLimit,
    HardLimit,
    Asked,
}

/// What the keeper shares with those who serve and those who set.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Whether a request has come since the last look.
    pub(super) has_traffic: AtomicBool,
    pub(super) purges: super::figures::Purges,
}

/// The keeper without its thread.
pub(super) struct Steps<P> {
    process: P,
    ceiling: Ceiling,
    watched: Arc<Watched>,
    last_traffic: Instant,
    is_purged: bool,
    last_purge: Option<Instant>,
    soft_pause: Duration,
}

impl<P: Process> Steps<P> {
    pub(super) fn new(process: P, ceiling: Ceiling, watched: Arc<Watched>, now: Instant) -> Self {
        Steps {
            process,
            ceiling,
            watched,
            last_traffic: now,
            is_purged: false,
            last_purge: None,
            soft_pause: SOFT_PAUSE_MIN,
        }
    }

    /// Looks, purges and judges once, by these rules; how long to rest after it, unless a verdict is wanted.
    pub(super) fn step(&mut self, rules: &Rules, now: Instant) -> Duration {
        let wanted = self.ceiling.wanted();
        let is_short = self.ceiling.take_short();
        let process = &mut self.process;
        let resident = self.ceiling.observe(|| process.resident_bytes());
        if self.watched.has_traffic.swap(false, Ordering::Relaxed) {
            (self.last_traffic, self.is_purged) = (now, false);
        }
        if let Some(reason) = self.reason(rules, resident, is_short, now) {
            self.purge(reason, resident, now);
        }
        if self.ceiling.judge(wanted) {
            self.tell();
        }
        let hard = rules.hard_limit_bytes.unwrap_or(u64::MAX);
        if self.ceiling.figures().resident_bytes >= hard / 2 { SHORT_REST } else { REST }
    }

    fn reason(&self, rules: &Rules, resident: u64, is_short: bool, now: Instant) -> Option<Reason> {
        let has_passed = |pause: Duration| {
            self.last_purge.is_none_or(|last| now.saturating_duration_since(last) >= pause)
        };
        let is_at = |limit: Option<u64>| limit.is_some_and(|limit| resident >= limit);
        if (is_short || is_at(rules.hard_limit_bytes)) && has_passed(HARD_PAUSE) {
            return Some(Reason::HardLimit);
        }
        let quiet_for = now.saturating_duration_since(self.last_traffic);
        let is_still = quiet_for >= REST;
        let may_purge = rules.policy.purges_under_load() || is_still;
        if is_at(rules.soft_limit_bytes) && may_purge && has_passed(self.soft_pause) {
            return Some(Reason::SoftLimit);
        }
        let is_quiet = rules.quiet_purge.is_some_and(|quiet| quiet_for >= quiet);
        (is_quiet && !self.is_purged).then_some(Reason::Quiet)
    }

    fn purge(&mut self, reason: Reason, before: u64, now: Instant) {
        let done = self.process.purge();
        let process = &mut self.process;
        let after = self.ceiling.observe(|| process.resident_bytes());
        let given_back = before.saturating_sub(after);
        self.last_purge = Some(now);
        self.is_purged |= reason == Reason::Quiet;
        self.soft_pause = if given_back >= before / WORTH_PART {
            SOFT_PAUSE_MIN
        } else {
            (self.soft_pause * 2).min(SOFT_PAUSE_MAX)
        };
        self.watched.purges.count(reason, given_back, done.is_err());
        match done {
            Ok(()) => tracing::debug!(?reason, before, after, "purged memory"),
            Err(error) => warn!(?reason, error, "memory could not be purged"),
        }
    }

    fn tell(&self) {
        let figures = self.ceiling.figures();
        let (resident_bytes, refused_count) = (figures.resident_bytes, figures.refused_count);
        let limit_bytes = self.ceiling.hard_limit_bytes();
        if figures.is_at_limit {
            warn!(
                resident_bytes,
                limit_bytes, "memory is at its hard limit, what needs much is refused"
            );
        } else {
            info!(
                resident_bytes,
                limit_bytes, refused_count, "memory is below its hard limit again"
            );
        }
    }
}

/// This process, whose allocator is ours.
pub(super) struct Own {
    pub(super) heap: Heap,
    pub(super) machine: Machine,
    pub(super) pool: BufferPool,
}

impl Process for Own {
    fn resident_bytes(&mut self) -> u64 {
        self.machine.resident_bytes().unwrap_or(0)
    }

    fn purge(&mut self) -> Result<(), String> {
        self.pool.trim();
        self.heap.purge(Target::All).map_err(|error| error.to_string())
    }
}

/// The keeper's thread, which ends when this is dropped.
pub(crate) struct Keeper {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(
        mut steps: Steps<impl Process + Send + 'static>,
        rules: watch::Receiver<Rules>,
        name: String,
    ) -> std::io::Result<Keeper> {
        let (stop, mut stopped) = watch::channel(false);
        let resting = runtime::Builder::new_current_thread().enable_time().build()?;
        let mut wanted = steps.ceiling.watch_wanted();
        let run = move || {
            resting.block_on(async move {
                loop {
                    let now = *rules.borrow();
                    wanted.mark_unchanged();
                    let rest = steps.step(&now, Instant::now());
                    let called = timeout(rest, wanted.changed());
                    tokio::select! {
                        _ = stopped.changed() => return,
                        _ = called => {}
                    }
                }
            });
        };
        let thread = thread::Builder::new().name(name).spawn(run)?;
        Ok(Keeper { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed, and leaves the limits where they were.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use kvorum_heap::Policy;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A process that holds so many bytes, and keeps so many more.
    struct Fake {
        held_mib: u64,
        kept_mib: u64,
        purge_count: u64,
    }

    impl Process for Fake {
        fn resident_bytes(&mut self) -> u64 {
            (self.held_mib + self.kept_mib) * MIB
        }

        fn purge(&mut self) -> Result<(), String> {
            self.kept_mib = 0;
            self.purge_count += 1;
            Ok(())
        }
    }

    /// A keeper, and the time its process has lived.
    struct Kept {
        steps: Steps<Fake>,
        rules: Rules,
        now: Instant,
    }

    impl Kept {
        /// With limits of 100 and 200 MiB and a quiet time of a minute.
        fn new(policy: Policy) -> Kept {
            let fake = Fake { held_mib: 50, kept_mib: 0, purge_count: 0 };
            let (ceiling, now) = (Ceiling::default(), Instant::now());
            ceiling.set_hard_limit(Some(200 * MIB));
            let rules = Rules {
                policy,
                quiet_purge: Some(Duration::from_secs(60)),
                soft_limit_bytes: Some(100 * MIB),
                hard_limit_bytes: Some(200 * MIB),
            };
            let mut kept =
                Kept { steps: Steps::new(fake, ceiling, Arc::default(), now), rules, now };
            kept.pass(REST, true);
            kept
        }

        /// Lets time pass, in which there were requests or none, and looks; how often it has purged by then.
        fn pass(&mut self, time: Duration, has_traffic: bool) -> u64 {
            self.now += time;
            self.steps.watched.has_traffic.store(has_traffic, Ordering::Relaxed);
            self.steps.step(&self.rules, self.now);
            self.steps.process.purge_count
        }
    }

    #[test]
    fn quiet_times_are_used_once() {
        let mut kept = Kept::new(Policy::Balanced);
        let second = Duration::from_secs(1);
        assert_eq!(kept.pass(59 * second, false), 0);
        assert_eq!(kept.pass(second, false), 1);
        assert_eq!(kept.pass(600 * second, false), 1);
        assert_eq!(kept.pass(second, true), 1);
        assert_eq!(kept.pass(60 * second, false), 2);
        kept.rules.quiet_purge = None;
        kept.pass(second, true);
        assert_eq!(kept.pass(6000 * second, false), 2);
        assert_eq!(kept.steps.watched.purges.figures().quiet, 2);
    }

    #[test]
    fn beyond_the_soft_limit_memory_is_purged_less_often_where_that_gives_nothing() {
        let mut kept = Kept::new(Policy::Compact);
        kept.steps.process.kept_mib = 60;
        assert_eq!(kept.pass(REST, true), 1);
        kept.steps.process.held_mib = 110;
        let tenth_of_second = Duration::from_millis(100);
        let purges = (0..600).map(|_| kept.pass(tenth_of_second, true)).last().unwrap();
        assert!((4..=7).contains(&purges), "after 1, 2, 4, 8, ... seconds: {purges}");
        let figures = kept.steps.watched.purges.figures();
        assert_eq!((figures.soft_limit, figures.given_back_bytes), (purges, 60 * MIB));
    }

    #[test]
    fn latency_purges_under_no_load_but_at_the_hard_limit() {
        let mut kept = Kept::new(Policy::Latency);
        kept.steps.process.kept_mib = 60;
        assert_eq!(kept.pass(REST, true), 0);
        assert_eq!(kept.pass(SOFT_PAUSE_MIN, true), 0);
        assert_eq!(kept.pass(REST, false), 1, "nobody asks for anything");
        kept.steps.process.kept_mib = 160;
        assert_eq!(kept.pass(HARD_PAUSE, true), 2);
        assert!(!kept.steps.ceiling.figures().is_at_limit, "what is only kept refuses nobody");
        kept.steps.process.held_mib = 200;
        kept.pass(HARD_PAUSE, true);
        assert!(kept.steps.ceiling.figures().is_at_limit);
        kept.steps.process.held_mib = 199;
        kept.pass(SHORT_REST, true);
        assert!(!kept.steps.ceiling.figures().is_at_limit);
    }

    #[test]
    fn a_limit_that_is_set_later_holds_at_the_next_look() {
        let mut kept = Kept::new(Policy::Balanced);
        kept.rules = Rules::default();
        kept.steps.ceiling.set_hard_limit(None);
        kept.steps.process.held_mib = 500;
        kept.pass(REST, true);
        assert!(!kept.steps.ceiling.figures().is_at_limit);
        kept.steps.ceiling.set_hard_limit(Some(300 * MIB));
        kept.rules.hard_limit_bytes = Some(300 * MIB);
        kept.pass(REST, true);
        assert!(kept.steps.ceiling.figures().is_at_limit);
    }

    #[test]
    fn who_waits_for_a_verdict_is_judged_by_the_thread() {
        let fake = Fake { held_mib: 50, kept_mib: 140, purge_count: 0 };
        let ceiling = Ceiling::default();
        ceiling.set_hard_limit(Some(200 * MIB));
        ceiling.observe(|| 190 * MIB);
        let steps = Steps::new(fake, ceiling.clone(), Arc::default(), Instant::now());
        let hard = Rules { hard_limit_bytes: Some(200 * MIB), ..Rules::default() };
        let (_rules, seen) = watch::channel(hard);
        let keeper = Keeper::start(steps, seen, "test-heap".to_owned()).unwrap();
        let waiting = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let granted = waiting.block_on(ceiling.grant(100 << 20));
        assert!(granted.is_ok(), "a purge makes room");
        assert!(waiting.block_on(ceiling.grant(100 << 20)).is_err());
        drop(keeper);
    }
}
