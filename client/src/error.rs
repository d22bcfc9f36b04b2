//! Why a call failed, by what the caller does next.

use kvorum_proto::errors::EtcdError;
use thiserror::Error as ThisError;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// Why a call failed.
///
/// The texts are those of etcd's own client, since scripts read them.
#[derive(Debug, ThisError)]
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
}

impl Error {
    /// The named error, if it is one.
    pub fn etcd(&self) -> Option<EtcdError> {
        match self {
            Error::Etcd(error) => Some(*error),
            _ => None,
        }
    }

    /// The gRPC code that etcd's client would show.
    pub fn code(&self) -> Code {
        match self {
            Error::Etcd(error) => error.code(),
            Error::Status(status) => status.code(),
            Error::DeadlineExceeded => Code::DeadlineExceeded,
            Error::NoEndpoints | Error::InvalidEndpoint { .. } => Code::InvalidArgument,
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
    fn every_deadline_reads_the_same() {
        let error = Error::from(Status::deadline_exceeded("etcdserver: context deadline exceeded"));
        assert_eq!(error.to_string(), "context deadline exceeded");
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }
}
