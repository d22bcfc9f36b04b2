//! Who runs next, and when.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::groups::{GroupId, Groups};

/// What a turn of a task takes: from this on, and less than twice as much, in nanoseconds.
const TURN_NANOS: u64 = 1_000;

/// How many turns a simulation has, by default: many times what one needs in which no task spins.
const TURNS_MAX: u64 = 20_000_000;

/// What is waited for has not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stuck {
    /// Nothing is ready, and nothing is timed.
    Idle,
    /// Tasks have had all the turns there are: some spin.
    Endless {
        /// The task that had the last one.
        task: u64,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Idle => {
                f.write_str("nothing is left to do, and what is waited for has not come")
            }
            Stuck::Endless { task } => write!(f, "tasks turn without end; the last was {task}"),
        }
    }
}

/// A hash of everything that happened so far, in its order (FNV-1a, 64 bits).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Takes something into account.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash.
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// Tasks that want a turn. They stand in the order of their numbers, not of their wakes: tokio's `watch` draws the order in
/// which it wakes who waits from a source of its own.
type Ready = Arc<Mutex<BTreeSet<u64>>>;

struct TaskWaker {
    id: u64,
    is_ready: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.lock().insert(self.id);
        }
    }
}

struct Task {
    group: GroupId,
    /// None while it has its turn.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

/// Everything but what is being polled.
struct World {
    now: u64,
    random: StdRng,
    hash: Hash,
    ready: Ready,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// By deadline, in the world's time, and then in the order they were set.
    timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
    groups: Groups,
    /// The group of the task that has its turn.
    here: GroupId,
    /// The task that had the last turn.
    last_task: u64,
    turn_count: u64,
    turns_max: u64,
    /// What tasks said that panicked.
    panics: Vec<String>,
}

thread_local! {
    /// The simulation that runs in this thread.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut World) -> T) -> T {
    try_with(act).expect("a simulation runs in this thread")
}

/// None while no simulation runs here: it is being taken apart.
fn try_with<T>(act: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with(|world| world.try_borrow_mut().ok()?.as_mut().map(act))
}

/// What the seed gives next.
pub fn random() -> u64 {
    with(|world| world.random.next_u64())
}

pub(super) fn shown_here() -> u64 {
    with(|world| world.groups.get(world.here).shows(world.now))
}

pub(super) fn spawn(task: BoxFuture<'static, ()>) {
    with(|world| world.add(world.here, task));
}

/// Sets a timer for when the clock here shows `deadline`, in the place of one that was set before.
pub(super) fn set_timer(deadline: u64, before: Option<(u64, u64)>, waker: Waker) -> (u64, u64) {
    with(|world| {
        let place = before.unwrap_or_else(|| {
            world.next_timer += 1;
            (world.groups.get(world.here).reaches(deadline).max(world.now + 1), world.next_timer)
        });
        world.timers.insert(place, waker);
        place
    })
}

pub(super) fn forget_timer(place: (u64, u64)) {
    // Its waker may hold the last of a task, which must not go while the world is borrowed.
    drop(try_with(|world| world.timers.remove(&place)));
}

impl World {
    fn add(&mut self, group: GroupId, future: BoxFuture<'static, ()>) {
        let id = self.next_task;
        self.next_task += 1;
        let waker = TaskWaker { id, is_ready: AtomicBool::new(false), ready: self.ready.clone() };
        let waker = Arc::new(waker);
        waker.wake_by_ref();
        self.tasks.insert(id, Task { group, future: Some(future), waker });
    }

    /// Takes a task that wants a turn, and may have one.
    fn take_next(&mut self) -> Option<(u64, BoxFuture<'static, ()>, Waker)> {
        loop {
            let random = self.random.next_u64();
            let id = {
                let mut ready = self.ready.lock();
                let may_run = |id: &u64| {
                    let task = self.tasks.get(id);
                    task.is_none_or(|task| !self.groups.get(task.group).is_halted)
                };
                let runnable: Vec<u64> = ready.iter().copied().filter(may_run).collect();
                let count = u64::try_from(runnable.len()).ok().filter(|count| *count > 0)?;
                let id = *runnable.get((random % count) as usize)?;
                ready.remove(&id);
                id
            };
            // One that is gone asked for a turn before it went.
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.waker.is_ready.store(false, Ordering::Relaxed);
            self.here = task.group;
            self.last_task = id;
            self.turn_count += 1;
            self.now += TURN_NANOS + random % TURN_NANOS;
            self.hash.take(&id.to_le_bytes());
            self.hash.take(&self.now.to_le_bytes());
            if let Some(future) = task.future.take() {
                return Some((id, future, task.waker.clone().into()));
            }
        }
    }

    /// Whether there are no turns left.
    fn endless(&self) -> Option<Stuck> {
        let task = self.last_task;
        (self.turn_count >= self.turns_max).then_some(Stuck::Endless { task })
    }

    /// Takes out those whose time has come.
    fn ring(&mut self, is_idle: bool) -> Vec<Waker> {
        if is_idle && let Some((&(deadline, _), _)) = self.timers.first_key_value() {
            self.now = self.now.max(deadline);
        }
        let later = self.timers.split_off(&(self.now + 1, 0));
        mem::replace(&mut self.timers, later).into_values().collect()
    }
}

/// A simulation: tasks, their time, and the seed that decides. See the [module](super).
pub struct Scheduler {
    /// None while it runs.
    world: Option<World>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A simulation in which nothing has happened yet.
    pub fn new(seed: u64) -> Scheduler {
        let world = World {
            now: 0,
            random: StdRng::seed_from_u64(seed),
            hash: Hash::default(),
            ready: Ready::default(),
            tasks: BTreeMap::new(),
            next_task: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            groups: Groups::default(),
            here: GroupId::default(),
            last_task: 0,
            turn_count: 0,
            turns_max: TURNS_MAX,
            panics: Vec::new(),
        };
        Scheduler { world: Some(world) }
    }

    /// Lets everything run until `main` is done.
    pub fn run<T>(&mut self, main: impl Future<Output = T>) -> Result<T, Stuck> {
        let inner = Running::enter(self);
        let ready = with(|world| world.ready.clone());
        // No task has this number.
        let waker = Arc::new(TaskWaker { id: u64::MAX, is_ready: AtomicBool::new(true), ready });
        let mut main = pin!(main);
        let outcome = loop {
            if waker.is_ready.swap(false, Ordering::Relaxed) {
                waker.ready.lock().remove(&u64::MAX);
                with(|world| world.here = GroupId::default());
                let as_waker = Waker::from(waker.clone());
                if let Poll::Ready(done) = main.as_mut().poll(&mut Context::from_waker(&as_waker)) {
                    break Ok(done);
                }
            }
            let has_run = turn();
            let rung =
                with(|world| world.ring(!has_run && !waker.is_ready.load(Ordering::Relaxed)));
            let is_over = !has_run && rung.is_empty() && !waker.is_ready.load(Ordering::Relaxed);
            rung.into_iter().for_each(Waker::wake);
            if let Some(endless) = with(|world| world.endless()) {
                break Err(endless);
            }
            if is_over {
                break Err(Stuck::Idle);
            }
        };
        drop(inner);
        outcome
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut World) -> T) -> T {
        act(self.world.as_mut().expect("it does not run"))
    }

    /// The hash of who had a turn when.
    pub fn hash(&mut self) -> Hash {
        self.act(|world| world.hash)
    }

    /// Nanoseconds since the simulation began.
    pub fn now(&mut self) -> u64 {
        self.act(|world| world.now)
    }

    /// How many turns tasks have had.
    pub fn turn_count(&mut self) -> u64 {
        self.act(|world| world.turn_count)
    }

    /// What tasks have said that panicked.
    pub fn panics(&mut self) -> Vec<String> {
        self.act(|world| world.panics.clone())
    }

    /// Gives it so many turns and no more.
    pub fn limit_turns(&mut self, turns_max: u64) {
        self.act(|world| world.turns_max = turns_max);
    }

    /// See [`new_group`].
    pub fn new_group(&mut self) -> GroupId {
        self.act(|world| world.groups.add())
    }

    /// See [`spawn_in`].
    pub fn spawn_in(&mut self, group: GroupId, task: BoxFuture<'static, ()>) {
        self.act(|world| world.add(group, task));
    }

    /// See [`halt`].
    pub fn halt(&mut self, group: GroupId) {
        self.act(|world| world.groups.get_mut(group).is_halted = true);
    }

    /// See [`resume`].
    pub fn resume(&mut self, group: GroupId) {
        self.act(|world| world.groups.get_mut(group).is_halted = false);
    }

    /// See [`set_rate`].
    pub fn set_rate(&mut self, group: GroupId, rate: u64) {
        self.act(|world| {
            let now = world.now;
            world.groups.get_mut(group).set_rate(now, rate);
        });
    }

    /// See [`end`].
    pub fn end(&mut self, group: GroupId) {
        let inner = Running::enter(self);
        end(group);
        drop(inner);
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.world.is_none() {
            return;
        }
        // Tasks may look at the time, or start others, while they go.
        let _inner = Running::enter(self);
        for _ in 0..1000 {
            let tasks = with(|world| mem::take(&mut world.tasks));
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
    }
}

/// A simulation that acts in this thread; what acted there before goes on when it is dropped.
struct Running<'a> {
    scheduler: &'a mut Scheduler,
    outer: Option<World>,
}

impl<'a> Running<'a> {
    fn enter(scheduler: &'a mut Scheduler) -> Running<'a> {
        let world = scheduler.world.take();
        let outer = WORLD.with(|here| mem::replace(&mut *here.borrow_mut(), world));
        Running { scheduler, outer }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        self.scheduler.world = WORLD.with(|here| mem::replace(&mut *here.borrow_mut(), outer));
    }
}

/// One turn of a task that wants one. Whether there is any.
fn turn() -> bool {
    let Some((id, mut future, waker)) = with(World::take_next) else { return false };
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    let gone = match polled {
        Poll::Ready(()) => {
            let task = with(|world| world.tasks.remove(&id));
            Some((task, future))
        }
        Poll::Pending => with(|world| match world.tasks.get_mut(&id) {
            Some(task) => {
                task.future = Some(future);
                None
            }
            // It ended its own group.
            None => Some((None, future)),
        }),
    };
    drop(gone);
    true
}

/// Nanoseconds since the simulation that runs in this thread began.
pub fn now() -> u64 {
    with(|world| world.now)
}

/// A group without tasks.
pub fn new_group() -> GroupId {
    with(|world| world.groups.add())
}

/// Starts a task in a group.
pub fn spawn_in(group: GroupId, task: BoxFuture<'static, ()>) {
    with(|world| world.add(group, task));
}

/// No task of the group gets a turn until it is resumed. Time passes for it.
pub fn halt(group: GroupId) {
    with(|world| world.groups.get_mut(group).is_halted = true);
}

/// The group goes on.
pub fn resume(group: GroupId) {
    with(|world| world.groups.get_mut(group).is_halted = false);
}

/// Sets how fast the group's clock runs, in thousandths of the world's. Timers that are set stay.
pub fn set_rate(group: GroupId, rate: u64) {
    with(|world| {
        let now = world.now;
        world.groups.get_mut(group).set_rate(now, rate);
    });
}

/// The clock of a group shows this now, and runs at a rate from now on, in thousandths.
pub fn set_clock(group: GroupId, shown: Duration, rate: u64) {
    with(|world| {
        let now = world.now;
        let shown = u64::try_from(shown.as_nanos()).unwrap_or(u64::MAX);
        world.groups.get_mut(group).set_clock(now, shown, rate);
    });
}

/// What the clock of a group shows.
pub fn shown(group: GroupId) -> Duration {
    Duration::from_nanos(with(|world| world.groups.get(group).shows(world.now)))
}

/// Ends every task of the group at once.
pub fn end(group: GroupId) {
    let is_of_group = |task: &Task| task.group == group;
    // What they hold may start tasks of the same group while it goes.
    for _ in 0..1000 {
        let gone: Vec<Task> = with(|world| {
            let ids: Vec<u64> = world
                .tasks
                .iter()
                .filter(|(_, task)| is_of_group(task))
                .map(|(id, _)| *id)
                .collect();
            ids.iter().filter_map(|id| world.tasks.remove(id)).collect()
        });
        if gone.is_empty() {
            return;
        }
        drop(gone);
    }
}

/// Takes something that happened into the hash.
pub fn note(bytes: &[u8]) {
    with(|world| world.hash.take(bytes));
}

/// Takes down what a task said that panicked.
pub(super) fn note_panic(words: String) {
    with(|world| world.panics.push(words));
}

/// The hash of everything that has happened.
pub fn hash_here() -> Hash {
    with(|world| world.hash)
}
