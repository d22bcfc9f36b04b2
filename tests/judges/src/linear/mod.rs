//! Whether requests may have been carried out one after the other, each at a moment between its call and its answer.
//!
//! The search is that of Wing and Gong with Lowe's memory of what was tried, as porcupine does it: of all requests that may
//! be next, one is carried out on the model; where nothing fits, the last choice is taken back. A request of unknown
//! outcome may be next at any time after its call, or never; so may the expiry of a lease, which nobody asks for.
//!
//! # Revisions
//!
//! Answers carry revisions, and these are judged, not believed. They are of help all the same, because the model counts
//! revisions too: an answer with revision 7 fits nowhere but where the model comes to 7. So
//!
//! - a read fits between the writes of its revision and of the next one, and as it changes nothing, it is carried out as
//!   soon as it fits;
//! - no revision is left behind as long as an answer of that revision has no place;
//! - a choice is left only where no answered request says that it made the next revision: one of unknown outcome did, or
//!   an expiry. What other answers show of that revision rules most of them out; what watchers and members' own states
//!   showed decides which are tried first, and no more than that, as it is for other judges.
//!
//! # Partition
//!
//! A history of many keys could be judged key by key if answers spoke of one key alone. These do not: a revision counts the
//! writes of all keys. What can be judged apart, is: a contradiction within the requests that share keys with one another
//! (directly or by others, by ranges, transactions and leases) is told with these requests only, and it is found
//! even where the whole is too much work.
//!
//! # Example
//!
//! ```text
//! put a=1   |---- unknown
//! put b=1        |--| revision 3         nobody says who made 2: the put of a fits, and nothing else does
//! get a                |--| a=1 (m2)
//! ```

mod entries;
mod evidence;
mod partition;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::history::{History, Input, Op, Output, Refusal};
use crate::model::{Store, is_local};

use self::evidence::makes_revision;
pub use self::search::Place;

/// The first attempts get one part in so many of all work.
const FIRST_SHARE: u64 = 16;

/// How much work may be done.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many requests may be tried, those tried again included.
    pub steps_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps_max: 5_000_000 }
    }
}

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// A revision is made by one request.
    OneWriteARevision,
    /// What is asked after an answer is answered at no older revision.
    NeverBack,
    /// There is an order in which all answers are right.
    SomeOrder,
}

/// An order in which all answers are right.
#[derive(Clone, Debug)]
pub struct Order {
    /// What the store holds after it, with all its history.
    pub store: Store,
    /// The requests, by their place in the history, and what nobody asked for.
    pub places: Vec<Place>,
    /// How many requests were tried.
    pub steps: u64,
}

/// What the judge says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// All answers may have been given.
    Linearizable(Box<Order>),
    /// These may not.
    Refused(Fault<Rule>),
    /// It took too long to say.
    Undecided {
        /// How many requests were tried.
        steps: u64,
        /// How many of the answered requests had a place at best.
        placed: usize,
        /// How many there are.
        of: usize,
    },
}

impl Verdict {
    /// Whether an order was found.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable(_))
    }
}

/// Judges all requests but those that members answer from their own state ([`crate::local`]).
pub fn check(history: &History, limits: &Limits) -> Verdict {
    let ops = &history.ops;
    let answered = || ops.iter().filter(|op| is_answered(op));
    if let Err(fault) = one_write_a_revision(answered()).and_then(|()| never_back(answered())) {
        return Verdict::Refused(fault);
    }
    let all: Vec<usize> = (0..ops.len()).filter(|index| concerns(&ops[*index])).collect();
    // A fault that is found late in a long history makes the search of the whole long, and leaves that of a part short.
    let first = Limits { steps_max: limits.steps_max / FIRST_SHARE };
    let believing = search::run_believing(history, all.clone(), &first);
    if believing.is_linearizable() {
        return believing;
    }
    match search::run(history, all.clone(), &first) {
        Verdict::Refused(fault) => Verdict::Refused(partition::narrow(history, fault, &first)),
        Verdict::Undecided { .. } => match partition::fault_of_part(history, &first) {
            Some(fault) => Verdict::Refused(fault),
            None => with_all_work(history, all, limits),
        },
        // Nobody is blamed for an order that was only the first to be found.
        Verdict::Linearizable(_) if matches!(believing, Verdict::Undecided { .. }) => {
            with_all_work(history, all, limits)
        }
        verdict => verdict,
    }
}

fn with_all_work(history: &History, all: Vec<usize>, limits: &Limits) -> Verdict {
    let believing = search::run_believing(history, all.clone(), limits);
    if believing.is_linearizable() { believing } else { search::run(history, all, limits) }
}

/// Whether an op is one for this judge.
fn concerns(op: &Op) -> bool {
    is_answered(op) || (op.end.is_none() && may_write(&op.input))
}

fn is_answered(op: &Op) -> bool {
    let is_known = !matches!(
        op.output,
        Output::Unknown | Output::Rejected(Refusal::Other(_) | Refusal::LeaseExists)
    );
    op.end.is_some() && is_known && !is_local(&op.input) && is_of_keys(&op.input)
}

fn is_of_keys(input: &Input) -> bool {
    !matches!(input, Input::Grant { .. } | Input::KeepAlive { .. } | Input::TimeToLive { .. })
}

fn may_write(input: &Input) -> bool {
    is_of_keys(input) && !matches!(input, Input::Range(_)) && !is_local(input)
}

fn one_write_a_revision<'a>(ops: impl Iterator<Item = &'a Op>) -> Result<(), Fault<Rule>> {
    let mut writers = BTreeMap::new();
    for op in ops.filter(|op| makes_revision(&op.output)) {
        let Some(revision) = op.output.revision() else { continue };
        if let Some(other) = writers.insert(revision, op) {
            let what = format!("both made revision {revision}");
            return Err(Fault::new(Rule::OneWriteARevision, what).between([other, op]));
        }
    }
    Ok(())
}

fn never_back<'a>(ops: impl Iterator<Item = &'a Op>) -> Result<(), Fault<Rule>> {
    let mut ops: Vec<(&Op, i64)> = ops.filter_map(|op| Some((op, op.output.revision()?))).collect();
    let mut ended = ops.clone();
    ops.sort_by_key(|(op, _)| op.call);
    ended.sort_by_key(|(op, _)| op.end);
    let mut ended = ended.into_iter().peekable();
    let mut newest: Option<(&Op, i64)> = None;
    for (op, revision) in ops {
        while let Some(before) = ended.next_if(|(before, _)| before.end < Some(op.call)) {
            newest = newest.filter(|newest| newest.1 >= before.1).or(Some(before));
        }
        let Some((before, seen)) = newest else { continue };
        if revision < seen || (revision == seen && makes_revision(&op.output)) {
            let what = format!("answered at revision {revision} after {seen} had been seen");
            return Err(Fault::new(Rule::NeverBack, what).between([before, op]));
        }
    }
    Ok(())
}
