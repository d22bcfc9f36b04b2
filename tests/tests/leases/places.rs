//! Places in the queues of the Rust client that are given up, over members that requests reach in any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_client::concurrency::{Mutex, Session, SessionOptions};
use kvorum_client::{Client, Config, Error};
use kvorum_testkit::{Cluster, WAIT_MAX, eventually};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::queues::has_waiting;

/// Seconds that no test lasts.
const TTL: i64 = 300;
const SESSIONS: u64 = 3;
const ROUNDS: u64 = 40;

/// A client that does not wait for long at a member that cannot answer.
fn client(urls: &[String]) -> Client {
    let mut config = Config::new(urls);
    config.request_timeout = Duration::from_secs(3);
    Client::new(config).unwrap()
}

async fn session(client: &Client) -> Session {
    Session::open(client, SessionOptions::new().ttl(TTL)).await.expect("a session")
}

/// Asks for the lock again and again, gives up early as often as not, and works when it has it. Some of the time a second
/// task of the same session asks as well; what it gets is the session's.
async fn come_and_go(session: Session, holders: Arc<AtomicUsize>) {
    let mutex = Mutex::new(&session, "name");
    let mut beside = JoinSet::new();
    for round in 0..ROUNDS {
        if round % 4 == 0 {
            let mutex = mutex.clone();
            beside.spawn(async move { timeout(Duration::from_millis(3), mutex.lock()).await });
        }
        let patience = Duration::from_millis((round * 7 + 1) % 23);
        let Ok(locked) = timeout(patience, mutex.lock()).await else { continue };
        let lock = locked.expect("the session is alive");
        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "one holder at a time");
        assert!(session.client().get(lock.key().clone()).await.unwrap().is_some(), "it is held");
        holders.fetch_sub(1, Ordering::SeqCst);
        lock.unlock().await.expect("it was held to the end");
    }
    beside.join_all().await;
}

#[tokio::test]
async fn who_comes_and_goes_holds_no_lock_that_is_anothers_and_leaves_nothing_behind() {
    let cluster = Cluster::of(3).start().await;
    let client = cluster.client();
    let holders = Arc::new(AtomicUsize::new(0));
    let mut sessions = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..SESSIONS {
        let session = session(&client).await;
        tasks.push(tokio::spawn(come_and_go(session.clone(), holders.clone())));
        sessions.push(session);
    }
    for task in tasks {
        task.await.expect("no two held it at once");
    }
    // Those that had the lock and never knew it, since they were gone by then, hold it as long as they live.
    for session in &sessions {
        if let Ok(lock) = Mutex::new(session, "name").try_lock().await {
            lock.unlock().await.unwrap();
        }
    }
    has_waiting(&cluster.endpoint(0), "name", 0).await;
}

/// Whose watch is at a member that is cut off from the others hears of nothing there.
#[tokio::test]
async fn who_waits_at_a_member_that_loses_the_others_gets_the_lock_all_the_same() {
    let cluster = Cluster::of(3).with_links().start().await;
    let mut urls = cluster.client_urls();
    let leader = cluster.leader().await;
    let cut = (leader + 1) % 3;
    let holder = session(&client(&[urls[leader].clone()])).await;
    let held = Mutex::new(&holder, "name").lock().await.unwrap();
    let mut waiting = Vec::new();
    for count in 2..=4 {
        // Each begins at another member, so that one has its watch at the member that is cut off.
        urls.rotate_left(1);
        let session = session(&client(&urls)).await;
        waiting.push(tokio::spawn(async move { Mutex::new(&session, "name").lock().await }));
        has_waiting(&cluster.endpoint(leader), "name", count).await;
    }
    cluster.cut(cut);
    held.unlock().await.unwrap();
    for task in waiting {
        let lock = timeout(WAIT_MAX, task).await.expect("it hears of it").unwrap().unwrap();
        eventually("the release", async || match lock.unlock().await {
            // An attempt that was not answered may have been done.
            Err(Error::LockReleased) => Ok(()),
            unlocked => unlocked,
        })
        .await;
    }
    cluster.mend(cut);
}
