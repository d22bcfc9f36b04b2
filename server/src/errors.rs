//! How our errors reach a client: the one place where they become a gRPC status.
//!
//! etcd's own errors and their texts stand in [`EtcdError`]; what has no name there has its text here. Clients know an
//! error by its text, so every text is etcd's, or that of the gRPC library etcd is built on.
//!
//! Two errors go out with another code than the table has: etcd's servers send them as `Unknown` by an accident that
//! clients have come to rely on, and clients find the code of the table again by the text.

use kvorum_consensus::{
    BackupError, LeaseError, MemberChangeError, ProposeError, ReadBarrierError, TransferError,
};
use kvorum_machine::{CommandError, DefragmentError, RequestError};
use kvorum_proto::errors::EtcdError;
use tonic::{Code, Status};

use crate::memory::MemoryError;

/// The header that says why, where the text is etcd's and says less.
pub(crate) const REASON: &str = "kvorum-reason";

/// Why a call is answered with an error. It is shown as the text that goes out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum CallError {
    /// One of those that etcd has a name for.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// RangeStream in another order than by ascending key.
    #[error("RangeStream does not support custom sort orders")]
    StreamSortOrder,
    /// RangeStream with a bound on revisions.
    #[error("RangeStream does not support revision filters")]
    StreamRevisionFilter,
    /// A health check of a service that does not exist.
    #[error("unknown service")]
    HealthUnknown,
    /// What another service failed at that this one stands on. etcd's servers send it as `Unknown`, with its own text.
    #[error(transparent)]
    Relayed(Box<CallError>),
    /// Whose lease has ended while it waited for a lock.
    #[error("mutex: session is expired")]
    SessionExpired,
    /// Proclaim or Resign without a leader's key.
    #[error("\"leader\" field must be provided")]
    LeaderKeyMissing,
    /// Nobody leads.
    #[error("election: no leader")]
    ElectionNoLeader,
    /// Another one leads, or nobody.
    #[error("election: not leader")]
    ElectionNotLeader,
    /// A Downgrade with an action there is not.
    #[error("etcdserver: unknown method")]
    UnknownMethod,
    /// Another member was to lead, and does not in time. etcd's servers send it as `Unknown`.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    LeaderTransferTimedOut,
    /// The store was to move into a new one, and did not.
    #[error("etcdserver: not defragmented: {error}")]
    NotDefragmented { error: String, is_no_room: bool },
    /// A backup was to be made or sent, and was given up for the sake of others.
    #[error("etcdserver: {error}")]
    NoBackup { error: String, is_too_slow: bool },
    /// One more alarm of nobody in the cluster than there may be.
    #[error("etcdserver: too many alarms")]
    TooManyAlarms,
    /// As many watch streams are open as may be.
    #[error("etcdserver: too many watch streams")]
    TooManyWatchStreams,
    /// The process has as much memory as it may, and the request needs much, or puts something. Clients are told what etcd
    /// tells them where it has too much to do; why stands beside it.
    #[error("etcdserver: too many requests")]
    NoMemory { resident_bytes: u64, limit_bytes: u64 },
    /// The allocator is none of the member's business.
    #[error(
        "the member runs inside of a program whose allocator is its own: there is nothing to be read or set here"
    )]
    ForeignAllocator,
    /// A setting that cannot be.
    #[error("{0}")]
    BadSetting(String),
    /// A profile of a process that was started without a profiler.
    #[error("{0}")]
    NoProfiler(String),
    /// A setting that could be, and was not made.
    #[error("{0}")]
    NotSet(String),
    /// The deadline that the client set has passed.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The request, or its answer, is no message that can be taken.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The path names nothing that is served.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A fault of ours: the handler panicked, or got an answer it cannot get.
    #[error("etcdserver: internal error")]
    Internal,
}

/// What is wrong with a message, in the words of Go's gRPC.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum MessageError {
    /// Longer than the server takes, by the length it announces.
    #[error("grpc: received message larger than max ({bytes} vs. {bytes_max})")]
    ReceivedTooLarge { bytes: usize, bytes_max: usize },
    /// An answer longer than a message can be.
    #[error("grpc: trying to send message larger than max ({bytes} vs. {bytes_max})")]
    ReplyTooLarge { bytes: usize, bytes_max: usize },
    /// The stream ended within a message.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// The stream ended before a message.
    #[error("cardinality violation: received no request message from non-client-streaming RPC")]
    Missing,
    /// A second message where there may be one.
    #[error(
        "cardinality violation: received multiple request messages for non-client-streaming RPC"
    )]
    Second,
    /// The mark before the message is neither of the two there are.
    #[error("grpc: received unexpected payload format {0}")]
    UnknownFormat(u8),
    /// Compressed, with the name of the compression.
    #[error("grpc: Decompressor is not installed for grpc-encoding {0:?}")]
    Compressed(String),
    /// Compressed, without a name.
    #[error("grpc: compressed flag set with identity or empty encoding")]
    CompressedUnnamed,
    /// Not what the call takes.
    #[error("grpc: error unmarshalling request: {0}")]
    Undecodable(String),
    /// The connection failed while the message was read.
    #[error("transport is closing")]
    ConnectionFailed,
}

/// What is wrong with the path of a call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum MethodError {
    /// An RPC of etcd's that kvorum lacks, as `package.Service/Method`.
    #[error("kvorum does not serve {0} yet")]
    NotServed(String),
    /// No service of that name.
    #[error("unknown service {0}")]
    UnknownService(String),
    /// A service without a method of that name.
    #[error("unknown method {method} for service {service}")]
    UnknownMethod { service: String, method: String },
    /// No service and method at all.
    #[error("malformed method name: {0:?}")]
    Malformed(String),
}

impl CallError {
    pub(crate) fn defragment(error: &DefragmentError) -> CallError {
        CallError::NotDefragmented { error: error.to_string(), is_no_room: error.is_no_room() }
    }

    pub(crate) fn bad_setting(error: &dyn std::error::Error) -> CallError {
        CallError::BadSetting(error.to_string())
    }

    /// What a client is told beside the text, if anything.
    fn reason(&self) -> Option<String> {
        match self {
            CallError::NoMemory { resident_bytes, limit_bytes } => Some(format!(
                "memory: the process has {resident_bytes} of {limit_bytes} bytes, large requests are refused"
            )),
            _ => None,
        }
    }

    /// The code that goes out.
    pub(crate) fn code(&self) -> Code {
        match self {
            CallError::Etcd(error) => code_sent(*error),
            CallError::StreamSortOrder
            | CallError::StreamRevisionFilter
            | CallError::Method(_)
            | CallError::Message(MessageError::Compressed(_)) => Code::Unimplemented,
            CallError::Relayed(_)
            | CallError::UnknownMethod
            | CallError::LeaderTransferTimedOut
            | CallError::SessionExpired
            | CallError::LeaderKeyMissing
            | CallError::ElectionNoLeader
            | CallError::ElectionNotLeader
            | CallError::NoMemory { .. } => Code::Unknown,
            CallError::ForeignAllocator | CallError::NoProfiler(_) => Code::FailedPrecondition,
            CallError::BadSetting(_) => Code::InvalidArgument,
            CallError::HealthUnknown => Code::NotFound,
            CallError::DeadlineExceeded => Code::DeadlineExceeded,
            CallError::NotDefragmented { is_no_room: false, .. } => Code::Unknown,
            CallError::NoBackup { is_too_slow: true, .. } => Code::Aborted,
            CallError::NotDefragmented { is_no_room: true, .. }
            | CallError::NoBackup { is_too_slow: false, .. }
            | CallError::TooManyAlarms
            | CallError::TooManyWatchStreams
            | CallError::Message(
                MessageError::ReceivedTooLarge { .. } | MessageError::ReplyTooLarge { .. },
            ) => Code::ResourceExhausted,
            CallError::Message(MessageError::ConnectionFailed) => Code::Unavailable,
            CallError::Message(_) | CallError::NotSet(_) | CallError::Internal => Code::Internal,
        }
    }
}

/// The code that etcd's servers send, which for two errors is not the one of the table.
fn code_sent(error: EtcdError) -> Code {
    match error {
        EtcdError::RequestTooManyRequests | EtcdError::MemberNotEnoughStarted => Code::Unknown,
        other => other.code(),
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Status {
        // A text that does not change is not copied.
        match error {
            CallError::Etcd(named) => Status::new(code_sent(named), named.message()),
            other => {
                let mut status = Status::new(other.code(), other.to_string());
                if let Some(reason) = other.reason().and_then(|reason| reason.parse().ok()) {
                    status.metadata_mut().insert(REASON, reason);
                }
                status
            }
        }
    }
}

impl From<RequestError> for CallError {
    fn from(error: RequestError) -> CallError {
        let named = match error {
            RequestError::EmptyKey => EtcdError::EmptyKey,
            RequestError::OperationUnset => EtcdError::KeyNotFound,
            RequestError::ValueProvided => EtcdError::ValueProvided,
            RequestError::LeaseProvided => EtcdError::LeaseProvided,
            RequestError::TooManyOps => EtcdError::TooManyOps,
            RequestError::DuplicateKey => EtcdError::DuplicateKey,
            RequestError::InvalidSortOption => EtcdError::InvalidSortOption,
            RequestError::StreamSortOrder => return CallError::StreamSortOrder,
            RequestError::StreamRevisionFilter => return CallError::StreamRevisionFilter,
        };
        CallError::Etcd(named)
    }
}

impl From<CommandError> for CallError {
    fn from(error: CommandError) -> CallError {
        let named = match error {
            CommandError::Compacted => EtcdError::Compacted,
            CommandError::FutureRevision => EtcdError::FutureRev,
            CommandError::KeyNotFound => EtcdError::KeyNotFound,
            CommandError::LeaseNotFound => EtcdError::LeaseNotFound,
            CommandError::LeaseExists => EtcdError::LeaseExist,
            CommandError::LeaseTtlTooLarge => EtcdError::LeaseTtlTooLarge,
            CommandError::MemberNotFound => EtcdError::MemberNotFound,
            CommandError::MemberExists => EtcdError::MemberExist,
            CommandError::PeerUrlExists => EtcdError::PeerUrlExist,
            CommandError::TooManyLearners => EtcdError::TooManyLearners,
            CommandError::MemberNotLearner => EtcdError::MemberNotLearner,
            CommandError::NoSpace => EtcdError::NoSpace,
            CommandError::Corrupt => EtcdError::Corrupt,
            CommandError::DowngradeInProcess => EtcdError::DowngradeInProcess,
            CommandError::NoDowngrade => EtcdError::NoInflightDowngrade,
            CommandError::TooManyAlarms => return CallError::TooManyAlarms,
            CommandError::Invalid(error) => return error.into(),
            // etcd has no word for it: there, the cluster is gone.
            CommandError::LastVoter => EtcdError::MemberNotEnoughStarted,
            // The request was decoded before it was proposed.
            CommandError::Malformed => return CallError::Internal,
        };
        CallError::Etcd(named)
    }
}

impl From<ProposeError> for CallError {
    fn from(error: ProposeError) -> CallError {
        CallError::Etcd(match error {
            ProposeError::TooManyRequests => EtcdError::RequestTooManyRequests,
            ProposeError::NoSpace => EtcdError::NoSpace,
            ProposeError::Timeout => EtcdError::Timeout,
            ProposeError::TimeoutLeaderFailed => EtcdError::TimeoutDueToLeaderFail,
            ProposeError::TimeoutConnectionLost => EtcdError::TimeoutDueToConnectionLost,
            ProposeError::LeaderChanged => EtcdError::LeaderChanged,
            ProposeError::NotLeader => EtcdError::NotLeader,
            ProposeError::Stopped => EtcdError::Stopped,
            ProposeError::Command(error) => return error.into(),
        })
    }
}

impl From<LeaseError> for CallError {
    fn from(error: LeaseError) -> CallError {
        CallError::Etcd(match error {
            LeaseError::TooManyRequests => EtcdError::RequestTooManyRequests,
            LeaseError::NoLeader => EtcdError::NoLeader,
            LeaseError::Timeout => EtcdError::Timeout,
            LeaseError::Stopped => EtcdError::Stopped,
        })
    }
}

impl From<BackupError> for CallError {
    fn from(error: BackupError) -> CallError {
        CallError::Etcd(match error {
            BackupError::TooManyRequests => EtcdError::RequestTooManyRequests,
            BackupError::NoRoom { .. } | BackupError::GivenUp | BackupError::TooSlow { .. } => {
                let is_too_slow = matches!(error, BackupError::TooSlow { .. });
                return CallError::NoBackup { error: error.to_string(), is_too_slow };
            }
            BackupError::Stopped => EtcdError::Stopped,
            BackupError::Failed(error) => {
                tracing::error!(%error, "a backup failed");
                return CallError::Internal;
            }
        })
    }
}

impl From<MemoryError> for CallError {
    fn from(error: MemoryError) -> CallError {
        use kvorum_heap::{ChangeError, HeapError};
        match &error {
            MemoryError::Rules(_) | MemoryError::Request(_) => CallError::bad_setting(&error),
            MemoryError::Heap(HeapError::Change(ChangeError::NoProfiler)) => {
                CallError::NoProfiler(error.to_string())
            }
            MemoryError::Heap(HeapError::Change(
                ChangeError::Undone(_) | ChangeError::HalfUndone { .. },
            )) => CallError::NotSet(error.to_string()),
            MemoryError::Heap(HeapError::Change(_)) => CallError::bad_setting(&error),
            _ => CallError::NotSet(error.to_string()),
        }
    }
}

impl From<MemberChangeError> for CallError {
    fn from(error: MemberChangeError) -> CallError {
        CallError::Etcd(match error {
            MemberChangeError::NotEnoughStarted => EtcdError::MemberNotEnoughStarted,
            MemberChangeError::Unhealthy => EtcdError::Unhealthy,
            MemberChangeError::LearnerNotReady => EtcdError::LearnerNotReady,
            MemberChangeError::Propose(error) => return error.into(),
        })
    }
}

impl From<TransferError> for CallError {
    fn from(error: TransferError) -> CallError {
        match error {
            TransferError::NotLeader => EtcdError::NotLeader.into(),
            TransferError::Stopped => EtcdError::Stopped.into(),
            // The member has a vote, as was checked before. etcd waits for one that is behind until the time is over.
            TransferError::BadTransferee | TransferError::Timeout => {
                CallError::LeaderTransferTimedOut
            }
        }
    }
}

impl From<ReadBarrierError> for CallError {
    fn from(error: ReadBarrierError) -> CallError {
        CallError::Etcd(match error {
            ReadBarrierError::TooManyRequests => EtcdError::RequestTooManyRequests,
            ReadBarrierError::Timeout => EtcdError::Timeout,
            ReadBarrierError::TimeoutApplying => EtcdError::TimeoutWaitAppliedIndex,
            ReadBarrierError::Stopped => EtcdError::Stopped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(error: impl Into<CallError>) -> (i32, String) {
        let status = Status::from(error.into());
        (status.code() as i32, status.message().to_owned())
    }

    // Written out, and not taken from the table that is tested.
    #[test]
    fn every_error_that_kv_can_raise_has_etcds_code_and_text() {
        use CommandError as C;
        use ProposeError as P;
        use ReadBarrierError as B;
        use RequestError as R;
        let cases: [(CallError, i32, &str); 29] = [
            (R::EmptyKey.into(), 3, "etcdserver: key is not provided"),
            (R::OperationUnset.into(), 3, "etcdserver: key not found"),
            (R::ValueProvided.into(), 3, "etcdserver: value is provided"),
            (R::LeaseProvided.into(), 3, "etcdserver: lease is provided"),
            (R::TooManyOps.into(), 3, "etcdserver: too many operations in txn request"),
            (R::DuplicateKey.into(), 3, "etcdserver: duplicate key given in txn request"),
            (R::InvalidSortOption.into(), 3, "etcdserver: invalid sort option"),
            (R::StreamSortOrder.into(), 12, "RangeStream does not support custom sort orders"),
            (R::StreamRevisionFilter.into(), 12, "RangeStream does not support revision filters"),
            (C::Compacted.into(), 11, "etcdserver: mvcc: required revision has been compacted"),
            (
                C::FutureRevision.into(),
                11,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (C::KeyNotFound.into(), 3, "etcdserver: key not found"),
            (C::LeaseNotFound.into(), 5, "etcdserver: requested lease not found"),
            (C::LeaseExists.into(), 9, "etcdserver: lease already exists"),
            (C::LeaseTtlTooLarge.into(), 11, "etcdserver: too large lease TTL"),
            (C::MemberNotFound.into(), 5, "etcdserver: member not found"),
            (C::Invalid(R::EmptyKey).into(), 3, "etcdserver: key is not provided"),
            (P::TooManyRequests.into(), 2, "etcdserver: too many requests"),
            (P::NoSpace.into(), 8, "etcdserver: mvcc: database space exceeded"),
            (P::Timeout.into(), 14, "etcdserver: request timed out"),
            (
                P::TimeoutLeaderFailed.into(),
                14,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                P::TimeoutConnectionLost.into(),
                14,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            (P::LeaderChanged.into(), 14, "etcdserver: leader changed"),
            (P::Stopped.into(), 14, "etcdserver: server stopped"),
            (
                P::Command(C::Compacted).into(),
                11,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (B::TooManyRequests.into(), 2, "etcdserver: too many requests"),
            (B::Timeout.into(), 14, "etcdserver: request timed out"),
            (
                B::TimeoutApplying.into(),
                14,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            (B::Stopped.into(), 14, "etcdserver: server stopped"),
        ];
        for (error, code, text) in cases {
            assert_eq!(sent(error), (code, text.to_owned()));
        }
    }

    #[test]
    fn what_leases_locks_and_elections_raise_has_etcds_code_and_text() {
        use CallError as E;
        use LeaseError as L;
        let relayed = |error: CallError| E::Relayed(Box::new(error));
        let cases: [(CallError, i32, &str); 12] = [
            (L::TooManyRequests.into(), 2, "etcdserver: too many requests"),
            (L::NoLeader.into(), 14, "etcdserver: no leader"),
            (L::Timeout.into(), 14, "etcdserver: request timed out"),
            (L::Stopped.into(), 14, "etcdserver: server stopped"),
            (E::SessionExpired, 2, "mutex: session is expired"),
            (E::LeaderKeyMissing, 2, "\"leader\" field must be provided"),
            (E::ElectionNoLeader, 2, "election: no leader"),
            (E::ElectionNotLeader, 2, "election: not leader"),
            (
                relayed(CommandError::LeaseNotFound.into()),
                2,
                "etcdserver: requested lease not found",
            ),
            (relayed(RequestError::EmptyKey.into()), 2, "etcdserver: key is not provided"),
            (relayed(ReadBarrierError::Timeout.into()), 2, "etcdserver: request timed out"),
            (ProposeError::NotLeader.into(), 9, "etcdserver: not leader"),
        ];
        for (error, code, text) in cases {
            assert_eq!(sent(error), (code, text.to_owned()));
        }
    }

    #[test]
    fn what_changes_of_the_cluster_raise_has_etcds_code_and_text() {
        use CommandError as C;
        use MemberChangeError as M;
        let took_too_long = "etcdserver: request timed out, leader transfer took too long";
        let cases: [(CallError, i32, &str); 13] = [
            (
                M::NotEnoughStarted.into(),
                2,
                "etcdserver: re-configuration failed due to not enough started members",
            ),
            (M::Unhealthy.into(), 14, "etcdserver: unhealthy cluster"),
            (
                M::LearnerNotReady.into(),
                9,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (M::Propose(ProposeError::Timeout).into(), 14, "etcdserver: request timed out"),
            (C::MemberExists.into(), 9, "etcdserver: member ID already exist"),
            (C::PeerUrlExists.into(), 9, "etcdserver: Peer URLs already exists"),
            (C::TooManyLearners.into(), 9, "etcdserver: too many learner members in cluster"),
            (C::MemberNotLearner.into(), 9, "etcdserver: can only promote a learner member"),
            (EtcdError::MemberBadUrls.into(), 3, "etcdserver: given member URLs are invalid"),
            (EtcdError::BadLeaderTransferee.into(), 9, "etcdserver: bad leader transferee"),
            (TransferError::NotLeader.into(), 9, "etcdserver: not leader"),
            (TransferError::Timeout.into(), 2, took_too_long),
            (TransferError::BadTransferee.into(), 2, took_too_long),
        ];
        for (error, code, text) in cases {
            assert_eq!(sent(error), (code, text.to_owned()));
        }
    }

    #[test]
    fn what_calls_are_refused_with_before_a_handler_sees_them_is_etcds_too() {
        use EtcdError as E;
        let cases: [(CallError, i32, &str); 12] = [
            (E::InvalidClientApiVersion.into(), 3, "etcdserver: invalid client api version"),
            (E::NoLeader.into(), 14, "etcdserver: no leader"),
            (E::NotSupportedForLearner.into(), 9, "etcdserver: rpc not supported for learner"),
            (E::RequestTooLarge.into(), 3, "etcdserver: request is too large"),
            (E::RequestTooManyRequests.into(), 2, "etcdserver: too many requests"),
            (CallError::TooManyWatchStreams, 8, "etcdserver: too many watch streams"),
            (CallError::DeadlineExceeded, 4, "context deadline exceeded"),
            (
                MessageError::ReceivedTooLarge { bytes: 9, bytes_max: 8 }.into(),
                8,
                "grpc: received message larger than max (9 vs. 8)",
            ),
            (
                MessageError::ReplyTooLarge { bytes: 9, bytes_max: 8 }.into(),
                8,
                "grpc: trying to send message larger than max (9 vs. 8)",
            ),
            (
                MessageError::Compressed("gzip".to_owned()).into(),
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
            ),
            (
                MethodError::NotServed("etcdserverpb.Auth/UserAdd".to_owned()).into(),
                12,
                "kvorum does not serve etcdserverpb.Auth/UserAdd yet",
            ),
            (MethodError::UnknownService("a.B".to_owned()).into(), 12, "unknown service a.B"),
        ];
        for (error, code, text) in cases {
            assert_eq!(sent(error), (code, text.to_owned()));
        }
    }

    #[test]
    fn only_etcds_two_accidents_leave_with_another_code_than_the_table_has() {
        let differing: Vec<_> =
            EtcdError::ALL.iter().filter(|error| code_sent(**error) != error.code()).collect();
        assert_eq!(
            differing,
            [&EtcdError::MemberNotEnoughStarted, &EtcdError::RequestTooManyRequests]
        );
    }
}
