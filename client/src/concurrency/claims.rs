//! What a session has at each of its keys: attempts to get it, what they got, and what is to be cleaned up behind them.
//!
//! A session has one key under a prefix, however many tasks ask for it. So the key is taken away only when no attempt wants
//! it any more and nobody was told that it is held:
//!
//! ```text
//!              an attempt begins           ends, and was the last
//!  nothing ----------------------> wanted -----------------------> to be cleaned up ---> nothing
//!                                    |                                  ^
//!                                    | granted                          | its request may come late
//!                                    v          released                |
//!                                   held -------------------------------+
//! ```
//!
//! An attempt that ends without an answer leaves open whether its request still arrives, and when: a server works on a
//! request for no longer than its own time allows, so until then the key is looked at again and again.
//!
//! What is cleaned up may meet the next attempt on its way to the servers, since requests go through different members.
//! Therefore every attempt writes the key, also one that is there, and what is deleted is the key as it was last written: a
//! deletion that comes late finds another.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::queue::{delete_if_written_at, read};
use super::session::{Inner, Session};
use crate::error::Error;

/// How long a request may still be done after its sender has given it up: what a server takes for a request by default,
/// five seconds and two elections' time.
const LATE: Duration = Duration::from_secs(7);
/// The pause between two looks at a key that may still come.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// The pause after the first failure; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The keys of a session at which there is something.
#[derive(Default)]
pub(super) struct Claims {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    claims: BTreeMap<Bytes, Claim>,
    /// Attempts that ever began.
    begun: u64,
}

/// What there is at a key.
///
/// - The key is never taken away while `attempts` is not 0, nor while it is the one that is `held`.
/// - With `cleaning` a task looks after what is to be cleaned up; it ends only when there is nothing.
#[derive(Default)]
struct Claim {
    /// Attempts that have begun and not ended.
    attempts: usize,
    /// The number of the last one.
    last_attempt: u64,
    /// The create revision of the key that somebody was told to hold, and that was not released since; 0 for none.
    held: i64,
    /// The key as this session last wrote it; `None` if it has not, or the key is gone.
    seen: Option<Seen>,
    /// Until when a request of this session that nobody waits for any more may still write the key.
    late_until: Option<Instant>,
    /// The create revision of the last key that this session began to release.
    released: i64,
    /// The create revision of the last key whose release nobody waits for any more: it may come at any time.
    doubtful: i64,
    cleaning: bool,
}

/// A key at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) created: i64,
    pub(super) written: i64,
}

/// What is to be done next at a key.
enum Step {
    Nothing,
    /// Delete the key as it was last written by this session.
    Delete(Seen),
    /// Look whether the key is there, and delete it if it is nobody's. After the moment nothing can come any more.
    Look {
        until: Instant,
    },
}

impl Claim {
    fn step(&self) -> Step {
        match (self.late_until, self.seen) {
            _ if self.attempts > 0 => Step::Nothing,
            (Some(until), _) => Step::Look { until },
            (None, Some(seen)) if seen.created != self.held => Step::Delete(seen),
            _ => Step::Nothing,
        }
    }

    fn is_nothing(&self) -> bool {
        self.attempts == 0
            && self.held == 0
            && self.seen.is_none()
            && self.late_until.is_none()
            && !self.cleaning
    }
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes what there is at a key, and forgets the key if that is nothing.
    fn change<T>(&self, key: &Bytes, change: impl FnOnce(&mut Claim) -> T) -> T {
        let mut state = self.lock();
        let claim = state.claims.entry(key.clone()).or_default();
        let changed = change(claim);
        if claim.is_nothing() {
            state.claims.remove(key);
        }
        changed
    }

    fn begin(&self, key: &Bytes) {
        let mut state = self.lock();
        state.begun += 1;
        let number = state.begun;
        let claim = state.claims.entry(key.clone()).or_default();
        claim.attempts += 1;
        claim.last_attempt = number;
    }

    /// Somebody is told to hold the key that was created at `revision`.
    pub(super) fn hold(&self, key: &Bytes, revision: i64) {
        self.change(key, |claim| claim.held = claim.held.max(revision));
    }

    /// The key that was created at `revision` is gone.
    pub(super) fn gone(&self, key: &Bytes, revision: i64) {
        self.change(key, |claim| {
            if claim.held == revision {
                claim.held = 0;
            }
            claim.seen = claim.seen.filter(|seen| seen.created != revision);
        });
    }

    /// Whether the key that was created at `revision` may go at any time, since a request to release it was not answered.
    pub(super) fn is_doubtful(&self, key: &Bytes, revision: i64) -> bool {
        let state = self.lock();
        state.claims.get(key).is_some_and(|claim| claim.doubtful >= revision)
    }

    /// Whether the session itself may have taken the key away that was created at `revision`.
    pub(super) fn may_have_released(&self, key: &Bytes, revision: i64) -> bool {
        let state = self.lock();
        state.claims.get(key).is_some_and(|claim| claim.released >= revision)
    }

    /// What is to be done next at a key; if it is nothing, the task that asks ends.
    fn next_step(&self, key: &Bytes) -> Step {
        self.change(key, |claim| {
            let step = claim.step();
            claim.cleaning = !matches!(step, Step::Nothing);
            step
        })
    }

    /// Whether there must be a task for the key that is not there yet.
    fn needs_task(&self, key: &Bytes) -> bool {
        self.change(key, |claim| {
            let needs = !claim.cleaning && !matches!(claim.step(), Step::Nothing);
            claim.cleaning |= needs;
            needs
        })
    }
}

/// One attempt to get a key. When it is dropped, and was the last, a task of its own cleans up.
pub(super) struct Attempt {
    session: Session,
    key: Bytes,
    /// Its request was sent and not answered.
    is_open: bool,
    has_ended: bool,
}

impl Attempt {
    pub(super) fn begin(session: &Session, key: Bytes) -> Attempt {
        session.claims().begin(&key);
        Attempt { session: session.clone(), key, is_open: false, has_ended: false }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }

    /// Its request is about to be sent.
    pub(super) fn sends(&mut self) {
        self.is_open = true;
    }

    /// A server has refused the request for good.
    pub(super) fn refused(&mut self) {
        self.is_open = false;
    }

    /// The request was answered: the key is there.
    pub(super) fn entered(&mut self, now: Seen) {
        self.is_open = false;
        self.session.claims().change(&self.key, |claim| {
            // Answers of several attempts may come in any order.
            let order = |seen: &Seen| (seen.created, seen.written);
            claim.seen = claim.seen.into_iter().chain([now]).max_by_key(order);
        });
    }

    /// The key that was created at `revision` is given to whom it was wanted for.
    pub(super) fn granted(self, revision: i64) {
        self.session.claims().hold(&self.key, revision);
    }

    /// Ends it, and if it was the last, cleans up, or leaves that to a task if it fails.
    pub(super) async fn leave(mut self) {
        self.end();
        drop(clean_once(&self.session, &self.key).await);
    }

    fn end(&mut self) {
        if self.has_ended {
            return;
        }
        self.has_ended = true;
        let late_until = self.is_open.then(|| Instant::now() + LATE);
        self.session.claims().change(&self.key, |claim| {
            claim.attempts -= 1;
            claim.late_until = claim.late_until.max(late_until);
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end();
        if self.session.is_alive() && self.session.claims().needs_task(&self.key) {
            let (session, key) = (self.session.downgrade(), self.key.clone());
            self.session.runtime().spawn(clean(self.session.clone(), session, key));
        }
    }
}

/// A request to release a key. If it is dropped before it was answered, nobody knows whether the key is released.
pub(super) struct Release<'a> {
    claims: &'a Claims,
    key: &'a Bytes,
    revision: i64,
    is_open: bool,
}

impl<'a> Release<'a> {
    /// The key that was created at `revision` is about to be released.
    pub(super) fn begin(session: &'a Session, key: &'a Bytes, revision: i64) -> Release<'a> {
        let claims = session.claims();
        claims.change(key, |claim| claim.released = claim.released.max(revision));
        Release { claims, key, revision, is_open: true }
    }

    /// A server has refused the request for good.
    pub(super) fn refused(&mut self) {
        self.is_open = false;
    }

    /// The request was answered: whether or not it found the key, the key is gone.
    pub(super) fn done(mut self) {
        self.is_open = false;
        self.claims.gone(self.key, self.revision);
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let revision = self.revision;
            self.claims.change(self.key, |claim| claim.doubtful = claim.doubtful.max(revision));
        }
    }
}

/// Cleans up until there is nothing left to do, or the session has ended, and the key with it.
async fn clean(session: Session, weak: Weak<Inner>, key: Bytes) {
    let since = Instant::now();
    let mut failures = 0;
    let mut session = Some(session);
    while let Some(alive) = session.take().or_else(|| Session::upgrade(&weak)) {
        if !alive.is_alive() || matches!(alive.claims().next_step(&key), Step::Nothing) {
            return;
        }
        let pause = match clean_once(&alive, &key).await {
            Ok(pause) => {
                failures = 0;
                pause
            }
            Err(_) => {
                failures += 1;
                PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(PAUSE_MAX)
            }
        };
        // If nobody else has the session any more, it is kept for this for a while, but not for ever.
        session = (since.elapsed() < LATE).then_some(alive);
        sleep(pause).await;
    }
}

/// Does what is to be done at a key, once. How long to wait before the next step.
async fn clean_once(session: &Session, key: &Bytes) -> Result<Duration, Error> {
    let claims = session.claims();
    match claims.change(key, |claim| claim.step()) {
        Step::Nothing => {}
        Step::Delete(seen) => {
            // If somebody else has written it since, another session of the lease has taken the place over.
            delete_if_written_at(session, key, seen.written).await?;
            claims.change(key, |claim| claim.seen = claim.seen.filter(|now| *now != seen));
        }
        Step::Look { until } => return look(session, key, until).await,
    }
    Ok(Duration::ZERO)
}

/// Looks whether the key is there, and deletes it if it is nobody's.
async fn look(session: &Session, key: &Bytes, until: Instant) -> Result<Duration, Error> {
    let claims = session.claims();
    let is_last = Instant::now() >= until;
    let last_attempt = claims.change(key, |claim| claim.last_attempt);
    let found = read(session, key).await?;
    // Whether somebody wants the key is asked after it was read: who comes later writes it before it could be deleted.
    let is_wanted = |claim: &mut Claim| {
        claim.attempts > 0 || found.is_some_and(|seen| seen.created == claim.held)
    };
    let mut left = found;
    if let Some(seen) = found
        && !claims.change(key, is_wanted)
    {
        if !delete_if_written_at(session, key, seen.written).await? {
            return Ok(Duration::ZERO);
        }
        left = None;
    }
    claims.change(key, |claim| {
        if claim.attempts > 0 || claim.last_attempt != last_attempt {
            // Who came meanwhile knows better, and leaves another look to be done.
            return;
        }
        claim.seen = left;
        if is_last && claim.late_until == Some(until) {
            claim.late_until = None;
        }
    });
    let rest = until.saturating_duration_since(Instant::now());
    Ok(if is_last { Duration::ZERO } else { rest.min(LOOK_PAUSE) })
}
