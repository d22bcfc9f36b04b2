//! How much of the log stays when it is purged.
//!
//! ```text
//!          purged              for those who lag      what a damaged checkpoint costs      not yet covered
//!   ---------------------- | --------------------- | ------------------------------ | ---------------------->
//!                                               fallback                          newest
//!                                              checkpoint                       checkpoint
//! ```
//!
//! The state can be rebuilt from the newest checkpoint and the log behind it, and should that checkpoint be damaged, from
//! the one before it, the fallback: so the log reaches back to that one, and to its beginning while there is none. In front
//! of the fallback entries stay for followers that lag, by number and by bytes, so that large entries do not fill the
//! disk.
//!
//! The engine is told of every checkpoint, and gives up only what it is asked to: were it to decide by itself as well, it
//! could want less than it had been asked for while a follower is still being sent that, which it does not stand. What it
//! has given up it never asks for again, so more may stay than it knows of: what the fallback needs is kept from it. It
//! learns of that when the member starts the next time. What is asked for while a follower needs it goes later.
//!
//! Where the disk has no room nothing stays for those who lag: they are sent a snapshot.
//!
//! # Holes
//!
//! Where a snapshot was installed beyond the end of the log, the log begins anew behind it, with a hole towards all older
//! checkpoints. None of them can be fallen back on, though one may still be there: the log is purged further than it. The
//! snapshot is then the only one, as a first checkpoint is, but with other members to ask for help; and it is the
//! fallback as soon as the member has written one of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_machine::Checkpoints;
use kvorum_types::Position;
use kvorum_wal::{Log, SegmentSize};
use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;

use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::transport::Transport;

/// Decides how far a purge goes.
///
/// - [`Retention::purge_limit`] `<=` fallback `<=` newest checkpoint `<=` applied.
#[derive(Clone)]
pub(crate) struct Retention {
    log: Log,
    checkpoints: Checkpoints,
    /// How many applied entries stay for those who lag.
    entries: u64,
    /// How many bytes of entries before the fallback stay for them at most.
    bytes_max: u64,
    /// The disk has no room for what is kept for others.
    is_tight: Arc<AtomicBool>,
    /// What was applied, and how many MiB the state had and the disk had left, when a checkpoint was last asked for to make
    /// room.
    asked_at: Arc<Mutex<Option<(Position, u64, u64)>>>,
}

impl Retention {
    pub(crate) fn new(log: Log, checkpoints: Checkpoints, settings: &Settings) -> Retention {
        let (entries, bytes_max) = (settings.catchup_entries, settings.catchup_bytes);
        Retention {
            log,
            checkpoints,
            entries,
            bytes_max,
            is_tight: Arc::default(),
            asked_at: Arc::default(),
        }
    }

    /// Notes whether the disk has room for what is kept for others.
    pub(crate) fn set_tight(&self, is_tight: bool) {
        self.is_tight.store(is_tight, Ordering::Relaxed);
    }

    /// Whether anything has changed since this was last asked: a checkpoint that found no room is not tried in vain again
    /// and again.
    fn is_worth_asking(&self, applied: Position, in_use_bytes: u64, available_bytes: u64) -> bool {
        let now = (applied, in_use_bytes >> 20, available_bytes >> 20);
        self.asked_at.lock().replace(now) != Some(now)
    }

    fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Relaxed)
    }

    /// The last index that followers who lag are not sent any more: they are sent a snapshot. None: they are sent all.
    fn wanted(&self) -> Option<u64> {
        let by_number = self.checkpoints.latest()?.position.index.checked_sub(self.entries);
        let Some(fallback) = self.checkpoints.fallback() else { return by_number };
        let fallback = fallback.position.index;
        let for_room = if self.is_tight() { Some(fallback) } else { self.too_long(fallback) };
        by_number.max(for_room)
    }

    /// The last index that may be removed. None: none may.
    pub(crate) fn purge_limit(&self) -> Option<u64> {
        let fallback = self.checkpoints.fallback()?.position.index;
        self.wanted().map(|index| index.min(fallback))
    }

    /// Where the log would have to end for no more than `bytes_max` to lie between there and `fallback`. Only whole
    /// segments count: others are not removed.
    fn too_long(&self, fallback: u64) -> Option<u64> {
        let sizes = self.log.segment_sizes();
        let is_before = |size: &SegmentSize| size.last_index.is_some_and(|last| last < fallback);
        let before = sizes.into_iter().filter(is_before);
        let mut bytes = 0;
        let too_many = |size: &SegmentSize| {
            bytes += size.bytes;
            bytes > self.bytes_max
        };
        before.rev().find(too_many)?.last_index
    }
}

/// About how many bytes of the log lie behind an index: all of the segments that hold anything behind it.
pub(crate) fn bytes_behind(log: &Log, index: Option<u64>) -> u64 {
    let sizes = log.segment_sizes().into_iter();
    sizes.filter(|size| size.last_index > index).map(|size| size.bytes).sum()
}

/// Tells the engine of every checkpoint, and asks it to give up what need not stay then.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    loop {
        let stopped = Box::pin(shared.stop.stopped());
        match R::select2(stopped, Box::pin(shared.schedule.written())).await {
            Select2::First(()) => return,
            Select2::Second(()) => {}
        }
        if shared.engine.trigger().snapshot().await.is_err() {
            return;
        }
        let known = R::timeout(shared.settings.election_timeout, newest_is_known(&shared));
        let stopped = Box::pin(shared.stop.stopped());
        let is_stopped = matches!(R::select2(stopped, Box::pin(known)).await, Select2::First(()));
        if is_stopped || !purge(&shared).await {
            return;
        }
    }
}

/// Ends once the engine knows the newest checkpoint, or has stopped: before that it gives up nothing behind the one before.
async fn newest_is_known<R: Runtime, T: Transport>(shared: &Shared<R, T>) {
    let newest = shared.retention.checkpoints.latest().map(|info| info.position.index);
    let mut data = shared.engine.data_metrics();
    loop {
        let known = data.borrow_watched().snapshot.as_ref().map(|last| last.index);
        if known >= newest || data.changed().await.is_err() {
            return;
        }
    }
}

/// Asks the engine to give up what need not stay. False once it has stopped.
async fn purge<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> bool {
    match shared.retention.wanted() {
        Some(index) => shared.engine.trigger().purge_log(index).await.is_ok(),
        None => true,
    }
}

/// Gives back what a member can do without while its disk has so few bytes left; None: it has enough.
///
/// What is kept of the log for followers goes at once. The rest of it, and older checkpoints, go when there are newer
/// checkpoints: so these are written, one whenever there is something new, as long as they find room. After a large
/// deletion and a compaction they are short, whatever the log behind them weighs.
pub(crate) async fn make_room<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    available_bytes: Option<u64>,
) {
    shared.retention.set_tight(available_bytes.is_some());
    shared.reader.store().hurry_maintenance(available_bytes.is_some());
    let Some(available_bytes) = available_bytes else { return };
    purge(shared).await;
    let written = shared.schedule.latest().map(|info| info.position);
    let Some(applied) = shared.reader.applied().filter(|applied| Some(*applied) > written) else {
        return;
    };
    // What is asked while one is written is not done, and has to be asked again.
    if shared.schedule.hurry_any() {
        return;
    }
    let in_use_bytes = shared.reader.store().sizes().in_use_bytes;
    let retention = &shared.retention;
    if in_use_bytes < available_bytes / 2
        && retention.is_worth_asking(applied, in_use_bytes, available_bytes)
    {
        shared.applier.want_checkpoint();
    }
}
