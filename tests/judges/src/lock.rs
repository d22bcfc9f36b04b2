//! Locks, and what fences protect.
//!
//! A lock of etcd is a queue of keys on leases; who is told that it holds the lock may have lost it already. So two clients
//! may believe at once that they hold it, and what must hold is this:
//!
//! - a token belongs to one client, and tokens grow with the order of holding;
//! - at the revision at which a client was told that it holds the lock, its key was there and no older one was;
//! - a write under a token happens while the key of that token is there; one that is refused, after it is gone;
//! - once a later token has written, an earlier one writes no more.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::history::{Deed, History, LockDeed};
use crate::model::Store;
use crate::words;

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Two clients have the same token.
    OneOwnerAToken,
    /// Who holds the lock has the oldest key.
    OldestHolds,
    /// Two hold the lock at one revision.
    OneHolder,
    /// A write under a token needs its key.
    FencedWrites,
    /// A write is refused only where the key is gone.
    RightlyFenced,
    /// Writes come in the order of the tokens.
    TokensGrow,
}

/// Judges what was done with locks.
pub fn check(history: &History, store: &Store) -> Vec<Fault<Rule>> {
    let mut locks: BTreeMap<&str, Vec<&LockDeed>> = BTreeMap::new();
    for deed in &history.locks {
        locks.entry(&deed.name).or_default().push(deed);
    }
    let mut faults = Vec::new();
    for deeds in locks.values() {
        faults.extend(one_owner(deeds));
        faults.extend(one_holder(deeds));
        faults.extend(tokens_grow(deeds));
        faults.extend(deeds.iter().filter_map(|deed| judge(deed, deeds, store)));
    }
    faults
}

fn told(deed: &LockDeed) -> String {
    let (client, key, token) = (deed.client, words::text(&deed.key), deed.token);
    let (call, end) = (deed.call.place, deed.end.place);
    format!(
        "[{call}..{end}] client {client}, lock {}, {key} (token {token}): {:?}",
        deed.name, deed.deed
    )
}

fn fault<'a>(
    rule: Rule,
    what: impl Into<String>,
    deeds: impl IntoIterator<Item = &'a LockDeed>,
) -> Fault<Rule> {
    Fault::new(rule, what).between(deeds.into_iter().map(told))
}

fn one_owner(deeds: &[&LockDeed]) -> Option<Fault<Rule>> {
    let mut owners: BTreeMap<i64, &LockDeed> = BTreeMap::new();
    for deed in deeds {
        let owner = owners.entry(deed.token).or_insert(deed);
        if (owner.client, &owner.key) != (deed.client, &deed.key) {
            return Some(fault(Rule::OneOwnerAToken, "one token, two owners", [*owner, deed]));
        }
    }
    None
}

/// At one revision one token holds.
fn one_holder(deeds: &[&LockDeed]) -> Option<Fault<Rule>> {
    let mut holders: BTreeMap<i64, &LockDeed> = BTreeMap::new();
    for deed in deeds {
        let Deed::Held { revision } = deed.deed else { continue };
        let holder = holders.entry(revision).or_insert(deed);
        if holder.token != deed.token {
            let what = format!("two hold the lock at revision {revision}");
            return Some(fault(Rule::OneHolder, what, [*holder, deed]));
        }
    }
    None
}

fn tokens_grow(deeds: &[&LockDeed]) -> Option<Fault<Rule>> {
    let revision = |deed: &LockDeed| match deed.deed {
        Deed::Wrote { revision } => Some(revision),
        _ => None,
    };
    let mut writes: Vec<(i64, &LockDeed)> =
        deeds.iter().filter_map(|deed| Some((revision(deed)?, *deed))).collect();
    writes.sort_by_key(|(revision, _)| *revision);
    let back = writes.windows(2).find(|pair| pair[0].1.token > pair[1].1.token)?;
    let what = "an old holder wrote after a newer one";
    Some(fault(Rule::TokensGrow, what, [back[0].1, back[1].1]))
}

fn judge(deed: &LockDeed, all: &[&LockDeed], store: &Store) -> Option<Fault<Rule>> {
    let is_there = |deed: &LockDeed, revision| {
        let found = store.at(&deed.key, revision);
        found.is_some_and(|kv| kv.create_revision == deed.token)
    };
    match deed.deed {
        Deed::Held { revision } if !is_there(deed, revision) => {
            let what = format!("its key is not there at revision {revision}");
            Some(fault(Rule::OldestHolds, what, [deed]))
        }
        Deed::Held { revision } => {
            let is_older =
                |other: &&&LockDeed| other.token < deed.token && is_there(other, revision);
            let older = all.iter().find(is_older)?;
            let what = format!("an older key is there at revision {revision}");
            Some(fault(Rule::OldestHolds, what, [*older, deed]))
        }
        // The write itself made the revision: the key was there before it.
        Deed::Wrote { revision } if !is_there(deed, revision - 1) => {
            let what = format!("its key was gone before revision {revision}");
            Some(fault(Rule::FencedWrites, what, [deed]))
        }
        Deed::Fenced { revision } if is_there(deed, revision) => {
            let what = format!("its key is there at revision {revision}");
            Some(fault(Rule::RightlyFenced, what, [deed]))
        }
        Deed::Wrote { .. } | Deed::Fenced { .. } | Deed::Released => None,
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
