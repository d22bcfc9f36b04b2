//! What etcd's servers say when they refuse: every error that has a name, with its gRPC code and its exact text.
//!
//! The text is the contract. A client recognises an error by it and takes the code from this table, whatever code came
//! with it; so a server must send it to the letter. This is the one such table: servers write from it, clients read with
//! it.

use tonic::{Code, Status};

macro_rules! etcd_errors {
    ($($name:ident, $code:ident, $known:literal, $message:literal;)*) => {
        /// An error of etcd's API that clients can tell from others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum EtcdError {
            $(
                #[doc = concat!("`", $message, "`, ", stringify!($code))]
                $name,
            )*
        }

        impl EtcdError {
            /// Every error, in the order etcd declares them.
            pub const ALL: &[EtcdError] = &[$(EtcdError::$name),*];

            /// The gRPC code that belongs to the error. Two errors, `RequestTooManyRequests` and
            /// `MemberNotEnoughStarted`, leave etcd's servers as Unknown; clients show this code all the same.
            pub const fn code(self) -> Code {
                match self {
                    $(EtcdError::$name => Code::$code,)*
                }
            }

            /// The text, as it is on the wire.
            pub const fn message(self) -> &'static str {
                match self {
                    $(EtcdError::$name => $message,)*
                }
            }

            /// Whether etcd's own clients recognise the error; of the others they show the raw status.
            pub const fn is_known_to_clients(self) -> bool {
                match self {
                    $(EtcdError::$name => $known,)*
                }
            }

            /// The error with exactly this text, if there is one.
            pub fn from_message(message: &str) -> Option<EtcdError> {
                match message {
                    $($message => Some(EtcdError::$name),)*
                    _ => None,
                }
            }
        }
    };
}

// Name, code, known to clients, text.
etcd_errors! {
    EmptyKey, InvalidArgument, true, "etcdserver: key is not provided";
    KeyNotFound, InvalidArgument, true, "etcdserver: key not found";
    ValueProvided, InvalidArgument, true, "etcdserver: value is provided";
    LeaseProvided, InvalidArgument, true, "etcdserver: lease is provided";
    TooManyOps, InvalidArgument, true, "etcdserver: too many operations in txn request";
    DuplicateKey, InvalidArgument, true, "etcdserver: duplicate key given in txn request";
    InvalidClientApiVersion, InvalidArgument, false, "etcdserver: invalid client api version";
    InvalidSortOption, InvalidArgument, true, "etcdserver: invalid sort option";
    Compacted, OutOfRange, true, "etcdserver: mvcc: required revision has been compacted";
    FutureRev, OutOfRange, true, "etcdserver: mvcc: required revision is a future revision";
    NoSpace, ResourceExhausted, true, "etcdserver: mvcc: database space exceeded";
    LeaseNotFound, NotFound, true, "etcdserver: requested lease not found";
    LeaseExist, FailedPrecondition, true, "etcdserver: lease already exists";
    LeaseTtlTooLarge, OutOfRange, true, "etcdserver: too large lease TTL";
    WatchCanceled, Cancelled, false, "etcdserver: watch canceled";
    MemberExist, FailedPrecondition, true, "etcdserver: member ID already exist";
    PeerUrlExist, FailedPrecondition, true, "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted, FailedPrecondition, true, "etcdserver: re-configuration failed due to not enough started members";
    MemberBadUrls, InvalidArgument, true, "etcdserver: given member URLs are invalid";
    MemberNotFound, NotFound, true, "etcdserver: member not found";
    MemberNotLearner, FailedPrecondition, true, "etcdserver: can only promote a learner member";
    LearnerNotReady, FailedPrecondition, true, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners, FailedPrecondition, true, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch, FailedPrecondition, true, "etcdserver: cluster ID mismatch";
    RequestTooLarge, InvalidArgument, true, "etcdserver: request is too large";
    RequestTooManyRequests, ResourceExhausted, true, "etcdserver: too many requests";
    RootUserNotExist, FailedPrecondition, true, "etcdserver: root user does not exist";
    RootRoleNotExist, FailedPrecondition, true, "etcdserver: root user does not have root role";
    UserAlreadyExist, FailedPrecondition, true, "etcdserver: user name already exists";
    UserEmpty, InvalidArgument, true, "etcdserver: user name is empty";
    UserNotFound, FailedPrecondition, true, "etcdserver: user name not found";
    RoleAlreadyExist, FailedPrecondition, true, "etcdserver: role name already exists";
    RoleNotFound, FailedPrecondition, true, "etcdserver: role name not found";
    RoleEmpty, InvalidArgument, true, "etcdserver: role name is empty";
    AuthFailed, InvalidArgument, true, "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven, InvalidArgument, false, "etcdserver: permission not given";
    PermissionDenied, PermissionDenied, true, "etcdserver: permission denied";
    RoleNotGranted, FailedPrecondition, true, "etcdserver: role is not granted to the user";
    PermissionNotGranted, FailedPrecondition, true, "etcdserver: permission is not granted to the role";
    AuthNotEnabled, FailedPrecondition, true, "etcdserver: authentication is not enabled";
    InvalidAuthToken, Unauthenticated, true, "etcdserver: invalid auth token";
    InvalidAuthMgmt, InvalidArgument, true, "etcdserver: invalid auth management";
    AuthOldRevision, InvalidArgument, true, "etcdserver: revision of auth store is old";
    NoLeader, Unavailable, true, "etcdserver: no leader";
    NotLeader, FailedPrecondition, true, "etcdserver: not leader";
    LeaderChanged, Unavailable, true, "etcdserver: leader changed";
    NotCapable, FailedPrecondition, true, "etcdserver: not capable";
    Stopped, Unavailable, true, "etcdserver: server stopped";
    Timeout, Unavailable, true, "etcdserver: request timed out";
    TimeoutDueToLeaderFail, Unavailable, true, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost, Unavailable, true, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex, Unavailable, false, "etcdserver: request timed out, waiting for the applied index took too long";
    Unhealthy, Unavailable, true, "etcdserver: unhealthy cluster";
    Corrupt, DataLoss, true, "etcdserver: corrupt cluster";
    NotSupportedForLearner, FailedPrecondition, true, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee, FailedPrecondition, true, "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat, InvalidArgument, true, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion, InvalidArgument, true, "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable, FailedPrecondition, true, "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess, FailedPrecondition, true, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade, FailedPrecondition, true, "etcdserver: no inflight downgrade job";
    Canceled, Cancelled, false, "etcdserver: request canceled";
    DeadlineExceeded, DeadlineExceeded, false, "etcdserver: context deadline exceeded";
}

impl std::fmt::Display for EtcdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for EtcdError {}

impl From<EtcdError> for Status {
    fn from(error: EtcdError) -> Status {
        Status::new(error.code(), error.message())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::EtcdError;

    #[test]
    fn texts_are_distinct_and_found_again() {
        let texts: BTreeSet<&str> = EtcdError::ALL.iter().map(|error| error.message()).collect();
        assert_eq!(texts.len(), EtcdError::ALL.len());
        assert_eq!(texts.len(), 63);
        for error in EtcdError::ALL {
            assert_eq!(EtcdError::from_message(error.message()), Some(*error));
            assert!(error.message().starts_with("etcdserver: "));
        }
        assert_eq!(EtcdError::from_message("etcdserver: key is not provided "), None);
    }

    #[test]
    fn clients_do_not_know_six_of_them() {
        let unknown: Vec<&EtcdError> =
            EtcdError::ALL.iter().filter(|error| !error.is_known_to_clients()).collect();
        let expected = [
            EtcdError::InvalidClientApiVersion,
            EtcdError::WatchCanceled,
            EtcdError::PermissionNotGiven,
            EtcdError::TimeoutWaitAppliedIndex,
            EtcdError::Canceled,
            EtcdError::DeadlineExceeded,
        ];
        assert_eq!(unknown, expected.iter().collect::<Vec<_>>());
    }
}
