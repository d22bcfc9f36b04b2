//! The Lock service.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb::RangeRequest;
use kvorum_proto::api::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::queues::has_waiting;

async fn lock(endpoint: &Endpoint, name: &str, lease: i64) -> Result<LockResponse, Status> {
    let request = LockRequest { name: name.to_owned().into(), lease };
    Ok(endpoint.lock().lock(request).await?.into_inner())
}

fn locking(endpoint: &Endpoint, name: &'static str, lease: i64) -> JoinHandle<LockResponse> {
    let endpoint = endpoint.clone();
    tokio::spawn(async move { lock(&endpoint, name, lease).await.expect("the lock") })
}

async fn unlock(endpoint: &Endpoint, key: impl Into<bytes::Bytes>) {
    let request = UnlockRequest { key: key.into() };
    endpoint.lock().unlock(request).await.expect("an unlock");
}

#[tokio::test]
async fn a_lock_is_a_key_of_the_lease() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(0x33a1, 100).await.unwrap();
    let held = lock(&endpoint, "name", 0x33a1).await.unwrap();
    assert_eq!(held.key, "name/33a1");
    assert_eq!(held.header.unwrap().revision, 2);
    assert_eq!(endpoint.time_to_live(0x33a1).await.unwrap().keys, ["name/33a1"]);
    // Who holds it gets it again.
    let again = lock(&cluster.endpoint(1), "name", 0x33a1).await.unwrap();
    assert_eq!(again.key, held.key);
    unlock(&cluster.endpoint(2), held.key.clone()).await;
    assert_eq!(endpoint.get("name/33a1").await.unwrap(), None);
    // There is nothing to unlock, and that is no error.
    unlock(&endpoint, held.key).await;
}

#[tokio::test]
async fn without_a_lease_there_is_one_of_a_minute() {
    let cluster = Cluster::of(1).with_clocks().start().await;
    let endpoint = cluster.endpoint(0);
    let held = lock(&endpoint, "name", 0).await.unwrap();
    let leases = endpoint.leases().await.unwrap();
    let [lease] = leases[..] else { panic!("{leases:?}") };
    assert_eq!(held.key, format!("name/{lease:x}"));
    assert_eq!(endpoint.time_to_live(lease).await.unwrap().granted_ttl, 60);
    // Nobody keeps it alive.
    cluster.leap(Duration::from_secs(61));
    has_waiting(&endpoint, "name", 0).await;
    assert_eq!(endpoint.time_to_live(lease).await.unwrap().ttl, -1);
}

#[tokio::test]
async fn a_lease_made_for_one_who_waits_is_kept_alive_until_the_wait_is_over() {
    let cluster = Cluster::of(1).with_clocks().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100_000).await.unwrap();
    let held = lock(&endpoint, "name", 1).await.unwrap();
    let next = locking(&endpoint, "name", 0);
    has_waiting(&endpoint, "name", 2).await;
    let leases = endpoint.leases().await.unwrap();
    let lease = leases.into_iter().find(|lease| *lease != 1).unwrap();
    let left = async || endpoint.time_to_live(lease).await.unwrap().ttl;
    for _ in 0..3 {
        cluster.leap(Duration::from_secs(30));
        eventually("a keep-alive", async || match left().await {
            left if left > 40 => Ok(()),
            left => Err(left),
        })
        .await;
    }
    unlock(&endpoint, held.key).await;
    assert_eq!(next.await.unwrap().key, format!("name/{lease:x}"));
    cluster.leap(Duration::from_secs(61));
    has_waiting(&endpoint, "name", 0).await;
}

#[tokio::test]
async fn a_lock_goes_to_those_who_wait_in_their_order() {
    let cluster = Cluster::of(3).start().await;
    for id in 1..=5 {
        cluster.endpoint(0).grant(id, 100).await.unwrap();
    }
    let mut held = lock(&cluster.endpoint(0), "name", 1).await.unwrap();
    let mut waiting = Vec::new();
    for id in 2..=5 {
        waiting.push(locking(&cluster.endpoint(id as usize % 3), "name", id));
        has_waiting(&cluster.endpoint(0), "name", id).await;
    }
    for (id, next) in (2..).zip(waiting) {
        assert!(!next.is_finished());
        unlock(&cluster.endpoint(0), held.key).await;
        held = next.await.unwrap();
        assert_eq!(held.key, format!("name/{id}"));
    }
}

#[tokio::test]
async fn a_lock_whose_lease_ends_goes_to_the_next() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    endpoint.grant(2, 100).await.unwrap();
    lock(&endpoint, "name", 1).await.unwrap();
    let next = locking(&cluster.endpoint(1), "name", 2);
    has_waiting(&endpoint, "name", 2).await;
    endpoint.revoke(1).await.unwrap();
    assert_eq!(next.await.unwrap().key, "name/2");
}

/// etcd 11408: who waited for a lock got it though its lease had ended meanwhile.
#[tokio::test]
async fn etcd_11408_who_lost_its_lease_while_it_waited_gets_no_lock() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    endpoint.grant(2, 100).await.unwrap();
    let held = lock(&endpoint, "name", 1).await.unwrap();
    let waiting = cluster.endpoint(1);
    let waiting = tokio::spawn(async move { lock(&waiting, "name", 2).await });
    has_waiting(&endpoint, "name", 2).await;
    endpoint.revoke(2).await.unwrap();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "mutex: session is expired"));
    assert!(endpoint.get(held.key).await.unwrap().is_some(), "the holder is not touched");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_key_with_it() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    endpoint.grant(2, 100).await.unwrap();
    let held = lock(&endpoint, "name", 1).await.unwrap();
    let leases = endpoint.leases().await.unwrap().len();
    let waiting = [locking(&endpoint, "name", 2), locking(&cluster.endpoint(1), "name", 0)];
    has_waiting(&endpoint, "name", 3).await;
    for call in waiting {
        call.abort();
    }
    has_waiting(&endpoint, "name", 1).await;
    eventually("the end of the lease that was made for a client", async || {
        let left = endpoint.leases().await.map_err(|status| status.to_string())?;
        if left.len() == leases { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(endpoint.get(held.key).await.unwrap().is_some());
    // So does one whose time is over.
    let mut request = tonic::Request::new(LockRequest { name: "name".into(), lease: 2 });
    request.set_timeout(Duration::from_millis(300));
    endpoint.lock().lock(request).await.unwrap_err();
    has_waiting(&endpoint, "name", 1).await;
}

/// A call that is given up cleans up behind itself, however late: not behind a later call of the same lease.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_the_place_to_a_later_one_of_its_lease() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    endpoint.grant(2, 100).await.unwrap();
    let held = lock(&endpoint, "name", 1).await.unwrap();
    let given_up = locking(&cluster.endpoint(1), "name", 2);
    has_waiting(&endpoint, "name", 2).await;
    let version = async || {
        let request = RangeRequest { key: "name/2".into(), ..RangeRequest::default() };
        endpoint.range(request).await.unwrap().kvs.first().map(|found| found.version)
    };
    let again = locking(&cluster.endpoint(2), "name", 2);
    eventually("the second call", async || match version().await {
        Some(2) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    given_up.abort();
    // A third who waits comes behind them, and its coming shows that the one given up is through.
    endpoint.grant(3, 100).await.unwrap();
    let third = locking(&cluster.endpoint(1), "name", 3);
    has_waiting(&endpoint, "name", 3).await;
    unlock(&endpoint, held.key).await;
    let next = again.await.expect("the second call has the lock");
    assert_eq!(next.key, "name/2");
    unlock(&endpoint, next.key).await;
    assert_eq!(third.await.unwrap().key, "name/3");
}

#[tokio::test]
async fn refusals_are_etcds() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let refused = lock(&endpoint, "name", 999).await.unwrap_err();
    let not_found = "etcdserver: requested lease not found";
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, not_found));
    let refused = endpoint.lock().unlock(UnlockRequest::default()).await.unwrap_err();
    let no_key = "etcdserver: key is not provided";
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, no_key));
}
