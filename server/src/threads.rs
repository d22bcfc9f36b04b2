//! The threads that run a member's workers.

use std::io;
use std::thread::{self, JoinHandle};

use kvorum_consensus::Workers;

/// One thread for each worker. A worker ends when its member has shut down; dropping this waits for all of them.
pub(crate) struct WorkerThreads {
    threads: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts a thread for each worker. After an error, those that were started run none the less.
    pub(crate) fn start(workers: Workers, prefix: &str) -> (WorkerThreads, io::Result<()>) {
        let mut started = WorkerThreads { threads: Vec::with_capacity(workers.all.len()) };
        for worker in workers.all {
            let builder = thread::Builder::new().name(format!("{prefix}{}", worker.name));
            match builder.spawn(move || worker.run()) {
                Ok(thread) => started.threads.push(thread),
                Err(error) => return (started, Err(error)),
            }
        }
        (started, Ok(()))
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // A worker's panics are caught in its steps and stop the member; nothing is left to report here.
            let _ = thread.join();
        }
    }
}
