//! When leases may end, and when they must.
//!
//! Nobody is told the moment at which a lease ends; it is known by when it was over: its keys are gone at a revision that
//! somebody was told of, or an answer says that there is no such lease. Against that stands every answer that promised a
//! time to live, counted from the moment it was asked for, in the time of the fastest clock of any member.
//!
//! - *Not early*: no lease is over before a time that was promised, unless somebody asked for its end.
//! - *Not risen*: what was over is not kept alive, and takes no keys, when that is asked later.
//! - *Not late*: once there are no faults any more, a lease that nobody keeps alive is over after its time, in that of the
//!   slowest clock, and what the rules add.
//! - *Not prolonged*: what a lease has left does not rise again, but for what the rules let a new leader not know, unless
//!   somebody kept it alive.
//! - *Granted*: keys hang on leases that somebody asked for.
//!
//! That all keys of a lease go in one revision is part of what [`crate::linear`] judges.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::PutRequest;
use kvorum_proto::api::mvccpb::event::EventType;

use crate::fault::Fault;
use crate::history::{History, Input, Moment, Op, Output, Refusal};
use crate::linear::{Order, Place};
use crate::model::{Effect, Store, is_local};

const SECOND: u64 = 1_000_000_000;

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// No lease ends before its time.
    NotEarly,
    /// What has ended does not live again.
    NotRisen,
    /// Every lease ends in the end.
    NotLate,
    /// What is left of a lease does not rise by itself.
    NotProlonged,
    /// Nothing hangs on a lease that nobody asked for.
    Granted,
}

/// What the rules leave open.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How fast members' clocks run at most, in thousandths of the run's.
    pub fastest_permille: u64,
    /// And how slow.
    pub slowest_permille: u64,
    /// When the last fault was over, by the run's clock; None: no lease is ever late.
    pub calm_since: Option<u64>,
    /// How long after its time a lease may last, in nanoseconds: what a new leader adds, and the way to everybody.
    pub late_max: u64,
    /// How much more a lease may have left than it had, in seconds, as nobody noted all that had passed; None: any time.
    pub rise_max: Option<i64>,
}

/// What is known of a lease.
#[derive(Debug, Default)]
struct Story<'a> {
    grants: Vec<&'a Op>,
    /// Keep-alives, and puts that name it.
    uses: Vec<&'a Op>,
    /// Questions for what it has left.
    looks: Vec<&'a Op>,
    /// Requests for its end.
    revokes: Vec<&'a Op>,
    /// That it was over.
    over: Vec<Over<'a>>,
}

/// That a lease was over when something was told.
#[derive(Clone, Copy, Debug)]
struct Over<'a> {
    by: Moment,
    /// When what tells so was asked for, if somebody asked.
    asked: Option<Moment>,
    told: Option<&'a Op>,
    /// The revision its keys went at.
    revision: Option<i64>,
}

impl Over<'_> {
    fn text(&self) -> String {
        let gone = self.revision.map(|at| format!("the lease's keys are gone at revision {at}"));
        let told = self.told.map(|op| op.to_string());
        let all: Vec<String> = gone.into_iter().chain(told).collect();
        format!("{} (by {} ns)", all.join(", told by "), self.by.at)
    }
}

/// Judges all leases.
pub fn check(history: &History, order: &Order, rules: &Rules) -> Vec<Fault<Rule>> {
    let stories = stories(history, order);
    let mut faults = Vec::new();
    for (id, story) in &stories {
        faults.extend(story.not_granted(*id));
        faults.extend(story.early(*id, rules));
        faults.extend(story.risen(*id));
        faults.extend(story.prolonged(*id, rules));
        faults.extend(story.late(*id, (history, &order.store), rules));
    }
    faults
}

fn stories<'a>(history: &'a History, order: &Order) -> BTreeMap<i64, Story<'a>> {
    let mut stories: BTreeMap<i64, Story<'a>> = BTreeMap::new();
    for op in &history.ops {
        match &op.input {
            Input::Grant { id, .. } => stories.entry(*id).or_default().grants.push(op),
            Input::KeepAlive { id } => stories.entry(*id).or_default().used(op),
            Input::TimeToLive { id } => stories.entry(*id).or_default().looked(op),
            Input::Revoke { id } => stories.entry(*id).or_default().revokes.push(op),
            Input::Put(PutRequest { lease, .. }) if *lease != 0 => {
                stories.entry(*lease).or_default().used(op);
            }
            _ => {}
        }
    }
    for (lease, revision) in expiries(history, order) {
        if let Some(over) = first_told(history, revision) {
            stories.entry(lease).or_default().over.push(over);
        }
    }
    stories
}

/// The leases whose keys went without anybody having been told that he did it, and the revisions.
///
/// An order has one of the requests and ends that may have made a revision. Where watchers were not told what went, it may
/// have been any of the requests without an answer.
fn expiries(history: &History, order: &Order) -> Vec<(i64, i64)> {
    let told = deletions_told(history);
    let mut store = Store::default();
    let mut expiries = Vec::new();
    let is_open = |op: &&Op| op.end.is_none() && !matches!(op.input, Input::Compact { .. });
    let open: Vec<&Op> = history.ops.iter().filter(is_open).collect();
    for place in &order.places {
        match place {
            Place::Op(index) => {
                let op = &history.ops[*index];
                if !matches!(op.output, Output::Rejected(_)) {
                    store.execute(&op.input);
                }
            }
            Place::Expiry(lease) => {
                let next = store.revision() + 1;
                let effect = store.expire(*lease);
                let gone = store.changes(next).to_vec();
                store.take_back(effect);
                let is_told = gone.iter().any(|change| told.contains(&(next, &change.kv.key)));
                let may_be_asked = open.iter().any(|op| {
                    let (_, effect) = store.execute(&op.input);
                    let may_be =
                        effect == Effect::Revision && (!is_told || store.changes(next) == gone);
                    store.take_back(effect);
                    may_be
                });
                store.expire(*lease);
                if !may_be_asked {
                    expiries.push((*lease, store.revision()));
                }
            }
            Place::Foreign => drop(store.pass()),
        }
    }
    expiries
}

/// The revisions and keys of deletions that watchers were told of.
fn deletions_told(history: &History) -> BTreeSet<(i64, &Bytes)> {
    let heard = history.watchers.iter().flat_map(|watcher| &watcher.heard);
    let events = heard.flat_map(|heard| &heard.response.events);
    let deletions = events.filter(|event| event.r#type() == EventType::Delete);
    let kvs = deletions.filter_map(|event| event.kv.as_ref());
    kvs.map(|kv| (kv.mod_revision, &kv.key)).collect()
}

/// The first that was told of a revision.
fn first_told(history: &History, revision: i64) -> Option<Over<'_>> {
    let ops = history.ops.iter().filter(|op| op.output.revision() >= Some(revision));
    let first = ops.filter(|op| op.end.is_some()).min_by_key(|op| op.end);
    let revision = Some(revision);
    let by_op =
        first.and_then(|op| Some(Over { by: op.end?, asked: None, told: Some(op), revision }));
    let heard = history.watchers.iter().flat_map(|watcher| &watcher.heard);
    let of_it = heard.filter(|heard| {
        heard.response.header.as_ref().is_some_and(|header| Some(header.revision) >= revision)
    });
    let by_watcher = of_it.map(|heard| heard.at).min();
    let by_watcher = by_watcher.map(|by| Over { by, asked: None, told: None, revision });
    by_op.into_iter().chain(by_watcher).min_by_key(|over| over.by)
}

impl<'a> Story<'a> {
    fn used(&mut self, op: &'a Op) {
        self.uses.push(op);
        let is_over =
            matches!(op.output, Output::Kept { ttl: 0 } | Output::Rejected(Refusal::LeaseNotFound));
        if let (Some(by), true) = (op.end, is_over) {
            self.over.push(Over { by, asked: Some(op.call), told: Some(op), revision: None });
        }
    }

    fn looked(&mut self, op: &'a Op) {
        self.looks.push(op);
        if let (Some(by), Output::Left { ttl: ..0 }) = (op.end, &op.output) {
            self.over.push(Over { by, asked: Some(op.call), told: Some(op), revision: None });
        }
    }

    /// The grant that was answered, and with how many seconds.
    fn grant(&self) -> Option<(&'a Op, u64)> {
        self.grants.iter().find_map(|op| Some((*op, promised(op)?)))
    }

    /// What says that it was over after it had begun.
    fn over_after_grant(&self) -> impl Iterator<Item = &Over<'a>> {
        let granted = self.grant().and_then(|(grant, _)| grant.end);
        let after = move |over: &&Over<'_>| over.asked.is_none_or(|asked| Some(asked) > granted);
        self.over.iter().filter(move |over| granted.is_some() && after(over))
    }

    fn not_granted(&self, id: i64) -> Option<Fault<Rule>> {
        let has_worked = |op: &&&Op| matches!(op.output, Output::Put(_)) || promised(op).is_some();
        let used = self.uses.iter().find(has_worked)?;
        let is_before = |grant: &&Op| {
            !matches!(grant.output, Output::Rejected(_)) && Some(grant.call) < used.end
        };
        if self.grants.iter().any(is_before) {
            return None;
        }
        let what = format!("lease {id:x} is there, and nobody asked for it");
        Some(Fault::new(Rule::Granted, what).between([used]))
    }

    fn early(&self, id: i64, rules: &Rules) -> Option<Fault<Rule>> {
        for over in self.over_after_grant() {
            if self.revokes.iter().any(|revoke| revoke.call < over.by) {
                continue;
            }
            let before = self.promises().filter(|(op, _)| op.call < over.by);
            let until =
                |op: &Op, ttl: u64| op.call.at + ttl * SECOND / rules.fastest_permille * 1000;
            let mut broken = before.filter(|(op, ttl)| until(op, *ttl) > over.by.at);
            if let Some((op, ttl)) = broken.next() {
                let left = until(op, ttl) - over.by.at;
                let what = format!("lease {id:x} was over {left} ns before its time");
                let between = [op.to_string(), over.text()];
                return Some(Fault::new(Rule::NotEarly, what).between(between));
            }
        }
        None
    }

    fn risen(&self, id: i64) -> Option<Fault<Rule>> {
        let over = self.over_after_grant().min_by_key(|over| over.by).copied();
        let revoked = self.revokes.iter().filter_map(|op| {
            let is_done = matches!(op.output, Output::Revoked { .. });
            let by = op.end.filter(|_| is_done)?;
            Some(Over { by, asked: Some(op.call), told: Some(op), revision: None })
        });
        let over = over.into_iter().chain(revoked).min_by_key(|over| over.by)?;
        let is_alive = |op: &&&Op| {
            let is_there = matches!(op.output, Output::Put(_) | Output::Left { ttl: 0.. });
            op.call > over.by && (promised(op).is_some() || is_there)
        };
        let used = self.uses.iter().chain(&self.looks).find(is_alive)?;
        let what = format!("lease {id:x} was over, and lives");
        Some(Fault::new(Rule::NotRisen, what).between([over.text(), used.to_string()]))
    }

    fn prolonged(&self, id: i64, rules: &Rules) -> Option<Fault<Rule>> {
        let rise_max = rules.rise_max?;
        let left = |op: &&'a Op| match op.output {
            Output::Left { ttl } if ttl >= 0 => Some((*op, ttl)),
            _ => None,
        };
        for (op, ttl) in self.looks.iter().filter_map(left) {
            let is_risen = |(later, more): &(&Op, i64)| {
                Some(later.call) > op.end && *more > ttl + rise_max && !self.is_kept(op, later)
            };
            if let Some((later, more)) = self.looks.iter().filter_map(left).find(is_risen) {
                let what = format!("lease {id:x} had {ttl} s left, and then {more} s");
                return Some(Fault::new(Rule::NotProlonged, what).between([op, later]));
            }
        }
        None
    }

    /// Whether somebody may have kept it alive between two questions.
    fn is_kept(&self, first: &Op, last: &Op) -> bool {
        let may_be = |op: &&Op| {
            let is_before = op.end.is_some_and(|end| end < first.call);
            matches!(op.input, Input::KeepAlive { .. }) && !is_before && Some(op.call) < last.end
        };
        self.uses.iter().any(may_be)
    }

    fn late(
        &self,
        id: i64,
        (history, store): (&History, &Store),
        rules: &Rules,
    ) -> Option<Fault<Rule>> {
        let calm = rules.calm_since?;
        let ttls = self.grants.iter().filter_map(|op| match op.input {
            Input::Grant { ttl, .. } => Some(promised(op).unwrap_or(ttl.try_into().unwrap_or(0))),
            _ => None,
        });
        let ttl = ttls.max()?;
        // A request without an answer may be carried out until its client would have given up; that is part of `late_max`.
        let requests = self.grants.iter().chain(&self.uses).copied();
        let last = requests.map(|op| op.end.unwrap_or(op.call).at).max()?;
        let until = last.max(calm) + ttl * SECOND / rules.slowest_permille * 1000 + rules.late_max;
        let asked = history.ops.iter().filter(|op| op.call.at > until && !is_local(&op.input));
        let known = asked.filter_map(|op| Some((op, op.output.revision()?)));
        let (op, revision) = known.min_by_key(|(op, _)| op.call)?;
        let key = store.attached_at(id, revision).into_iter().next()?;
        let what = format!(
            "lease {id:x} had to be over by {until} ns, and {} is there",
            crate::words::text(&key)
        );
        Some(Fault::new(Rule::NotLate, what).between([op]))
    }

    /// The requests that were answered with a time, in seconds.
    fn promises(&self) -> impl Iterator<Item = (&'a Op, u64)> {
        let requests = self.grants.iter().chain(&self.uses).copied();
        requests.filter_map(|op| Some((op, promised(op)?)))
    }
}

/// The time to live that an answer promises, in seconds.
fn promised(op: &Op) -> Option<u64> {
    match op.output {
        Output::Granted { ttl } | Output::Kept { ttl } if ttl > 0 => ttl.try_into().ok(),
        _ => None,
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
