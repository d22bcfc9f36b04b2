//! Why a call failed, by what the caller does next.

use kvorum_proto::errors::EtcdError;
use thiserror::Error as ThisError;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// Why a call failed.
///
/// The texts are those of etcd's own client, since scripts read them.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The server refused, for a reason that has a name.
    #[error("{0}")]
    Etcd(EtcdError),
    /// The server or the connection failed in a way that has none.
    #[error("rpc error: code = {} desc = {}", code_name(.0.code()), .0.message())]
    Status(Status),
    /// The time was up. Whether a write was done is unknown.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The configuration names no endpoint.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,
    /// The configuration names something that is no endpoint.
    #[error("bad endpoint {endpoint:?}: {reason}")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A member's peers cannot be told to find it there.
    #[error("{reason}")]
    InvalidPeerUrl {
        /// What is wrong, with the URL.
        reason: String,
    },
    /// What the watch wants next has been compacted away.
    #[error("{}", EtcdError::Compacted)]
    Compacted {
        /// The first revision that is still to be had.
        compact_revision: i64,
    },
    /// The server will not serve the watch.
    #[error("{reason}")]
    WatchCanceled {
        /// Why, in the server's words.
        reason: String,
    },
    /// The server sent the watch an event that cannot follow what was there before.
    #[error(
        "watch: an event of revision {received} came where {expected} was the least there could be"
    )]
    WatchDisorder {
        /// The least revision that could have come.
        expected: i64,
        /// The one that did.
        received: i64,
    },
    /// The watch has ended, and has said why.
    #[error("the watch has ended")]
    WatchEnded,
    /// The client has as many watches as it may.
    #[error("too many watches")]
    TooManyWatches,
    /// No keep-alive was answered for a whole TTL: the servers may have ended the lease.
    #[error("the lease has expired: no keep-alive was answered in time")]
    LeaseExpired,
    /// The client keeps as many leases as it may.
    #[error("too many leases")]
    TooManyLeases,
    /// The session was left by its own user: its lease is kept no more.
    #[error("the session was left")]
    SessionLeft,
    /// The session's lease is lost, and with it the lock or the place in the queue.
    #[error("mutex: session is expired")]
    SessionExpired,
    /// Another session holds the lock.
    #[error("mutex: Locked by another session")]
    Locked,
    /// The lock was not held any more when it was to be released: others may have held it since.
    #[error("mutex: lock has already been released")]
    LockReleased,
    /// The session leads no more, or never did.
    #[error("election: not leader")]
    NotElected,
    /// Nobody leads.
    #[error("election: no leader")]
    NobodyElected,
    /// A transaction met others in its way each time it was tried.
    #[error("the transaction met conflicts {attempts} times")]
    TooManyConflicts {
        /// How often it was tried.
        attempts: u32,
    },
}

impl Error {
    /// The named error, if it is one.
    pub fn etcd(&self) -> Option<EtcdError> {
        match self {
            Error::Etcd(error) => Some(*error),
            Error::Compacted { .. } => Some(EtcdError::Compacted),
            Error::WatchCanceled { reason } => named_in(reason),
            _ => None,
        }
    }

    /// The gRPC code that etcd's client would show.
    pub fn code(&self) -> Code {
        match self {
            Error::Etcd(error) => error.code(),
            Error::Status(status) => status.code(),
            Error::DeadlineExceeded => Code::DeadlineExceeded,
            Error::NoEndpoints | Error::InvalidEndpoint { .. } | Error::InvalidPeerUrl { .. } => {
                Code::InvalidArgument
            }
            Error::Compacted { .. } => EtcdError::Compacted.code(),
            Error::WatchCanceled { reason } => {
                named_in(reason).map_or(Code::FailedPrecondition, EtcdError::code)
            }
            Error::WatchDisorder { .. } => Code::DataLoss,
            Error::WatchEnded => Code::FailedPrecondition,
            Error::TooManyWatches | Error::TooManyLeases => Code::ResourceExhausted,
            Error::LeaseExpired | Error::SessionExpired => EtcdError::LeaseNotFound.code(),
            Error::SessionLeft
            | Error::Locked
            | Error::LockReleased
            | Error::NotElected
            | Error::NobodyElected => Code::FailedPrecondition,
            Error::TooManyConflicts { .. } => Code::Aborted,
        }
    }
}

impl From<Status> for Error {
    /// Recognises etcd's errors by their text, as etcd's client does: the code then comes from the table, not from the
    /// wire.
    fn from(status: Status) -> Error {
        match EtcdError::from_message(status.message()) {
            Some(error) if error.is_known_to_clients() => Error::Etcd(error),
            _ if is_deadline(&status) => Error::DeadlineExceeded,
            _ => Error::Status(status),
        }
    }
}

/// Whether the request certainly never left: no connection could be made.
pub(crate) fn was_never_sent(status: &Status) -> bool {
    status.code() == Code::Unavailable && has_source::<ConnectError>(status)
}

/// The named error in a text that may be a whole gRPC status as Go prints it.
fn named_in(text: &str) -> Option<EtcdError> {
    let name = text.split_once(" desc = ").map_or(text, |(_, description)| description);
    EtcdError::from_message(name)
}

fn is_deadline(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded || has_source::<TimeoutExpired>(status)
}

fn has_source<T: std::error::Error + 'static>(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<T>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// A code as Go's gRPC spells it.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".into(),
        Code::Cancelled => "Canceled".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::errors::EtcdError;
    use tonic::{Code, Status};

    use super::Error;

    #[test]
    fn named_errors_are_known_by_their_text_alone() {
        let error = Error::from(Status::unknown("etcdserver: too many requests"));
        assert_eq!(error.etcd(), Some(EtcdError::RequestTooManyRequests));
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.to_string(), "etcdserver: too many requests");
    }

    #[test]
    fn other_errors_show_the_status_as_go_does() {
        let error = Error::from(Status::unimplemented("no such thing"));
        assert_eq!(error.to_string(), "rpc error: code = Unimplemented desc = no such thing");
        let error = Error::from(Status::cancelled("etcdserver: watch canceled"));
        assert_eq!(
            error.to_string(),
            "rpc error: code = Canceled desc = etcdserver: watch canceled"
        );
    }

    #[test]
    fn the_reason_of_a_refused_watch_may_hold_a_name() {
        let refused = |reason: &str| Error::WatchCanceled { reason: reason.into() };
        let text = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        let error = refused(text);
        assert_eq!(
            (error.etcd(), error.code()),
            (Some(EtcdError::PermissionDenied), Code::PermissionDenied)
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(refused("mvcc: watcher range is empty").etcd(), None);
        let compacted = Error::Compacted { compact_revision: 7 };
        assert_eq!(compacted.etcd(), Some(EtcdError::Compacted));
        assert_eq!(compacted.to_string(), "etcdserver: mvcc: required revision has been compacted");
    }

    #[test]
    fn every_deadline_reads_the_same() {
        let error = Error::from(Status::deadline_exceeded("etcdserver: context deadline exceeded"));
        assert_eq!(error.to_string(), "context deadline exceeded");
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }
}
