//! Clients of all kinds at once, and the judges at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvorum_judges::history::{History, Input, Output};
use kvorum_judges::{lease, linear, verdict};
use kvorum_proto::api::etcdserverpb::RangeRequest;
use kvorum_testkit::{Endpoint, eventually, say_seed};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Client, Shared};
use crate::keys::{get, put};
use crate::watchers::Follower;
use crate::{keys, leases, locks};

const KEY_CLIENTS: u64 = 4;
const LEASE_CLIENTS: u64 = 2;
const LOCK_CLIENTS: u64 = 2;
const WATCHERS: u64 = 3;

/// How many faults are shown.
const SHOWN_MAX: usize = 5;

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    followers: JoinSet<()>,
    goal: watch::Sender<Option<i64>>,
}

impl Load {
    /// Begins, on a cluster that holds nothing.
    pub fn start(endpoints: Vec<Endpoint>, seed: u64) -> Load {
        say_seed(seed);
        let shared = Arc::new(Shared::new(endpoints, seed));
        let (mut clients, mut followers) = (JoinSet::new(), JoinSet::new());
        let mut number = 0;
        let mut next = || {
            number += 1;
            Client::new(&shared, number)
        };
        (0..KEY_CLIENTS).for_each(|_| drop(clients.spawn(keys::run(next()))));
        (0..LEASE_CLIENTS).for_each(|_| drop(clients.spawn(leases::run(next()))));
        (0..LOCK_CLIENTS).for_each(|_| drop(clients.spawn(locks::run(next()))));
        let (goal, wanted) = watch::channel(None);
        for number in 0..WATCHERS {
            followers.spawn(Follower::new(&shared, 100 + number, wanted.clone()).run());
        }
        Load { shared, clients, followers, goal }
    }

    /// Waits until so many more requests have been answered.
    pub async fn wait_for(&self, count: u64) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let wanted = answered() + count;
        eventually("answers", async || match answered() {
            found if found >= wanted => Ok(()),
            found => Err(found),
        })
        .await;
    }

    /// Ends the load and judges. All members must be up, or on their way.
    pub async fn finish(mut self, name: &str) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client ends well");
        }
        let mut last = Client::new(&self.shared, 0);
        wait_for_leases(&mut last).await;
        let goal = eventually("the last write", async || {
            let value = last.value();
            match last.ask(Input::Put(put("end", &value))).await {
                Some(Output::Put(answer)) => Ok(answer.header.map_or(0, |header| header.revision)),
                other => Err(other),
            }
        })
        .await;
        self.goal.send_replace(Some(goal));
        while let Some(ended) = self.followers.join_next().await {
            ended.expect("a watcher ends well");
        }
        judge(name, &self.shared.take_history());
    }
}

/// All leases end: whatever hangs on them goes.
async fn wait_for_leases(client: &mut Client) {
    for prefix in [leases::PREFIX, locks::PREFIX] {
        eventually("all leases to end", async || {
            let range_end = prefix.replace('/', "0").into();
            let request = RangeRequest { range_end, ..get(prefix) };
            match client.ask(Input::Range(request)).await {
                Some(Output::Range(found)) if found.count == 0 => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

fn judge(name: &str, history: &History) {
    let unknown = history.ops.iter().filter(|op| op.end.is_none()).count();
    let heard: usize = history.watchers.iter().map(|watcher| watcher.heard.len()).sum();
    let rules = verdict::Rules {
        limits: linear::Limits::default(),
        // Members share the machine's clock. That all leases end has been waited for.
        lease: lease::Rules {
            fastest_permille: 1000,
            slowest_permille: 1000,
            calm_since: None,
            late_max: 0,
            rise_max: None,
        },
    };
    let verdict = verdict::judge(history, &rules);
    eprintln!(
        "{name}: {} requests ({unknown} of unknown outcome), {} watchers with {heard} messages, {} deeds with locks, \
         revision {}, {} steps",
        history.ops.len(),
        history.watchers.len(),
        history.locks.len(),
        verdict.revision,
        verdict.steps,
    );
    for fault in verdict.faults.iter().take(SHOWN_MAX) {
        eprintln!("{fault}");
    }
    assert!(verdict.faults.is_empty(), "{} rules were broken", verdict.faults.len());
    assert!(!verdict.is_undecided, "no order was found in {} steps", verdict.steps);
}
