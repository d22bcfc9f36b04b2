//! Load, historian and watchers beside what a test does to its cluster, and the verdict at the end.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::WatchCreateRequest;
use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
use kvorum_testkit::{Cluster, Endpoint, eventually, say_seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::historian::{self, Seen};
use super::load::{self, Attempt, FOLDERS, after};
use super::truth;
use super::watchers::{Client, Manner, visit_all};
use crate::checker::{History, Step, Watch, Write, check};

const WRITERS: usize = 3;

/// How many violations are shown.
const SHOWN_MAX: usize = 10;

/// What a scenario has beside the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    pub seed: u64,
    /// Whether more is written at once than one response holds.
    pub has_large_values: bool,
    /// Whether there are watchers that come and go, of any revision.
    pub has_visits: bool,
    /// Whether some clients leave their streams all the time.
    pub has_restless: bool,
}

/// What everyone in a scenario knows.
pub struct Shared {
    pub plan: Plan,
    pub urls: Vec<String>,
    pub endpoints: Vec<Endpoint>,
    pub is_load_over: AtomicBool,
    pub acknowledged: AtomicU64,
    /// The revision up to which the historian has read.
    pub known: AtomicI64,
    /// The newest revision that a compaction was asked for.
    pub compacted: AtomicI64,
    moments: AtomicU64,
    /// Revisions that were asked to be compacted to, and the moments just before.
    compactions: Mutex<Vec<(i64, u64)>>,
}

impl Shared {
    /// A moment later than all before.
    pub fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn compactions(&self) -> MutexGuard<'_, Vec<(i64, u64)>> {
        self.compactions.lock().expect("nobody panics with it")
    }
}

/// A cluster's load and watchers.
pub struct Scenario {
    shared: Arc<Shared>,
    end: watch::Sender<Option<i64>>,
    writers: JoinSet<Vec<Attempt>>,
    historian: JoinSet<Vec<Seen>>,
    watchers: JoinSet<Vec<Watch>>,
}

/// What was recorded and found to be right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub events: usize,
    /// Watchers that went on where another one had ended.
    pub resumed: usize,
    /// Watchers cancelled as compacted.
    pub compacted: usize,
    /// Of them, those of clients that never lost a stream.
    pub compacted_while_connected: usize,
    pub fragments: usize,
    pub progress: usize,
    pub previous_values: usize,
}

impl Scenario {
    /// Begins. All members must be up.
    pub fn start(cluster: &Cluster, plan: Plan) -> Scenario {
        say_seed(plan.seed);
        let urls = cluster.client_urls();
        let shared = Arc::new(Shared {
            plan,
            endpoints: urls.iter().map(|url| Endpoint::new(url)).collect(),
            urls,
            is_load_over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            known: AtomicI64::new(1),
            compacted: AtomicI64::new(0),
            moments: AtomicU64::new(0),
            compactions: Mutex::new(Vec::new()),
        });
        let (end, ended) = watch::channel(None);
        let mut scenario = Scenario {
            shared: shared.clone(),
            end,
            writers: JoinSet::new(),
            historian: JoinSet::new(),
            watchers: JoinSet::new(),
        };
        scenario.historian.spawn(historian::read(shared.clone(), ended.clone()));
        for client in clients(&shared) {
            scenario.watchers.spawn(client.run(ended.clone()));
        }
        if plan.has_visits {
            for client in 0..2 {
                let visits = visit_all(shared.clone(), client, plan.seed, ended.clone());
                scenario.watchers.spawn(visits);
            }
        }
        for client in 0..WRITERS {
            scenario.writers.spawn(load::write(shared.clone(), client, plan.seed));
        }
        scenario
    }

    /// Waits until so many more writes have been answered.
    pub async fn wait_for_writes(&mut self, writes: u64) {
        let answered = || self.shared.acknowledged.load(Ordering::Relaxed);
        let wanted = answered() + writes;
        eventually("answered writes", async || match answered() {
            found if found >= wanted => Ok(()),
            found => Err(found),
        })
        .await;
        self.raise_panics();
    }

    /// Compacts to a revision that has been read, at most so many before the newest such.
    pub async fn compact(&self, random: &mut StdRng, behind: i64) {
        let known = self.shared.known.load(Ordering::SeqCst);
        let revision = (known - random.random_range(0..=behind)).max(1);
        if revision <= self.shared.compacted.load(Ordering::SeqCst) {
            return;
        }
        let begun = self.shared.moment();
        self.shared.compactions().push((revision, begun));
        let member = random.random_range(0..self.shared.endpoints.len());
        // Whether it happens is not known if the member is down, and does not matter.
        let _ = self.shared.endpoints[member].compact(revision).await;
        self.shared.compacted.fetch_max(revision, Ordering::SeqCst);
    }

    /// Ends the load, waits until everyone has been told everything, and judges. All members must be up.
    pub async fn finish(mut self, cluster: &Cluster) -> Figures {
        self.shared.is_load_over.store(true, Ordering::Relaxed);
        let mut attempts: Vec<Attempt> = Vec::new();
        while let Some(writer) = self.writers.join_next().await {
            attempts.extend(writer.expect("a writer"));
        }
        // One more change, which is told to those who have been told all the others.
        let last = eventually("the last write", async || {
            let value = format!("end {}", attempts.len());
            let answer = cluster.endpoint(0).put("zz", &value).await;
            let writes = vec![Write::Put { key: "zz".into(), value: value.into() }];
            let revision = answer.map(|answer| answer.header.map_or(0, |header| header.revision));
            let outcome = revision.clone().map_or(load::Outcome::Unknown, load::Outcome::Made);
            attempts.push(Attempt { writes, outcome });
            revision
        })
        .await;
        self.end.send_replace(Some(last));
        let seen = self.historian.join_next().await.expect("there is one").expect("the historian");
        let mut watches = Vec::new();
        while let Some(told) = self.watchers.join_next().await {
            watches.extend(told.expect("a watcher"));
        }
        cluster.assert_members_agree().await;
        let mut history = truth::assemble(&seen, attempts);
        for (revision, begun) in self.shared.compactions().iter() {
            history.compaction(*revision, *begun);
        }
        judge(&history, &watches)
    }

    /// Fails as soon as somebody has.
    fn raise_panics(&mut self) {
        if let Some(ended) = self.watchers.try_join_next() {
            panic!("a watcher has ended: {:?}", ended.map(|watches| watches.len()));
        }
        if let Some(ended) = self.historian.try_join_next() {
            panic!("the historian has ended: {:?}", ended.map(|seen| seen.len()));
        }
    }
}

/// Checks every watch.
fn judge(history: &History, watches: &[Watch]) -> Figures {
    let violations: Vec<_> = watches.iter().flat_map(|watch| check(history, watch)).collect();
    for violation in violations.iter().take(SHOWN_MAX) {
        let (place, what) = (&violation.place, &violation.what);
        eprintln!("broken: {:?}, {place}: {what}", violation.guarantee);
    }
    assert_eq!(violations.len(), 0, "guarantees were broken");
    let mut figures = Figures::default();
    for watch in watches {
        figures.count(watch);
    }
    eprintln!("{} watches of {} revisions: {figures:?}", watches.len(), history.revision());
    figures
}

impl Figures {
    fn count(&mut self, watch: &Watch) {
        self.resumed += watch.runs.len().saturating_sub(1);
        let mut cancelled = 0;
        for run in &watch.runs {
            let responses = run.responses.iter().map(|received| &received.response);
            self.fragments += responses.filter(|response| response.fragment).count();
            for step in run.steps().expect("it has been checked") {
                match step {
                    Step::Created { .. } => {}
                    Step::Progress { .. } => self.progress += 1,
                    Step::Compacted { .. } => cancelled += 1,
                    Step::Events(told) => {
                        self.events += told.events.len();
                        let previous = told.events.iter().filter(|event| event.prev_kv.is_some());
                        self.previous_values += previous.count();
                    }
                }
            }
        }
        self.compacted += cancelled;
        let is_steady = watch.runs.first().is_some_and(|run| run.request.start_revision == 0);
        if is_steady && watch.runs.len() == cancelled + 1 {
            self.compacted_while_connected += cancelled;
        }
    }
}

/// At each member clients of every manner with watchers of every kind.
fn clients(shared: &Arc<Shared>) -> Vec<Client> {
    let mut random = StdRng::seed_from_u64(shared.plan.seed);
    let mut clients = Vec::new();
    for member in 0..shared.urls.len() {
        let steady = Manner { member, ..Manner::default() };
        let mut manners = vec![
            ("steady", steady.clone()),
            ("asking", Manner { asks_progress: true, ..steady.clone() }),
            ("roaming", Manner { roams: true, wants_leader: true, ..steady.clone() }),
        ];
        if shared.plan.has_restless {
            manners.push(("restless", Manner { roams: true, is_restless: true, ..steady }));
        }
        for (name, manner) in manners {
            let requests = requests(&mut random);
            let seed = random.random();
            clients.push(Client::new(shared.clone(), name, manner, requests, seed));
        }
    }
    clients
}

/// One of everything from now on, one of anything from the beginning, and one of something from a revision yet to come.
fn requests(random: &mut StdRng) -> Vec<WatchCreateRequest> {
    let all = Bytes::from_static(b"\0");
    let everything = WatchCreateRequest { key: all.clone(), range_end: all, ..Default::default() };
    let with_previous = WatchCreateRequest { prev_kv: true, fragment: true, ..everything.clone() };
    vec![
        if random.random() { everything } else { with_previous },
        WatchCreateRequest { start_revision: 1, ..any_request(random) },
        WatchCreateRequest { start_revision: random.random_range(2..100), ..any_request(random) },
    ]
}

/// A watch of any range with any options, from now on.
pub fn any_request(random: &mut StdRng) -> WatchCreateRequest {
    let folder = FOLDERS[random.random_range(0..FOLDERS.len())];
    let (key, range_end) = match random.random_range(0..5) {
        0 => (format!("{folder}{}", random.random_range(0..3)), String::new()),
        1 => (folder.to_owned(), after(folder)),
        2 => (format!("{folder}2"), format!("{folder}6")),
        3 => (folder.to_owned(), "\0".to_owned()),
        _ => ("\0".to_owned(), "\0".to_owned()),
    };
    let filters: &[FilterType] = match random.random_range(0..4) {
        0 => &[FilterType::Noput],
        1 => &[FilterType::Nodelete],
        _ => &[],
    };
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        filters: filters.iter().map(|filter| (*filter).into()).collect(),
        prev_kv: random.random(),
        fragment: random.random(),
        progress_notify: random.random(),
        ..Default::default()
    }
}

/// A pause of a random length.
pub async fn rest(random: &mut StdRng, millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(millis))).await;
}
