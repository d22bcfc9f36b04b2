//! The Rust client's locks and elections.

use kvorum_client::concurrency::{
    Elected, Election, Leadership, Mutex, Observer, Session, SessionOptions,
};
use kvorum_client::{Client, Error};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use kvorum_testkit::{Cluster, WAIT_MAX, eventually};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::queues::has_waiting;

/// Seconds that no test lasts.
const TTL: i64 = 300;

async fn session(client: &Client) -> Session {
    Session::open(client, SessionOptions::new().ttl(TTL)).await.expect("a session")
}

/// Puts a key if the comparison holds.
async fn put_if(client: &Client, guard: Compare, key: &str, value: String) -> bool {
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    let request = TxnRequest {
        compare: vec![guard],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: Vec::new(),
    };
    client.txn(request).await.expect("an answer").succeeded
}

#[tokio::test]
async fn a_mutex_is_had_in_the_order_in_which_it_was_asked_for() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let first = session(&client).await;
    let mut held = Mutex::new(&first, "name").lock().await.unwrap();
    let mut waiting = Vec::new();
    for count in 2..=5 {
        let session = session(&client).await;
        let lease = session.lease();
        let lock = tokio::spawn(async move { Mutex::new(&session, "name").lock().await });
        waiting.push((lease, lock));
        has_waiting(&cluster.endpoint(0), "name", count).await;
    }
    for (lease, next) in waiting {
        assert!(!next.is_finished());
        held.unlock().await.unwrap();
        let lock = timeout(WAIT_MAX, next).await.unwrap().unwrap().unwrap();
        assert_eq!(lock.session().lease(), lease);
        assert!(lock.fencing_token() > held.fencing_token());
        held = lock;
    }
}

#[tokio::test]
async fn who_only_tries_leaves_no_trace() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let (first, second) = (session(&client).await, session(&client).await);
    let held = Mutex::new(&first, "name").try_lock().await.unwrap();
    assert!(matches!(Mutex::new(&second, "name").try_lock().await, Err(Error::Locked)));
    has_waiting(&cluster.endpoint(0), "name", 1).await;
    assert_eq!(cluster.endpoint(0).time_to_live(second.lease()).await.unwrap().keys.len(), 0);
    held.unlock().await.unwrap();
    let held = Mutex::new(&second, "name").try_lock().await.unwrap();
    // A lock is of its session: dropping it leaves it held, and the session's end frees it.
    drop(held);
    assert!(matches!(Mutex::new(&first, "name").try_lock().await, Err(Error::Locked)));
    second.close().await.unwrap();
    Mutex::new(&first, "name").try_lock().await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_lost_while_it_is_held_goes_to_the_next_and_is_known_to_be_lost() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let (first, second) = (session(&client).await, session(&client).await);
    let held = Mutex::new(&first, "name").lock().await.unwrap();
    let next = tokio::spawn({
        let second = second.clone();
        async move { Mutex::new(&second, "name").lock().await }
    });
    has_waiting(&cluster.endpoint(0), "name", 2).await;
    assert!(put_if(&client, held.is_owner(), "key", "1".to_owned()).await);
    cluster.endpoint(1).revoke(first.lease()).await.unwrap();
    let lock = timeout(WAIT_MAX, next).await.unwrap().unwrap().unwrap();
    assert!(!put_if(&client, held.is_owner(), "key", "2".to_owned()).await);
    assert!(matches!(held.unlock().await, Err(Error::LockReleased)));
    assert!(put_if(&client, lock.is_owner(), "key", "3".to_owned()).await);
    assert_eq!(cluster.endpoint(0).get("key").await.unwrap().unwrap(), "3");
}

/// Each holder counts by reading and then writing, which loses counts unless they exclude one another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_exclude_one_another() {
    const TASKS: usize = 6;
    const ROUNDS: usize = 8;
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let session = session(&client).await;
        tasks.spawn(async move {
            let (client, mutex) = (session.client().clone(), Mutex::new(&session, "name"));
            for _ in 0..ROUNDS {
                let lock = mutex.lock().await.unwrap();
                let request = RangeRequest { key: "count".into(), ..Default::default() };
                let found = client.range(request).await.unwrap().kvs.pop();
                let count = found.map_or(0, |kv| {
                    std::str::from_utf8(&kv.value).unwrap().parse::<usize>().unwrap()
                });
                tokio::task::yield_now().await;
                assert!(put_if(&client, lock.is_owner(), "count", (count + 1).to_string()).await);
                lock.unlock().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let counted = cluster.endpoint(0).get("count").await.unwrap().unwrap();
    assert_eq!(counted, (TASKS * ROUNDS).to_string());
    has_waiting(&cluster.endpoint(0), "name", 0).await;
}

/// The next leader or value, but for what is told again since it was proclaimed again.
async fn observed(observer: &mut Observer, value: &str) -> Elected {
    loop {
        let next = timeout(WAIT_MAX, observer.next()).await.expect("the next leader or value");
        let elected = next.expect("an election has no end").expect("no error");
        if elected.kv.value == value {
            return elected;
        }
    }
}

/// Proclaims, for as long as it takes the members to find a leader of their own.
async fn proclaim(leadership: &Leadership, value: &str) {
    eventually("a proclamation", async || {
        leadership.proclaim(value.to_owned()).await.map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn an_election_goes_on_through_changes_of_the_members_leader() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let client = cluster.client();
    let election = Election::new(&client, "name");
    assert!(matches!(election.leader().await, Err(Error::NobodyElected)));
    let mut observer = election.observe();
    let (ada, bob) = (session(&client).await, session(&client).await);
    let led = election.campaign(&ada, "ada").await.unwrap();
    assert_eq!(observed(&mut observer, "ada").await.kv.create_revision, led.fencing_token());
    let candidate = election.clone();
    let next = tokio::spawn(async move { candidate.campaign(&bob, "bob").await });
    has_waiting(&cluster.endpoint(0), "name", 2).await;
    for value in ["ada, again", "ada, once more"] {
        let leader = cluster.leader().await;
        cluster.kill(leader);
        proclaim(&led, value).await;
        let seen = observed(&mut observer, value).await;
        assert_eq!((&seen.kv.key, seen.kv.create_revision), (led.key(), led.fencing_token()));
        cluster.restart(leader).await;
    }
    assert!(!next.is_finished(), "its leadership lasts");
    led.resign().await.unwrap();
    let next = timeout(WAIT_MAX, next).await.unwrap().unwrap().unwrap();
    assert!(next.fencing_token() > led.fencing_token());
    assert_eq!(observed(&mut observer, "bob").await.kv.create_revision, next.fencing_token());
    assert_eq!(election.leader().await.unwrap().kv.value, "bob");
    assert!(matches!(led.proclaim("late").await, Err(Error::NotElected)));
    assert!(matches!(led.resign().await, Err(Error::NotElected)));
    assert!(!put_if(&client, led.is_leader(), "key", String::new()).await);
    assert!(put_if(&client, next.is_leader(), "key", String::new()).await);
}

#[tokio::test]
async fn a_leader_whose_session_ends_makes_way() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let election = Election::new(&client, "name");
    let mut observer = election.observe();
    let (ada, bob) = (session(&client).await, session(&client).await);
    let led = election.campaign(&ada, "ada").await.unwrap();
    observed(&mut observer, "ada").await;
    let candidate = election.clone();
    let next = tokio::spawn(async move { candidate.campaign(&bob, "bob").await });
    has_waiting(&cluster.endpoint(0), "name", 2).await;
    ada.close().await.unwrap();
    let next = timeout(WAIT_MAX, next).await.unwrap().unwrap().unwrap();
    assert_eq!(observed(&mut observer, "bob").await.kv.create_revision, next.fencing_token());
    assert!(matches!(led.proclaim("late").await, Err(Error::NotElected)));
}
