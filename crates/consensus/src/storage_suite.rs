//! The engine's own suite for stores of its log and its state, run over ours.
//!
//! It runs whole: no case is left out. It was written for maps, though, so here and there it asks for what never happens
//! to a member, and something stands between it and the doors that makes up for that:
//!
//! | the suite | here |
//! |---|---|
//! | appends and applies at any index | log and state take entries without a gap only: [`Gapless`] puts blanks in front |
//! | purges what nobody applied | everything counts as applied, and nothing is kept for those who lag; the tests below show that a purge is held to both |
//! | builds a snapshot of what was applied a moment ago | a snapshot is a checkpoint, written in the background: the builder waits for it |
//! | asks for a snapshot where nothing is applied and the log is purged | a log is only purged past a checkpoint: the snapshot of nothing is made up |
//! | installs one member's snapshot on another | a snapshot is a file, and is copied first, as a transfer does |
//! | sleeps, in case a purge takes a while | ours is seen at once, so nobody sleeps: [`Sleepless`] |

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use kvorum_disk::FaultyDisk;
use kvorum_machine::{
    BackendKind, Checkpoint, CheckpointError, CheckpointInfo, Checkpoints, LogExtent,
};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, MemberId, Position};
use kvorum_wal::Wal;
use openraft::entry::RaftEntry;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::leader_id_std::CommittedLeaderId;
use openraft::{OptionalSend, RaftSnapshotBuilder, StorageError};

use crate::applier::{Applier, ApplierHandle, CheckpointPolicy};
use crate::checkpoints::{self, Schedule, SnapshotData};
use crate::clock::Clock;
use crate::log::{AppliedIndex, LogStore};
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::runtime::{Runtime, TokioRuntime};
use crate::settings::Limits;
use crate::state_machine::{SnapshotBuilder, StateMachine};
use crate::stop::Stop;
use crate::types::{
    Entry, LogId, Node, SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id, position,
};
use crate::voters::Voters;
use crate::work::{StoreRoom, Work};
use crate::worker::{Bell, Step, Worker};

type Types = TypeConfig<Sleepless>;

const ME: MemberId = MemberId(0);
const CLUSTER: ClusterId = ClusterId(0xc1);
const DIR: &str = "/data/member";
const WAL_DIR: &str = "/data/member/wal";

/// How many bytes of a checkpoint are copied at a time.
const PIECE_BYTES: usize = 4096;

#[test]
fn the_doors_to_log_and_state_pass_the_engines_suite() {
    Sleepless::new(2).block_on(Suite::test_all(Builder)).unwrap();
}

#[test]
fn a_purge_leaves_what_is_kept_for_those_who_lag() {
    Sleepless::new(1).block_on(async {
        let Bench { mut log, _threads, .. } = Bench::new(Arc::new(|| Some(8)), 5);
        append_ten(&mut log).await;
        for (upto, first_left) in [(2, 3), (3, 4), (7, 4), (8, 4)] {
            RaftLogStorage::<Types>::purge(&mut log, log_id(Position::new(1, upto))).await.unwrap();
            let state = RaftLogStorage::<Types>::get_log_state(&mut log).await.unwrap();
            let purged = state.last_purged_log_id.map(|purged| purged.index);
            assert_eq!(purged, Some(first_left - 1), "up to {upto}");
            assert_eq!(state.last_log_id, Some(log_id(Position::new(1, 9))));
        }
    });
}

#[test]
#[should_panic(expected = "would remove what is not applied")]
fn a_purge_of_what_is_not_applied_is_a_bug() {
    Sleepless::new(1).block_on(async {
        let Bench { mut log, _threads, .. } = Bench::new(Arc::new(|| Some(3)), 0);
        append_ten(&mut log).await;
        let purged = RaftLogStorage::<Types>::purge(&mut log, log_id(Position::new(1, 4))).await;
        unreachable!("{purged:?}");
    });
}

async fn append_ten(log: &mut LogStore) {
    let entries = (0..10).map(|index| Entry::new_blank(log_id(Position::new(1, index))));
    let appended = RaftLogStorage::<Types>::append(log, entries, IOFlushed::noop());
    appended.await.unwrap();
}

/// Makes members' stores for the suite.
struct Builder;

impl StoreBuilder<Types, Gapless<LogStore>, Gapless<Doors>, Threads> for Builder {
    async fn build(
        &self,
    ) -> Result<(Threads, Gapless<LogStore>, Gapless<Doors>), StorageError<Types>> {
        let Bench { log, doors, _threads: threads } = Bench::new(Arc::new(|| Some(u64::MAX)), 0);
        Ok((threads, Gapless(log), Gapless(doors)))
    }
}

/// What a member has below its engine, its workers on threads.
struct Bench {
    log: LogStore,
    doors: Doors,
    _threads: Threads,
}

/// The door to the state, and what the wrapper needs beside it.
struct Doors {
    state: StateMachine,
    applier: ApplierHandle,
    checkpoints: Checkpoints,
    schedule: Arc<Schedule>,
}

impl Bench {
    fn new(applied: AppliedIndex, keep: u64) -> Bench {
        let disk = Arc::new(FaultyDisk::new());
        let options = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        let Wal { log, writer, reader, .. } =
            kvorum_wal::open(disk.clone(), Path::new(WAL_DIR), CLUSTER, ME, options).unwrap();
        let room = StoreRoom::new(disk.clone(), Path::new(DIR), 0);
        let opened = kvorum_machine::open(
            disk,
            Path::new(DIR),
            BackendKind::Memory,
            kvorum_mvcc::Options::default(),
            LogExtent::default(),
        );
        let kvorum_machine::Opened { mut machine, maintainer, checkpoints, .. } = opened.unwrap();

        let stop = Arc::new(Stop::new());
        let bells = [(); 5].map(|()| Bell::default());
        let [for_writer, for_reader, for_applier, for_store, for_checkpoints] = bells.clone();
        let ring = |bell: &Bell| {
            let bell = bell.clone();
            Arc::new(move || bell.ring()) as Arc<dyn Fn() + Send + Sync>
        };
        log.set_wakes(ring(&for_writer), ring(&for_reader));
        machine.set_wake(ring(&for_store));
        let (checkpointer, schedule, _) =
            checkpoints::new(checkpoints.clone(), 0, for_checkpoints.clone(), stop.clone());

        let clock = Arc::new(Clock::start::<Sleepless>());
        let voters = Arc::new(Voters::new(ME));
        let handle = ApplierHandle::new(for_applier.clone());
        let defragmenter = machine.defragmenter();
        let incarnation = kvorum_types::Incarnation(1);
        let pool = BufferPool::new(1 << 20);
        let proposals =
            Proposals::new(ME, incarnation, Limits::default(), pool, log.clone(), clock.clone());
        let applier = Applier {
            reader: machine.reader(),
            machine,
            handle: handle.clone(),
            mine: (ME, incarnation),
            proposals: Arc::new(proposals),
            reads: Arc::new(Reads::new(clock.clone(), None)),
            schedule: schedule.clone(),
            policy: CheckpointPolicy { bytes_min: 0, bytes: 0, last_bytes: 0 },
            stop: stop.clone(),
        };
        let work = Work { clock, stop: stop.clone(), log: log.clone() };
        let threads = vec![
            spawn("writer", &for_writer, work.writer(writer)),
            spawn("reader", &for_reader, work.reader(reader)),
            spawn("applier", &for_applier, work.applier(applier)),
            spawn(
                "store",
                &for_store,
                work.maintainer(maintainer, defragmenter.clone(), room, schedule.clone()),
            ),
            spawn("checkpoints", &for_checkpoints, work.checkpointer(checkpointer, defragmenter)),
        ];
        let limit = applied.clone();
        let limit = Arc::new(move || limit()?.checked_sub(keep));
        let store = LogStore::new(log, voters.clone(), applied, limit, stop.clone());
        let state = StateMachine::new(handle.clone(), checkpoints.clone(), voters, None, None);
        let doors = Doors { state: state.unwrap(), applier: handle, checkpoints, schedule };
        Bench { log: store, doors, _threads: Threads { stop, bells, threads } }
    }
}

fn spawn(name: &'static str, bell: &Bell, step: Box<dyn FnMut() -> Step + Send>) -> JoinHandle<()> {
    let worker = Worker::new(name, bell.clone(), step, |name| panic!("{name} panicked"));
    thread::spawn(move || worker.run())
}

/// The workers; they end when this is dropped.
struct Threads {
    stop: Arc<Stop>,
    bells: [Bell; 5],
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.stop_workers();
        self.bells.iter().for_each(Bell::ring);
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A door that may be given entries at any index: blanks stand for those that are left out.
struct Gapless<D>(D);

/// What is missing between `last` and `next`, in the term of `next`.
fn gap(last: Option<u64>, next: &Entry) -> impl Iterator<Item = Entry> + use<> {
    let Position { term, index } = next.position();
    let first = last.map_or(0, |last| last + 1);
    (first..index).map(move |index| Entry::new_blank(log_id(Position::new(term, index))))
}

impl RaftLogStorage<Types> for Gapless<LogStore> {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        RaftLogStorage::<Types>::get_log_reader(&mut self.0).await
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        RaftLogStorage::<Types>::save_vote(&mut self.0, vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        RaftLogStorage::<Types>::save_committed(&mut self.0, committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        RaftLogStorage::<Types>::read_committed(&mut self.0).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let last = self.get_log_state().await?.last_log_id.map(|last| last.index);
        let blanks = entries.first().into_iter().flat_map(|first| gap(last, first));
        let all: Vec<Entry> = blanks.chain(entries.iter().cloned()).collect();
        self.0.append(all, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        RaftLogStorage::<Types>::truncate_after(&mut self.0, last).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        RaftLogStorage::<Types>::purge(&mut self.0, upto).await
    }
}

/// A snapshot, none of nothing, and whose files it is among.
struct Carried {
    data: Option<SnapshotData>,
    from: Checkpoints,
}

struct CarryingBuilder {
    /// None while nothing is applied.
    builder: Option<SnapshotBuilder>,
    from: Checkpoints,
}

type SnapshotOf<D> = Snapshot<CommittedLeaderId<u64>, u64, Node, D>;

fn carried(snapshot: SnapshotOf<SnapshotData>, from: &Checkpoints) -> SnapshotOf<Carried> {
    let Snapshot { meta, snapshot: data } = snapshot;
    Snapshot { meta, snapshot: Carried { data: Some(data), from: from.clone() } }
}

impl RaftSnapshotBuilder<Types> for CarryingBuilder {
    type SnapshotData = Carried;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Carried>> {
        let Some(builder) = &mut self.builder else {
            let nothing = Carried { data: None, from: self.from.clone() };
            return Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: nothing });
        };
        let built = RaftSnapshotBuilder::<Types>::build_snapshot(builder).await?;
        Ok(carried(built, &self.from))
    }
}

impl Gapless<Doors> {
    async fn applied(&mut self) -> io::Result<Option<LogId>> {
        Ok(RaftStateMachine::<Types>::applied_state(&mut self.0.state).await?.0)
    }

    /// Waits until what is applied is in a checkpoint.
    async fn wait_for_checkpoint(&mut self) {
        let applied = self.applied().await.unwrap().map(|applied| position(&applied));
        while self.0.schedule.latest().map(|latest| latest.position) != applied {
            // The applier asks for one after every turn, unless one is under way.
            self.0.applier.apply(Vec::new()).await.unwrap();
        }
    }
}

impl RaftStateMachine<Types> for Gapless<Doors> {
    type SnapshotData = Carried;
    type SnapshotBuilder = CarryingBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        RaftStateMachine::<Types>::applied_state(&mut self.0.state).await
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut last = self.applied().await?.map(|applied| applied.index);
        let mut all: Vec<io::Result<EntryResponder<Types>>> = Vec::new();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            all.extend(gap(last, &entry).map(|blank| Ok((blank, None))));
            last = Some(entry.position().index);
            all.push(Ok((entry, responder)));
        }
        self.0.state.apply(stream::iter(all)).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<CarryingBuilder> {
        self.wait_for_checkpoint().await;
        let is_empty = self.applied().await.unwrap().is_none();
        let state = &mut self.0.state;
        let builder = RaftStateMachine::<Types>::try_create_snapshot_builder(state, force).await;
        assert_eq!(builder.is_none(), is_empty, "a checkpoint makes a builder");
        Some(CarryingBuilder { builder, from: self.0.checkpoints.clone() })
    }

    async fn get_snapshot_builder(&mut self) -> CarryingBuilder {
        self.wait_for_checkpoint().await;
        let builder = RaftStateMachine::<Types>::get_snapshot_builder(&mut self.0.state).await;
        CarryingBuilder { builder: Some(builder), from: self.0.checkpoints.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, carried: Carried) -> io::Result<()> {
        let data = match carried.data {
            Some(SnapshotData::Own(info)) => {
                let copied = copy(&carried.from, &info, &self.0.checkpoints);
                SnapshotData::Received(copied.map_err(io::Error::other)?)
            }
            Some(SnapshotData::Received(_)) | None => panic!("only what was built is installed"),
        };
        RaftStateMachine::<Types>::install_snapshot(&mut self.0.state, meta, data).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Carried>>> {
        let current = RaftStateMachine::<Types>::get_current_snapshot(&mut self.0.state).await?;
        Ok(current.map(|current| carried(current, &self.0.checkpoints)))
    }
}

fn copy(
    from: &Checkpoints,
    info: &CheckpointInfo,
    to: &Checkpoints,
) -> Result<Checkpoint, CheckpointError> {
    let reader = from.open(info)?;
    let mut receiver = to.receive()?;
    loop {
        let piece = reader.read_at(receiver.received_bytes(), PIECE_BYTES)?;
        if piece.is_empty() {
            return receiver.finish();
        }
        receiver.write(&piece)?;
    }
}

/// The runtime of a server, but that every sleep is one turn of the other tasks.
#[derive(Debug)]
struct Sleepless(TokioRuntime);

impl Runtime for Sleepless {
    type JoinError = <TokioRuntime as Runtime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as Runtime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as Runtime>::Sleep;
    type Instant = <TokioRuntime as Runtime>::Instant;
    type TimeoutError = <TokioRuntime as Runtime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as Runtime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as Runtime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as Runtime>::Mpsc;
    type Watch = <TokioRuntime as Runtime>::Watch;
    type Oneshot = <TokioRuntime as Runtime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as Runtime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(_: Duration) -> Self::Sleep {
        TokioRuntime::sleep(Duration::ZERO)
    }

    fn sleep_until(_: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep(Duration::ZERO)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Sleepless {
        Sleepless(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
