//! The core thread: starts a member, keeps it together, and takes it apart again.
//!
//! ```text
//! kvorum-core    one tokio runtime on one thread: consensus, peer connections, this module
//! <worker>       one thread for each of the consensus crate's workers: log, state, checkpoints; and one for watches
//! kvorum-metrics one tokio runtime on one thread: pages of metrics, and the port that has only those
//! kvorum-client  a tokio runtime on as many threads as there are cores: client connections, requests
//! ```
//!
//! No client's load delays a heartbeat, and nothing on the core thread waits for the disk once the member has started.
//! Whatever ends the member, its parts go in the same order: leadership, client listeners, watches, open requests,
//! consensus, peer connections, client runtime, workers, the lock on the data directory. None of them is waited for for
//! ever: a thread that hangs in a call to the disk is left behind, with the lock, and the member ends as failed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_consensus::FatalError::Hung;
use kvorum_consensus::{Clock, InitialMember, Lane, Member, Settings, Start, TransferError};
use kvorum_disk::Disk;
use kvorum_metrics::Registry;
use kvorum_pool::BufferPool;
use kvorum_proto::peer::DiscoverReply;
use kvorum_types::{ClusterId, MemberId};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::builder::Builder;
use crate::config::{ClusterState, Config, CorruptionChecks, InitialCluster};
use crate::corruption::ChecksDone;
use crate::dirs::Dirs;
use crate::failure::{FatalError, StartError};
use crate::grpc::{ClientService, Context, Watches};
use crate::joining::{self, Joined};
use crate::listen::ClientPort;
use crate::memory::{Keeper, Memory};
use crate::metrics::{
    Metrics, MetricsThread, ObservedDisk, Pages, Scrapes, Sources, follow_leaders,
};
use crate::peer::{Acceptor, Host, PeerRx, PeerTransport, PeerTx};
use crate::serving::{ClientThreads, Serving};
use crate::socket::BoundListener;
use crate::sockets::{Sockets, advertised, listen};
use crate::space::{self, Space};
use crate::threads::{END_TIME_MAX, WorkerThreads};
use crate::{CoreMember, attributes, compactor, corruption};

/// How long handing over the leadership may take when the member is stopped.
const HAND_OVER_TIME_MAX: Duration = Duration::from_millis(800);

/// How long open requests may go on once the member is stopping.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(300);

/// How long those who were still waiting have to take their answer, `server stopped`.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(100);

/// Bytes kept in buffers for entries and peer messages that are not in use.
const POOL_BYTES_MAX: usize = 64 << 20;

/// Whether and how the member is to end. Only ever raised.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stop {
    No,
    /// Hand over, let requests finish.
    Gracefully,
    /// At once.
    Now,
}

/// What the handle of a started member needs to know.
pub(crate) struct Started {
    pub(crate) endpoints: Vec<String>,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) metrics_urls: Vec<String>,
    pub(crate) member: CoreMember,
    pub(crate) hub: kvorum_watch::Hub,
    /// Becomes true once; see [`attributes::publish`].
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) checks_done: Arc<ChecksDone>,
}

/// Runs one member from its start to its end, on the calling thread.
pub(crate) fn run(
    builder: Builder,
    started: oneshot::Sender<Result<Started, StartError>>,
    stop: watch::Receiver<Stop>,
) -> Result<(), FatalError> {
    let core = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(core) => core,
        Err(error) => return refuse(started, StartError::Thread(error)),
    };
    let mut running = match core.block_on(Running::open(builder)) {
        Ok(running) => running,
        Err(error) => {
            // Whoever is told must not find files or sockets still open.
            drop(core);
            return refuse(started, error);
        }
    };
    let _ = started.send(Ok(running.started()));
    core.block_on(running.run_until_stopped(stop));
    let ended = running.take_apart();
    drop(core);
    ended
}

fn refuse(
    started: oneshot::Sender<Result<Started, StartError>>,
    error: StartError,
) -> Result<(), FatalError> {
    // Nobody waits for the answer any more if the start was given up.
    let _ = started.send(Err(error));
    Ok(())
}

/// A member at work. Fields are dropped in this order.
struct Running {
    peers: JoinSet<()>,
    client_port: JoinSet<()>,
    clients: Option<Runtime>,
    member: CoreMember,
    watches: Watches,
    workers: WorkerThreads,
    closing: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    endpoints: Vec<String>,
    peer_urls: Vec<String>,
    metrics_urls: Vec<String>,
    checks_done: Arc<ChecksDone>,
    _keeper: Option<Keeper>,
    metrics: MetricsThread,
}

impl Running {
    async fn open(builder: Builder) -> Result<Running, StartError> {
        let (metrics, registry) = Metrics::new();
        let dirs = Dirs::of(&builder.config);
        let disk = ObservedDisk::observe(builder.open_disk(), &dirs.wal, metrics.clone());
        let locks = dirs.lock(&*disk).await?;
        let sockets = Sockets::bind(&builder)?;
        let pool = BufferPool::new(POOL_BYTES_MAX);
        let identity = Identity::find(&builder.config, &*disk, &dirs, &sockets, &pool).await?;
        let is_joining = !identity.initialise;
        let transport = Arc::new(PeerTransport::new(
            identity.cluster,
            identity.member,
            pool.clone(),
            metrics.traffic.clone(),
        ));
        let config = builder.config.clone();
        let prefix = builder.thread_name_prefix.clone();
        let (memory, keeper) = Memory::of(&builder, &disk, &pool)?.unzip();
        let serving = Serving::of(&builder, is_joining, memory, (metrics, registry), pool.clone());
        let clock = serving.clock.clone();
        let disks = dirs.disks(disk.clone(), builder.wal.segment_bytes);
        let start =
            start_of(builder, identity, disk, &dirs, (transport.clone(), pool, clock.clone()));
        let metrics_thread = MetricsThread::start(&prefix).map_err(StartError::Thread)?;
        let (member, mut workers) = Member::start(start).await?;
        let (watches, watching) = Watches::new(&member, &config);
        workers.all.push(watching);
        let (workers, all_started) = WorkerThreads::start(workers, &prefix, locks);
        let (closing, _) = watch::channel(false);
        let (ready_sender, ready) = watch::channel(false);
        let space = Arc::new(Space::new(config.quota_backend_bytes, disks));
        let mut running = Running {
            peers: JoinSet::new(),
            client_port: JoinSet::new(),
            clients: None,
            member,
            watches,
            workers,
            closing,
            ready,
            endpoints: sockets.client_urls.clone(),
            peer_urls: sockets.peer_urls.clone(),
            metrics_urls: sockets.metrics_urls.clone(),
            checks_done: Arc::default(),
            _keeper: keeper,
            metrics: metrics_thread,
        };
        let checks = config.corruption_checks;
        let opened = match all_started {
            Ok(()) => running.take_in_peers(transport.clone(), sockets.peers, checks).await,
            Err(error) => Err(StartError::Thread(error)),
        };
        let (clients, scrapers) = (sockets.clients, sockets.metrics);
        let opened = opened.and_then(|()| running.serve(serving, clients, scrapers, space.clone()));
        if let Err(error) = opened {
            running.watches.stop();
            running.member.shutdown().await;
            return Err(error);
        }
        running.look_after(&config, clock, space, transport);
        let advertised = advertised(&config.advertise_client_urls, &running.endpoints);
        running.publish(config.name, advertised, ready_sender);
        Ok(running)
    }

    fn started(&self) -> Started {
        Started {
            endpoints: self.endpoints.clone(),
            peer_urls: self.peer_urls.clone(),
            metrics_urls: self.metrics_urls.clone(),
            member: self.member.clone(),
            hub: self.watches.hub(),
            ready: self.ready.clone(),
            checks_done: self.checks_done.clone(),
        }
    }

    /// Begins what goes on by itself as long as the member runs.
    fn look_after(
        &mut self,
        config: &Config,
        clock: Clock,
        space: Arc<Space>,
        transport: Arc<PeerTransport>,
    ) {
        let member = || self.member.clone();
        self.peers.spawn(compactor::run(member(), clock, config.auto_compaction));
        self.peers.spawn(space::watch(member(), space, config.auto_disarm));
        self.peers.spawn(corruption::watch(
            member(),
            transport,
            config.corruption_checks,
            self.checks_done.clone(),
        ));
    }

    async fn take_in_peers(
        &mut self,
        transport: Arc<PeerTransport>,
        bound: Vec<BoundListener>,
        checks: CorruptionChecks,
    ) -> Result<(), StartError> {
        let acceptor = Arc::new(Acceptor::new(transport.clone(), self.member.clone()));
        for bound in bound {
            let (acceptor, listener) = (acceptor.clone(), listen(bound)?);
            self.peers.spawn(async move { acceptor.run(listener).await });
        }
        if checks.at_start {
            corruption::check_at_start(&self.member, &transport).await?;
        }
        Ok(())
    }

    /// Opens the ports of clients, and of those who want metrics.
    fn serve(
        &mut self,
        serving: Serving,
        clients: Vec<BoundListener>,
        scrapers: Vec<BoundListener>,
        space: Arc<Space>,
    ) -> Result<(), StartError> {
        let Serving { config, threads, limits, clock, backup_rate, is_joining, .. } = serving;
        let Serving { memory, metrics, registry, pool, .. } = serving;
        memory.as_ref().inspect(|memory| memory.judge_forwarded(&self.member));
        let pages =
            self.make_pages(&metrics, registry, (pool.clone(), memory.clone()), space.clone());
        let context = Context::new(
            self.member.clone(),
            self.watches.hub(),
            &config,
            clock,
            (Handle::current(), self.closing.subscribe()),
            (is_joining, space),
            (metrics, pages),
        )
        .with_backup_rate(backup_rate)
        .with_pool(pool)
        .with_memory(memory);
        let context = Arc::new(context);
        let closing = self.closing.clone();
        let port = ClientPort::new(Scrapes::new(context.clone()), limits, closing.subscribe());
        self.serve_metrics(port, scrapers)?;
        let port = ClientPort::new(ClientService::new(context), limits, closing.subscribe());
        self.serve_clients(port, threads, clients)
    }

    /// Has pages of metrics made until the member closes, and counts leaders as they change.
    fn make_pages(
        &mut self,
        metrics: &Arc<Metrics>,
        registry: Registry,
        (pool, memory): (BufferPool, Option<Memory>),
        space: Arc<Space>,
    ) -> Pages {
        let (member, hub) = (self.member.clone(), self.watches.hub());
        let changes = metrics.events.leader_changes.clone();
        self.peers.spawn(follow_leaders(member.watch_status(), changes));
        let checks_done = self.checks_done.clone();
        let sources = Sources { member, hub, pool, memory, space, checks_done };
        let (pages, renderer) = Pages::new(metrics.clone(), registry, sources);
        self.metrics.spawn(renderer.run(self.closing.subscribe()));
        pages
    }

    fn serve_metrics(
        &mut self,
        port: Arc<ClientPort<Scrapes>>,
        bound: Vec<BoundListener>,
    ) -> Result<(), StartError> {
        let _in_metrics = self.metrics.enter();
        for bound in bound {
            self.metrics.spawn(port.clone().run(listen(bound)?));
        }
        Ok(())
    }

    fn serve_clients(
        &mut self,
        port: Arc<ClientPort<ClientService>>,
        threads: ClientThreads,
        bound: Vec<BoundListener>,
    ) -> Result<(), StartError> {
        let clients = runtime::Builder::new_multi_thread()
            .worker_threads(threads.count)
            .thread_name(threads.name)
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let clients = self.clients.insert(clients);
        let _in_clients = clients.enter();
        for bound in bound {
            self.client_port.spawn_on(port.clone().run(listen(bound)?), clients.handle());
        }
        Ok(())
    }

    fn publish(&mut self, name: String, client_urls: Vec<String>, ready: watch::Sender<bool>) {
        let (member, endpoints) = (self.member.clone(), self.endpoints.clone());
        self.peers.spawn(async move {
            if attributes::publish(member, name, client_urls).await {
                info!(?endpoints, "ready to serve client requests");
                ready.send_replace(true);
            }
        });
    }

    /// Waits until the member fails or is to stop, then ends it; what remains are threads to join.
    async fn run_until_stopped(&mut self, mut stop: watch::Receiver<Stop>) {
        tokio::select! {
            failure = self.member.fatal() => error!(error = %failure, "the member stops"),
            () = asked(&mut stop, Stop::Gracefully) => {
                tokio::select! {
                    () = self.hand_over_and_drain(), if *stop.borrow() == Stop::Gracefully => {}
                    () = asked(&mut stop, Stop::Now) => {}
                }
            }
        }
        self.close();
        self.member.shutdown().await;
        let _ = timeout(ANSWER_TIME_MAX, drained(&mut self.client_port)).await;
        self.client_port.shutdown().await;
        self.peers.shutdown().await;
    }

    /// Takes in no more clients and ends what would go on by itself: watches.
    fn close(&self) {
        self.closing.send_replace(true);
        self.watches.stop();
    }

    /// Ends the threads. Only now it is known how the member ended: the last sync may fail, and a thread may hang.
    fn take_apart(self) -> Result<(), FatalError> {
        let Running { peers, client_port, clients, member, workers, metrics, .. } = self;
        drop((peers, client_port));
        metrics.end(END_TIME_MAX);
        if let Some(clients) = clients {
            // A request may hang where a worker does.
            clients.shutdown_timeout(END_TIME_MAX);
        }
        if let Err(worker) = workers.join() {
            member.fail(Hung { worker, time: END_TIME_MAX });
        }
        match member.fatal().now_or_never() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    async fn hand_over_and_drain(&mut self) {
        if self.member.status().is_leader {
            match timeout(HAND_OVER_TIME_MAX, self.member.transfer_leadership(None)).await {
                Ok(Ok(())) => info!("handed over the leadership"),
                // The only voter has nobody to hand over to, and one that lost the leadership has nothing.
                Ok(Err(TransferError::BadTransferee | TransferError::NotLeader)) => {}
                Ok(Err(error)) => warn!(%error, "could not hand over the leadership"),
                Err(_) => warn!("could not hand over the leadership in time"),
            }
        }
        self.close();
        let _ = timeout(DRAIN_TIME_MAX, drained(&mut self.client_port)).await;
    }
}

impl Host for CoreMember {
    async fn serve(&self, lane: Lane, from: MemberId, tx: PeerTx, rx: PeerRx) {
        match lane {
            Lane::Hash => corruption::answer(self, from, tx, rx).await,
            _ => Member::serve(self, lane, from, tx, rx).await,
        }
    }

    async fn members(&self) -> DiscoverReply {
        joining::tell(self).await
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.has_removed(member)
    }
}

async fn asked(stop: &mut watch::Receiver<Stop>, at_least: Stop) {
    // A handle that is gone can only mean that nobody wants the member any more.
    let _ = stop.wait_for(|stop| *stop >= at_least).await;
}

async fn drained(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Who the member is and how its cluster began.
struct Identity {
    cluster: ClusterId,
    member: MemberId,
    initial_members: Vec<InitialMember>,
    initialise: bool,
}

impl Identity {
    /// A member with a log is who its log says; one that founds a cluster is who its configuration says; one that joins
    /// is who the cluster says.
    async fn find(
        config: &Config,
        disk: &dyn Disk,
        dirs: &Dirs,
        sockets: &Sockets,
        pool: &BufferPool,
    ) -> Result<Identity, StartError> {
        let known = kvorum_wal::identity(disk, &dirs.wal)
            .map_err(|error| StartError::Member(kvorum_consensus::StartError::Log(error)))?;
        let config = with_bound_peers(config, &sockets.peer_urls);
        let configured = Identity::configured(&config);
        let is_new = config.initial_cluster_state == ClusterState::New;
        match known {
            // What the flags say of the first members only matters if the member fell before its first entry.
            Some(known)
                if known.cluster == configured.cluster && known.member == configured.member =>
            {
                Ok(Identity { initialise: is_new, ..configured })
            }
            Some(known) => Ok(Identity {
                cluster: known.cluster,
                member: known.member,
                initial_members: Vec::new(),
                initialise: false,
            }),
            None => {
                config.check_bootstrap()?;
                if is_new {
                    return Ok(configured);
                }
                let Joined { cluster, member, members } = joining::join(&config, pool).await?;
                info!(%cluster, %member, "joining a cluster");
                Ok(Identity { cluster, member, initial_members: members, initialise: false })
            }
        }
    }

    fn configured(config: &Config) -> Identity {
        let token = &config.initial_cluster_token;
        let ids = config.initial_cluster.member_ids(token);
        let id_of = |name: &str| ids.get(name).copied().unwrap_or_default();
        let initial_members = config
            .initial_cluster
            .members()
            .map(|(name, urls)| InitialMember {
                id: id_of(name),
                name: name.to_owned(),
                peer_urls: urls.iter().map(|url| url.as_str().to_owned()).collect(),
            })
            .collect();
        Identity {
            cluster: config.initial_cluster.cluster_id(token),
            member: id_of(&config.name),
            initial_members,
            initialise: true,
        }
    }
}

/// Fills in what an embedding program left open: the addresses that were bound, and a cluster of one.
fn with_bound_peers(config: &Config, bound: &[String]) -> Config {
    let mut config = config.clone();
    if config.initial_advertise_peer_urls.is_empty() {
        config.initial_advertise_peer_urls =
            bound.iter().filter_map(|url| url.parse().ok()).collect();
        config.initial_advertise_peer_urls.sort();
    }
    if config.initial_cluster.members().next().is_none() {
        let urls = config.initial_advertise_peer_urls.clone();
        config.initial_cluster = InitialCluster::of_one(&config.name, urls);
    }
    config
}

fn start_of(
    builder: Builder,
    identity: Identity,
    disk: Arc<dyn Disk>,
    dirs: &Dirs,
    (transport, pool, clock): (Arc<PeerTransport>, BufferPool, Clock),
) -> Start<PeerTransport> {
    let config = builder.config;
    Start {
        settings: Settings {
            initialise: identity.initialise,
            heartbeat_interval: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            checkpoint_bytes: builder.checkpoint_bytes,
            catchup_entries: config.snapshot_catchup_entries,
            lease_checkpoint_interval: config.lease_checkpoint_interval,
            force_new_cluster: config.force_new_cluster,
            append_compression_bytes: config.peer_append_compression_bytes,
            pre_vote: config.pre_vote,
            auto_promote: config.membership.auto_promote,
            ..Settings::new(identity.member, identity.cluster, identity.initial_members)
        },
        disk,
        data_dir: dirs.member.clone(),
        wal_dir: dirs.wal.clone(),
        backend: builder.backend,
        mvcc: builder.mvcc,
        wal: builder.wal,
        transport,
        pool,
        clock: Some(clock),
    }
}
