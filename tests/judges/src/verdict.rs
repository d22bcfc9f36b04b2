//! All judges of what clients were told, one after the other.

use std::fmt;

use crate::fault::Fault;
use crate::history::History;
use crate::{lease, linear, local, lock, watch};

/// What the rules leave open.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How much work may be done to find an order.
    pub limits: linear::Limits,
    /// For leases.
    pub lease: lease::Rules,
}

/// A rule that was broken, as whoever asks all judges hears of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Who says so, and by which rule.
    pub rule: String,
    /// How it was broken, and what shows it.
    pub what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.rule, self.what)
    }
}

impl Found {
    /// What one judge found.
    pub fn by<R: fmt::Debug>(judge: &str, fault: &Fault<R>) -> Found {
        let rule = format!("{judge}: {:?}", fault.rule);
        let between = fault.between.iter().map(|one| format!("\n    {one}"));
        Found { rule, what: fault.what.clone() + &between.collect::<String>() }
    }
}

/// What was judged, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong.
    pub faults: Vec<Found>,
    /// No order was found, and none was ruled out; then the other judges had nothing to judge by.
    pub is_undecided: bool,
    /// The newest revision of the order that was found.
    pub revision: i64,
    /// How many requests were tried to find it.
    pub steps: u64,
}

/// Judges a history. What the other judges say is against the order that the first one finds.
pub fn judge(history: &History, rules: &Rules) -> Verdict {
    let mut verdict = Verdict::default();
    match linear::check(history, &rules.limits) {
        linear::Verdict::Linearizable(order) => {
            verdict.revision = order.store.revision();
            verdict.steps = order.steps;
            verdict.faults.extend(found("reads of one member", local::check(history, &order)));
            verdict.faults.extend(found("watch", watch::check(history, &order.store)));
            verdict.faults.extend(found("lease", lease::check(history, &order, &rules.lease)));
            verdict.faults.extend(found("lock", lock::check(history, &order.store)));
        }
        linear::Verdict::Refused(fault) => verdict.faults.extend(found("order", vec![fault])),
        linear::Verdict::Undecided { steps, .. } => {
            verdict.is_undecided = true;
            verdict.steps = steps;
        }
    }
    verdict
}

fn found<R: fmt::Debug>(judge: &str, faults: Vec<Fault<R>>) -> Vec<Found> {
    faults.iter().map(|fault| Found::by(judge, fault)).collect()
}
