//! Places in a queue that are given up: whatever is lost or late on the way, no key is left behind, and none is taken away
//! that somebody wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use bytes::Bytes;
use kvorum_client::api::etcdserverpb::compare::{CompareTarget, TargetUnion};
use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_client::api::etcdserverpb::{
    Compare, LeaseGrantResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse, WatchRequest, WatchResponse,
};
use kvorum_client::api::mvccpb::event::EventType;
use kvorum_client::api::mvccpb::{Event, KeyValue};
use kvorum_client::concurrency::{Election, Lock, Mutex, Session, SessionOptions};
use kvorum_client::{Error, EtcdError};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::streams::{Answer, PATIENCE, Server, Stream};
use super::{client, decoded, message};

const OWN: &str = "jobs/2a";

/// What becomes of a transaction.
#[derive(Clone, Copy, Default)]
enum Fate {
    #[default]
    Done,
    /// It is done, and nobody learns of it.
    AnswerLost,
    /// It is not done, or not yet.
    SetAside,
}

/// A server's keys, which cannot be trusted to answer.
#[derive(Clone, Default)]
struct Store {
    state: Arc<StdMutex<State>>,
}

#[derive(Default)]
struct State {
    lease: i64,
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// Of transactions that put.
    puts: Fate,
    /// Of transactions that only delete.
    deletes: Fate,
    aside: Vec<TxnRequest>,
    /// How often the session's own key was read.
    looks: usize,
    /// How often it was to be put.
    entered: usize,
}

impl State {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.revision += 1;
        let revision = self.revision;
        let fresh = KeyValue { key: key.clone(), create_revision: revision, ..KeyValue::default() };
        let kv = self.keys.entry(key).or_insert(fresh);
        (kv.value, kv.mod_revision) = (value, revision);
        kv.version += 1;
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.keys.get(&compare.key);
        match (compare.target(), &compare.target_union) {
            (CompareTarget::Create, Some(TargetUnion::CreateRevision(revision))) => {
                found.map_or(0, |kv| kv.create_revision) == *revision
            }
            (CompareTarget::Mod, Some(TargetUnion::ModRevision(revision))) => {
                found.map_or(0, |kv| kv.mod_revision) == *revision
            }
            other => panic!("{other:?}"),
        }
    }

    fn range(&mut self, range: &RangeRequest) -> RangeResponse {
        self.looks += usize::from(range.key == OWN);
        let max = if range.max_create_revision == 0 { i64::MAX } else { range.max_create_revision };
        let mut kvs: Vec<KeyValue> = self.keys.values().cloned().collect();
        kvs.retain(|kv| {
            let is_in = !range.range_end.is_empty() || kv.key == range.key;
            is_in && kv.create_revision <= max
        });
        kvs.sort_by_key(|kv| kv.create_revision);
        if range.max_create_revision > 0 {
            kvs.reverse();
        }
        kvs.truncate(1);
        RangeResponse { header: self.header(), kvs, ..Default::default() }
    }

    fn txn(&mut self, request: TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let operations = if succeeded { request.success } else { request.failure };
        let mut responses = Vec::new();
        for operation in operations {
            let response = match operation.request {
                Some(Request::RequestPut(put)) => {
                    self.put(put.key, put.value);
                    None
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    self.revision += i64::from(self.keys.remove(&delete.key).is_some());
                    None
                }
                Some(Request::RequestRange(range)) => {
                    Some(Response::ResponseRange(self.range(&range)))
                }
                other => panic!("{other:?}"),
            };
            responses.push(ResponseOp { response });
        }
        TxnResponse { header: self.header(), succeeded, responses }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision, ..Default::default() })
    }

    fn answer(&mut self, path: &str, bytes: Bytes) -> Answer {
        match path {
            "/etcdserverpb.Lease/LeaseGrant" => {
                message(&LeaseGrantResponse { id: self.lease, ttl: 60, ..Default::default() })
            }
            "/etcdserverpb.Lease/LeaseRevoke" => Err(EtcdError::LeaseNotFound.into()),
            "/etcdserverpb.KV/Range" => message(&self.range(&decoded(bytes))),
            "/etcdserverpb.KV/Txn" => {
                let request: TxnRequest = decoded(bytes);
                let is_put = matches!(request.success[0].request, Some(Request::RequestPut(_)));
                self.entered += usize::from(is_put);
                match if is_put { self.puts } else { self.deletes } {
                    Fate::Done => return message(&self.txn(request)),
                    Fate::AnswerLost => drop(self.txn(request)),
                    Fate::SetAside => self.aside.push(request),
                }
                Err(EtcdError::Timeout.into())
            }
            _ => super::unexpected(path, bytes),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key.as_bytes())
    }
}

impl Store {
    /// A store with this key before all others.
    fn with(key: Option<&'static str>) -> Store {
        let store = Store::default();
        store.change(|state| {
            (state.lease, state.revision) = (0x2a, 10);
            key.into_iter().for_each(|key| state.put(key.into(), Bytes::new()));
        });
        store
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    async fn serve(&self) -> Server {
        let store = self.clone();
        Server::answering(move |path, bytes| store.change(|state| state.answer(path, bytes))).await
    }

    async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let so = async {
            while !self.change(|state| is_so(state)) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("waited for: {what}"));
    }

    /// Does what was set aside.
    fn do_late(&self) {
        self.change(|state| {
            for request in std::mem::take(&mut state.aside) {
                state.txn(request);
            }
        });
    }
}

async fn session(server: &Server) -> Session {
    Session::open(&client(&[server]), SessionOptions::new()).await.unwrap()
}

/// Waits for the lock in a task, and until the task has its place.
async fn waiting(store: &Store, mutex: &Mutex) -> JoinHandle<Result<Lock, Error>> {
    let entered = store.change(|state| state.entered);
    let mutex = mutex.clone();
    let task = tokio::spawn(async move { mutex.lock().await });
    store.until("a place", |state| state.entered > entered && state.has(OWN)).await;
    task
}

#[tokio::test]
async fn a_deletion_that_comes_late_does_not_take_the_place_of_the_next_attempt() {
    let store = Store::with(Some("jobs/1"));
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    let first = waiting(&store, &mutex).await;
    store.change(|state| state.deletes = Fate::SetAside);
    first.abort();
    store.until("a deletion", |state| !state.aside.is_empty()).await;
    let _second = waiting(&store, &mutex).await;
    store.do_late();
    assert!(store.change(|state| state.has(OWN)), "the second one waits still");
}

#[tokio::test]
async fn who_campaigns_again_keeps_the_place_that_a_late_deletion_is_meant_for() {
    let store = Store::with(Some("jobs/1"));
    let server = store.serve().await;
    let session = session(&server).await;
    let campaign = |value: &'static str| {
        let (session, election) = (session.clone(), Election::new(session.client(), "jobs"));
        tokio::spawn(async move { election.campaign(&session, value).await.map(drop) })
    };
    let first = campaign("ada");
    store.until("a candidacy", |state| state.has(OWN)).await;
    store.change(|state| state.deletes = Fate::SetAside);
    first.abort();
    store.until("a deletion", |state| !state.aside.is_empty()).await;
    let _second = campaign("eve");
    let value = |state: &State| state.keys.get(OWN.as_bytes()).map(|kv| kv.value.clone());
    store.until("the second", |state| value(state) == Some("eve".into())).await;
    store.do_late();
    assert_eq!(store.change(|state| value(state)), Some("eve".into()));
}

#[tokio::test]
async fn what_was_released_does_not_keep_a_later_place_in_the_queue() {
    let store = Store::with(None);
    let server = store.serve().await;
    let session = session(&server).await;
    let mutex = Mutex::new(&session, "jobs");
    let lock = mutex.lock().await.unwrap();
    lock.unlock().await.unwrap();
    let leadership = Election::new(session.client(), "jobs").campaign(&session, "").await.unwrap();
    leadership.resign().await.unwrap();
    store.change(|state| state.put("jobs/1".into(), Bytes::new()));
    waiting(&store, &mutex).await.abort();
    store.until("the end of the place", |state| !state.has(OWN)).await;
    assert!(lock.unlock().await.is_err() && leadership.resign().await.is_err());
}

#[tokio::test]
async fn a_place_is_given_up_however_often_that_fails() {
    let store = Store::with(Some("jobs/1"));
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    store.change(|state| state.deletes = Fate::SetAside);
    waiting(&store, &mutex).await.abort();
    store.until("attempts", |state| state.aside.len() >= 3).await;
    assert!(store.change(|state| state.has(OWN)));
    store.change(|state| state.deletes = Fate::Done);
    store.until("the end of the place", |state| !state.has(OWN)).await;
}

#[tokio::test]
async fn a_try_leaves_the_place_to_another_task_of_its_session() {
    let store = Store::with(Some("jobs/1"));
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    let first = waiting(&store, &mutex).await;
    assert!(matches!(mutex.try_lock().await, Err(Error::Locked)));
    assert!(store.change(|state| state.has(OWN)), "the first one waits still");
    first.abort();
    store.until("the end of the place", |state| !state.has(OWN)).await;
    assert!(matches!(mutex.try_lock().await, Err(Error::Locked)));
    assert!(!store.change(|state| state.has(OWN)), "a try alone leaves nothing");
}

#[tokio::test]
async fn a_place_that_comes_after_nobody_waits_for_it_is_given_up() {
    let store = Store::with(Some("jobs/1"));
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    store.change(|state| state.puts = Fate::SetAside);
    mutex.lock().await.unwrap_err();
    store.until("a look", |state| state.looks > 0).await;
    store.do_late();
    assert!(store.change(|state| state.has(OWN)));
    store.until("the end of the place", |state| !state.has(OWN)).await;
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_does_not_free_a_lock_that_is_held() {
    let store = Store::with(None);
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    // It is held until it is unlocked, also by one who drops it.
    let token = mutex.lock().await.unwrap().fencing_token();
    store.change(|state| state.puts = Fate::AnswerLost);
    mutex.lock().await.unwrap_err();
    store.until("looks", |state| state.looks >= 2).await;
    store.change(|state| state.puts = Fate::Done);
    let lock = mutex.lock().await.unwrap();
    assert_eq!(lock.fencing_token(), token);
    // What comes late is taken away again once the lock is released.
    store.change(|state| state.puts = Fate::SetAside);
    mutex.lock().await.unwrap_err();
    lock.unlock().await.unwrap();
    store.do_late();
    store.until("the end of the place", |state| !state.has(OWN)).await;
}

#[tokio::test]
async fn a_lock_whose_release_may_still_come_is_not_given_again() {
    let store = Store::with(None);
    let server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    let first = mutex.lock().await.unwrap();
    store.change(|state| state.deletes = Fate::SetAside);
    first.unlock().await.unwrap_err();
    store.change(|state| state.deletes = Fate::Done);
    let second = mutex.lock().await.unwrap();
    assert!(second.fencing_token() > first.fencing_token());
    store.do_late();
    second.unlock().await.unwrap();
}

/// The next watch on a stream, which the server creates under this id.
async fn created(stream: &mut Stream, watch_id: i64) {
    let request = stream.next::<WatchRequest>().await.unwrap().request_union;
    assert!(matches!(request, Some(RequestUnion::CreateRequest(_))), "{request:?}");
    stream.send(&WatchResponse { watch_id, created: true, ..Default::default() });
}

/// Tells a watch that its key was deleted.
fn deleted(stream: &mut Stream, watch_id: i64, revision: i64) {
    let kv = Some(KeyValue { mod_revision: revision, ..Default::default() });
    let event = Event { r#type: EventType::Delete.into(), kv, ..Default::default() };
    let header = Some(ResponseHeader { revision, ..Default::default() });
    stream.send(&WatchResponse { header, watch_id, events: vec![event], ..Default::default() });
}

#[tokio::test]
async fn who_waits_beside_a_task_that_unlocks_waits_on_at_the_end() {
    let store = Store::with(Some("jobs/1"));
    let mut server = store.serve().await;
    let mutex = Mutex::new(&session(&server).await, "jobs");
    let first = waiting(&store, &mutex).await;
    let mut stream = server.stream().await;
    created(&mut stream, 0).await;
    let second = waiting(&store, &mutex).await;
    created(&mut stream, 1).await;
    let revision = store.change(|state| {
        state.keys.remove(&b"jobs/1"[..]);
        state.revision += 1;
        state.revision
    });
    deleted(&mut stream, 0, revision);
    let first = timeout(PATIENCE, first).await.unwrap().unwrap().unwrap();
    first.unlock().await.unwrap();
    assert!(!store.change(|state| state.has(OWN)));
    deleted(&mut stream, 1, revision);
    let second = timeout(PATIENCE, second).await.unwrap().unwrap().unwrap();
    assert!(second.fencing_token() > first.fencing_token());
}

#[tokio::test]
async fn waiting_and_observing_are_for_members_that_know_of_a_leader() {
    let store = Store::with(Some("jobs/1"));
    let mut server = store.serve().await;
    let session = session(&server).await;
    let waiting = waiting(&store, &Mutex::new(&session, "jobs")).await;
    let stream = server.stream().await;
    assert!(stream.headers.contains_key("hasleader"));
    waiting.abort();
    let other = client(&[&server]);
    let mut observer = Election::new(&other, "jobs").observe();
    observer.next().await.unwrap().unwrap();
    let _observing = tokio::spawn(async move { observer.next().await.is_some() });
    assert!(server.stream().await.headers.contains_key("hasleader"));
}

#[tokio::test]
async fn a_lease_below_zero_is_written_as_go_writes_it() {
    let store = Store::with(None);
    store.change(|state| state.lease = -78);
    let server = store.serve().await;
    let lock = Mutex::new(&session(&server).await, "jobs").lock().await.unwrap();
    assert_eq!(lock.key(), "jobs/-4e");
}

#[tokio::test]
async fn a_session_whose_lease_is_gone_already_is_closed() {
    let server = Store::with(None).serve().await;
    session(&server).await.close().await.unwrap();
}
