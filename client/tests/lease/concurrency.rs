//! Sessions, locks and elections.

use std::sync::{Arc, Mutex as StdMutex};

use bytes::Bytes;
use kvorum_client::api::etcdserverpb::compare::TargetUnion;
use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_client::api::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeResponse,
    RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchRequest,
    WatchResponse,
};
use kvorum_client::api::mvccpb::event::EventType;
use kvorum_client::api::mvccpb::{Event, KeyValue};
use kvorum_client::concurrency::{Election, Mutex, Session, SessionOptions};
use kvorum_client::{Error, EtcdError};
use tokio::time::timeout;

use super::streams::{Answer, PATIENCE, Server, Stream};
use super::{client, decoded, message};

const LEASE: i64 = 0x2a;
/// The revision at which the session's key is created.
const OWN: i64 = 20;

fn key(name: &str, create_revision: i64) -> KeyValue {
    KeyValue { key: name.to_string().into(), create_revision, ..Default::default() }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

/// What the servers of these tests hold under the prefix.
#[derive(Clone, Default)]
struct Keys {
    keys: Arc<StdMutex<Vec<KeyValue>>>,
    txns: Arc<StdMutex<Vec<TxnRequest>>>,
    ttl: i64,
}

impl Keys {
    fn with(keys: &[KeyValue], ttl: i64) -> Keys {
        Keys { keys: Arc::new(StdMutex::new(keys.to_vec())), ttl, ..Default::default() }
    }

    fn set(&self, keys: &[KeyValue]) {
        *self.keys.lock().unwrap() = keys.to_vec();
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let max =
            if request.max_create_revision == 0 { i64::MAX } else { request.max_create_revision };
        let mut keys = self.keys.lock().unwrap().clone();
        keys.sort_by_key(|key| key.create_revision);
        keys.retain(|key| {
            let in_range = !request.range_end.is_empty() || key.key == request.key;
            in_range && key.create_revision <= max
        });
        // Only the last one before is ever asked for with a bound.
        let kvs = if request.max_create_revision == 0 { keys.first() } else { keys.last() };
        RangeResponse {
            header: header(OWN + 9),
            kvs: kvs.cloned().into_iter().collect(),
            ..Default::default()
        }
    }

    /// Every comparison is of a revision of the own key.
    fn txn(&self, request: TxnRequest) -> TxnResponse {
        let compared = request.compare.first();
        let own = compared.map(|compare| compare.key.clone()).unwrap_or_default();
        let found = self.keys.lock().unwrap().iter().find(|key| key.key == own).cloned();
        let found = found.unwrap_or_default();
        let succeeded = match compared.and_then(|compare| compare.target_union.clone()) {
            Some(TargetUnion::CreateRevision(revision)) => found.create_revision == revision,
            Some(TargetUnion::ModRevision(revision)) => found.mod_revision == revision,
            other => panic!("{other:?}"),
        };
        self.txns.lock().unwrap().push(request.clone());
        let operations = if succeeded { request.success } else { request.failure };
        let response = |operation: Option<Request>| match operation {
            Some(Request::RequestPut(put)) => {
                let mut keys = self.keys.lock().unwrap();
                match keys.iter_mut().find(|key| key.key == put.key) {
                    Some(key) => (key.value, key.mod_revision) = (put.value, OWN),
                    None => keys.push(KeyValue {
                        key: put.key,
                        value: put.value,
                        create_revision: OWN,
                        mod_revision: OWN,
                        lease: put.lease,
                        ..Default::default()
                    }),
                }
                None
            }
            Some(Request::RequestDeleteRange(delete)) => {
                self.keys.lock().unwrap().retain(|key| key.key != delete.key);
                None
            }
            Some(Request::RequestRange(range)) => Some(Response::ResponseRange(self.range(&range))),
            other => panic!("{other:?}"),
        };
        let responses =
            operations.into_iter().map(|one| ResponseOp { response: response(one.request) });
        TxnResponse { header: header(OWN), succeeded, responses: responses.collect() }
    }

    fn answer(&self, path: &str, bytes: Bytes) -> Answer {
        match path {
            "/etcdserverpb.Lease/LeaseGrant" => {
                message(&LeaseGrantResponse { id: LEASE, ttl: self.ttl, ..Default::default() })
            }
            "/etcdserverpb.Lease/LeaseRevoke" => message(&LeaseRevokeResponse::default()),
            "/etcdserverpb.KV/Range" => message(&self.range(&decoded(bytes))),
            "/etcdserverpb.KV/Txn" => message(&self.txn(decoded(bytes))),
            _ => super::unexpected(path, bytes),
        }
    }

    async fn serve(&self) -> Server {
        let keys = self.clone();
        Server::answering(move |path, bytes| keys.answer(path, bytes)).await
    }
}

async fn session(server: &Server) -> Session {
    Session::open(&client(&[server]), SessionOptions::new().ttl(60)).await.unwrap()
}

/// The next stream, which watches this key.
async fn watched(server: &mut Server, key: &str) -> Stream {
    let mut stream = server.stream().await;
    match stream.next::<WatchRequest>().await.unwrap().request_union {
        Some(RequestUnion::CreateRequest(create)) => {
            assert_eq!((create.key, create.start_revision), (key.to_string().into(), OWN + 10));
        }
        other => panic!("{other:?}"),
    }
    stream.send(&WatchResponse { header: header(OWN + 9), created: true, ..Default::default() });
    stream
}

fn deleted(stream: &mut Stream, name: &str) {
    let kv = Some(KeyValue { mod_revision: OWN + 11, ..key(name, 0) });
    let event = Event { r#type: EventType::Delete.into(), kv, ..Default::default() };
    stream.send(&WatchResponse {
        header: header(OWN + 11),
        events: vec![event],
        ..Default::default()
    });
}

#[tokio::test]
async fn a_session_tells_of_the_loss_of_its_lease() {
    let mut server = Keys::with(&[], 1).serve().await;
    let session = Session::open(&client(&[&server]), SessionOptions::new().ttl(1)).await.unwrap();
    assert!(session.is_alive() && session.lease() == LEASE);
    let mut stream = server.stream().await;
    assert_eq!(stream.next::<LeaseKeepAliveRequest>().await.unwrap().id, LEASE);
    stream.send(&LeaseKeepAliveResponse { id: LEASE, ttl: 0, ..Default::default() });
    let error = timeout(PATIENCE, session.done()).await.unwrap();
    assert_eq!(error.etcd(), Some(EtcdError::LeaseNotFound));
    assert!(!session.is_alive() && session.remaining().is_zero());
}

#[tokio::test]
async fn a_session_whose_servers_are_silent_is_lost_a_ttl_after_its_grant() {
    let server = Keys::with(&[], 1).serve().await;
    let session = Session::open(&client(&[&server]), SessionOptions::new().ttl(1)).await.unwrap();
    let error = timeout(PATIENCE, session.clone().done()).await.unwrap();
    assert!(matches!(error, Error::LeaseExpired));
}

#[tokio::test]
async fn closing_revokes_and_orphaning_does_not() {
    let server = Keys::with(&[], 60).serve().await;
    let (first, second) = (session(&server).await, session(&server).await);
    first.orphan();
    assert!(matches!(first.done().await, Error::SessionLeft) && !first.is_alive());
    assert_eq!(server.calls(), ["/etcdserverpb.Lease/LeaseGrant"; 2]);
    second.close().await.unwrap();
    assert!(matches!(second.done().await, Error::SessionLeft));
    assert_eq!(server.calls().last().unwrap(), "/etcdserverpb.Lease/LeaseRevoke");
}

#[tokio::test]
async fn a_free_lock_takes_one_request_and_gives_a_token() {
    let keys = Keys::with(&[], 60);
    let server = keys.serve().await;
    let session = session(&server).await;
    let lock = Mutex::new(&session, "jobs").lock().await.unwrap();
    assert_eq!((lock.key().as_ref(), lock.fencing_token()), (&b"jobs/2a"[..], OWN));
    let own = lock.is_owner();
    assert_eq!(own.target_union, Some(TargetUnion::CreateRevision(OWN)));
    assert_eq!(server.calls(), ["/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.KV/Txn"]);
    let put = keys.txns.lock().unwrap()[0].success[0].request.clone();
    assert!(
        matches!(put, Some(Request::RequestPut(put)) if put.lease == LEASE && put.value.is_empty())
    );
    lock.unlock().await.unwrap();
    assert!(keys.keys.lock().unwrap().is_empty());
    assert!(matches!(lock.unlock().await, Err(Error::LockReleased)));
}

#[tokio::test]
async fn a_lock_that_is_held_is_waited_for_or_not() {
    let before = [key("jobs/1", 5), key("jobs/2", 9)];
    let keys = Keys::with(&before, 60);
    let mut server = keys.serve().await;
    let session = session(&server).await;
    let mutex = Mutex::new(&session, "jobs");
    assert!(matches!(mutex.try_lock().await, Err(Error::Locked)));
    assert_eq!(keys.keys.lock().unwrap().len(), 2, "the place was given up");
    let waiting = tokio::spawn(async move { mutex.lock().await });
    let mut stream = watched(&mut server, "jobs/2").await;
    let own = key("jobs/2a", OWN);
    keys.set(&[before[0].clone(), own.clone()]);
    deleted(&mut stream, "jobs/2");
    let mut next = {
        // The stream is closed with its last watch, or serves the next one.
        let next =
            timeout(PATIENCE, async { watched_on(&mut server, &mut stream, "jobs/1").await });
        next.await.expect("the next one is watched")
    };
    keys.set(&[own]);
    deleted(next.as_mut().unwrap_or(&mut stream), "jobs/1");
    let lock = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((lock.fencing_token(), lock.header().revision), (OWN, OWN + 9));
}

/// The watch of this key, on the same stream or, in the result, on another.
async fn watched_on(server: &mut Server, stream: &mut Stream, key: &str) -> Option<Stream> {
    loop {
        let request = tokio::select! {
            request = stream.next::<WatchRequest>() => request,
            other = watched(server, key) => return Some(other),
        };
        match request.and_then(|request| request.request_union) {
            Some(RequestUnion::CreateRequest(create)) => {
                assert_eq!(create.key, key.to_string());
                stream.send(&WatchResponse {
                    header: header(OWN + 9),
                    created: true,
                    ..Default::default()
                });
                return None;
            }
            Some(_) => {}
            None => return Some(watched(server, key).await),
        }
    }
}

/// etcd issue 11408: the lease may have ended while the lock was waited for.
#[tokio::test]
async fn a_lock_whose_own_key_vanished_while_it_waited_is_not_held() {
    for own in [Vec::new(), vec![key("jobs/2a", OWN + 5)]] {
        let keys = Keys::with(&[key("jobs/1", 5)], 60);
        let mut server = keys.serve().await;
        let session = session(&server).await;
        let mutex = Mutex::new(&session, "jobs");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        let mut stream = watched(&mut server, "jobs/1").await;
        keys.set(&own);
        deleted(&mut stream, "jobs/1");
        let lock = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(matches!(lock, Err(Error::SessionExpired)));
    }
}

#[tokio::test]
async fn who_waits_no_more_gives_up_the_place() {
    let keys = Keys::with(&[key("jobs/1", 5)], 60);
    let mut server = keys.serve().await;
    let session = session(&server).await;
    let mutex = Mutex::new(&session, "jobs");
    let waiting = tokio::spawn(async move { mutex.lock().await });
    watched(&mut server, "jobs/1").await;
    waiting.abort();
    while keys.keys.lock().unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    let last = keys.txns.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last.compare[0].target_union, Some(TargetUnion::ModRevision(OWN)));
}

#[tokio::test]
async fn waiting_ends_with_the_session() {
    let keys = Keys::with(&[key("jobs/1", 5)], 60);
    let mut server = keys.serve().await;
    let session = session(&server).await;
    let mutex = Mutex::new(&session, "jobs");
    let waiting = tokio::spawn(async move { mutex.lock().await });
    watched(&mut server, "jobs/1").await;
    session.orphan();
    let lock = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(lock, Err(Error::SessionExpired)));
}

#[tokio::test]
async fn the_elected_proclaim_and_resign() {
    let keys = Keys::with(&[], 60);
    let server = keys.serve().await;
    let session = session(&server).await;
    let election = Election::new(session.client(), "chair");
    assert!(matches!(election.leader().await, Err(Error::NobodyElected)));
    let leadership = election.campaign(&session, "ada").await.unwrap();
    assert_eq!((leadership.key().as_ref(), leadership.fencing_token()), (&b"chair/2a"[..], OWN));
    assert_eq!(election.leader().await.unwrap().kv.value, "ada");
    leadership.proclaim("eve").await.unwrap();
    assert_eq!(election.leader().await.unwrap().kv.value, "eve");
    // Who is elected already only gets the new value.
    let again = election.campaign(&session, "joe").await.unwrap();
    assert_eq!(election.leader().await.unwrap().kv.value, "joe");
    again.resign().await.unwrap();
    assert!(matches!(leadership.proclaim("late").await, Err(Error::NotElected)));
    assert!(matches!(leadership.resign().await, Err(Error::NotElected)));
}

#[tokio::test]
async fn an_observer_follows_leaders_and_their_values() {
    let keys = Keys::with(&[KeyValue { value: "ada".into(), ..key("chair/1", 5) }], 60);
    let mut server = keys.serve().await;
    let mut observer = Election::new(&client(&[&server]), "chair").observe();
    let first = observer.next().await.unwrap().unwrap();
    assert_eq!((first.kv.value, first.header.revision), ("ada".into(), OWN + 9));
    let next = tokio::spawn(async move {
        let next = observer.next().await.unwrap().unwrap();
        (next.kv, observer)
    });
    let mut stream = watched(&mut server, "chair/1").await;
    let kv = KeyValue { value: "eve".into(), mod_revision: OWN + 10, ..key("chair/1", 5) };
    let event = Event { kv: Some(kv), ..Default::default() };
    stream.send(&WatchResponse {
        header: header(OWN + 10),
        events: vec![event],
        ..Default::default()
    });
    let (kv, mut observer) = timeout(PATIENCE, next).await.unwrap().unwrap();
    assert_eq!(kv.value, "eve");
    keys.set(&[KeyValue { value: "joe".into(), ..key("chair/2", 9) }]);
    deleted(&mut stream, "chair/1");
    let next = timeout(PATIENCE, observer.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((next.kv.key, next.kv.value), ("chair/2".into(), "joe".into()));
}
