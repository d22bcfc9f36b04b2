//! Starting a member: the log, the state, what the log holds beyond it, the engine.
//!
//! ```text
//! log opened -> state opened -(lost, and the log is purged)-> snapshot from a peer -> state opened
//!            -> leases, and committed entries beyond the state, applied -> engine built -> tasks started -> workers handed out
//! ```
//!
//! Until the workers are handed out nobody else steps them, so what needs them here steps them itself.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use kvorum_machine::{self as machine, LogExtent, Machine, OpenError, Refusal};
use kvorum_mvcc::Maintainer;
use kvorum_types::{Incarnation, MemberId, Position};
use kvorum_wal::{Log, Reader, Wal, Writer};
use openraft::{Config, Raft, SnapshotPolicy};

use crate::addresses::Addresses;
use crate::applier::{Applier, ApplierHandle, CheckpointPolicy};
use crate::backup::Backups;
use crate::checkpoints::{self, Checkpointer, Schedule, Transfers};
use crate::clock::Clock;
use crate::configure::Configure;
use crate::contact::Contact;
use crate::errors::{FatalError, StartError};
use crate::forced;
use crate::leadership::LeadershipBoard;
use crate::leases::{Keeper, Questions};
use crate::log::{AppliedIndex, LogStore, PurgeLimit};
use crate::network::NetworkFactory;
use crate::peers::Peers;
use crate::progress::Progress;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::rebuild;
use crate::removal::{self, Mark};
use crate::replay;
use crate::retention::{self, Retention};
use crate::runtime::{Runtime, spawn};
use crate::settings::{Settings, Start};
use crate::shared::{Engine, Shared};
use crate::state_machine::StateMachine;
use crate::stop::Stop;
use crate::tasks;
use crate::transport::Transport;
use crate::voters::Voters;
use crate::watchdog::{OnHang, Watchdog};
use crate::work::{LOG_WRITER, StoreRoom, Work};
use crate::worker::{Bell, Step, Worker, Workers};

/// Every worker's bell.
#[derive(Clone, Default)]
struct Bells {
    writer: Bell,
    reader: Bell,
    applier: Bell,
    maintainer: Bell,
    checkpointer: Bell,
    keeper: Bell,
}

impl Bells {
    fn ring_all(&self) {
        let Bells { writer, reader, applier, maintainer, checkpointer, keeper } = self;
        for bell in [writer, reader, applier, maintainer, checkpointer, keeper] {
            bell.ring();
        }
    }
}

/// The workers that are needed before the member runs.
pub(crate) struct Workshop {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) checkpointer: Option<Checkpointer>,
}

impl Workshop {
    /// One turn of each: whether anything was done.
    fn turn(&mut self) -> io::Result<bool> {
        let written = self.writer.step()?;
        // What is to be removed can wait until the member runs.
        let read = self.reader.step(Duration::ZERO);
        let checkpointer = self.checkpointer.as_mut();
        let stepped = checkpointer.is_some_and(|worker| worker.step() == Step::Again);
        Ok(!written.idle || !read.idle || stepped)
    }

    /// Completes `future`, and does the workers' work meanwhile.
    pub(crate) async fn drive<F: Future + Send>(&mut self, future: F) -> io::Result<F::Output> {
        let mut future = Box::pin(future);
        poll_fn(|context| {
            loop {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    return Poll::Ready(Ok(output));
                }
                match self.turn() {
                    Ok(true) => {}
                    Ok(false) => {
                        // Something else is waited for: a connection, or a timer. Work may come meanwhile.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }
}

/// What [`start`] makes.
pub(crate) struct Started<R: Runtime, T: Transport> {
    pub(crate) shared: Arc<Shared<R, T>>,
    pub(crate) workers: Workers,
}

pub(crate) async fn start<R: Runtime, T: Transport>(
    start: Start<T>,
) -> Result<Started<R, T>, StartError> {
    check(&start.settings)?;
    Mark::new(start.disk.clone(), &start.data_dir).check()?;
    let stop = Arc::new(Stop::new());
    let bells = Bells::default();
    let Start { settings, wal, pool, transport, .. } = &start;
    let Wal { log, writer, reader, recovered } = kvorum_wal::open(
        start.disk.clone(),
        &start.wal_dir,
        settings.cluster,
        settings.id,
        wal.clone(),
    )?;
    let incarnation = recovered.identity.incarnation;
    if let Some(torn) = &recovered.torn {
        tracing::warn!(?torn, "the log's last batch was not whole and is cut off");
    }
    transport.opened(incarnation);

    let mut workshop = Workshop { writer, reader, checkpointer: None };
    let opened = open_machine::<R, T>(&start, &log, &stop, &mut workshop).await?;
    let machine::Opened { mut machine, maintainer, checkpoints, .. } = opened;
    replay::leases(&mut machine, &log, &mut workshop).await?;
    replay::committed(&mut machine, &checkpoints, &log, &mut workshop).await?;
    removal::check_state(&machine, settings.id)?;
    let forced = match settings.force_new_cluster {
        true => forced::alone(settings, &machine, &log, &mut workshop).await?,
        false => None,
    };
    checkpoints::make_good(&machine, &checkpoints, log.purged())
        .map_err(|error| StartError::Fatal(FatalError::Checkpoint(Arc::new(error))))?;
    let room = StoreRoom::new(start.disk.clone(), &start.data_dir, wal.segment_bytes);
    let (checkpointer, schedule, transfers) =
        checkpoints::new(checkpoints, room.left_bytes(), bells.checkpointer.clone(), stop.clone());
    workshop.checkpointer = Some(checkpointer);

    let parts = Parts { stop, bells, log, incarnation, schedule, transfers, forced };
    let member =
        Assembly::new::<R>(settings, (pool.clone(), start.clock.clone()), room, &parts, &machine);
    let engine = build_engine::<R, T>(&start, &parts, &member, &machine, &mut workshop).await?;
    let shared = member.share(start, &parts, engine);
    let workers = hand_out(&shared, &parts, workshop, machine, maintainer, &member);
    shared.engine.run();
    tasks::spawn_all(&shared);
    spawn::<R>(retention::run(shared.clone()));
    if let Some(last) = parts.forced {
        spawn::<R>(forced::run(shared.clone(), last));
    }
    Ok(Started { shared, workers })
}

fn check(settings: &Settings) -> Result<(), StartError> {
    let is_initial = settings.initial_members.iter().any(|member| member.id == settings.id);
    if settings.initialise && !is_initial {
        return Err(StartError::Settings("this member is not among the initial members"));
    }
    if settings.heartbeat_interval < Duration::from_millis(1)
        || settings.election_timeout < 5 * settings.heartbeat_interval
    {
        return Err(StartError::Settings("the election timeout is below five heartbeat intervals"));
    }
    Ok(())
}

async fn open_machine<R: Runtime, T: Transport>(
    start: &Start<T>,
    log: &Log,
    stop: &Arc<Stop>,
    workshop: &mut Workshop,
) -> Result<machine::Opened, StartError> {
    let open = || {
        let purged = log.purged().map(|position| position.index);
        let extent = LogExtent { purged, durable: log.durable_index().max(purged) };
        let (backend, options) = (start.backend.clone(), start.mvcc.clone());
        machine::open(start.disk.clone(), &start.data_dir, backend, options, extent)
    };
    let opened = match open() {
        Err(OpenError::NeedsSnapshot { purged, refused }) => {
            warn_of(&refused);
            tracing::warn!(purged, "the state is lost: a snapshot is fetched from another member");
            rebuild::fetch::<R, T>(start, purged, log, stop, workshop).await?;
            open()?
        }
        opened => opened?,
    };
    if let Some(applied) = opened.machine.applied() {
        let cut = rebuild::cut_to_agree(log, applied, workshop).await;
        cut.map_err(|error| StartError::Fatal(FatalError::Log(Arc::new(error))))?;
    }
    warn_of(&opened.refused);
    tracing::info!(origin = ?opened.origin, "state opened");
    Ok(opened)
}

fn warn_of(refused: &[Refusal]) {
    for refusal in refused {
        tracing::warn!(%refusal, "a stored state is not used");
    }
}

/// What exists before the engine.
struct Parts {
    stop: Arc<Stop>,
    bells: Bells,
    log: Log,
    incarnation: Incarnation,
    schedule: Arc<Schedule>,
    transfers: Transfers,
    /// The entry by which this member is the only one, if it is forced to be.
    forced: Option<Position>,
}

/// What the engine's doors and the tasks have in common.
struct Assembly {
    clock: Arc<Clock>,
    voters: Arc<Voters>,
    proposals: Arc<Proposals>,
    reads: Arc<Reads>,
    keeper: Arc<Keeper>,
    lease_questions: Arc<Questions>,
    applier: ApplierHandle,
    reader: machine::MachineReader,
    defragmenter: machine::Defragmenter,
    addresses: Arc<Addresses>,
    retention: Retention,
    store_room: StoreRoom,
}

impl Assembly {
    fn new<R: Runtime>(
        settings: &Settings,
        (pool, clock): (kvorum_pool::BufferPool, Option<Clock>),
        store_room: StoreRoom,
        parts: &Parts,
        machine: &Machine,
    ) -> Assembly {
        let clock = Arc::new(clock.unwrap_or_else(Clock::start::<R>));
        let proposals = Proposals::new(
            settings.id,
            parts.incarnation,
            settings.limits,
            pool,
            parts.log.clone(),
            clock.clone(),
        );
        let reader = machine.reader();
        let applied = machine.applied().map(|applied| applied.index);
        let checkpoints = parts.transfers.checkpoints.clone();
        let retention = Retention::new(parts.log.clone(), checkpoints, settings);
        let keeper = Keeper::new(
            clock.clone(),
            reader.clone(),
            settings.lease_checkpoint_interval,
            settings.election_timeout,
            parts.bells.keeper.clone(),
        );
        let assembly = Assembly {
            voters: Arc::new(Voters::new(settings.id)),
            proposals: Arc::new(proposals),
            reads: Arc::new(Reads::new(clock.clone(), applied)),
            keeper: Arc::new(keeper),
            lease_questions: Arc::new(Questions::new(clock.clone())),
            clock,
            applier: ApplierHandle::new(parts.bells.applier.clone()),
            defragmenter: machine.defragmenter(),
            addresses: Arc::new(Addresses::new(Some(reader.clone()), told(settings))),
            reader,
            retention,
            store_room,
        };
        let (proposals, reads) = (assembly.proposals.clone(), assembly.reads.clone());
        let lease_questions = assembly.lease_questions.clone();
        parts.stop.on_stop(move || {
            proposals.stop();
            reads.stop();
            lease_questions.stop();
        });
        assembly
    }

    fn share<R: Runtime, T: Transport>(
        &self,
        start: Start<T>,
        parts: &Parts,
        engine: (Engine<R>, Arc<Peers<T>>),
    ) -> Arc<Shared<R, T>> {
        let (engine, peers) = engine;
        let bells = parts.bells.clone();
        let has_log = parts.log.last().or(parts.log.purged()).is_some();
        let is_admitted = parts.forced.is_none() && (has_log || !start.settings.initialise);
        Arc::new(Shared {
            settings: start.settings,
            incarnation: parts.incarnation,
            engine,
            log: parts.log.clone(),
            reader: self.reader.clone(),
            defragmenter: self.defragmenter.clone(),
            peers,
            proposals: self.proposals.clone(),
            reads: self.reads.clone(),
            keeper: self.keeper.clone(),
            lease_questions: self.lease_questions.clone(),
            voters: self.voters.clone(),
            leadership: Arc::new(LeadershipBoard::new(self.clock.clone())),
            applier: self.applier.clone(),
            schedule: parts.schedule.clone(),
            retention: self.retention.clone(),
            transfers: parts.transfers.clone(),
            backups: Backups::new(self.applier.clone(), parts.transfers.clone()),
            configure: Configure::default(),
            contact: Contact::default(),
            progress: Progress::default(),
            mark: Mark::new(start.disk.clone(), &start.data_dir),
            stop: parts.stop.clone(),
            watchdog: Watchdog::new(self.clock.clone()),
            feed: Arc::default(),
            incoming: Arc::default(),
            is_admitted: AtomicBool::new(is_admitted),
            ring_all: Box::new(move || bells.ring_all()),
        })
    }
}

fn applied_index(reader: &machine::MachineReader) -> AppliedIndex {
    let reader = reader.clone();
    Arc::new(move || reader.applied().map(|applied| applied.index))
}

/// Where the operator says the others are.
pub(crate) fn told(settings: &Settings) -> BTreeMap<MemberId, Vec<String>> {
    let members = settings.initial_members.iter();
    members.map(|member| (member.id, member.peer_urls.clone())).collect()
}

async fn build_engine<R: Runtime, T: Transport>(
    start: &Start<T>,
    parts: &Parts,
    assembly: &Assembly,
    machine: &Machine,
    workshop: &mut Workshop,
) -> Result<(Engine<R>, Arc<Peers<T>>), StartError> {
    let settings = &start.settings;
    let engine_error = |error: &dyn std::fmt::Display| StartError::Engine(error.to_string());
    let connect_timeout = settings.election_timeout / 2;
    let (transport, addresses) = (start.transport.clone(), assembly.addresses.clone());
    let peers = Arc::new(Peers::new(transport, addresses, connect_timeout));
    let network = NetworkFactory {
        peers: peers.clone(),
        transfers: parts.transfers.clone(),
        silence_max: settings.election_timeout,
        compress_bytes_min: settings.append_compression_bytes,
    };
    let (log, voters) = (parts.log.clone(), assembly.voters.clone());
    let (applied, retention) = (applied_index(&assembly.reader), assembly.retention.clone());
    let purge_limit: PurgeLimit = Arc::new(move || retention.purge_limit());
    let log_store = LogStore::new(log, voters, applied, purge_limit, parts.stop.clone());
    let state_machine = StateMachine::new(
        assembly.applier.clone(),
        parts.transfers.checkpoints.clone(),
        assembly.voters.clone(),
        machine.applied(),
        machine.membership(),
    )
    .map_err(|error| engine_error(&error))?;
    let config = Arc::new(config(settings).validate().map_err(|error| engine_error(&error))?);
    let building = Raft::build(settings.id.0, config, network, log_store, state_machine);
    let built = workshop.drive(building).await.map_err(|error| engine_error(&error))?;
    Ok((built.map_err(|error| engine_error(&error))?, peers))
}

/// The engine's settings, scaled with the two that the operator has.
fn config(settings: &Settings) -> Config {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 16);
    let heartbeat = millis(settings.heartbeat_interval);
    let election = millis(settings.election_timeout);
    Config {
        cluster_name: settings.cluster.to_string(),
        heartbeat_interval: heartbeat,
        heartbeat_min_interval: Some(heartbeat / 2),
        // A follower lets a promise of `election_timeout_max` run out, then waits for a random time between the two.
        election_timeout_min: election / 2,
        election_timeout_max: election,
        enable_pre_vote: Some(settings.pre_vote),
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(2 * election + heartbeat),
        // Ours go by progress; the engine's would end a transfer however well it goes.
        install_snapshot_timeout: 24 * 60 * 60 * 1000,
        max_payload_entries: 4096,
        snapshot_policy: SnapshotPolicy::Never,
        // It gives up nothing by itself: what it would ask for could be less than what `retention` has asked for and a
        // follower still holds back.
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        // More than can ever wait: the engine must not stand still because the applier does.
        state_machine_channel_size: Some(16 * 1024),
        broadcast_submitted_on_append: Some(true),
        backoff: "50ms, 100ms, 200ms, 400ms, ...1000ms".to_owned(),
        ..Config::default()
    }
}

fn hand_out<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    parts: &Parts,
    workshop: Workshop,
    mut machine: Machine,
    maintainer: Maintainer,
    assembly: &Assembly,
) -> Workers {
    let bells = &parts.bells;
    let ring = |bell: &Bell| {
        let bell = bell.clone();
        Arc::new(move || bell.ring()) as Arc<dyn Fn() + Send + Sync>
    };
    parts.log.set_wakes(ring(&bells.writer), ring(&bells.reader));
    machine.set_wake(ring(&bells.maintainer));
    let keeper = assembly.keeper.clone();
    machine.set_lease_listener(Arc::new(move |events| keeper.heard(events)));
    let (settings, latest) = (&shared.settings, parts.schedule.latest());
    let applier = Applier {
        machine,
        reader: assembly.reader.clone(),
        handle: assembly.applier.clone(),
        mine: (settings.id, parts.incarnation),
        proposals: assembly.proposals.clone(),
        reads: assembly.reads.clone(),
        schedule: parts.schedule.clone(),
        policy: CheckpointPolicy {
            bytes_min: settings.checkpoint_bytes,
            bytes: retention::bytes_behind(
                &parts.log,
                latest.as_ref().map(|info| info.position.index),
            ),
            last_bytes: latest.map_or(0, |info| info.bytes),
        },
        stop: parts.stop.clone(),
    };
    let Workshop { writer, reader, checkpointer } = workshop;
    let checkpointer = checkpointer.into_iter();
    let (clock, log) = (assembly.clock.clone(), parts.log.clone());
    let workers = Work { clock, stop: parts.stop.clone(), log };
    let worker = |name, bell: &Bell, on_hang, step: Box<dyn FnMut() -> Step + Send>| {
        let stop = parts.stop.clone();
        let panicked = move |worker| stop.fail(FatalError::Panicked { worker });
        let worker = Worker::new(name, bell.clone(), step, panicked);
        worker.timed(shared.watchdog.watch(name, on_hang))
    };
    let (defragmenter, room) = (shared.defragmenter.clone(), assembly.store_room.clone());
    let store = workers.maintainer(maintainer, defragmenter, room, parts.schedule.clone());
    let (report, stop) = (OnHang::Report, OnHang::Stop);
    let mut all = vec![
        worker(LOG_WRITER, &bells.writer, report, workers.writer(writer)),
        worker("kv-wal-read", &bells.reader, report, workers.reader(reader)),
        worker("kv-apply", &bells.applier, report, workers.applier(applier)),
        worker("kv-store", &bells.maintainer, stop, store),
        worker("kv-lease", &bells.keeper, report, workers.keeper(assembly.keeper.clone())),
    ];
    all.extend(checkpointer.map(|checkpointer| {
        let step = workers.checkpointer(checkpointer, shared.defragmenter.clone());
        worker("kv-checkpoint", &bells.checkpointer, report, step)
    }));
    bells.ring_all();
    Workers { all }
}
