//! Reads that a member answers from its own state, which may be old but never wrong.
//!
//! Such an answer is right for the revision in its header, whatever that is; and a member cannot answer at a revision that
//! nobody had begun to write when the answer came. Where a member's state must not go back is told by
//! [`crate::cluster`]: clients may meet an older member at any time.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::history::{History, Input, Op, Output, Refusal};
use crate::linear::{Order, Place};
use crate::model::{Store, Tx, is_local};
use crate::words;

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The answer is what the store held at the revision it names.
    RightAtItsRevision,
    /// What is read has been asked to be written.
    NotFromTheFuture,
    /// History is refused as compacted after somebody asked for that.
    CompactedBefore,
}

/// Judges the reads that are left out of an order.
pub fn check(history: &History, order: &Order) -> Vec<Fault<Rule>> {
    let written = writers(history, order);
    let local = history.ops.iter().filter(|op| op.end.is_some() && is_local(&op.input));
    local.filter_map(|op| judge(history, (op, &order.store), &written).err()).collect()
}

/// Who wrote a revision.
fn writers<'a>(history: &'a History, order: &Order) -> BTreeMap<i64, &'a Op> {
    let mut store = Store::default();
    let mut writers = BTreeMap::new();
    for place in &order.places {
        let before = store.revision();
        match place {
            Place::Op(index) => {
                let op = &history.ops[*index];
                if !matches!(op.output, Output::Rejected(_)) {
                    store.execute(&op.input);
                }
                if store.revision() > before {
                    writers.insert(store.revision(), op);
                }
            }
            Place::Expiry(lease) => drop(store.expire(*lease)),
            Place::Foreign => drop(store.pass()),
        }
    }
    writers
}

fn judge(
    history: &History,
    (op, store): (&Op, &Store),
    written: &BTreeMap<i64, &Op>,
) -> Result<(), Fault<Rule>> {
    if op.output == Output::Rejected(Refusal::Compacted) {
        return compacted_before(history, op);
    }
    let Some(revision) = op.output.revision() else { return Ok(()) };
    if let Some(writer) = written.get(&revision)
        && Some(writer.call) > op.end
    {
        let what = format!("revision {revision} was read before anybody asked for it");
        return Err(Fault::new(Rule::NotFromTheFuture, what).between([writer, &op]));
    }
    if revision > store.revision() {
        let what = format!("revision {revision} was read, the last one is {}", store.revision());
        return Err(Fault::new(Rule::NotFromTheFuture, what).between([op]));
    }
    let mut tx = Tx::new(store, revision);
    let right = match &op.input {
        Input::Range(request) => Output::Range(tx.range(request)),
        Input::Txn(request) => Output::Txn(tx.txn(request)),
        _ => return Ok(()),
    };
    if right.bare() == op.output.bare() {
        return Ok(());
    }
    let what = format!("at revision {revision} the store held {}", words::output(&right));
    let writer = written.get(&revision).copied();
    Err(Fault::new(Rule::RightAtItsRevision, what).between(writer.into_iter().chain([op])))
}

fn compacted_before(history: &History, op: &Op) -> Result<(), Fault<Rule>> {
    let wanted = match &op.input {
        Input::Range(request) => request.revision,
        _ => return Ok(()),
    };
    let is_cause = |other: &&Op| match other.input {
        Input::Compact { revision } => revision > wanted && Some(other.call) < op.end,
        _ => false,
    };
    if history.ops.iter().any(|other| is_cause(&other)) {
        return Ok(());
    }
    let what = format!("revision {wanted} is refused, and nobody compacted beyond it");
    Err(Fault::new(Rule::CompactedBefore, what).between([op]))
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
