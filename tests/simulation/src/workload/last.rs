//! The last phase, when no faults come any more: everything must work again, and everybody must agree.
//!
//! 0. Every client comes to an end.
//! 1. Every member takes a write, and answers it, within a bounded time.
//! 2. Every watcher hears of the last write.
//! 3. All members hold the same at the same revision.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::Read;
use kvorum_types::MemberId;
use tokio::sync::{mpsc, watch};

use super::client::Client;
use super::door::Surroundings;
use super::record::Recorder;
use super::words::{get, put};

/// How long a cluster may take to work again at every member: elections, restarts and snapshots included.
const RECOVERY: Duration = Duration::from_secs(120);

/// How long watchers may take after that.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What the last phase found wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stuck {
    /// Some client still waits for something.
    Clients,
    /// A member does not run, or took no write, in time.
    Writes {
        /// Which.
        member: MemberId,
    },
    /// Members did not come to the same revision in time.
    Behind {
        /// Each with its revision; none where it does not run.
        revisions: BTreeMap<MemberId, Option<i64>>,
    },
    /// So many watchers did not hear of everything in time.
    Watchers {
        /// How many.
        missing: u64,
    },
}

/// What a member holds at the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The newest revision.
    pub revision: i64,
    /// Up to where history is gone.
    pub compact_revision: i64,
    /// The hash of all that is left.
    pub hash: u32,
}

/// The last phase of a run.
#[derive(Debug)]
pub struct Last {
    /// Closed once every client has ended that asks for something.
    idle: mpsc::Receiver<()>,
    goal: watch::Sender<Option<i64>>,
    done: mpsc::Receiver<u64>,
    watchers: u64,
    /// The number of the client that writes in this phase.
    client: u64,
}

impl Last {
    pub(super) fn new(
        idle: mpsc::Receiver<()>,
        (goal, done): (watch::Sender<Option<i64>>, mpsc::Receiver<u64>),
        (watchers, client): (u64, u64),
    ) -> Last {
        Last { idle, goal, done, watchers, client }
    }

    /// Runs it. To be called when the world is over and no fault comes any more, with every member running or about to.
    pub async fn run<S: Surroundings>(
        mut self,
        world: &S,
        recorder: &Recorder,
    ) -> Result<BTreeMap<MemberId, Held>, Stuck> {
        let mut client = Client::new(world.clone(), self.client, recorder.clone());
        let deadline = after(world, RECOVERY);
        while self.idle.sender_strong_count() > 0 {
            if world.now() >= deadline {
                return Err(Stuck::Clients);
            }
            world.sleep(LOOK).await;
        }
        for member in world.members() {
            write_at(&mut client, member, deadline).await?;
        }
        let goal = agree(&client, deadline).await?;
        self.goal.send_replace(Some(goal));
        self.hear(world).await?;
        // Leases may still end meanwhile.
        loop {
            let held = held(world);
            let newest = held.values().map(|held| held.revision).max();
            if held.len() == world.members().len()
                && held.values().all(|held| Some(held.revision) == newest)
            {
                return Ok(held);
            }
            agree(&client, after(world, CATCHING_UP)).await?;
            world.sleep(LOOK).await;
        }
    }

    /// Waits for the watchers.
    async fn hear<S: Surroundings>(&mut self, world: &S) -> Result<(), Stuck> {
        let deadline = after(world, CATCHING_UP);
        let mut missing = self.watchers;
        while missing > 0 {
            match self.done.try_recv() {
                Ok(_) => missing -= 1,
                Err(_) if world.now() < deadline => world.sleep(LOOK).await,
                Err(_) => return Err(Stuck::Watchers { missing }),
            }
        }
        Ok(())
    }
}

fn after(world: &impl Surroundings, time: Duration) -> u64 {
    world.now() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes and reads by way of one member, until both were answered.
async fn write_at<S: Surroundings>(
    client: &mut Client<S>,
    member: MemberId,
    deadline: u64,
) -> Result<(), Stuck> {
    let key: Bytes = format!("last/{member}").into();
    while client.world.now() < deadline {
        let value = client.value();
        if client.put_at(member, put(&key, value)).await.is_ok()
            && client.range_at(member, get(&key)).await.is_ok()
        {
            return Ok(());
        }
        client.world.sleep(LOOK).await;
    }
    Err(Stuck::Writes { member })
}

/// Waits until all members are at the same revision, and stay there.
async fn agree<S: Surroundings>(client: &Client<S>, deadline: u64) -> Result<i64, Stuck> {
    let world = &client.world;
    loop {
        let revisions = revisions(world);
        let newest = revisions.values().flatten().max().copied();
        if let Some(newest) = newest
            && revisions.values().all(|revision| *revision == Some(newest))
        {
            return Ok(newest);
        }
        if world.now() >= deadline {
            return Err(Stuck::Behind { revisions });
        }
        world.sleep(LOOK).await;
    }
}

fn revisions(world: &impl Surroundings) -> BTreeMap<MemberId, Option<i64>> {
    let revision = |id| world.door(id).map(|door| door.reader.store().revision());
    world.members().into_iter().map(|id| (id, revision(id))).collect()
}

/// What each running member holds.
pub fn held(world: &impl Surroundings) -> BTreeMap<MemberId, Held> {
    let mut all = BTreeMap::new();
    for id in world.members() {
        let Some(door) = world.door(id) else { continue };
        let view = door.reader.store().view();
        if let Ok(found) = view.hash(0) {
            let (revision, compact_revision) = (view.revision(), view.compact_revision());
            all.insert(id, Held { revision, compact_revision, hash: found.hash });
        }
    }
    all
}
