//! What went wrong with leases and locks in etcd, by the number of its issue, over whole members.
//!
//! | issue | here | closer to where it can go wrong |
//! |---|---|---|
//! | 15247 | a stalled leader that was replaced | `consensus` (`etcd_15247_*`), `machine` (the guard in the log) |
//! | 13508 | checkpoints through restarts and changes of leader | `consensus`, `lease` (`bug_13508_*`) |
//! | 20615 | keep-alives that meet a revoke | `consensus`, `lease`, and `streams` beside this |
//! | 9496 | a new leader with many leases | `consensus`, `lease` |
//! | 11408 | a lock whose lease ended in the queue | the service in `locks`; the client's mutex here |

use std::time::Duration;

use kvorum_client::Error;
use kvorum_client::concurrency::{Mutex, Session, SessionOptions};
use kvorum_testkit::{Cluster, eventually};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Seconds of leases that a leader stands still for longer than.
const TTL: i64 = 4;

/// A leader that stood still was replaced, and when it went on it took all leases to be over, and revoked them.
#[tokio::test]
async fn etcd_15247_a_leader_that_stood_still_past_all_leases_revokes_none_of_them() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let stalled = cluster.leader().await;
    let other = cluster.endpoint((stalled + 1) % 3);
    for id in 1..=20 {
        other.grant(id, TTL).await.unwrap();
        other.put_leased(format!("key/{id}"), "value", id).await.unwrap();
    }
    cluster.process(stalled).pause();
    // Clients of the others keep their leases alive meanwhile.
    let kept = tokio::spawn({
        let other = other.clone();
        async move {
            loop {
                for id in 1..=20 {
                    let _ = other.keep_alive(id).await;
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    });
    sleep(Duration::from_secs(TTL.unsigned_abs() + 2)).await;
    assert_eq!(other.get("key/1").await.unwrap().as_deref(), Some("value"));
    cluster.process(stalled).resume();
    cluster.wait_ready(stalled).await;
    // What it decided while it took itself for the leader has had its chance once it has applied this.
    cluster.endpoint(stalled).put("beside", "").await.unwrap();
    for endpoint in cluster.endpoints() {
        for id in 1..=20 {
            let left = endpoint.time_to_live(id).await.unwrap();
            assert!(left.ttl >= 0 && left.keys == [format!("key/{id}")], "{left:?}");
        }
    }
    kept.abort();
    cluster.assert_members_agree().await;
}

/// What a leader had noted of a lease's time was lost with the next restart or leader, so that leases never ended.
#[tokio::test]
async fn etcd_13508_a_lease_ends_though_its_leaders_come_and_go() {
    let mut cluster = Cluster::of(3)
        .with_clocks()
        .configure(|builder| builder.lease_checkpoint_interval(Duration::from_secs(60)))
        .start()
        .await;
    cluster.endpoint(0).grant(1, 1000).await.unwrap();
    let left = async |cluster: &Cluster, member: usize| {
        let left = cluster.endpoint(member).time_to_live(1).await;
        left.map(|left| left.ttl).map_err(|status| status.to_string())
    };
    for round in 1..=4 {
        let leader = cluster.leader().await;
        let applied = async || cluster.endpoint(leader).status().await.unwrap().raft_applied_index;
        let before = applied().await;
        cluster.leap(Duration::from_secs(100));
        // Nothing else is written here.
        eventually("a note of what is left", async || match applied().await {
            index if index > before => Ok(()),
            index => Err(index),
        })
        .await;
        cluster.stop(leader).await;
        cluster.restart(leader).await;
        let leader = cluster.leader().await;
        let found = eventually("the new leader's count", async || left(&cluster, leader).await);
        // Each leader gives it an election timeout more, in whole seconds.
        assert!((1..=1000 - 95 * round).contains(&found.await), "round {round}");
    }
    cluster.leap(Duration::from_secs(600));
    eventually("the end of the lease", async || match left(&cluster, 0).await {
        Ok(-1) => Ok(()),
        other => Err(other),
    })
    .await;
}

/// A keep-alive was answered with a whole TTL though the lease had been revoked, and the answer to that given.
#[tokio::test]
async fn etcd_20615_no_member_keeps_a_lease_alive_after_its_revoke_was_answered() {
    let cluster = Cluster::of(3).start().await;
    let endpoints = cluster.endpoints();
    let mut streams = Vec::new();
    for endpoint in &endpoints {
        streams.push(endpoint.keeping_alive(999).await.unwrap());
    }
    for stream in &mut streams {
        assert_eq!(stream.response().await.ttl, 0);
    }
    for id in 1..=60 {
        let revoker = &endpoints[id as usize % 3];
        revoker.grant(id, 100).await.unwrap();
        for stream in &mut streams {
            stream.send(id).await;
            assert_eq!(stream.response().await.ttl, 100);
        }
        // These are on their way while the lease is revoked: they may be answered either way.
        for stream in &streams {
            stream.send(id).await;
        }
        revoker.revoke(id).await.unwrap();
        for stream in &mut streams {
            stream.send(id).await;
            assert!([0, 100].contains(&stream.response().await.ttl));
            assert_eq!(stream.response().await.ttl, 0, "{id}");
        }
    }
}

/// A leader counts its leases anew when it begins to lead; with many, requests waited for that until their time was up.
#[tokio::test]
async fn etcd_9496_a_new_leader_serves_while_it_counts_its_leases() {
    const LEASES: i64 = 20_000;
    const CLIENTS: i64 = 50;
    let mut cluster = Cluster::of(3).start().await;
    let mut granting = JoinSet::new();
    for client in 0..CLIENTS {
        let endpoint = cluster.endpoint(client as usize % 3);
        granting.spawn(async move {
            for id in (1 + client..=LEASES).step_by(CLIENTS as usize) {
                endpoint.grant(id, 10_000).await.unwrap();
            }
        });
    }
    granting.join_all().await;
    for _ in 0..2 {
        let old = cluster.leader().await;
        cluster.kill(old);
        let endpoint = cluster.endpoint((old + 1) % 3);
        // The last ones are counted last. Each of these has a single request's time.
        eventually("a leader", async || endpoint.get("key").await.map_err(|e| e.to_string())).await;
        for id in [LEASES, 1, LEASES / 2] {
            assert_eq!(endpoint.keep_alive(id).await.unwrap(), 10_000);
        }
        endpoint.put_leased("key", "value", LEASES).await.unwrap();
        assert_eq!(endpoint.leases().await.unwrap().len(), LEASES as usize);
        cluster.restart(old).await;
    }
}

/// Who waited for a lock got it though its lease had ended meanwhile, and its key with it.
#[tokio::test]
async fn etcd_11408_a_mutex_whose_lease_ended_in_the_queue_is_not_had() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let session = async || Session::open(&client, SessionOptions::new().ttl(300)).await.unwrap();
    let (first, second) = (session().await, session().await);
    let held = Mutex::new(&first, "name").lock().await.unwrap();
    let lease = second.lease();
    let waiting = tokio::spawn(async move { Mutex::new(&second, "name").lock().await });
    let endpoint = cluster.endpoint(0);
    let key = format!("name/{lease:x}");
    eventually("the second in the queue", async || {
        endpoint.get(&key).await.map_err(|status| status.to_string())?.ok_or_else(String::new)
    })
    .await;
    // In this order neither's end is known to the one who waits before the other's.
    endpoint.revoke(lease).await.unwrap();
    let _ = held.unlock().await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::SessionExpired)));
    // The queue is empty: the next one has the lock at once.
    let third = session().await;
    Mutex::new(&third, "name").try_lock().await.unwrap().unlock().await.unwrap();
}
