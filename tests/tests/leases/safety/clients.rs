//! Clients that hold leases, and write down for the judge what they asked, were answered and saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::judge::{Deletion, Fault, History, LeaderChange, Request, Rules, Story, Time};

/// Where all keys of leases are: `lease/ID/NAME`.
const PREFIX: &str = "lease/";
const PREFIX_END: &str = "lease0";

/// The names of the keys that every lease gets.
const KEY_NAMES: [&str; 2] = ["a", "b"];

/// How long a client waits for the answer to a keep-alive before it asks another member.
const PATIENCE: Duration = Duration::from_millis(700);

/// How long a watcher waits before it asks again.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// What is written down. Clones are the same book.
#[derive(Clone)]
pub struct Book {
    history: Arc<Mutex<History>>,
    clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

impl Book {
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics while writing")
    }

    /// Grants a lease and attaches keys to it. It must be granted.
    async fn grant(&self, endpoint: &Endpoint, id: i64, ttl: u64) {
        let sent = self.now();
        let granted = endpoint.grant(id, i64::try_from(ttl).unwrap()).await.unwrap();
        let ttl = u64::try_from(granted.ttl).unwrap();
        let grant = Request { sent, ended: self.now(), ttl: Some(ttl) };
        self.history().leases.insert(id, Story::new(ttl, grant));
        for name in KEY_NAMES {
            let key = format!("{PREFIX}{id}/{name}");
            // On a slow machine a short lease may be over by now.
            if endpoint.put_leased(&key, "value", id).await.is_ok() {
                self.story(id, |story| story.keys.insert(key));
            }
        }
    }

    /// Asks for a lease to be kept alive: the TTL, or nothing if no answer came in time.
    pub async fn keep_alive(
        &self,
        endpoint: &Endpoint,
        id: i64,
        time_max: Duration,
    ) -> Option<u64> {
        let sent = self.now();
        let asking = async { endpoint.keeping_alive(id).await.ok()?.next().await.ok()? };
        let response = timeout(time_max, asking).await.ok().flatten();
        let ttl = response.map(|response| u64::try_from(response.ttl).unwrap());
        let request = Request { sent, ended: self.now(), ttl };
        self.story(id, |story| story.keep_alives.push(request));
        ttl
    }

    pub async fn revoke(&self, endpoint: &Endpoint, id: i64) {
        let sent = self.now();
        self.story(id, |story| story.revoked = Some(sent));
        endpoint.revoke(id).await.unwrap();
    }

    fn saw(&self, event: &pb::WatchResponse) {
        let seen = self.now();
        for event in &event.events {
            let Some(kv) = event.kv.as_ref().filter(|_| event.r#type() == EventType::Delete) else {
                continue;
            };
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            let id = key.split('/').nth(1).unwrap().parse().unwrap();
            let deletion = Deletion { key, revision: kv.mod_revision, seen };
            self.story(id, |story| story.deletions.push(deletion));
        }
    }

    fn story<T>(&self, id: i64, note: impl FnOnce(&mut Story) -> T) {
        note(self.history().leases.get_mut(&id).expect("the lease was granted"));
    }
}

/// How a lease is treated.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    pub ttl: u64,
    /// What lies between two keep-alives; None: it is never kept alive.
    pub pause: Option<Duration>,
    /// How many keep-alives there are, at most.
    pub count: usize,
}

/// Clients of all members.
pub struct Clients {
    pub book: Book,
    endpoints: Vec<Endpoint>,
    /// Those who keep alive, until this is true.
    quiet: watch::Sender<bool>,
    tasks: JoinSet<()>,
    granted: i64,
}

impl Clients {
    /// Watches through every member, and goes by the machine's clock.
    pub fn of(cluster: &Cluster) -> Clients {
        let begun = Instant::now();
        Clients::with_clock(cluster, move || begun.elapsed())
    }

    pub fn with_clock(
        cluster: &Cluster,
        clock: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Clients {
        let book = Book { history: Arc::default(), clock: Arc::new(clock) };
        let endpoints =
            cluster.client_urls().iter().map(|url| Endpoint::new(url)).collect::<Vec<_>>();
        let mut tasks = JoinSet::new();
        for endpoint in &endpoints {
            tasks.spawn(watch(endpoint.clone(), book.clone()));
        }
        Clients { book, endpoints, quiet: watch::Sender::new(false), tasks, granted: 0 }
    }

    pub fn now(&self) -> Time {
        self.book.now()
    }

    pub fn endpoint(&self, member: usize) -> &Endpoint {
        &self.endpoints[member]
    }

    /// Grants so many leases side by side, through all members: their ids.
    pub async fn grant(&mut self, count: usize, ttl: u64) -> Vec<i64> {
        let ids = self.next_ids(count);
        let granting = ids.iter().zip(self.endpoints.iter().cycle());
        join_all(granting.map(|(id, endpoint)| self.book.grant(endpoint, *id, ttl))).await;
        ids
    }

    /// The same, through one member.
    pub async fn grant_through(&mut self, member: usize, count: usize, ttl: u64) -> Vec<i64> {
        let ids = self.next_ids(count);
        let endpoint = &self.endpoints[member];
        join_all(ids.iter().map(|id| self.book.grant(endpoint, *id, ttl))).await;
        ids
    }

    fn next_ids(&mut self, count: usize) -> Vec<i64> {
        let first = self.granted + 1;
        self.granted += i64::try_from(count).unwrap();
        (first..=self.granted).collect()
    }

    /// Keeps leases alive through one member. They must all be answered, with a TTL.
    pub async fn keep_alive(&self, member: usize, ids: &[i64]) {
        let time_max = Duration::from_secs(30);
        let endpoint = &self.endpoints[member];
        let keeping = ids.iter().map(|id| self.book.keep_alive(endpoint, *id, time_max));
        let kept = join_all(keeping).await;
        assert!(kept.iter().all(|ttl| *ttl > Some(0)), "{kept:?}");
    }

    /// Grants leases and treats them in these ways, until [`Clients::fall_silent`].
    pub async fn hold(&mut self, conducts: &[Conduct]) {
        let mut by_ttl = BTreeMap::<u64, Vec<&Conduct>>::new();
        for conduct in conducts {
            by_ttl.entry(conduct.ttl).or_default().push(conduct);
        }
        for (ttl, conducts) in by_ttl {
            let ids = self.grant(conducts.len(), ttl).await;
            for (id, conduct) in ids.into_iter().zip(conducts) {
                let first = usize::try_from(id).unwrap();
                let keeper = Keeper {
                    endpoints: self.endpoints.clone(),
                    book: self.book.clone(),
                    quiet: self.quiet.subscribe(),
                    id,
                };
                self.tasks.spawn(keeper.keep(first, *conduct));
            }
        }
    }

    /// Lets nothing be kept alive any more.
    pub fn fall_silent(&self) {
        self.quiet.send_replace(true);
    }

    /// Writes down that the leader, lost at `lost` at the earliest, has been replaced by one that counts, as one of
    /// `members` says.
    pub async fn settled(&self, lost: Time, member: usize) {
        let endpoint = &self.endpoints[member];
        eventually("the new leader to count", async || endpoint.time_to_live(1).await).await;
        let settled = self.now();
        self.book.history().changes.push(LeaderChange { lost, settled });
    }

    /// Waits until all leases have been seen to end.
    pub async fn all_ended(&self) {
        self.none_left("all leases to end", |history| history.standing()).await;
    }

    /// Waits until those have been seen to end that must have ended by now.
    pub async fn none_overdue(&self, rules: &Rules) {
        let now = self.now();
        self.none_left("what is overdue", |history| history.overdue(rules, now)).await;
    }

    async fn none_left(&self, what: &str, left: impl Fn(&History) -> Vec<i64>) {
        eventually(what, async || {
            let left = left(&self.book.history());
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Lets the judge decide, and says how late leases ended at most.
    pub fn assert_safe(&self, rules: &Rules) {
        let history = self.book.history();
        let late = history.lateness(rules).max().unwrap_or_default();
        let (count, changes) = (history.leases.len(), &history.changes);
        eprintln!("{count} leases, at most {late:?} late; leader changes {changes:?}");
        let faults = history.faults(rules);
        let told = faults.iter().map(|fault| {
            let (Fault::Early { lease, .. }
            | Fault::Late { lease, .. }
            | Fault::Risen { lease }
            | Fault::Left { lease, .. }
            | Fault::Torn { lease, .. }) = fault;
            format!("{fault:?}\n    {:?}", history.leases[lease])
        });
        let told = told.collect::<Vec<_>>().join("\n");
        assert!(faults.is_empty(), "{told}\nleader changes {:?}", history.changes);
    }
}

/// Keeps one lease alive.
struct Keeper {
    endpoints: Vec<Endpoint>,
    book: Book,
    quiet: watch::Receiver<bool>,
    id: i64,
}

impl Keeper {
    /// Through the member `first`, and through the next one where no answer comes.
    async fn keep(self, first: usize, conduct: Conduct) {
        let Some(pause) = conduct.pause else { return };
        let mut member = first;
        for _ in 0..conduct.count {
            sleep(pause).await;
            while !*self.quiet.borrow() {
                let endpoint = &self.endpoints[member % self.endpoints.len()];
                match self.book.keep_alive(endpoint, self.id, PATIENCE).await {
                    Some(0) => return,
                    Some(_) => break,
                    None => member += 1,
                }
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Waits until one of `members` leads in the eyes of all of them: its number.
pub async fn led_by(cluster: &Cluster, members: &[usize]) -> usize {
    eventually("one of them to lead", async || {
        let mut seen = Vec::new();
        for member in members {
            let status = cluster.endpoint(*member).status().await;
            let status = status.map_err(|status| status.to_string())?;
            let id = status.header.map_or(0, |header| header.member_id);
            seen.push((*member, id, status.leader));
        }
        let leader = seen.iter().find(|(_, id, _)| seen.iter().all(|(.., leader)| leader == id));
        leader.map(|(member, ..)| *member).ok_or_else(|| format!("{seen:x?}"))
    })
    .await
}

/// Sees what one member tells of the keys of leases, for as long as it is asked to.
async fn watch(endpoint: Endpoint, book: Book) {
    let mut next = 1;
    loop {
        let mut watching = endpoint.watch();
        let create = pb::WatchCreateRequest {
            key: PREFIX.into(),
            range_end: PREFIX_END.into(),
            start_revision: next,
            ..Default::default()
        };
        watching.create(create).await;
        while let Ok(Some(response)) = watching.next().await {
            book.saw(&response);
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
            next = kvs.map(|kv| kv.mod_revision + 1).max().unwrap_or(next);
        }
        sleep(RETRY_DELAY).await;
    }
}
