//! What the tasks of one member share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_machine::{Defragmenter, MachineReader};
use kvorum_types::{Incarnation, MemberId};
use kvorum_wal::Log;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};
use tokio::sync::RwLock;

use crate::applier::ApplierHandle;
use crate::backup::Backups;
use crate::checkpoints::{Schedule, Transfers};
use crate::configure::Configure;
use crate::contact::Contact;
use crate::errors::FatalError;
use crate::leadership::LeadershipBoard;
use crate::leases::{Keeper, Questions};
use crate::peers::Peers;
use crate::progress::Progress;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::removal::Mark;
use crate::retention::Retention;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::snapshot_receive::IncomingSlot;
use crate::state_machine::StateMachine;
use crate::stop::Stop;
use crate::transport::Transport;
use crate::types::TypeConfig;
use crate::voters::Voters;
use crate::watchdog::Watchdog;

/// How long the engine may take to end. It waits for a vote that is being made durable, and for nothing else.
const ENGINE_END_TIME_MAX: Duration = Duration::from_secs(5);

/// The engine of a member.
pub(crate) type Engine<R> = Raft<TypeConfig<R>, StateMachine>;

pub(crate) struct Shared<R: Runtime, T: Transport> {
    pub(crate) settings: Settings,
    pub(crate) incarnation: Incarnation,
    pub(crate) engine: Engine<R>,
    pub(crate) log: Log,
    pub(crate) reader: MachineReader,
    pub(crate) defragmenter: Defragmenter,
    pub(crate) peers: Arc<Peers<T>>,
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) lease_questions: Arc<Questions>,
    pub(crate) voters: Arc<Voters>,
    pub(crate) leadership: Arc<LeadershipBoard>,
    pub(crate) applier: ApplierHandle,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) retention: Retention,
    pub(crate) transfers: Transfers,
    pub(crate) backups: Backups,
    pub(crate) configure: Configure,
    pub(crate) contact: Contact,
    pub(crate) progress: Progress,
    pub(crate) mark: Mark,
    pub(crate) stop: Arc<Stop>,
    pub(crate) watchdog: Watchdog,
    /// Held shared by every append that is on its way into the engine, and alone by a snapshot that is installed: see
    /// `install`.
    pub(crate) feed: Arc<RwLock<()>>,
    /// What an interrupted transfer left, and the right to receive one.
    pub(crate) incoming: IncomingSlot,
    /// Whether leaders and candidates are answered. A member whose log is empty waits until its peers have said that they
    /// do not know it with one: what it lost, it might promise a second time. One that is forced to go on alone waits until
    /// it is.
    pub(crate) is_admitted: AtomicBool,
    /// Rings every worker's bell.
    pub(crate) ring_all: Box<dyn Fn() + Send + Sync>,
}

/// Who leads by the engine's newest vote, whether or not it can reach anyone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VotedLeader {
    pub(crate) id: MemberId,
    pub(crate) term: u64,
}

impl<R: Runtime, T: Transport> Shared<R, T> {
    pub(crate) fn voted_leader(&self) -> Option<VotedLeader> {
        let metrics = self.engine.server_metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        // A vote for this member may be confirmed before the engine has made it the leader.
        if leader == self.settings.id.0 && metrics.state != ServerState::Leader {
            return None;
        }
        Some(VotedLeader { id: MemberId(leader), term: metrics.vote.leader_id.term })
    }

    pub(crate) fn is_me(&self, id: MemberId) -> bool {
        id == self.settings.id
    }

    /// Whether this member holds entries, or has held some.
    pub(crate) fn has_log(&self) -> bool {
        self.log.last().or(self.log.purged()).is_some()
    }

    /// Whether this member may take part: see [`Shared::is_admitted`].
    pub(crate) fn takes_part(&self) -> bool {
        self.is_admitted.load(Ordering::Acquire)
    }

    /// Lets it take part, for good.
    pub(crate) fn admit(&self) {
        self.is_admitted.store(true, Ordering::Release);
    }

    /// How long a question to another member may take before it is asked anew.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.election_timeout
    }

    /// Ends engine, connections and workers.
    pub(crate) async fn shut_down(&self) {
        self.stop.stop();
        match R::timeout(ENGINE_END_TIME_MAX, self.engine.shutdown()).await {
            Ok(Ok(())) => self.note_engines_end(),
            Ok(Err(error)) => tracing::warn!(%error, "the consensus engine did not end in order"),
            // It waits for a vote to become durable. Nothing hangs on it any more.
            Err(_) => tracing::warn!("the consensus engine waits for the disk and is left there"),
        }
        self.peers.close().await;
        self.stop.stop_workers();
        (self.ring_all)();
    }

    /// An engine that ended says why, unless it panicked. That is a doubt even at the very end.
    fn note_engines_end(&self) {
        if self.engine.metrics().borrow_watched().running_state.is_ok() {
            self.stop.fail(FatalError::Engine("it panicked".to_owned()));
        }
    }
}
