//! A holder that is stopped past the end of its lease, and goes on as if nothing had been.
//!
//! The holder is a process of its own ([`holder`]), stopped by SIGSTOP just after it has made sure that it holds what it
//! needs, and just before it writes. That is the gap that no check on the holder's side closes; the fencing token does.

use std::time::Duration;

use kvorum_client::concurrency::{Election, Mutex, Session, SessionOptions};
use kvorum_client::{Client, Config, Error};
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{Compare, PutRequest, RequestOp, TxnRequest};
use kvorum_proto::api::v3lockpb::{LockRequest, UnlockRequest};
use kvorum_testkit::accomplice::{listen, role, say};
use kvorum_testkit::{Accomplice, Cluster, Endpoint};

/// What the lock guards.
const LEDGER: &str = "ledger";
/// Seconds of the holder's lease, where the clock that counts them is the real one.
const TTL: i64 = 5;
/// The same where the members' clocks leap. The holder's own does not: it has no way to know.
const TTL_OF_LEAPING_CLOCKS: i64 = 60;

/// Writes the ledger, if the comparison holds.
async fn write_guarded(client: &Client, guard: Compare, value: &str) -> bool {
    let put =
        PutRequest { key: LEDGER.into(), value: value.to_owned().into(), ..Default::default() };
    let request = TxnRequest {
        compare: vec![guard],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    client.txn(request).await.expect("an answer").succeeded
}

fn created_at(key: &bytes::Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

/// Locks by the service. The key and its create revision, which the answer does not say.
async fn lock(endpoint: &Endpoint, lease: i64) -> (bytes::Bytes, i64) {
    let request = LockRequest { name: "lock".into(), lease };
    let key = endpoint.lock().lock(request).await.expect("the lock").into_inner().key;
    let request =
        kvorum_proto::api::etcdserverpb::RangeRequest { key: key.clone(), ..Default::default() };
    let found = endpoint.range(request).await.expect("the key of the lock").kvs;
    (key, found.first().expect("the lock is held").create_revision)
}

/// Says that it holds the lock and by which token; is told to go on, once it has been stopped and the lock is another's.
async fn hold(token: i64) {
    say(&token.to_string());
    assert_eq!(listen().await, "go on");
}

fn say_written(is_written: bool) {
    say(if is_written { "written" } else { "refused" });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that the other tests here stop"]
async fn holder() {
    let Some(role) = role() else { return };
    let mut words = role.split_whitespace();
    let recipe = words.next().expect("a recipe");
    let ttl: i64 = words.next().and_then(|ttl| ttl.parse().ok()).expect("a TTL");
    let urls: Vec<&str> = words.collect();
    let client = Client::new(Config::new(urls.clone())).expect("the client's settings are sound");
    match recipe {
        "mutex" => hold_mutex(&client, ttl).await,
        "election" => hold_election(&client, ttl).await,
        "service" => hold_by_the_service(&client, &Endpoint::new(urls[0]), ttl).await,
        other => panic!("{other}"),
    }
}

async fn hold_mutex(client: &Client, ttl: i64) {
    let session = Session::open(client, SessionOptions::new().ttl(ttl)).await.expect("a session");
    let lock = Mutex::new(&session, "lock").lock().await.expect("the lock");
    assert!(write_guarded(client, lock.is_owner(), "the holder's").await);
    assert!(session.is_alive());
    hold(lock.fencing_token()).await;
    say(if session.is_alive() { "alive" } else { "lost" });
    say_written(write_guarded(client, lock.is_owner(), "the former holder's").await);
    let unlocked = lock.unlock().await;
    say(if matches!(unlocked, Err(Error::LockReleased)) { "released before" } else { "unlocked" });
    client.put(LEDGER, "without a guard").await.expect("a put");
    say("written without a guard");
}

async fn hold_election(client: &Client, ttl: i64) {
    let session = Session::open(client, SessionOptions::new().ttl(ttl)).await.expect("a session");
    let led = Election::new(client, "lock").campaign(&session, "first").await.expect("elected");
    assert!(write_guarded(client, led.is_leader(), "the holder's").await);
    hold(led.fencing_token()).await;
    say(if session.is_alive() { "alive" } else { "lost" });
    say_written(write_guarded(client, led.is_leader(), "the former holder's").await);
    let proclaimed = led.proclaim("still first").await;
    say(if matches!(proclaimed, Err(Error::NotElected)) { "not elected" } else { "proclaimed" });
}

async fn hold_by_the_service(client: &Client, endpoint: &Endpoint, ttl: i64) {
    let lease = client.lease_grant(ttl, 0).await.expect("a lease").id;
    let kept = client.keep_alive(lease);
    let (key, token) = lock(endpoint, lease).await;
    assert!(write_guarded(client, created_at(&key, token), "the holder's").await);
    hold(token).await;
    say(if kept.is_alive() { "alive" } else { "lost" });
    say_written(write_guarded(client, created_at(&key, token), "the former holder's").await);
    // To unlock what is another's by now touches nothing of it.
    endpoint.lock().unlock(UnlockRequest { key }).await.expect("an unlock");
    say("unlocked");
}

/// A holder that has the lock, and its token.
async fn start_holder(cluster: &Cluster, recipe: &str, ttl: i64) -> (Accomplice, i64) {
    let role = format!("{recipe} {ttl} {}", cluster.client_urls().join(" "));
    let mut holder = Accomplice::start("fencing::holder", &role);
    let token = holder.hear().await.parse().expect("a token");
    (holder, token)
}

#[tokio::test]
async fn a_mutexs_holder_paused_past_its_lease_writes_nothing_once_the_next_one_is_in() {
    let cluster = Cluster::of(3).as_processes().start().await;
    let (mut holder, old_token) = start_holder(&cluster, "mutex", TTL).await;
    let client = cluster.client();
    let session = Session::open(&client, SessionOptions::new()).await.unwrap();
    let mutex = Mutex::new(&session, "lock");
    assert!(matches!(mutex.try_lock().await, Err(Error::Locked)));
    holder.pause();
    let lock = mutex.lock().await.unwrap();
    assert!(lock.fencing_token() > old_token);
    assert!(write_guarded(&client, lock.is_owner(), "the next holder's").await);
    holder.tell("go on");
    holder.resume();
    assert_eq!(holder.hear().await, "lost", "its first question to its own session tells");
    assert_eq!(holder.hear().await, "refused");
    assert_eq!(holder.hear().await, "released before");
    // What a lock without a fencing token cannot promise: that nobody but its holder writes.
    assert_eq!(holder.hear().await, "written without a guard");
    assert_eq!(cluster.endpoint(0).get(LEDGER).await.unwrap().unwrap(), "without a guard");
    // The next holder holds it all the same.
    assert!(write_guarded(&client, lock.is_owner(), "the next holder's, again").await);
    lock.unlock().await.unwrap();
}

/// The same where the members' clocks run away, so that even the holder's own session takes it to be alive.
#[tokio::test]
async fn a_paused_holder_that_cannot_know_of_its_loss_writes_nothing_either() {
    for recipe in ["mutex", "election", "service"] {
        let cluster = Cluster::of(3).with_clocks().start().await;
        let (mut holder, old_token) = start_holder(&cluster, recipe, TTL_OF_LEAPING_CLOCKS).await;
        let client = cluster.client();
        holder.pause();
        cluster.leap(Duration::from_secs(61));
        let (guard, token) = next_holder(&cluster, &client, recipe).await;
        assert!(token > old_token, "{recipe}");
        assert!(write_guarded(&client, guard.clone(), "the next holder's").await, "{recipe}");
        holder.tell("go on");
        holder.resume();
        // Keep-alives that it sent before, or sends now, may have told it already.
        assert!(["alive", "lost"].contains(&holder.hear().await.as_str()), "{recipe}");
        assert_eq!(holder.hear().await, "refused", "{recipe}");
        let rest = holder.hear().await;
        assert!(["released before", "not elected", "unlocked"].contains(&rest.as_str()), "{rest}");
        assert!(recipe != "mutex" || rest == "released before");
        assert!(recipe != "election" || rest == "not elected");
        assert!(write_guarded(&client, guard, "the next holder's, again").await, "{recipe}");
        cluster.assert_members_agree().await;
    }
}

/// Gets the lock, or the leadership, once the holder's lease is over.
async fn next_holder(cluster: &Cluster, client: &Client, recipe: &str) -> (Compare, i64) {
    if recipe == "service" {
        let lease = client.lease_grant(10_000, 0).await.unwrap().id;
        let (key, token) = lock(&cluster.endpoint(1), lease).await;
        return (created_at(&key, token), token);
    }
    let session = Session::open(client, SessionOptions::new().ttl(10_000)).await.unwrap();
    let held = if recipe == "election" {
        let led = Election::new(client, "lock").campaign(&session, "second").await.unwrap();
        (led.is_leader(), led.fencing_token())
    } else {
        let lock = Mutex::new(&session, "lock").lock().await.unwrap();
        (lock.is_owner(), lock.fencing_token())
    };
    // The lease lives on without its session, long enough.
    session.orphan();
    held
}
