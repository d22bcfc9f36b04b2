//! Clients that watch, and keep every response.
//!
//! A client has one stream with some watchers. When the stream is lost, it opens another one, at the same member or the
//! next, and every watcher goes on behind the last revision that it was told, or what a progress named; one that was
//! cancelled as compacted goes on with what is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_testkit::{Endpoint, WAIT_MAX, Watching};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::scenario::Shared;
use crate::checker::{Received, Run, Watch, revision_of};

/// How often a client asks for progress, if it asks, and looks whether it is done.
const TICK: Duration = Duration::from_millis(100);

/// How long a client waits before it opens the next stream.
const PAUSE: Duration = Duration::from_millis(20);

/// How many ticks a restless client keeps a stream at most.
const RESTLESS_TICKS: u32 = 8;

/// How a client behaves.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// The member that it begins with.
    pub member: usize,
    /// Goes on at the next member, not at the same.
    pub roams: bool,
    /// Leaves its streams for no reason.
    pub is_restless: bool,
    /// Asks for progress now and then. At the end everyone does.
    pub asks_progress: bool,
    /// Wants its stream ended when there is no leader.
    pub wants_leader: bool,
}

/// One client.
pub struct Client {
    shared: Arc<Shared>,
    manner: Manner,
    watchers: Vec<Watcher>,
    random: StdRng,
}

struct Watcher {
    watch: Watch,
    /// What to ask next.
    request: WatchCreateRequest,
    /// Up to where everything has been told; none before the first watcher was created.
    told_up_to: Option<i64>,
    /// Whether the stream that is open has it.
    is_asked: bool,
}

/// Why a client stops reading a stream.
enum Left {
    Done,
    Lost,
}

impl Client {
    /// A client that wants to be told some things. Their names say so.
    pub fn new(
        shared: Arc<Shared>,
        name: &str,
        manner: Manner,
        requests: Vec<WatchCreateRequest>,
        seed: u64,
    ) -> Client {
        let watchers = requests.into_iter().enumerate().map(|(number, request)| Watcher {
            watch: Watch { name: format!("{name}.{number} {request:?}"), ..Watch::default() },
            request,
            told_up_to: None,
            is_asked: false,
        });
        let watchers = watchers.collect();
        Client { shared, manner, watchers, random: StdRng::seed_from_u64(seed) }
    }

    /// Watches until all has been told up to the revision that `end` names at last.
    pub async fn run(mut self, mut end: watch::Receiver<Option<i64>>) -> Vec<Watch> {
        let mut deadline = None;
        while let Left::Lost = self.follow(&mut end, &mut deadline).await {
            if self.manner.roams {
                self.manner.member += 1;
            }
            sleep(PAUSE).await;
        }
        let up_to = end.borrow().unwrap_or_default();
        let watches = self.watchers.into_iter().map(|watcher| Watch { up_to, ..watcher.watch });
        watches.collect()
    }

    /// Reads one stream.
    async fn follow(
        &mut self,
        end: &mut watch::Receiver<Option<i64>>,
        deadline: &mut Option<Instant>,
    ) -> Left {
        let is_done_at = *end.borrow();
        let mut stream = self.open(is_done_at).await;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks_left = match self.manner.is_restless {
            true => self.random.random_range(1..=RESTLESS_TICKS),
            false => u32::MAX,
        };
        loop {
            tokio::select! {
                response = stream.next() => match response {
                    Ok(Some(response)) => self.take(&mut stream, response).await,
                    Ok(None) | Err(_) => return Left::Lost,
                },
                _ = ticks.tick() => {
                    ticks_left = ticks_left.saturating_sub(1);
                    let end = *end.borrow_and_update();
                    if self.manner.asks_progress || end.is_some() {
                        stream.request_progress().await;
                    }
                    if end.is_none() && ticks_left == 0 {
                        return Left::Lost;
                    }
                }
            }
            let Some(end) = *end.borrow() else { continue };
            if self.watchers.iter().all(|watcher| watcher.told_up_to >= Some(end)) {
                return Left::Done;
            }
            if self.watchers.iter().any(|watcher| watcher.begins_beyond(end)) {
                // Nothing comes after the end, and no progress is told before a watcher's first revision: the others
                // would never hear that there is nothing for them.
                return Left::Lost;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + WAIT_MAX);
            assert!(Instant::now() < deadline, "not told up to {end}: {}", self.behind(end));
        }
    }

    /// Opens a stream and asks for all watchers but those that have been told everything up to `end`.
    async fn open(&mut self, end: Option<i64>) -> Watching {
        let urls = &self.shared.urls;
        let member = self.manner.member % urls.len();
        let wants_leader = self.manner.wants_leader;
        // Made anew: a connection that broke first has to notice.
        let stream = Endpoint::new(&urls[member]).watch_with(|call| {
            if wants_leader {
                call.metadata_mut().insert("hasleader", "true".parse().expect("it is ASCII"));
            }
        });
        for (id, watcher) in (1..).zip(&mut self.watchers) {
            watcher.is_asked = end.is_none() || watcher.told_up_to < end;
            if watcher.is_asked {
                watcher.ask(&stream, id, member).await;
            }
        }
        stream
    }

    async fn take(&mut self, stream: &mut Watching, response: WatchResponse) {
        let at = self.shared.moment();
        if response.watch_id < 0 {
            // The stream's as a whole: of no concern to those that are not yet created.
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.is_created()) {
                watcher.take(at, response.clone());
            }
            return;
        }
        let (id, member) = (response.watch_id, self.manner.member % self.shared.urls.len());
        let place = usize::try_from(id - 1).expect("ids are counted from 1");
        let watcher = &mut self.watchers[place];
        let is_canceled = response.canceled;
        watcher.take(at, response);
        if is_canceled {
            watcher.ask(stream, id, member).await;
        }
    }

    fn behind(&self, end: i64) -> String {
        let behind = self.watchers.iter().filter(|watcher| watcher.told_up_to < Some(end));
        let behind =
            behind.map(|watcher| format!("{} to {:?}", watcher.watch.name, watcher.told_up_to));
        format!("{:?}, {}", self.manner, behind.collect::<Vec<_>>().join("; "))
    }
}

impl Watcher {
    async fn ask(&mut self, stream: &Watching, watch_id: i64, member: usize) {
        let request = WatchCreateRequest { watch_id, ..self.request.clone() };
        stream.create(request.clone()).await;
        self.watch.runs.push(Run { member, request, responses: Vec::new() });
    }

    fn run(&mut self) -> &mut Run {
        self.watch.runs.last_mut().expect("it has been asked for")
    }

    fn is_created(&self) -> bool {
        self.is_asked && self.watch.runs.last().is_some_and(|run| !run.responses.is_empty())
    }

    /// Whether the open stream has it, with a first revision after `end`.
    fn begins_beyond(&self, end: i64) -> bool {
        let asked = self.watch.runs.last().filter(|_| self.is_asked);
        asked.is_some_and(|run| run.request.start_revision > end)
    }

    fn take(&mut self, at: u64, response: WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let told = if response.created {
            // From now on is from behind this revision on, however often it is asked again.
            (self.request.start_revision == 0).then_some(revision)
        } else if response.events.is_empty() {
            Some(revision)
        } else {
            let last = response.events.iter().map(revision_of).max();
            last.filter(|_| !response.fragment)
        };
        if response.canceled {
            self.request.start_revision = response.compact_revision;
        } else if told > self.told_up_to {
            self.told_up_to = told;
            self.request.start_revision = told.unwrap_or_default() + 1;
        }
        self.run().responses.push(Received { at, response });
    }
}

/// Watches one thing from one revision on until so much has been told, or for as long as it takes to find out nothing: a
/// visit is neither resumed nor waited for once the load is over.
pub async fn visit(
    shared: Arc<Shared>,
    name: String,
    member: usize,
    request: WatchCreateRequest,
    up_to: i64,
    mut end: watch::Receiver<Option<i64>>,
) -> Watch {
    let watch = Watch { name: format!("{name} {request:?}"), ..Watch::default() };
    let mut watcher = Watcher { watch, request, told_up_to: None, is_asked: false };
    let stream = Endpoint::new(&shared.urls[member % shared.urls.len()]).watch();
    watcher.ask(&stream, 1, member).await;
    let ended = end.wait_for(Option::is_some);
    tokio::select! {
        _ = ended => {}
        () = read_on(&shared, &mut watcher, stream, up_to) => {}
    }
    if watcher.told_up_to >= Some(up_to) {
        watcher.watch.up_to = up_to;
    }
    watcher.watch
}

async fn read_on(shared: &Shared, watcher: &mut Watcher, mut stream: Watching, up_to: i64) {
    while watcher.told_up_to < Some(up_to) {
        match timeout(TICK, stream.next()).await {
            Ok(Ok(Some(response))) => {
                let is_canceled = response.canceled;
                watcher.take(shared.moment(), response);
                if is_canceled {
                    return;
                }
            }
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => stream.request_progress().await,
        }
    }
}

/// Visits from anywhere to anywhere, one after the other, until the load is over.
pub async fn visit_all(
    shared: Arc<Shared>,
    client: usize,
    seed: u64,
    end: watch::Receiver<Option<i64>>,
) -> Vec<Watch> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(client as u64));
    let mut watches = Vec::new();
    while end.borrow().is_none() {
        let known = shared.known.load(Ordering::SeqCst);
        let compacted = shared.compacted.load(Ordering::SeqCst);
        let start_revision = match random.random_range(0..6) {
            0 => 0,
            1 => compacted.max(1),
            2 => compacted + 1,
            3 => random.random_range(1..=known.max(1)),
            4 => random.random_range((known - 20).max(1)..=known.max(1)),
            _ => known + random.random_range(1..20),
        };
        let request = super::scenario::any_request(&mut random);
        let request = WatchCreateRequest { start_revision, ..request };
        let up_to = known.max(start_revision) + random.random_range(1..10);
        let (name, member) =
            (format!("visit {client}.{}", watches.len()), random.random_range(0..3));
        let visit = visit(shared.clone(), name, member, request, up_to, end.clone());
        watches.push(visit.await);
        sleep(PAUSE).await;
    }
    watches
}
