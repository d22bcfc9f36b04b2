//! Leases that end with all their keys, and what is said of leases that there are not.

use std::time::Instant;

use kvorum_client::{Client, Error, EtcdError};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use kvorum_proto::api::mvccpb::Event;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_testkit::{Cluster, Endpoint};
use tonic::Code;

/// Keys of the one lease.
const KEYS: usize = 20_000;
/// As many as a transaction may put.
const KEYS_PER_TXN: usize = 128;

fn key(number: usize) -> String {
    format!("key/{number:05}")
}

fn put_leased(key: String, lease: i64) -> RequestOp {
    let put = PutRequest { key: key.into(), lease, ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

async fn put_all(endpoint: &Endpoint, lease: i64) {
    // Not in their order, so that the order in which they go is that of the keys.
    let numbers: Vec<usize> = (0..KEYS).rev().collect();
    for numbers in numbers.chunks(KEYS_PER_TXN) {
        let success = numbers.iter().map(|number| put_leased(key(*number), lease)).collect();
        let request = TxnRequest { success, ..Default::default() };
        assert!(endpoint.txn(request).await.unwrap().succeeded);
    }
}

/// Reads a watch until so many events were seen.
async fn events(
    watching: &mut kvorum_testkit::Watching,
    count: usize,
) -> (Vec<WatchResponse>, Vec<Event>) {
    let (mut responses, mut events) = (Vec::new(), Vec::new());
    while events.len() < count {
        let mut response = watching.response().await;
        assert!(!response.canceled, "{response:?}");
        events.append(&mut response.events);
        responses.push(response);
    }
    (responses, events)
}

#[tokio::test]
async fn a_lease_of_20_000_keys_ends_in_one_revision_in_key_order() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 10_000).await.unwrap();
    put_all(&endpoint, 1).await;
    assert_eq!(endpoint.time_to_live(1).await.unwrap().keys.len(), KEYS);
    let before = endpoint.put("beside", "").await.unwrap().header.unwrap().revision;
    let mut watching = Vec::new();
    for fragment in [false, true] {
        let mut whole = cluster.endpoint(1).watch();
        whole
            .create(WatchCreateRequest {
                key: "key/".into(),
                range_end: "key0".into(),
                start_revision: before + 1,
                fragment,
                ..Default::default()
            })
            .await;
        assert!(whole.response().await.created);
        watching.push(whole);
    }
    let began = Instant::now();
    let revision = endpoint.revoke(1).await.unwrap().header.unwrap().revision;
    println!("{KEYS} keys of a lease revoked in {:?}", began.elapsed());
    assert_eq!(revision, before + 1);
    for watching in &mut watching {
        let (responses, events) = events(watching, KEYS).await;
        assert_eq!(events.len(), KEYS);
        for (number, event) in events.iter().enumerate() {
            let kv = event.kv.as_ref().expect("every event has its key");
            assert_eq!(event.r#type(), EventType::Delete);
            assert_eq!((kv.key.as_ref(), kv.mod_revision), (key(number).as_bytes(), revision));
        }
        let (last, parts) = responses.split_last().expect("one at least");
        assert!(!last.fragment && parts.iter().all(|part| part.fragment), "one revision, whole");
    }
    let put = endpoint.put("beside", "").await.unwrap().header.unwrap().revision;
    assert_eq!(put, revision + 1);
    assert_eq!(cluster.endpoint(2).get(key(0)).await.unwrap(), None);
    assert_eq!(endpoint.time_to_live(1).await.unwrap().ttl, -1);
    cluster.assert_members_agree().await;
}

fn assert_not_found<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("a refusal");
    assert_eq!(error.etcd(), Some(EtcdError::LeaseNotFound));
    assert_eq!(error.to_string(), "etcdserver: requested lease not found");
    assert_eq!(error.code(), Code::NotFound);
}

async fn put_with(client: &Client, lease: i64) -> Result<(), Error> {
    let request = PutRequest { key: "key".into(), lease, ..Default::default() };
    client.put_with(request).await.map(drop)
}

#[tokio::test]
async fn of_a_lease_that_there_is_not_every_client_is_told_so() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let revoked = client.lease_grant(100, 0).await.unwrap().id;
    client.lease_revoke(revoked).await.unwrap();
    let before = cluster.endpoint(0).put("beside", "").await.unwrap().header.unwrap().revision;
    for lease in [revoked, 12_345, -1] {
        for _ in 0..3 {
            assert_not_found(put_with(&client, lease).await);
            assert_not_found(client.lease_revoke(lease).await);
            assert_not_found(client.keep_alive_once(lease).await);
            assert_not_found(client.keep_alive(lease).next().await.expect("an end"));
            let left = client.lease_time_to_live(lease, true).await.unwrap();
            assert_eq!((left.id, left.ttl, left.granted_ttl), (lease, -1, 0));
            assert!(left.keys.is_empty());
        }
        // On the wire it is an answer with no time left.
        for endpoint in cluster.endpoints() {
            assert_eq!(endpoint.keep_alive(lease).await.unwrap(), 0);
            // Half a transaction is never done.
            let success = vec![put_leased("beside".to_owned(), 0), put_leased("key".into(), lease)];
            let refused = endpoint.txn(TxnRequest { success, ..Default::default() }).await;
            let refused = refused.unwrap_err();
            let text = "etcdserver: requested lease not found";
            assert_eq!((refused.code(), refused.message()), (Code::NotFound, text));
        }
    }
    let after = cluster.endpoint(0).put("beside", "").await.unwrap().header.unwrap().revision;
    assert_eq!(after, before + 1, "nothing of it was done");
    assert_eq!(cluster.endpoint(0).get("key").await.unwrap(), None);
}
