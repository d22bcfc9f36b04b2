//! Being asked to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{ERROR, Failure};

/// Catches SIGINT and SIGTERM from now on, so that what is held can be released first.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn catch() -> Result<Signals, Failure> {
        let catch = |kind| signal(kind).map_err(|error| Failure::new(ERROR, error.to_string()));
        Ok(Signals {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    pub async fn caught(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
