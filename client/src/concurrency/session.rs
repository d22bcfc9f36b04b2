//! A lease that is kept, and word when it is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::AbortHandle;

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

struct Inner {
    client: Client,
    lease: i64,
    ttl: Duration,
    listener: Arc<Listener>,
    /// Why it ended, once it has.
    end: watch::Receiver<Option<Error>>,
    ends: watch::Sender<Option<Error>>,
    /// Drains the keep-alive's answers.
    task: AbortHandle,
    /// How many locks, and places in elections, are held by each key: what a failed attempt must not take away.
    held: Mutex<BTreeMap<Bytes, usize>>,
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
        let held = Mutex::default();
        let inner = Inner { client, lease, ttl, listener, end, ends, task, held };
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
    /// the lease has: then it ends anyway.
    pub async fn close(&self) -> Result<(), Error> {
        self.orphan();
        let limit = self.inner.ttl.min(self.client().config().request_timeout);
        self.client().with_timeout(limit).lease_revoke(self.lease()).await?;
        Ok(())
    }

    /// The key of this session among those with the prefix.
    pub(super) fn key(&self, prefix: &[u8]) -> Bytes {
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!("{:x}", self.lease()).as_bytes());
        key.into()
    }

    /// Counts a holder of a key in until the result is dropped.
    pub(super) fn hold(&self, key: &Bytes) -> Hold {
        *self.inner.held().entry(key.clone()).or_default() += 1;
        Hold { session: self.clone(), key: key.clone() }
    }

    pub(super) fn holds(&self, key: &Bytes) -> bool {
        self.inner.held().contains_key(key)
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, BTreeMap<Bytes, usize>> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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

/// One holder of a key.
#[derive(Debug)]
pub(super) struct Hold {
    session: Session,
    key: Bytes,
}

impl Hold {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.session.inner.held();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}
