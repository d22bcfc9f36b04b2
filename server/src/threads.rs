//! The threads that run a member's workers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvorum_consensus::Workers;
use kvorum_disk::DiskLock;

/// How long threads may take to end once their member has shut down. One that takes longer hangs in a call to the disk.
pub(crate) const END_TIME_MAX: Duration = Duration::from_secs(5);

/// The locks on what the workers write.
type Locks = Arc<Vec<Box<dyn DiskLock>>>;

/// One thread for each worker. A worker ends when its member has shut down.
///
/// - Dropping this waits for all threads, but not for ever: one that hangs is left behind.
/// - The locks are held until the last thread has ended, also by one that was left behind: it may still write.
pub(crate) struct WorkerThreads {
    threads: Vec<(&'static str, JoinHandle<()>)>,
    /// Closed when all threads have ended.
    running: Receiver<Infallible>,
    _locks: Locks,
}

impl WorkerThreads {
    /// Starts a thread for each worker. After an error, those that were started run none the less.
    pub(crate) fn start(
        workers: Workers,
        prefix: &str,
        locks: Vec<Box<dyn DiskLock>>,
    ) -> (WorkerThreads, io::Result<()>) {
        let (locks, (runs, running)) = (Locks::new(locks), mpsc::sync_channel(0));
        let threads = Vec::with_capacity(workers.all.len());
        let mut started = WorkerThreads { threads, running, _locks: locks.clone() };
        for worker in workers.all {
            let builder = thread::Builder::new().name(format!("{prefix}{}", worker.name));
            let (name, held) = (worker.name, (locks.clone(), runs.clone()));
            let run = move || {
                worker.run();
                // In this order: whoever sees that all threads have ended finds the locks free.
                let (locks, runs) = held;
                drop(locks);
                drop(runs);
            };
            match builder.spawn(run) {
                Ok(thread) => started.threads.push((name, thread)),
                Err(error) => return (started, Err(error)),
            }
        }
        (started, Ok(()))
    }

    /// Waits until all threads have ended, or gives the name of a worker that hangs.
    pub(crate) fn join(mut self) -> Result<(), &'static str> {
        self.end()
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let waited = self.running.recv_timeout(END_TIME_MAX);
        let have_all_ended = matches!(waited, Err(RecvTimeoutError::Disconnected));
        let mut hangs = Ok(());
        for (worker, thread) in self.threads.drain(..) {
            if have_all_ended || thread.is_finished() {
                // A worker's panics are caught in its steps and stop the member; nothing is left to report here.
                let _ = thread.join();
            } else {
                tracing::error!(worker, "a thread hangs and is left behind");
                hangs = Err(worker);
            }
        }
        hangs
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            let _ = self.end();
        }
    }
}
