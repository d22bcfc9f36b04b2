//! Watches from now on, created while others put: exactly what comes after the revision of the reply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use kvorum_testkit::{Cluster, Endpoint, Watching, eventually};
use tokio::task::JoinSet;

use crate::api::*;

/// How many watches are created, unless `KVORUM_TEST_WATCH_ZERO` says otherwise.
const ROUNDS: usize = 100;

const PUTTERS: usize = 8;

/// How many events each watch is read for.
const EVENTS: usize = 20;

/// How many revisions one member may be behind another: puts so old are no longer needed.
const LAG_MAX: i64 = 100_000;

/// What putters and watchers share.
struct Shared {
    endpoints: Vec<Endpoint>,
    /// Every put that was answered, by its revision. Old ones are forgotten.
    puts: Mutex<BTreeMap<i64, String>>,
    /// Puts that may have been done or not.
    unknown: Mutex<BTreeSet<String>>,
    /// The newest revision that each member answered.
    answered: Vec<AtomicI64>,
    is_over: AtomicBool,
}

impl Shared {
    async fn put_all(self: Arc<Shared>, putter: usize) {
        let member = putter % self.endpoints.len();
        let key = format!("zero/{putter}");
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let value = format!("{putter}.{number}");
            let text = format!("put {key}={value}");
            match self.endpoints[member].put(&key, value).await {
                Ok(answer) => {
                    let revision = revision_of(&answer.header);
                    self.puts.lock().unwrap().insert(revision, text);
                    self.answered[member].fetch_max(revision, Ordering::SeqCst);
                }
                // On a machine that is too busy a leader may be given up.
                Err(status) => {
                    eprintln!("{text}: {status:?}");
                    self.unknown.lock().unwrap().insert(text);
                }
            }
        }
    }

    /// Fails unless these are the puts after a revision, one after the other.
    async fn assert_suffix(&self, revision: i64, told: &[String]) {
        // A watcher may be told before the putter is answered.
        eventually("the answers to what was told", async || {
            for (at, line) in (revision + 1..).zip(told) {
                let Some(line) = line.strip_suffix(&format!(" @{at}")) else {
                    panic!("{line} instead of {at}, after {revision}: {told:?}");
                };
                match self.puts.lock().unwrap().get(&at) {
                    Some(put) => assert_eq!(line, put, "at {at}"),
                    None if self.unknown.lock().unwrap().contains(line) => {}
                    None => return Err(line.to_owned()),
                }
            }
            Ok(())
        })
        .await;
        let mut puts = self.puts.lock().unwrap();
        let kept = puts.split_off(&(revision - LAG_MAX));
        *puts = kept;
    }
}

/// Creates a watcher and reads what it is told first; what others on the stream are told is passed over.
async fn first_events(stream: &mut Watching, watch_id: i64) -> (i64, Vec<String>) {
    stream.create(WatchCreateRequest { watch_id, ..watch("zero/", "zero0") }).await;
    let (mut begun, mut told_all) = (None, Vec::new());
    while told_all.len() < EVENTS {
        let response = stream.response().await;
        if response.watch_id != watch_id {
            continue;
        }
        if response.created {
            assert_eq!((begun, response.canceled), (None, false));
            begun = Some(revision(&response));
        } else {
            assert!(!response.canceled, "{response:?}");
            told_all.extend(told(&response));
        }
    }
    (begun.expect("created comes before events"), told_all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_now_on_is_told_exactly_what_comes_after_its_reply() {
    let rounds = std::env::var("KVORUM_TEST_WATCH_ZERO").ok();
    let rounds =
        rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("KVORUM_TEST_WATCH_ZERO is a number"));
    let cluster = Cluster::of(3).configure(|builder| builder.in_memory()).start().await;
    let shared = Arc::new(Shared {
        endpoints: cluster.endpoints(),
        puts: Mutex::new(BTreeMap::new()),
        unknown: Mutex::new(BTreeSet::new()),
        answered: (0..3).map(|_| AtomicI64::new(0)).collect(),
        is_over: AtomicBool::new(false),
    });
    let mut putters = JoinSet::new();
    for putter in 0..PUTTERS {
        putters.spawn(shared.clone().put_all(putter));
    }
    // On each member a stream with a watcher that is behind whenever nobody reads.
    let mut shared_streams = Vec::new();
    for endpoint in &shared.endpoints {
        shared_streams.push(watching(endpoint, watch("zero/", "zero0")).await);
    }
    for round in 0..rounds {
        let member = round % 3;
        let answered = shared.answered[member].load(Ordering::SeqCst);
        let (begun, told) = if round % 2 == 0 {
            let mut stream = shared.endpoints[member].watch();
            first_events(&mut stream, 1).await
        } else {
            let found = first_events(&mut shared_streams[member], round as i64).await;
            shared_streams[member].cancel(round as i64).await;
            found
        };
        // A member has applied what it answered.
        assert!(begun >= answered, "round {round}: from {begun} on after {answered} was answered");
        shared.assert_suffix(begun, &told).await;
    }
    shared.is_over.store(true, Ordering::Relaxed);
    while let Some(putter) = putters.join_next().await {
        putter.unwrap();
    }
    let revision = put(&shared.endpoints[0], "last", "").await;
    eprintln!("{rounds} watches, {revision} revisions");
    cluster.assert_members_agree().await;
}
