//! Who leads, as this member tells its clients.
//!
//! The engine's leader does not step down when it loses its majority, and its followers keep the leader they voted for
//! until they vote anew. Neither is of any use to a client, so both count as no leader once the last word from the other
//! side is older than an election timeout: a quorum's acknowledgement for a leader, the leader's own word for a follower.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvorum_types::MemberId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft_rt::Instant;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::errors::{FatalError, LeaseError, ProposeError};
use crate::leases::Leads;
use crate::progress;
use crate::runtime::Runtime;
use crate::shared::{Shared, VotedLeader};
use crate::status::Leadership;
use crate::transport::Transport;
use crate::voters::Report;

/// How often a leader that has just been elected is looked at until a majority has acknowledged it.
const SETTLE_INTERVAL: Duration = Duration::from_millis(10);

/// What is known about who leads.
pub(crate) struct LeadershipBoard {
    clock: Arc<Clock>,
    /// When the leader was last heard of, in microseconds of the clock, plus one; 0 for never.
    heard: AtomicU64,
    elected: Mutex<Elected>,
    published: watch::Sender<Leadership>,
}

#[derive(Default)]
struct Elected {
    leader: Option<VotedLeader>,
    /// When that leader was first seen.
    at: Option<Duration>,
}

impl LeadershipBoard {
    pub(crate) fn new(clock: Arc<Clock>) -> LeadershipBoard {
        LeadershipBoard {
            clock,
            heard: AtomicU64::new(0),
            elected: Mutex::default(),
            published: watch::Sender::new(Leadership::default()),
        }
    }

    /// The time by which all here is measured.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The leader has said something that was accepted.
    pub(crate) fn heard_leader(&self) {
        let micros = u64::try_from(self.clock.now().as_micros()).unwrap_or(u64::MAX - 1);
        self.heard.store(micros + 1, Ordering::Relaxed);
    }

    fn silence(&self) -> Option<Duration> {
        let micros = self.heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock.now().saturating_sub(Duration::from_micros(micros)))
    }

    pub(crate) fn current(&self) -> Leadership {
        *self.published.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Leadership> {
        self.published.subscribe()
    }

    /// Whether the leader by vote is another than last time.
    fn note_voted(&self, leader: Option<VotedLeader>) -> bool {
        let mut elected = self.elected.lock();
        if elected.leader == leader {
            return false;
        }
        elected.leader = leader;
        if leader.is_some() {
            elected.at = Some(self.clock.now());
        }
        true
    }

    fn publish(&self, leadership: Leadership) {
        self.published.send_if_modified(|published| {
            let changed = *published != leadership;
            *published = leadership;
            changed
        });
    }

    /// What to say to a question about leases that has run out of time: as etcd says it.
    pub(crate) fn lease_error(&self) -> LeaseError {
        match self.current().leader {
            Some(_) => LeaseError::Timeout,
            None => LeaseError::NoLeader,
        }
    }

    /// What to say to a request that came at `since` and has run out of time: as etcd says it.
    pub(crate) fn timeout_error(
        &self,
        since: Duration,
        election_timeout: Duration,
    ) -> ProposeError {
        let elected = self.elected.lock();
        if let Some(at) = elected.at {
            // The leader before was lost about two election timeouts before this one was elected.
            let lost = at.saturating_sub(2 * election_timeout);
            if since > lost && since < at {
                return ProposeError::TimeoutLeaderFailed;
            }
        }
        if elected.leader.is_some() && self.current().leader.is_none() {
            return ProposeError::TimeoutConnectionLost;
        }
        ProposeError::Timeout
    }
}

/// Follows the engine, and tells those who want to know. Ends when the member stops, or when the engine does.
pub(crate) async fn follow<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let mut server = shared.engine.server_metrics();
    loop {
        let voted = shared.voted_leader();
        let newly = shared.leadership.note_voted(voted);
        let leadership = judge(&shared, voted);
        shared.leadership.publish(leadership);
        watch_alone(&shared, voted);
        progress::note(&shared, voted);
        shared.keeper.follow(leads(&shared, voted, leadership));
        if newly {
            shared.proposals.leadership_changed();
        }
        let settling = voted.is_some() && leadership.leader.is_none();
        let interval = if settling { SETTLE_INTERVAL } else { shared.settings.heartbeat_interval };
        let waiting = R::timeout(interval, server.changed());
        let stopped = shared.stop.stopped();
        let is_gone = match R::select2(Box::pin(stopped), Box::pin(waiting)).await {
            openraft::async_runtime::Select2::First(()) => return,
            openraft::async_runtime::Select2::Second(changed) => matches!(changed, Ok(Err(_))),
        };
        if is_gone || shared.engine.metrics().borrow_watched().running_state.is_err() {
            // One that was asked to end has not failed.
            if !shared.stop.is_stopped() {
                shared.stop.fail(FatalError::Engine(engine_error(&shared)));
            }
            return;
        }
    }
}

fn engine_error<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> String {
    match &shared.engine.metrics().borrow_watched().running_state {
        Err(error) => error.to_string(),
        // Its task ended without saying why: it panicked.
        Ok(()) => "it panicked".to_owned(),
    }
}

fn judge<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    voted: Option<VotedLeader>,
) -> Leadership {
    let term = shared.engine.server_metrics().borrow_watched().vote.leader_id.term;
    let in_touch = |leader: VotedLeader| {
        let silence = if shared.is_me(leader.id) {
            quorum_silence(shared)
        } else {
            shared.leadership.silence()
        };
        silence.is_some_and(|silence| silence < shared.settings.election_timeout)
    };
    Leadership { leader: voted.filter(|leader| in_touch(*leader)).map(|leader| leader.id), term }
}

/// Whether this member leads, as far as leases are concerned.
fn leads<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    voted: Option<VotedLeader>,
    leadership: Leadership,
) -> Option<Leads> {
    let me = voted.filter(|leader| shared.is_me(leader.id))?;
    Some(Leads { term: me.term, in_touch: leadership.leader == Some(me.id) })
}

/// How long ago a majority last acknowledged this leader.
fn quorum_silence<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Option<Duration> {
    let server = shared.engine.server_metrics();
    if is_only_voter(shared.settings.id, &server.borrow_watched().membership_config) {
        return Some(Duration::ZERO);
    }
    let data = shared.engine.data_metrics();
    let acknowledged = data.borrow_watched().last_quorum_acked;
    acknowledged.map(|at| at.elapsed())
}

fn is_only_voter(me: MemberId, membership: &crate::types::StoredMembership) -> bool {
    let mut voters = membership.voter_ids();
    voters.next() == Some(me.0) && voters.next().is_none()
}

/// Keeps [`Voters`](crate::voters::Voters) told.
fn watch_alone<R: Runtime, T: Transport>(shared: &Shared<R, T>, voted: Option<VotedLeader>) {
    let leads = voted.filter(|leader| shared.is_me(leader.id));
    let (Some(VotedLeader { term, .. }), Some(applied)) = (leads, shared.reader.applied()) else {
        shared.voters.leads_not();
        return;
    };
    let server = shared.engine.server_metrics();
    let server = server.borrow_watched();
    let (newest, committed) = (&server.membership_config, &server.committed_membership_config);
    match newest.log_id() {
        Some(at) if server.state == ServerState::Leader && newest == committed => {
            let (membership, position) = (newest.membership(), crate::types::position(at));
            shared.voters.leads(&Report { term, applied, membership, position });
        }
        Some(_) | None => shared.voters.leads_not(),
    }
}
