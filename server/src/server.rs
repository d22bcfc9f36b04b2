//! The handle of a running member.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use kvorum_consensus::Status;
use tokio::sync::{oneshot, watch};

use crate::CoreMember;
use crate::builder::Builder;
use crate::corruption::CorruptionFigures;
use crate::failure::{FatalError, StartError};
use crate::running::{self, Started, Stop};

/// How a member ended; `None` while it runs.
type Outcome = Option<Result<(), FatalError>>;

/// A member running in this process.
///
/// - Dropping it stops the member without a word to its cluster, joins all its threads and closes all its files. That
///   blocks for as long as a write to the disk takes. [`Server::stop`] is the polite way.
/// - A thread that hangs in a call to the disk for several seconds is not waited for. It keeps the lock on the data
///   directory for as long as it lives, so that nobody else writes there, and [`Server::wait`] tells of it.
pub struct Server {
    started: Started,
    thread: CoreThread,
}

impl Server {
    /// Describes a member.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) async fn start(builder: Builder) -> Result<Server, StartError> {
        let (started, has_started) = oneshot::channel();
        let (stop, stop_asked) = watch::channel(Stop::No);
        let (ended, outcome) = watch::channel(None);
        let name = format!("{}core", builder.thread_name_prefix);
        let run = move || {
            let run = AssertUnwindSafe(|| running::run(builder, started, stop_asked));
            let result = catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&*panic)));
            ended.send_replace(Some(result));
        };
        let thread = thread::Builder::new().name(name).spawn(run);
        let thread = thread.map_err(StartError::Thread)?;
        // From here on, whoever drops this future drops the thread with it.
        let thread = CoreThread { stop, outcome, thread: Some(thread) };
        let started = has_started.await.map_err(|_| StartError::Panicked)??;
        Ok(Server { started, thread })
    }

    /// The URLs on which clients are served.
    pub fn endpoints(&self) -> &[String] {
        &self.started.endpoints
    }

    /// The URLs on which metrics and health are served besides.
    pub fn metrics_urls(&self) -> &[String] {
        &self.started.metrics_urls
    }

    /// The URLs on which peers are taken in.
    pub fn peer_urls(&self) -> &[String] {
        &self.started.peer_urls
    }

    /// What the member knows of itself.
    pub fn status(&self) -> Status {
        self.started.member.status()
    }

    /// How much its watchers have and do.
    pub fn watch_figures(&self) -> kvorum_watch::Figures {
        self.started.hub.figures()
    }

    /// How often it has compared the members.
    pub fn corruption_figures(&self) -> CorruptionFigures {
        self.started.checks_done.figures()
    }

    /// The member itself, for what no client can ask.
    pub fn member(&self) -> &CoreMember {
        &self.started.member
    }

    /// Waits until the member follows a leader, has caught up, and is known to its cluster by name and client URLs.
    pub async fn ready(&self) -> Result<(), FatalError> {
        let mut ready = self.started.ready.clone();
        tokio::select! {
            Ok(_) = ready.wait_for(|is_ready| *is_ready) => Ok(()),
            ended = self.wait() => ended,
        }
    }

    /// Waits until the member has ended: well, because it was told to, or with what stopped it or went wrong as it stopped.
    pub async fn wait(&self) -> Result<(), FatalError> {
        let mut outcome = self.thread.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Err(FatalError::Panicked),
        }
    }

    /// Hands over the leadership, lets open requests finish, and ends the member. All threads are joined and all files
    /// closed when this returns, but for those of a thread that hangs, which is an error. So is a sync that fails at the
    /// very end.
    pub async fn stop(self) -> Result<(), FatalError> {
        self.thread.stop.send_if_modified(|stop| {
            let is_new = *stop == Stop::No;
            if is_new {
                *stop = Stop::Gracefully;
            }
            is_new
        });
        self.wait().await
    }
}

fn panicked(panic: &(dyn Any + Send)) -> FatalError {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(message, "the core thread panicked");
    FatalError::Panicked
}

/// The thread that everything of one member hangs on.
struct CoreThread {
    stop: watch::Sender<Stop>,
    outcome: watch::Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Now);
        if let Some(thread) = self.thread.take() {
            // Its panics have been caught and are its outcome.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::config::{InitialCluster, ServerUrl};

    async fn member() -> Server {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (client, peer) = (listen(), listen());
        let url = ServerUrl::http("127.0.0.1", peer.local_addr().unwrap().port());
        let builder = Server::builder()
            .name("one")
            .in_memory()
            .client_listeners(vec![client])
            .peer_listeners(vec![peer])
            .initial_cluster(InitialCluster::new(vec![("one".to_owned(), vec![url])]));
        let server = builder.start().await.unwrap();
        server.ready().await.unwrap();
        server
    }

    #[tokio::test]
    async fn a_hub_of_watches_that_panics_stops_the_member() {
        let server = member().await;
        let hub = server.started.hub.clone();
        let other = hub.open(Arc::new(|| {})).unwrap();
        let panics = AtomicBool::new(true);
        let wake = move || assert!(!panics.swap(false, Ordering::SeqCst), "by the test");
        let stream = hub.open(Arc::new(wake)).unwrap();
        // Its answer rings the stream, within the hub's step.
        stream.create(kvorum_watch::Create::default());
        let ended = server.wait().await.unwrap_err();
        assert!(ended.to_string().contains("the worker `kv-watch` panicked"), "{ended}");
        assert_eq!(other.ended(), Some(kvorum_watch::Ended::Stopped));
    }
}
