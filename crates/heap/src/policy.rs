//! Named sets of settings.

use std::fmt;
use std::str::FromStr;

use crate::change::Change;

/// What memory is kept for.
///
/// | policy | freed pages are kept | purges |
/// |---|---|---|
/// | `balanced` | 10 s | in quiet times, and beyond the soft limit |
/// | `latency` | 10 minutes, then left to the system for another 10 | in quiet times; under load only at the hard limit |
/// | `compact` | 1 s | in quiet times, and beyond the soft limit |
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// What the allocator does unless told otherwise.
    #[default]
    Balanced,
    /// As few calls to the system as can be.
    Latency,
    /// As little memory as can be.
    Compact,
}

/// A name that no policy has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no policy {0:?}: it must be one of balanced, latency, compact")]
pub struct UnknownPolicy(pub String);

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 3] = [Policy::Balanced, Policy::Latency, Policy::Compact];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Balanced => "balanced",
            Policy::Latency => "latency",
            Policy::Compact => "compact",
        }
    }

    /// What it sets.
    pub fn change(self) -> Change {
        let (dirty_decay_ms, muzzy_decay_ms) = match self {
            Policy::Balanced => (10_000, 0),
            Policy::Latency => (600_000, 600_000),
            Policy::Compact => (1_000, 0),
        };
        Change {
            background_threads: Some(true),
            dirty_decay_ms: Some(dirty_decay_ms),
            muzzy_decay_ms: Some(muzzy_decay_ms),
            ..Change::default()
        }
    }

    /// Whether memory beyond the soft limit is purged while requests come.
    pub fn purges_under_load(self) -> bool {
        self != Policy::Latency
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Policy, UnknownPolicy> {
        let found = Policy::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_a_name_and_settings_that_may_be_made() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
            assert_eq!(policy.change().check(), Ok(()));
        }
        let unknown = "fast".parse::<Policy>().unwrap_err().to_string();
        assert!(unknown.contains("one of balanced, latency, compact"), "{unknown}");
    }
}
