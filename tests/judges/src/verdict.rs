//! All judges of what clients were told, one after the other.

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

/// What was judged, and what was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong, each in words.
    pub faults: Vec<String>,
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
            verdict.faults.extend(words("reads of one member", local::check(history, &order)));
            verdict.faults.extend(words("watch", watch::check(history, &order.store)));
            verdict.faults.extend(words("lease", lease::check(history, &order, &rules.lease)));
            verdict.faults.extend(words("lock", lock::check(history, &order.store)));
        }
        linear::Verdict::Refused(fault) => verdict.faults.extend(words("order", vec![fault])),
        linear::Verdict::Undecided { steps, .. } => {
            verdict.is_undecided = true;
            verdict.steps = steps;
        }
    }
    verdict
}

fn words<R: std::fmt::Debug>(judge: &str, faults: Vec<Fault<R>>) -> Vec<String> {
    faults.iter().map(|fault| format!("{judge}: {fault}")).collect()
}
