//! A lease that is kept, and word when it is lost.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::errors::EtcdError;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::claims::Claims;
use crate::client::Client;
use crate::error::Error;
use crate::lease::{KeepAlive, Listener, now};

/// Seconds, unless told otherwise. What etcd's client takes.
const TTL: i64 = 60;

/// How a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    ttl: i64,
    lease: i64,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions::new()
    }
}

impl SessionOptions {
    /// A lease of its own, of 60 seconds.
    pub fn new() -> SessionOptions {
        SessionOptions { ttl: TTL, lease: 0 }
    }

    /// Seconds after which what the session holds falls to others when it cannot reach the servers; 0 or less means 60.
    pub fn ttl(self, ttl: i64) -> SessionOptions {
        SessionOptions { ttl: if ttl > 0 { ttl } else { TTL }, ..self }
    }

    /// A lease that was granted already.
    pub fn lease(self, lease: i64) -> SessionOptions {
        SessionOptions { lease, ..self }
    }
}

/// A lease that is kept alive as long as the session is used. Clones are the same session.
///
/// A session ends when its lease is lost, when it is closed or orphaned, or when the last clone is dropped; the lease is
/// revoked only by [`Session::close`], and otherwise runs out. What was locked with it is locked until then.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    client: Client,
    lease: i64,
    ttl: Duration,
    listener: Arc<Listener>,
    /// Why it ended, once it has.
    end: watch::Receiver<Option<Error>>,
    ends: watch::Sender<Option<Error>>,
    /// Drains the keep-alive's answers.
    task: AbortHandle,
    /// For what is done behind those who have gone.
    runtime: Handle,
    claims: Claims,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Session {
    /// Grants a lease, or renews the one in the options, and keeps it.
    pub async fn open(client: &Client, options: SessionOptions) -> Result<Session, Error> {
        let since = now();
        let (lease, ttl) = if options.lease == 0 {
            let granted = client.lease_grant(options.ttl, 0).await?;
            (granted.id, granted.ttl)
        } else {
            let renewed = client.keep_alive_once(options.lease).await?;
            (options.lease, renewed.ttl)
        };
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let kept = client.keep_alive_since(lease, ttl, since);
        let listener = kept.listener();
        let (ends, end) = watch::channel(None);
        let task = tokio::spawn(drain(kept, ends.clone())).abort_handle();
        let client = client.clone();
        let (runtime, claims) = (Handle::current(), Claims::default());
        let inner = Inner { client, lease, ttl, listener, end, ends, task, runtime, claims };
        Ok(Session { inner: Arc::new(inner) })
    }

    /// The client that the session speaks through.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The session's lease.
    pub fn lease(&self) -> i64 {
        self.inner.lease
    }

    /// Whether the session has not ended, by the answers and by the clock. Once false it stays so. True means that the lease
    /// was alive a moment ago; only the servers can tell whether it is when a request arrives.
    pub fn is_alive(&self) -> bool {
        self.inner.end.borrow().is_none() && self.inner.listener.is_alive(now())
    }

    /// How long the session lives if it does not reach the servers any more; zero if it has ended.
    pub fn remaining(&self) -> Duration {
        if self.is_alive() { self.inner.listener.remaining(now()) } else { Duration::ZERO }
    }

    /// Waits until the session has ended and says why: [`Error::LeaseExpired`] or
    /// [`LeaseNotFound`](crate::EtcdError::LeaseNotFound) if the lease was lost, [`Error::SessionLeft`] after
    /// [`Session::orphan`] and [`Session::close`].
    pub async fn done(&self) -> Error {
        let mut end = self.inner.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or(Error::SessionLeft)
    }

    /// Ends the session and leaves the lease to run out.
    pub fn orphan(&self) {
        self.inner.task.abort();
        end(&self.inner.ends, Error::SessionLeft);
    }

    /// Ends the session and revokes the lease: everything that was locked with it is free at once. It takes no longer than
    /// the lease has: then it ends anyway. A lease that is gone already is as good as revoked.
    pub async fn close(&self) -> Result<(), Error> {
        self.orphan();
        let limit = self.inner.ttl.min(self.client().config().request_timeout);
        match self.client().with_timeout(limit).lease_revoke(self.lease()).await {
            // The request may have been sent twice, and done the first time.
            Err(error) if error.etcd() == Some(EtcdError::LeaseNotFound) => Ok(()),
            revoked => revoked.map(drop),
        }
    }

    /// The key of this session among those with the prefix.
    pub(super) fn key(&self, prefix: &[u8]) -> Bytes {
        // A number below zero as Go writes it.
        let sign = if self.lease() < 0 { "-" } else { "" };
        let lease = format!("{sign}{:x}", self.lease().unsigned_abs());
        [prefix, lease.as_bytes()].concat().into()
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    /// The session, if somebody has it still.
    pub(super) fn upgrade(weak: &Weak<Inner>) -> Option<Session> {
        weak.upgrade().map(|inner| Session { inner })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads answers until there are no more, and says why.
async fn drain(mut kept: KeepAlive, ends: watch::Sender<Option<Error>>) {
    let error = loop {
        match kept.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => break Error::LeaseExpired,
        }
    };
    end(&ends, error);
}

/// Tells why the session has ended, unless that has been told.
fn end(ends: &watch::Sender<Option<Error>>, error: Error) {
    ends.send_if_modified(|end| {
        let is_first = end.is_none();
        if is_first {
            *end = Some(error);
        }
        is_first
    });
}
