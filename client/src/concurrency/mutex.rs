//! One holder at a time.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::{Compare, ResponseHeader};

use super::queue::{First, Place, created_at, prefix, release};
use super::session::Session;
use crate::error::Error;

/// A lock that sessions of this and other programs contend for by its name. Who asks first holds it first.
///
/// A session counts once: tasks that share one also share what it locks, and the release by one is the release by all; one
/// that still waits then waits on, at the end of the queue. To contend among tasks give each a session of its own, or use a
/// lock within the process first.
///
/// See the module [`concurrency`](crate::concurrency) for what holding a lock does not mean.
#[derive(Clone, Debug)]
pub struct Mutex {
    session: Session,
    prefix: Bytes,
}

/// A lock that is held. Dropping it releases nothing: the lock is held until [`Lock::unlock`] or the end of the session.
#[derive(Debug)]
#[must_use = "the lock is held until it is unlocked or its session ends"]
pub struct Lock {
    session: Session,
    key: Bytes,
    revision: i64,
    header: ResponseHeader,
}

impl Mutex {
    /// The lock of this name, for a session. Its keys are the name, a slash, and the lease in hexadecimal.
    pub fn new(session: &Session, name: impl AsRef<[u8]>) -> Mutex {
        Mutex { session: session.clone(), prefix: prefix(name.as_ref()) }
    }

    /// Waits for the lock as long as it takes, or until the session has ended: [`Error::SessionExpired`].
    ///
    /// If the future is dropped or fails, the place in the queue is given up by a task of its own, unless another task of the
    /// session waits at it too. The task keeps at it as long as the session lives; a session that is used for nothing else
    /// any more it keeps alive for some seconds.
    pub async fn lock(&self) -> Result<Lock, Error> {
        Ok(self.locked(self.enter().await?.wait().await?))
    }

    /// Takes the lock if nobody holds it; otherwise fails with [`Error::Locked`].
    pub async fn try_lock(&self) -> Result<Lock, Error> {
        let place = self.enter().await?;
        if place.is_first() {
            return Ok(self.locked(place.first()?));
        }
        place.leave().await;
        Err(Error::Locked)
    }

    async fn enter(&self) -> Result<Place, Error> {
        Place::enter(&self.session, &self.prefix, &Bytes::new()).await
    }

    fn locked(&self, First { key, revision, header }: First) -> Lock {
        Lock { session: self.session.clone(), key, revision, header }
    }
}

impl Lock {
    /// The key that stands for the lock.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// A number that is greater for every later holder of the lock: the create revision of its key. Whoever acts on behalf
    /// of the holder must refuse a token that is less than one it has seen.
    pub fn fencing_token(&self) -> i64 {
        self.revision
    }

    /// The comparison that makes a transaction fail unless the lock is still held.
    pub fn is_owner(&self) -> Compare {
        created_at(self.key(), self.revision)
    }

    /// The session that holds it. When that ends, the lock is lost.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The header of the answer by which the lock became held.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// Releases the lock. Fails with [`Error::LockReleased`] if it was not held any more: others may have held it since, and
    /// what was done without the fencing token may have met what they did.
    pub async fn unlock(&self) -> Result<(), Error> {
        let answer = release(&self.session, &self.key, self.revision).await?;
        if answer.succeeded { Ok(()) } else { Err(Error::LockReleased) }
    }
}
