//! What holds now: policy, limits and times, of what was set and what follows from the machine.

use std::time::Duration;

use kvorum_heap::{Policy, Settings, SettingsError};

/// The parts of the memory there is at which the limits are, unless they are set.
const SOFT_PERCENT: u64 = 60;
const HARD_PERCENT: u64 = 75;

/// The lowest limit: a member without data has a third of it.
pub(crate) const LIMIT_BYTES_MIN: u64 = 64 << 20;

/// How long there have been no requests when memory is purged, unless it is set.
pub(crate) const QUIET_PURGE: Duration = Duration::from_secs(30);

/// The shortest and the longest time without requests that can be set.
pub(crate) const QUIET_PURGE_MIN: Duration = Duration::from_secs(1);
pub(crate) const QUIET_PURGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What holds now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    /// How long there have been no requests when memory is purged. None: it is not.
    pub(crate) quiet_purge: Option<Duration>,
    /// None: no limit.
    pub(crate) soft_limit_bytes: Option<u64>,
    /// None: no limit. At least `soft_limit_bytes`.
    pub(crate) hard_limit_bytes: Option<u64>,
}

/// Why settings are none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulesError {
    /// Settings of the allocator.
    #[error(transparent)]
    Heap(#[from] SettingsError),
    /// A time out of range.
    #[error(
        "the quiet time is {0} ms: it must be from {min} to {max} ms, or 0 for no purge in quiet times",
        min = QUIET_PURGE_MIN.as_millis(),
        max = QUIET_PURGE_MAX.as_millis()
    )]
    QuietPurge(u64),
    /// A limit out of range.
    #[error(
        "the {which} limit is {bytes} bytes: it must be from {LIMIT_BYTES_MIN} to {bytes_max}, the memory there is, or 0 \
         for no limit"
    )]
    Limit {
        /// Soft or hard.
        which: &'static str,
        /// What it was to be.
        bytes: u64,
        /// What the machine has.
        bytes_max: u64,
    },
    /// The limits the wrong way round.
    #[error("the soft limit is {soft} bytes: it must be at most the hard limit, which is {hard}")]
    Crossed {
        /// In bytes.
        soft: u64,
        /// In bytes.
        hard: u64,
    },
}

impl Rules {
    /// What follows from `settings` where there are so many bytes of memory; none: nobody knows how many.
    pub(crate) fn of(settings: &Settings, memory_bytes: Option<u64>) -> Result<Rules, RulesError> {
        settings.check()?;
        let limits = [
            ("soft", settings.soft_limit_bytes, SOFT_PERCENT),
            ("hard", settings.hard_limit_bytes, HARD_PERCENT),
        ];
        let mut found = [None; 2];
        for (found, (which, set, percent)) in found.iter_mut().zip(limits) {
            *found = match set {
                Some(0) => None,
                Some(bytes) => {
                    let bytes_max = memory_bytes.unwrap_or(u64::MAX);
                    if !(LIMIT_BYTES_MIN..=bytes_max).contains(&bytes) {
                        return Err(RulesError::Limit { which, bytes, bytes_max });
                    }
                    Some(bytes)
                }
                None => memory_bytes.map(|bytes| (bytes / 100 * percent).max(LIMIT_BYTES_MIN)),
            };
        }
        let [mut soft, hard] = found;
        if let (Some(set), Some(hard)) = (soft, hard)
            && set > hard
        {
            if settings.soft_limit_bytes.is_some() {
                return Err(RulesError::Crossed { soft: set, hard });
            }
            // One that follows from the machine gives way to one that was set.
            soft = Some(hard / HARD_PERCENT * SOFT_PERCENT);
        }
        Ok(Rules {
            policy: settings.policy.unwrap_or_default(),
            quiet_purge: quiet_purge(settings.quiet_purge_ms)?,
            soft_limit_bytes: soft,
            hard_limit_bytes: hard,
        })
    }
}

fn quiet_purge(milliseconds: Option<u64>) -> Result<Option<Duration>, RulesError> {
    let Some(milliseconds) = milliseconds else { return Ok(Some(QUIET_PURGE)) };
    let time = Duration::from_millis(milliseconds);
    match time {
        Duration::ZERO => Ok(None),
        time if (QUIET_PURGE_MIN..=QUIET_PURGE_MAX).contains(&time) => Ok(Some(time)),
        _ => Err(RulesError::QuietPurge(milliseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits(soft: Option<u64>, hard: Option<u64>) -> Settings {
        Settings { soft_limit_bytes: soft, hard_limit_bytes: hard, ..Settings::default() }
    }

    #[test]
    fn limits_follow_from_the_memory_there_is() {
        let of = |soft, hard, memory| {
            let rules = Rules::of(&limits(soft, hard), memory).unwrap();
            (rules.soft_limit_bytes, rules.hard_limit_bytes)
        };
        let derived = (Some(GIB / 100 * 60), Some(GIB / 100 * 75));
        assert_eq!(of(None, None, Some(GIB)), derived);
        assert_eq!(of(None, None, None), (None, None));
        assert_eq!(of(Some(0), Some(0), Some(GIB)), (None, None));
        assert_eq!(of(None, Some(GIB / 2), Some(GIB)), (Some(GIB / 2 / 75 * 60), Some(GIB / 2)));
        assert_eq!(of(Some(GIB / 2), None, Some(GIB)), (Some(GIB / 2), derived.1));
        // So little that nothing could be done with less.
        assert_eq!(of(None, None, Some(1)), (Some(LIMIT_BYTES_MIN), Some(LIMIT_BYTES_MIN)));
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        let refused = |settings: Settings| Rules::of(&settings, Some(GIB)).unwrap_err().to_string();
        let wanted = "it must be from 67108864 to 1073741824";
        assert!(refused(limits(None, Some(1))).contains(wanted));
        assert!(refused(limits(Some(GIB + 1), None)).contains(wanted));
        assert!(refused(limits(None, Some(u64::MAX))).contains(wanted));
        let crossed = refused(limits(Some(GIB / 2), Some(GIB / 4)));
        assert!(crossed.contains("at most the hard limit, which is 268435456"), "{crossed}");
        assert!(refused(limits(Some(GIB), None)).contains("at most the hard limit"));
        let quiet = Settings { quiet_purge_ms: Some(7), ..Settings::default() };
        assert!(refused(quiet).contains("from 1000 to 86400000 ms"));
        let decay = Settings { dirty_decay_ms: Some(-1), ..Settings::default() };
        assert!(refused(decay).contains("from 0 to 86400000 milliseconds"));
    }
}
