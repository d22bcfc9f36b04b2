//! The judge of when leases ended: what clients asked, were answered and saw, against the rule.
//!
//! It knows nothing of how the history was come by. All times are readings of one clock.
//!
//! - No earlier than the TTL after the sending of the last request that was answered with a TTL.
//! - No later than a bound after the last answer that can have renewed it; with a leader change, after a full TTL from the
//!   moment the new leader was seen to count, or after what a standing checkpoint left of it.
//! - What was seen to have ended is not renewed.
//! - All keys of a lease go, in one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A reading of the clock.
pub type Time = Duration;

/// What was found to be broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It had so much of its time left.
    Early { lease: i64, by: Duration },
    /// It was still there so long after it had to be gone.
    Late { lease: i64, by: Duration },
    /// A request that was sent after its end was seen was answered with a TTL.
    Risen { lease: i64 },
    /// A key was never seen to go.
    Left { lease: i64, key: String },
    /// Its keys went in several revisions.
    Torn { lease: i64, revisions: BTreeSet<i64> },
}

/// What the rule leaves open.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How late a lease may end.
    pub late_max: Duration,
    /// What every lease gets on top when the leader changes.
    pub extension: Duration,
    /// How old, at most, the checkpoint of a lease is when the leader is lost; None if there are no checkpoints.
    pub checkpoint_age_max: Option<Duration>,
    /// How long after a client gave up waiting for the answer to a keep-alive it may still be carried out.
    pub unanswered_max: Duration,
}

/// A grant or a keep-alive.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub sent: Time,
    /// When it was answered, or given up.
    pub ended: Time,
    /// The TTL in seconds it was answered with, 0 for a lease that is gone; None if it was not answered.
    pub ttl: Option<u64>,
}

/// A key that was seen to be deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub key: String,
    pub revision: i64,
    pub seen: Time,
}

/// What is known of one lease.
#[derive(Clone, Debug)]
pub struct Story {
    /// In seconds, as granted.
    pub ttl: u64,
    pub grant: Request,
    pub keep_alives: Vec<Request>,
    /// When its revocation was asked for.
    pub revoked: Option<Time>,
    pub keys: BTreeSet<String>,
    pub deletions: Vec<Deletion>,
}

/// That another leader took over.
#[derive(Clone, Copy, Debug)]
pub struct LeaderChange {
    /// The earliest moment at which the old one may have been lost.
    pub lost: Time,
    /// When the new one was seen to count.
    pub settled: Time,
}

/// What happened to a cluster's leases.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub leases: BTreeMap<i64, Story>,
    /// In their order.
    pub changes: Vec<LeaderChange>,
}

impl Story {
    pub fn new(ttl: u64, grant: Request) -> Story {
        let (keys, deletions) = (BTreeSet::new(), Vec::new());
        Story { ttl, grant, keep_alives: Vec::new(), revoked: None, keys, deletions }
    }

    /// When it was first seen to have ended.
    pub fn ended(&self) -> Option<Time> {
        let gone = self.keep_alives.iter().filter(|request| request.ttl == Some(0));
        let deleted = self.deletions.iter().map(|deletion| deletion.seen);
        gone.map(|request| request.ended).chain(deleted).min()
    }

    fn requests(&self) -> impl Iterator<Item = &Request> {
        std::iter::once(&self.grant).chain(&self.keep_alives)
    }

    /// Before this it must not end; requests sent after `end` do not count.
    fn earliest(&self, end: Time) -> Time {
        let sent_before = self.requests().filter(|request| request.sent <= end);
        let until = sent_before.filter_map(|request| {
            let ttl = request.ttl.filter(|ttl| *ttl > 0)?;
            Some(request.sent + Duration::from_secs(ttl))
        });
        until.max().unwrap_or_default()
    }

    /// After this, and as late as the rules allow, it must be gone.
    fn latest(&self, changes: &[LeaderChange], rules: &Rules) -> Time {
        let ttl = Duration::from_secs(self.ttl);
        let mut requests = self.requests().collect::<Vec<_>>();
        requests.sort_by_key(|request| request.ended);
        let mut changes = changes.iter().peekable();
        let mut settled = Duration::ZERO;
        let mut latest = self.grant.ended + ttl;
        for request in requests {
            while let Some(change) = changes.next_if(|change| change.settled <= request.ended) {
                latest = after_change(latest, ttl, change, rules);
                settled = change.settled;
            }
            latest = match request.ttl {
                Some(0) => latest,
                // Whatever it was before.
                Some(_) if request.sent >= settled => request.ended + ttl,
                Some(_) => latest.max(request.ended + ttl),
                None => latest.max(request.ended + rules.unanswered_max + ttl),
            };
        }
        changes.fold(latest, |latest, change| after_change(latest, ttl, change, rules))
    }
}

fn after_change(latest: Time, ttl: Duration, change: &LeaderChange, rules: &Rules) -> Time {
    if change.lost > latest + rules.late_max {
        return latest;
    }
    let left = rules.checkpoint_age_max.map_or(ttl, |age| {
        // Whole seconds are noted.
        let noted = latest.saturating_sub(change.lost) + age + Duration::from_secs(1);
        noted.min(ttl)
    });
    latest.max(change.settled + left + rules.extension)
}

impl History {
    /// Everything that is wrong with it. It must have been watched until all leases had ended.
    pub fn faults(&self, rules: &Rules) -> Vec<Fault> {
        let judged = self.leases.iter().flat_map(|(lease, story)| self.judge(*lease, story, rules));
        judged.collect()
    }

    fn judge(&self, lease: i64, story: &Story, rules: &Rules) -> Vec<Fault> {
        let gone = |key: &String| story.deletions.iter().any(|deletion| deletion.key == *key);
        let left = story.keys.iter().filter(|key| !gone(key));
        let mut faults =
            left.map(|key| Fault::Left { lease, key: key.clone() }).collect::<Vec<_>>();
        let revisions =
            story.deletions.iter().map(|deletion| deletion.revision).collect::<BTreeSet<_>>();
        if revisions.len() > 1 {
            faults.push(Fault::Torn { lease, revisions });
        }
        let Some(end) = story.ended() else { return faults };
        if story.keep_alives.iter().any(|request| request.sent > end && request.ttl > Some(0)) {
            faults.push(Fault::Risen { lease });
        }
        let early = story.earliest(end).saturating_sub(end);
        if early > Duration::ZERO && story.revoked.is_none_or(|revoked| revoked > end) {
            faults.push(Fault::Early { lease, by: early });
        }
        let late = end.saturating_sub(story.latest(&self.changes, rules) + rules.late_max);
        if late > Duration::ZERO {
            faults.push(Fault::Late { lease, by: late });
        }
        faults
    }

    /// The leases that have not been seen to end, with all their keys.
    pub fn standing(&self) -> Vec<i64> {
        let standing = self.leases.iter().filter(|(_, story)| {
            let gone = |key: &String| story.deletions.iter().any(|deletion| deletion.key == *key);
            story.ended().is_none() || !story.keys.iter().all(gone)
        });
        standing.map(|(lease, _)| *lease).collect()
    }

    /// Those of them that must have ended by `now`.
    pub fn overdue(&self, rules: &Rules, now: Time) -> Vec<i64> {
        let mut standing = self.standing();
        standing.retain(|lease| {
            let story = &self.leases[lease];
            story.latest(&self.changes, rules) + rules.late_max <= now
        });
        standing
    }

    /// The next moment after `now` at which a standing lease may end for the first time, or must have ended.
    pub fn next_bound(&self, rules: &Rules, now: Time) -> Option<Time> {
        let bounds = self.standing().into_iter().flat_map(|lease| {
            let story = &self.leases[&lease];
            let latest = story.latest(&self.changes, rules) + rules.late_max;
            [story.earliest(Duration::MAX), latest]
        });
        bounds.filter(|bound| *bound > now).min()
    }

    /// How late each lease ended, against what the rules leave no room for.
    pub fn lateness(&self, rules: &Rules) -> impl Iterator<Item = Duration> {
        let ended = self.leases.values().filter_map(|story| Some((story, story.ended()?)));
        let natural = ended.filter(|(story, _)| story.revoked.is_none());
        natural.map(|(story, end)| end.saturating_sub(story.latest(&self.changes, rules)))
    }

    /// How many keep-alives sent after `time` were answered with a TTL.
    pub fn kept_after(&self, time: Time) -> usize {
        let requests = self.leases.values().flat_map(|story| &story.keep_alives);
        requests.filter(|request| request.sent > time && request.ttl > Some(0)).count()
    }
}
