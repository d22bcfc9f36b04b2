//! Writes: what is acknowledged stays, and nothing is applied twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_consensus::{Lane, Limits, ProposeError};
use kvorum_disk::OpKind;
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use prost::Message;

use crate::harness::{Cluster, Gate, Plan, body_of, eventually, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_puts_and_has_it_all_after_a_loss_of_power() {
    let mut cluster = Cluster::start(Plan::members(1)).await;
    let id = cluster.nodes[0].id;
    let mut revisions = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            let key = format!("key{round}.{number}");
            revisions.push(cluster.nodes[0].put(&key, "value").await.expect("a put"));
        }
        let disk = cluster.take(id).lose_power(&cluster.network, round).await;
        cluster.restart(id, disk).await;
        for number in 0..20 {
            let value = cluster.nodes[0].get(&format!("key{round}.{number}")).await;
            assert_eq!(value.as_deref(), Some("value"));
        }
    }
    assert!(revisions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{revisions:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_travel_together() {
    let cluster = Cluster::start(Plan::members(1)).await;
    let node = &cluster.nodes[0];
    let before = node.member.status().last_index.expect("it has begun");
    // While the first entries wait for the disk, the others gather.
    let gate = Arc::new(Gate::default());
    let hold = gate.clone();
    node.disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            hold.pass();
        }
    });
    let puts = (0..1000).map(|number| {
        let member = node.member.clone();
        tokio::spawn(async move { put(&member, &format!("key{number}"), "value").await })
    });
    let puts = puts.collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    for put in puts {
        put.await.expect("no panic").expect("a put");
    }
    assert_eq!(node.revision(), 1001);
    let entries = node.member.status().last_index.expect("it has begun") - before;
    assert!(entries < 100, "{entries} entries for 1000 requests");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_replicate_and_forward() {
    let cluster = Cluster::start(Plan::members(3)).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let revision = node.put("key", &format!("{number}")).await.expect("a put");
        // The member that answers has applied what it answers.
        assert!(node.revision() >= revision);
        assert_eq!(node.get_here("key"), Some(format!("{number}")));
        for reading in &cluster.nodes {
            assert_eq!(reading.get("key").await, Some(format!("{number}")));
        }
    }
    let revisions = cluster.nodes.iter().map(|node| node.revision()).collect::<Vec<_>>();
    assert_eq!(revisions, [4, 4, 4]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_leaders_come_and_go() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let mut acknowledged = 0;
    for round in 0..3u64 {
        let done = Arc::new(AtomicU64::new(0));
        let leader = cluster.leader().await;
        let writers =
            cluster.nodes.iter().flat_map(|node| (0..4).map(move |_| node.member.clone()));
        let writers = writers.enumerate().map(|(writer, member)| {
            let done = done.clone();
            tokio::spawn(async move {
                let mut written = Vec::new();
                while done.load(Ordering::Relaxed) == 0 {
                    let key = format!("{round}.{writer}.{}", written.len());
                    match put(&member, &key, "value").await {
                        Ok(_) => written.push(key),
                        Err(ProposeError::Stopped | ProposeError::LeaderChanged) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                written
            })
        });
        let writers = writers.collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let disk = cluster.take(leader).lose_power(&cluster.network, round).await;
        cluster.leader().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        done.store(1, Ordering::Relaxed);
        cluster.restart(leader, disk).await;
        for writer in writers {
            let written = writer.await.expect("no panic");
            acknowledged += written.len();
            for key in written {
                for node in &cluster.nodes {
                    assert_eq!(node.get(&key).await.as_deref(), Some("value"), "{key}");
                }
            }
        }
    }
    assert!(acknowledged > 100, "only {acknowledged} writes");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_at_once_lose_power_and_no_acknowledged_write() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    for round in 0..2u64 {
        for number in 0..10 {
            let node = &cluster.nodes[number % 3];
            node.put(&format!("{round}.{number}"), "value").await.expect("a put");
        }
        let mut disks = Vec::new();
        for id in cluster.ids() {
            disks.push((id, cluster.take(id).lose_power(&cluster.network, round).await));
        }
        for (id, disk) in disks {
            cluster.restart(id, disk).await;
        }
        cluster.leader().await;
        for node in &cluster.nodes {
            for number in 0..10 {
                let value = node.get(&format!("{round}.{number}")).await;
                assert_eq!(value.as_deref(), Some("value"));
            }
        }
    }
    cluster.stop().await;
}

/// A follower that never hears what became of its write finds it in the log, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_whose_answer_is_lost_is_not_sent_again() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let forwards = Arc::new(AtomicUsize::new(0));
    let count = forwards.clone();
    cluster.network.set_filter(move |_, _, lane, message| {
        if lane != Lane::Forward {
            return true;
        }
        match body_of(message) {
            Body::ForwardRequest(_) => {
                count.fetch_add(1, Ordering::Relaxed);
                true
            }
            Body::ForwardReply(_) => false,
            _ => true,
        }
    });
    let before = follower.revision();
    follower.put("key", "value").await.expect("its own apply answers it");
    // Longer than the member waits for the leader's answer.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(forwards.load(Ordering::Relaxed), 1);
    assert_eq!(follower.revision(), before + 1);
    cluster.stop().await;
}

/// A forward that never arrived may have arrived, for all its sender knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_that_is_lost_times_out_and_others_go_on() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let mut lost = 0;
    let forwards = Arc::new(AtomicUsize::new(0));
    let count = forwards.clone();
    cluster.network.set_filter(move |_, _, _, message| {
        if !matches!(body_of(message), Body::ForwardRequest(_)) {
            return true;
        }
        count.fetch_add(1, Ordering::Relaxed);
        lost += 1;
        lost > 1
    });
    let member = follower.member.clone();
    let first = tokio::spawn(async move { put(&member, "lost", "value").await });
    eventually("the first forward", || forwards.load(Ordering::Relaxed) > 0).await;
    for number in 0..5 {
        follower.put(&format!("key{number}"), "value").await.expect("a put");
    }
    let outcome = first.await.expect("no panic");
    assert!(matches!(outcome, Err(ProposeError::Timeout)), "{outcome:?}");
    assert_eq!(follower.get("lost").await, None);
    cluster.stop().await;
}

/// A leader that is not one any more refuses, and only then is the write sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_for_another_term_is_refused_and_sent_again() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let mut refusals = 0;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    // Says that the first three are not appended, as a leader does who has just lost its majority.
    cluster.network.set_forward_rewrite(move |request: &mut peer::ForwardRequest| {
        count.fetch_add(1, Ordering::Relaxed);
        refusals += 1;
        if refusals <= 3 {
            request.term += 7;
        }
    });
    let before = follower.revision();
    follower.put("key", "value").await.expect("a put");
    assert_eq!(seen.load(Ordering::Relaxed), 4);
    assert_eq!(follower.revision(), before + 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limits_a_request_is_one_too_many() {
    let mut plan = Plan::members(1);
    plan.adjust = |settings| {
        settings.limits = Limits { requests: 10, ..Limits::default() };
    };
    let cluster = Cluster::start(plan).await;
    let node = &cluster.nodes[0];
    let gate = Arc::new(Gate::default());
    let hold = gate.clone();
    node.disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            hold.pass();
        }
    });
    let puts = (0..20).map(|number| {
        let member = node.member.clone();
        tokio::spawn(async move { put(&member, &format!("key{number}"), "value").await })
    });
    let puts = puts.collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.open();
    let mut refused = 0;
    for put in puts {
        match put.await.expect("no panic") {
            Ok(_) => {}
            Err(ProposeError::TooManyRequests) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 10);
    node.put("later", "value").await.expect("there is room again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let cluster = Cluster::start(Plan::members(1)).await;
    let node = &cluster.nodes[0];
    node.put("before", "value").await.expect("a put");
    node.disk.set_capacity(Some(0));
    let value = "x".repeat(100 << 10);
    let refused = async {
        loop {
            let member = node.member.clone();
            let (key, value) = ("filler", value.clone());
            let put = tokio::spawn(async move { put(&member, key, &value).await });
            match tokio::time::timeout(Duration::from_millis(300), put).await {
                Ok(put) => match put.expect("no panic") {
                    Ok(_) => {}
                    Err(error) => return error,
                },
                // It waits for room in the log: those after it are told at once.
                Err(_) => continue,
            }
        }
    };
    let refused = refused.await;
    assert!(matches!(refused, ProposeError::NoSpace), "{refused}");
    assert_eq!(node.get("before").await.as_deref(), Some("value"));
    node.disk.set_capacity(None);
    let mut recovered = false;
    for _ in 0..100 {
        if node.put("after", "value").await.is_ok() {
            recovered = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(recovered, "there is room, and still nothing is written");
    cluster.stop().await;
}

#[test]
fn the_filter_reads_what_the_members_say() {
    let message = peer::Message { id: 1, body: Some(Body::ForwardReply(Default::default())) };
    assert!(matches!(body_of(&message.encode_to_vec().into()), Body::ForwardReply(_)));
}
