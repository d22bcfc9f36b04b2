//! The reader's end of a lease that is kept alive.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use kvorum_proto::api::etcdserverpb::LeaseKeepAliveResponse;

use super::clock::{Moment, now};
use super::listener::Listener;
use super::mailbox::{Added, Known, Mailbox};
use super::task;
use crate::client::Client;
use crate::error::Error;
use crate::mailbox::NotAdded;

/// How much longer than a connection may take to make, the first answer may. Until it is there nobody knows how long the
/// lease lives.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// The task that keeps the leases of a client and its clones; `None` before the first.
#[derive(Default)]
pub(crate) struct Registry {
    mailbox: Mutex<Option<Arc<Mailbox>>>,
}

/// A lease that is kept alive: a stream of the servers' answers, and at its end the error that says why the lease is lost.
/// Dropping it ends the keeping, not the lease.
#[derive(Debug)]
pub struct KeepAlive {
    id: i64,
    listener: Arc<Listener>,
    mailbox: Arc<Mailbox>,
}

impl Client {
    /// Keeps a lease alive until the result is dropped. See the module [`lease`](crate::lease) for what that promises.
    ///
    /// Returns at once: a task of its own sends, as early as now and then at every third of the TTL. Answers wait to be read,
    /// the newest 16 of them; the lease is kept whether they are read or not. If the first is not there a second after the
    /// time a connection may take ([`Config::dial_timeout`](crate::Config::dial_timeout)), the keeping ends with
    /// [`Error::LeaseExpired`].
    ///
    /// Must be called within a tokio runtime.
    pub fn keep_alive(&self, id: i64) -> KeepAlive {
        let patience = self.config().dial_timeout + FIRST_ANSWER;
        self.keep(id, Known::NothingUntil(now() + patience))
    }

    /// Keeps a lease alive that had `ttl` when something was asked of the servers at `since`.
    pub(crate) fn keep_alive_since(&self, id: i64, ttl: Duration, since: Moment) -> KeepAlive {
        self.keep(id, Known::Ttl(ttl, since))
    }

    fn keep(&self, id: i64, known: Known) -> KeepAlive {
        let listener = Arc::new(Listener::new(known.deadline()));
        let added = || Added { id, listener: listener.clone(), known };
        let mut current =
            self.leases.mailbox.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let taken = match current.as_ref() {
            Some(mailbox) => mailbox.add(added()).map(|()| mailbox.clone()),
            None => Err(NotAdded::Closed),
        };
        let mailbox = match taken {
            Ok(mailbox) => mailbox,
            Err(NotAdded::Full) => {
                listener.finish(Error::TooManyLeases);
                // A mailbox that nobody reads, nor needs to.
                Arc::default()
            }
            Err(NotAdded::Closed) => {
                let mailbox = Arc::<Mailbox>::default();
                let added = mailbox.add(added());
                debug_assert!(added.is_ok(), "a new mailbox is open and empty");
                *current = Some(mailbox.clone());
                task::spawn(self.requiring_leader(), mailbox.clone());
                mailbox
            }
        };
        KeepAlive { id, listener, mailbox }
    }
}

impl KeepAlive {
    /// The lease.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The next answer; `None` after the error that ended it. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<LeaseKeepAliveResponse, Error>> {
        poll_fn(|cx| self.listener.poll(cx)).await
    }

    /// Whether the lease is not lost, by the answers and by the clock. Once false it stays so.
    pub fn is_alive(&self) -> bool {
        self.listener.is_alive(now())
    }

    /// How long the lease lives if no further keep-alive is answered; zero if it is lost.
    pub fn remaining(&self) -> Duration {
        self.listener.remaining(now())
    }

    pub(crate) fn listener(&self) -> Arc<Listener> {
        self.listener.clone()
    }
}

impl Stream for KeepAlive {
    type Item = Result<LeaseKeepAliveResponse, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.poll(cx)
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.listener.close();
        self.mailbox.release(self.id);
    }
}
