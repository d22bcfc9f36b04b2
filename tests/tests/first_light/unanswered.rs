//! What is said to those whose request could not be carried out in time, or not at all.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvorum_disk::OpKind;
use kvorum_proto::api::etcdserverpb::CompactionRequest;
use kvorum_server::Builder;
use kvorum_testkit::{Cluster, ClusterBuilder, Endpoint, Gate, eventually};
use tokio::task::{JoinHandle, JoinSet};

use crate::api::*;
use crate::clock::HandClock;

const TIMED_OUT: &str = "etcdserver: request timed out";
const LEADER_FAILED: &str =
    "etcdserver: request timed out, possibly due to previous leader failure";
const CONNECTION_LOST: &str = "etcdserver: request timed out, possibly due to connection lost";
const NOT_APPLIED: &str =
    "etcdserver: request timed out, waiting for the applied index took too long";
const LEADER_CHANGED: &str = "etcdserver: leader changed";
const STOPPED: &str = "etcdserver: server stopped";
const TOO_MANY: &str = "etcdserver: too many requests";

/// How many requests may wait in a member, between being accepted and being applied.
const REQUESTS_MAX: usize = 5000;

/// How many more are sent.
const REFUSED: usize = 50;

/// How often a read is asked again that timed out before it was confirmed.
const READS_MAX: usize = 10;

type Answer = Result<(), Status>;

/// One call that writes, of each kind.
fn writes(endpoint: &Endpoint) -> Vec<JoinHandle<Answer>> {
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| endpoint.kv());
    let compaction = CompactionRequest { revision: 1, physical: false };
    vec![
        tokio::spawn(async move { a.put(put("a", "1")).await.map(drop) }),
        tokio::spawn(async move { b.delete_range(delete("a", "")).await.map(drop) }),
        tokio::spawn(async move { c.txn(always(vec![put_op("a", "1")])).await.map(drop) }),
        tokio::spawn(async move { d.compact(compaction).await.map(drop) }),
    ]
}

/// One call that reads linearizably, of each kind.
fn reads(endpoint: &Endpoint) -> Vec<JoinHandle<Answer>> {
    let [mut a, mut b, mut c] = [(); 3].map(|()| endpoint.kv());
    vec![
        tokio::spawn(async move { a.range(range("a", "")).await.map(drop) }),
        tokio::spawn(async move { b.range_stream(range("a", "")).await.map(drop) }),
        tokio::spawn(async move { c.txn(always(vec![get_op("a")])).await.map(drop) }),
    ]
}

/// Members in memory that go by one clock.
fn members(count: usize, clock: &Arc<HandClock>) -> ClusterBuilder {
    let clock = clock.clone();
    Cluster::of(count).configure(move |builder| clock.given_to(builder.in_memory()))
}

/// The same, but that nothing is ever applied.
fn members_that_apply_nothing(count: usize, clock: &Arc<HandClock>) -> ClusterBuilder {
    let clock = clock.clone();
    // The store is never taken for one that keeps up.
    let store = kvorum_mvcc::Options { tail_bytes_max: 0, ..Default::default() };
    Cluster::of(count)
        .configure(move |builder| clock.given_to(builder.in_memory().store_options(store.clone())))
}

async fn leader_is_known(endpoint: &Endpoint) {
    eventually("a leader", async || match endpoint.status().await?.leader {
        0 => Err(Status::unavailable("none")),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_was_never_a_leader_the_time_is_over() {
    let clock = HandClock::running();
    let mut cluster = members(3, &clock).prepare();
    cluster.launch(0).await;
    let endpoint = cluster.endpoint(0);
    let (mut calls, reads) = (writes(&endpoint), reads(&endpoint));
    calls.extend(reads);
    clock.has_seen(calls.len() as u64).await;
    for call in calls {
        assert_refused(clock.outwait(call).await, Code::Unavailable, TIMED_OUT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_leader_was_lost_it_may_be_the_connection() {
    let clock = HandClock::running();
    let mut cluster = members(3, &clock).start().await;
    let endpoint = cluster.endpoint(0);
    cluster.kill(1);
    cluster.kill(2);
    eventually("no leader", async || match endpoint.status().await.unwrap().leader {
        0 => Ok(()),
        leader => Err(leader),
    })
    .await;
    let seen = clock.requests();
    let (writes, reads) = (writes(&endpoint), reads(&endpoint));
    clock.has_seen(seen + (writes.len() + reads.len()) as u64).await;
    for call in writes {
        assert_refused(clock.outwait(call).await, Code::Unavailable, CONNECTION_LOST);
    }
    for call in reads {
        assert_refused(clock.outwait(call).await, Code::Unavailable, TIMED_OUT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_came_before_its_leader_was_elected_hears_of_the_leader_before() {
    let clock = HandClock::standing();
    // A while of which an election timeout or two can be taken off.
    clock.leap(Duration::from_secs(60));
    let mut cluster = members_that_apply_nothing(3, &clock).prepare();
    cluster.launch(0).await;
    let endpoint = cluster.endpoint(0);
    let asked = endpoint.clone();
    let write = tokio::spawn(async move { asked.put("a", "1").await });
    clock.has_seen(1).await;
    clock.leap(Duration::from_millis(1));
    cluster.launch(1).await;
    leader_is_known(&endpoint).await;
    assert_refused(clock.outwait(write).await, Code::Unavailable, LEADER_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_confirmed_and_waits_for_the_state_says_so() {
    let clock = HandClock::running();
    let mut cluster = members_that_apply_nothing(1, &clock).prepare();
    cluster.launch(0).await;
    let endpoint = cluster.endpoint(0);
    leader_is_known(&endpoint).await;
    for _ in 0..READS_MAX {
        let (asked, seen) = (endpoint.clone(), clock.requests());
        let read = tokio::spawn(async move { asked.get("a").await });
        clock.has_seen(seen + 1).await;
        let refusal = clock.outwait(read).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
        if refusal.message() == NOT_APPLIED {
            return;
        }
        // The clock was faster than the confirmation.
        assert_eq!(refusal.message(), TIMED_OUT);
    }
    panic!("none of {READS_MAX} reads was confirmed");
}

/// Members on simulated disks, whose every sync passes a gate of its own.
async fn members_behind_gates(cluster: ClusterBuilder) -> (Cluster, Vec<Arc<Gate>>) {
    let cluster = cluster.on_faulty_disks().start().await;
    let gates = (0..cluster.len()).map(|member| {
        let gate = Arc::new(Gate::default());
        let passed = gate.clone();
        cluster.disk(member).set_hook(move |op| {
            if op.kind == OpKind::Sync {
                passed.pass();
            }
        });
        gate
    });
    let gates = gates.collect();
    (cluster, gates)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_requests_than_may_wait_the_rest_is_refused() {
    let (cluster, gates) = members_behind_gates(Cluster::of(1)).await;
    let endpoint = cluster.endpoint(0);
    let connections = [(); 10].map(|()| Endpoint::new(endpoint.url()));
    let closed = gates[0].close();
    let mut calls = JoinSet::new();
    for number in 0..REQUESTS_MAX + REFUSED {
        let endpoint = connections[number % connections.len()].clone();
        calls.spawn(async move { endpoint.put(format!("{number}"), "x").await });
    }
    for _ in 0..REFUSED {
        // What is accepted waits for the disk, so what is answered is refused.
        let answer = calls.join_next().await.unwrap().unwrap();
        assert_refused(answer, Code::Unknown, TOO_MANY);
    }
    drop(closed);
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    let found = endpoint.range(everything()).await.unwrap();
    assert_eq!(usize::try_from(found.count), Ok(REQUESTS_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_way_when_its_member_is_stopped_is_told() {
    let (mut cluster, gates) = members_behind_gates(Cluster::of(1)).await;
    let endpoint = cluster.endpoint(0);
    let closed = gates[0].close();
    let write = tokio::spawn(async move { endpoint.put("a", "1").await });
    eventually("the write at the disk", async || match gates[0].held() {
        0 => Err("not yet"),
        _ => Ok(()),
    })
    .await;
    let answered = async {
        let answer = write.await.unwrap();
        drop(closed);
        answer
    };
    let ((), answer) = tokio::join!(cluster.stop(0), answered);
    assert_refused(answer, Code::Unavailable, STOPPED);
}

/// The leader stands still with a write that no other member has, and another is elected.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_next_leader_does_not_have_hears_of_the_change() {
    let clocks: Arc<Mutex<Vec<Arc<HandClock>>>> = Arc::default();
    let made = clocks.clone();
    let with_clock = move |builder: Builder| {
        let clock = HandClock::running();
        made.lock().unwrap().push(clock.clone());
        clock.given_to(builder)
    };
    let (mut cluster, gates) = members_behind_gates(Cluster::of(3).configure(with_clock)).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    let endpoint = cluster.endpoint(leader);
    // What the others are sent stays in their memory, and goes with it.
    let closed: Vec<_> = others.iter().map(|member| gates[*member].close()).collect();
    let before = cluster.server(leader).status().last_index;
    let write = tokio::spawn(async move { endpoint.put("a", "lost").await });
    eventually("the write in the leader's log", async || {
        let last = cluster.server(leader).status().last_index;
        if last > before { Ok(()) } else { Err(last) }
    })
    .await;
    let clock = clocks.lock().unwrap()[leader].clone();
    let stopped = clock.stop_time();
    for member in &others {
        cluster.disk(*member).power_loss_taking_all();
    }
    drop(closed);
    for member in &others {
        cluster.kill(*member);
    }
    eventually("the leader to stand still", async || match clock.held() {
        0 => Err("it runs"),
        _ => Ok(()),
    })
    .await;
    for member in &others {
        cluster.launch(*member).await;
    }
    let successor = cluster.endpoint(others[0]);
    eventually("a write without the leader", async || successor.put("b", "1").await).await;
    assert!(!write.is_finished());
    drop(stopped);
    assert_refused(write.await.unwrap(), Code::Unavailable, LEADER_CHANGED);
    assert_eq!(cluster.endpoint(leader).get("a").await.unwrap(), None);
    cluster.assert_members_agree().await;
}
