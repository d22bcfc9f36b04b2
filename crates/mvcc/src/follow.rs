//! Following what is published, change by change, although compactions go on.
//!
//! Whoever follows reads a little behind the writer. A compaction raises the compaction revision for new views at once,
//! perhaps beyond what the follower has read. So each raise leaves a **kept view**: what was published with it, as if
//! it had not been compacted yet.
//!
//! ```text
//!   published     .. 40 .. 50, compact to 45 .. 60
//!   kept view      [ 1          .. 50 ]             for a follower that is at 44 or before
//!   newest view                      [ 45 .. 60 ]
//! ```
//!
//! Kept views are let go of as the follower passes them. There are at most [`KEPT_MAX`]; a follower so far behind that
//! one is pushed out reads [`ReadError::Compacted`](crate::ReadError::Compacted).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use crate::read::Lookup;
use crate::store::{Hub, Wake};
use crate::view::View;

/// How many compactions a follower may be behind without losing changes.
const KEPT_MAX: usize = 8;

/// Reads what is published in the order it was published, and is rung when there is more.
pub struct Follower {
    hub: Arc<Hub>,
    followed: Arc<Followed>,
}

/// What the store knows of one follower.
pub(crate) struct Followed {
    ring: Wake,
    is_resting: AtomicBool,
    /// In the order they were published.
    kept: Mutex<VecDeque<View>>,
}

/// All followers of a store.
pub(crate) struct Followers {
    all: ArcSwap<Vec<Arc<Followed>>>,
    /// Held while history is cut off for new views, so that the kept view and the cut are seen together.
    cutting: Mutex<()>,
}

impl Followers {
    pub fn new() -> Followers {
        Followers { all: ArcSwap::default(), cutting: Mutex::new(()) }
    }

    /// Held around a change that takes history away from new views, and the keeping of what still has it.
    pub fn cut(&self) -> MutexGuard<'_, ()> {
        self.cutting.lock()
    }

    /// Keeps a view for every follower that does not rest.
    pub fn keep(&self, view: &View) {
        for followed in self.all.load().iter() {
            if !followed.is_resting.load(Ordering::SeqCst) {
                let mut kept = followed.kept.lock();
                if kept.len() >= KEPT_MAX {
                    kept.pop_front();
                }
                kept.push_back(view.clone());
            }
        }
    }

    /// Tells every follower that does not rest that there is more.
    pub fn ring(&self) {
        for followed in self.all.load().iter() {
            if !followed.is_resting.load(Ordering::SeqCst) {
                (followed.ring)();
            }
        }
    }
}

impl Follower {
    pub(crate) fn new(hub: Arc<Hub>, ring: Wake) -> Follower {
        let kept = Mutex::new(VecDeque::new());
        let followed = Arc::new(Followed { ring, is_resting: AtomicBool::new(false), kept });
        hub.followers.all.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push(followed.clone());
            all
        });
        Follower { hub, followed }
    }

    /// A view to read the changes from `revision` on: the newest one, unless a compaction has gone past `revision` since
    /// and an older one still has them. Read to its end, and ask again. Never ask for less than before.
    pub fn view_from(&self, revision: i64) -> View {
        let guard = self.hub.followers.cut();
        let newest = View::new(self.hub.engine.load().state());
        let mut kept = self.followed.kept.lock();
        let passed = kept.partition_point(|view| view.newest_revision() < revision);
        // Dropped when the locks are no longer held: a view may be the last to hold much memory.
        let mut dropped: Vec<View> = kept.drain(..passed).collect();
        let has_all =
            |view: &View| view.oldest_revision() < revision && revision <= view.newest_revision();
        let found = if has_all(&newest) {
            dropped.extend(kept.drain(..));
            newest
        } else {
            kept.iter().find(|view| has_all(view)).cloned().unwrap_or(newest)
        };
        drop((kept, guard));
        drop(dropped);
        found
    }

    /// Says that nothing is wanted for now: no ring, no kept views.
    pub fn rest(&self) {
        let guard = self.hub.followers.cut();
        self.followed.is_resting.store(true, Ordering::SeqCst);
        let kept = std::mem::take(&mut *self.followed.kept.lock());
        drop(guard);
        drop(kept);
    }

    /// Follows again after a rest. What is published from now on is not missed; what was published before is in the
    /// newest view.
    pub fn wake(&self) {
        // A cut under way may have found the follower at rest, and keeps nothing for it: the newest view is to be read
        // after it.
        let _guard = self.hub.followers.cut();
        self.followed.is_resting.store(false, Ordering::SeqCst);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hub.followers.all.rcu(|all| {
            let others = all.iter().filter(|other| !Arc::ptr_eq(other, &self.followed));
            others.cloned().collect::<Vec<_>>()
        });
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("kept", &self.followed.kept.lock()).finish_non_exhaustive()
    }
}
