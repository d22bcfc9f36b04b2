//! A member that has been removed from the cluster stops, and does not start again.
//!
//! It learns of its removal in two ways:
//!
//! - Another member refuses it ([`Removed`]), because nobody counts its vote any more. That is enough.
//! - It applies its own removal. Its vote may still count then (see `configure`), so it goes on, and asks the others again
//!   and again whether it may go.
//!
//! Before it stops it answers those who asked it for changes of members: it was one of these that removed it. And it leaves
//! a mark in its directory: what it knows of the log may end before its removal, and then nothing else would keep it from
//! starting again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvorum_disk::{Disk, write_atomically};
use kvorum_machine::Machine;
use kvorum_types::MemberId;
use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::change::Removed;
use crate::errors::{FatalError, StartError};
use crate::membership;
use crate::probes;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// The mark's name in the directory of the member.
const MARK: &str = "removed";
/// How often it is looked whether all are answered that asked for changes of members.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);

/// Who said that this member has been removed.
#[derive(Default)]
pub(crate) struct Told {
    by: Mutex<Option<MemberId>>,
    wake: Notify,
}

impl Told {
    /// Notes it if a connection to `by` was refused for that reason.
    pub(crate) fn note(&self, by: MemberId, error: &io::Error) {
        if error.get_ref().is_some_and(|inner| inner.is::<Removed>()) {
            *self.by.lock() = Some(by);
            self.wake.notify_one();
        }
    }
}

/// Where the mark goes.
pub(crate) struct Mark {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Mark {
    pub(crate) fn new(disk: Arc<dyn Disk>, data_dir: &Path) -> Mark {
        Mark { disk, path: data_dir.join(MARK) }
    }

    /// Refuses a start where the mark is.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        match self.disk.exists(&self.path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(StartError::Removed),
            Err(error) => Err(StartError::Fatal(FatalError::Log(Arc::new(error)))),
        }
    }
}

/// Refuses a start where the state says that this member was removed and that nobody counts its vote any more.
pub(crate) fn check_state(machine: &Machine, me: MemberId) -> Result<(), StartError> {
    if !machine.reader().removed().contains(&me) {
        return Ok(());
    }
    let membership = machine.membership().map(|(_, encoded)| membership::decode(encoded));
    match membership {
        Some(Ok(membership)) if membership.get_node(&me.0).is_none() => Err(StartError::Removed),
        Some(_) | None => Ok(()),
    }
}

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let watching = async {
        loop {
            let told = Box::pin(shared.peers.told_removed.wake.notified());
            drop(R::timeout(shared.settings.election_timeout / 2, told).await);
            let by = *shared.peers.told_removed.by.lock();
            if by.is_some() || may_go(&shared).await {
                return leave(&shared, by).await;
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(watching)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

/// Whether this member has applied its own removal, and its vote counts no more.
async fn may_go<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> bool {
    if !shared.reader.removed().contains(&shared.settings.id) {
        return false;
    }
    if shared.has_removed(shared.settings.id) {
        return true;
    }
    let others = shared.reader.members();
    let others = others.iter().map(|member| member.id);
    let told = probes::ask_all(shared, others, shared.settings.id).await;
    told.iter().any(|(_, reply)| reply.removed)
}

async fn leave<R: Runtime, T: Transport>(shared: &Shared<R, T>, by: Option<MemberId>) {
    tracing::info!(?by, "this member has been removed from the cluster");
    let answering = async {
        while !shared.configure.has_answered_all() {
            R::sleep(ANSWER_INTERVAL).await;
        }
        // The last answer is on its way.
        R::sleep(shared.settings.heartbeat_interval).await;
    };
    drop(R::timeout(shared.settings.election_timeout, Box::pin(answering)).await);
    let (disk, path) = (shared.mark.disk.clone(), shared.mark.path.clone());
    let text = format!(
        "member {} was removed from cluster {}\n",
        shared.settings.id, shared.settings.cluster
    );
    let marking = shared.transfers.run(move || write_atomically(&*disk, &path, &[text.as_bytes()]));
    match R::timeout(shared.settings.election_timeout, Box::pin(marking)).await {
        Ok(Ok(Ok(()))) => {}
        // The next start is told again by the others.
        Ok(Ok(Err(error)) | Err(error)) => tracing::warn!(%error, "that cannot be noted"),
        Err(_) => tracing::warn!("that cannot be noted in time"),
    }
    shared.stop.fail(FatalError::Removed);
}

impl<R: Runtime, T: Transport> Shared<R, T> {
    /// Whether `id` was removed, and its vote counts no more.
    pub(crate) fn has_removed(&self, id: MemberId) -> bool {
        if !self.reader.removed().contains(&id) {
            return false;
        }
        let server = self.engine.server_metrics();
        let server = server.borrow_watched();
        let (newest, committed) = (&server.membership_config, &server.committed_membership_config);
        [newest, committed].iter().all(|stored| stored.membership().get_node(&id.0).is_none())
    }
}
