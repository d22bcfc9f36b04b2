//! Sessions of the Rust client: kept through what can happen to single members, and lost aloud.

use std::time::Duration;

use kvorum_client::concurrency::{Mutex, Session, SessionOptions};
use kvorum_client::{Client, Config, Error, EtcdError};
use kvorum_testkit::{Cluster, WAIT_MAX};
use tokio::time::{sleep, timeout};

/// Seconds of a lease that is to run out in real time.
const TTL_SHORT: i64 = 2;
/// Seconds of one that must not, though members stand still for longer.
const TTL: i64 = 6;

async fn session(client: &Client, ttl: i64) -> Session {
    Session::open(client, SessionOptions::new().ttl(ttl)).await.expect("a session")
}

/// Why the session ended.
async fn loss(session: &Session) -> Error {
    let error = timeout(WAIT_MAX, session.done()).await.expect("the session ends");
    assert!(!session.is_alive() && session.remaining().is_zero());
    error
}

#[tokio::test]
async fn a_session_whose_lease_is_revoked_is_told_so() {
    let cluster = Cluster::of(3).with_clocks().start().await;
    let session = session(&cluster.client(), TTL_SHORT).await;
    let lock = Mutex::new(&session, "lock").lock().await.unwrap();
    cluster.endpoint(0).revoke(session.lease()).await.unwrap();
    assert_eq!(loss(&session).await.etcd(), Some(EtcdError::LeaseNotFound));
    assert!(matches!(lock.unlock().await, Err(Error::LockReleased)));
    assert!(Mutex::new(&session, "lock").lock().await.is_err());
}

#[tokio::test]
async fn a_session_that_reaches_no_member_is_lost_and_stays_so() {
    let mut cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let session = session(&client, TTL_SHORT).await;
    for member in 0..3 {
        cluster.kill(member);
    }
    assert!(matches!(loss(&session).await, Error::LeaseExpired));
    for member in 0..3 {
        cluster.launch(member).await;
    }
    for member in 0..3 {
        cluster.wait_ready(member).await;
    }
    // Whatever the members still know of its lease: who was told that a lock is lost is not told otherwise.
    assert!(matches!(Mutex::new(&session, "lock").lock().await, Err(Error::SessionExpired)));
    assert!(!session.is_alive());
    let another = self::session(&client, TTL).await;
    Mutex::new(&another, "lock").lock().await.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn a_session_whose_members_all_stand_still_is_lost_before_they_answer() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let session = session(&cluster.client(), TTL_SHORT).await;
    for member in 0..3 {
        cluster.process(member).pause();
    }
    assert!(matches!(loss(&session).await, Error::LeaseExpired));
    for member in 0..3 {
        cluster.process(member).resume();
    }
    assert!(matches!(session.done().await, Error::LeaseExpired) && !session.is_alive());
}

#[tokio::test]
async fn a_session_outlives_a_member_that_stands_still_for_longer_than_its_lease() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let mut urls = cluster.client_urls();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        // Each begins at another member, so that one has its stream at the member that stops.
        let client = Client::new(Config::new(urls.clone())).unwrap();
        sessions.push(session(&client, TTL).await);
        urls.rotate_left(1);
    }
    let leader = cluster.leader().await;
    cluster.process(leader).pause();
    sleep(Duration::from_secs(TTL.unsigned_abs() + 2)).await;
    for session in &sessions {
        assert!(session.is_alive());
    }
    cluster.process(leader).resume();
    let endpoint = cluster.endpoint((leader + 1) % 3);
    for session in &sessions {
        assert!(endpoint.time_to_live(session.lease()).await.unwrap().ttl > 0);
        session.close().await.unwrap();
        assert!(matches!(session.done().await, Error::SessionLeft));
        assert_eq!(endpoint.time_to_live(session.lease()).await.unwrap().ttl, -1);
    }
}
