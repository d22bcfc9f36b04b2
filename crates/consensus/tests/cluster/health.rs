//! Whom a change of the voters counts on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvorum_consensus::{Clock, MemberChangeError};
use kvorum_types::MemberId;

use crate::harness::{Cluster, NOT_STRICT, Plan, STRICT, add, eventually, remove};

/// How much slower than time itself the tests' clocks go. They do not stand: what a member asks for again after a while, it
/// would never ask for again.
const SLOWER: u32 = 20;

/// A clock that hardly goes by itself.
fn slow(seconds: &Arc<AtomicU64>) -> Clock {
    let (seconds, start) = (seconds.clone(), Instant::now());
    Clock::new(move || {
        Duration::from_secs(seconds.load(Ordering::SeqCst)) + start.elapsed() / SLOWER
    })
}

/// Whether the rules let a voter be added. That there is such a member already is found behind them.
async fn are_healthy(cluster: &Cluster, via: MemberId) -> bool {
    match cluster.change(via, add(1, false), STRICT).await.expect_err("there is a member 1") {
        MemberChangeError::Unhealthy => false,
        error => {
            assert_eq!(error.to_string(), "member ID already exist");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_counts_once_it_has_been_in_touch_for_five_seconds() {
    let seconds = Arc::new(AtomicU64::new(1_000));
    let pass = |more| {
        seconds.fetch_add(more, Ordering::SeqCst);
    };
    let plan = Plan {
        clock: Some(slow(&seconds)),
        adjust: |settings| settings.health_interval = Duration::from_secs(5),
        ..Plan::members(3)
    };
    let mut cluster = Cluster::start(plan).await;
    cluster.announce_all().await;
    let leader = cluster.leader().await;
    assert!(!are_healthy(&cluster, leader).await, "they have just met");
    pass(2);
    assert!(!are_healthy(&cluster, leader).await);
    pass(3);
    assert!(are_healthy(&cluster, leader).await);

    // One that was away begins anew, however shortly it was.
    let away = cluster.other_than(leader).id;
    let disk = cluster.take(away).stop(&cluster.network).await;
    cluster.restart(away, disk).await;
    cluster.node(away).get("key").await;
    assert!(!are_healthy(&cluster, leader).await, "it has just come back");
    // It is not missed itself, but the other two would depend on it.
    let other = cluster.third(leader, away);
    let refused = cluster.change(leader, remove(other), STRICT).await;
    assert!(matches!(refused, Err(MemberChangeError::Unhealthy)), "{refused:?}");
    pass(5);
    assert!(are_healthy(&cluster, leader).await);

    // Who has just been elected knows the others for as long as they have been there.
    tokio::time::sleep(Duration::from_secs(1)).await;
    pass(5);
    let moved = cluster.node(leader).member.transfer_leadership(Some(other)).await;
    moved.expect("it takes over");
    assert!(are_healthy(&cluster, other).await);
    cluster.stop().await;
}

/// The other two would be no majority of what is left, and the one that is gone may have answered a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_one_voter_was_lost_another_is_not_removed_at_once() {
    for is_cut_off in [false, true] {
        let mut cluster = Cluster::announced(Plan::members(3)).await;
        let leader = cluster.leader().await;
        let lost = cluster.other_than(leader).id;
        let other = cluster.third(leader, lost);
        assert!(are_healthy(&cluster, leader).await);
        if is_cut_off {
            cluster.network.isolate(lost, &cluster.ids());
        } else {
            cluster.take(lost).stop(&cluster.network).await;
        }
        let refused = cluster.change(leader, remove(other), STRICT).await;
        assert!(matches!(refused, Err(MemberChangeError::Unhealthy)), "{refused:?}");
        cluster.node(leader).put("key", "value").await.expect("two of three");
        // The one that is lost may go.
        cluster.change(leader, remove(lost), STRICT).await.expect("nobody misses it");
        cluster.node(leader).put("key", "value").await.expect("two of two");
        cluster.stop().await;
    }
}

/// What is asked for is done, but the engine goes on counting the one that is removed until it can do without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_a_removed_voter_is_dropped_once_the_others_are_a_majority() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let lost = cluster.other_than(leader).id;
    let gone = cluster.third(leader, lost);
    let disk = cluster.take(lost).stop(&cluster.network).await;
    // The leader may have heard of it a moment ago.
    cluster.change(leader, remove(gone), NOT_STRICT).await.expect("it is removed");
    eventually("it knows", || cluster.node(gone).member.reader().removed().contains(&gone)).await;
    for number in 0..10 {
        let put = cluster.node(leader).put(&format!("key{number}"), "value").await;
        put.expect("two of three, until the third is back");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    cluster.restart(lost, disk).await;
    cluster.wait_for_end(gone).await;
    cluster.node(lost).put("key", "value").await.expect("two of two");
    cluster.agree().await;
    cluster.stop().await;
}
