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
//! The engine is told of the newest checkpoint and purges in its own books behind that. What it has given up it never asks
//! for again, so more may stay than it knows of; it learns of it when the member starts the next time. Less must never
//! stay: what has to go for its bytes the engine is asked to give up first.
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
use parking_lot::Mutex;

use crate::log::AppliedIndex;
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
    applied: AppliedIndex,
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
    pub(crate) fn new(
        log: Log,
        checkpoints: Checkpoints,
        applied: AppliedIndex,
        settings: &Settings,
    ) -> Retention {
        let (entries, bytes_max) = (settings.catchup_entries, settings.catchup_bytes);
        Retention {
            log,
            checkpoints,
            applied,
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

    /// The last index that may be purged. None: none may.
    pub(crate) fn purge_limit(&self) -> Option<u64> {
        let fallback = self.checkpoints.fallback()?.position.index;
        if self.is_tight() {
            return Some(fallback);
        }
        let by_number = (self.applied)()?.checked_sub(self.entries);
        by_number.max(self.too_long(fallback)).map(|index| index.min(fallback))
    }

    /// The last index that is to be purged for the bytes behind it, however few entries they are.
    pub(crate) fn purge_for_bytes(&self) -> Option<u64> {
        self.too_long(self.checkpoints.fallback()?.position.index)
    }

    /// Where the log would have to end for no more than `bytes_max` to lie between there and `fallback`. Only whole
    /// segments count: others are not removed.
    fn too_long(&self, fallback: u64) -> Option<u64> {
        let sizes = self.log.segment_sizes();
        let is_before = |size: &SegmentSize| size.last_index.is_some_and(|last| last < fallback);
        let before = sizes.into_iter().filter(is_before);
        let bytes_max = if self.is_tight() { 0 } else { self.bytes_max };
        let mut bytes = 0;
        let too_many = |size: &SegmentSize| {
            bytes += size.bytes;
            bytes > bytes_max
        };
        before.rev().find(too_many)?.last_index
    }
}

/// About how many bytes of the log lie behind an index: all of the segments that hold anything behind it.
pub(crate) fn bytes_behind(log: &Log, index: Option<u64>) -> u64 {
    let sizes = log.segment_sizes().into_iter();
    sizes.filter(|size| size.last_index > index).map(|size| size.bytes).sum()
}

/// After every checkpoint asks the engine to give up what has to go for its bytes.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    loop {
        let stopped = Box::pin(shared.stop.stopped());
        match R::select2(stopped, Box::pin(shared.schedule.written())).await {
            Select2::First(()) => return,
            Select2::Second(()) => {}
        }
        if !purge(&shared).await {
            return;
        }
    }
}

/// Asks the engine to give up what has to go. False once it has stopped.
async fn purge<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> bool {
    match shared.retention.purge_for_bytes() {
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
