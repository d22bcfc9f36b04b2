//! The Maintenance service: how the member is doing.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::Read;
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{
    AlarmRequest, AlarmResponse, DowngradeInfo, HashKvRequest, HashKvResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusResponse,
};
use kvorum_proto::errors::EtcdError;
use kvorum_types::MemberId;

use super::context::Context;
use super::reads;
use super::reply::frame;
use crate::errors::{CallError, MethodError};
use crate::version::VERSIONS;

/// What this member knows of itself. Needs no leader.
pub(super) fn status(context: &Context) -> Result<Bytes, CallError> {
    let status = context.status();
    let store = context.reader().store();
    let sizes = store.sizes();
    let in_use_bytes = i64::try_from(sizes.in_use_bytes).unwrap_or(i64::MAX);
    let disk_bytes = i64::try_from(sizes.disk_bytes).unwrap_or(i64::MAX);
    let errors = match status.leader {
        Some(_) => Vec::new(),
        None => vec![EtcdError::NoLeader.message().to_owned()],
    };
    frame(&StatusResponse {
        header: context.header(store.revision()),
        version: VERSIONS.server.to_owned(),
        // Tools divide by it, and what is still in memory counts as used.
        db_size: disk_bytes.max(in_use_bytes).max(1),
        db_size_in_use: in_use_bytes,
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: shown_index(status.committed_index),
        raft_term: status.term,
        raft_applied_index: shown_index(status.applied_index),
        errors,
        is_learner: context.is_learner(),
        storage_version: VERSIONS.storage.to_owned(),
        db_size_quota: 0,
        downgrade_info: Some(DowngradeInfo::default()),
    })
}

/// An index as etcd counts, from 1; 0 is none.
fn shown_index(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
}

/// The alarms that are on. There are none: nothing raises one yet, and they cannot be raised or ended by hand either.
pub(super) async fn alarm(context: &Context, request: &AlarmRequest) -> Result<Bytes, CallError> {
    if request.action != AlarmAction::Get as i32 {
        let action = AlarmAction::try_from(request.action).map_or("?", |known| known.as_str_name());
        let refused = format!("etcdserverpb.Maintenance/Alarm with action {action}");
        return Err(MethodError::NotServed(refused).into());
    }
    // etcd has the answer agreed on by all members.
    context.read_barrier().await?;
    let header = context.header(context.reader().store().revision());
    frame(&AlarmResponse { header, alarms: Vec::new() })
}

/// Hands the leadership over. Only the leader does that, and only to a member with a vote.
pub(super) async fn move_leader(
    context: &Context,
    request: &MoveLeaderRequest,
) -> Result<Bytes, CallError> {
    let (own, target) = (context.member_id(), MemberId(request.target_id));
    if context.leader() != Some(own) {
        return Err(EtcdError::NotLeader.into());
    }
    if context.known(target).is_none_or(|member| member.is_learner) {
        return Err(EtcdError::BadLeaderTransferee.into());
    }
    // The leader has its own leadership already.
    if target != own {
        context.hand_over(target).await?;
        // The other one has won its election. Whoever asks it next is to find a leader that a majority has confirmed; should
        // that take too long, it leads all the same.
        let _ = context.read_barrier().await;
    }
    frame(&MoveLeaderResponse::default())
}

/// The hash of the keys up to a revision. Members with the same history have the same.
pub(super) async fn hash_kv(
    context: &Arc<Context>,
    request: HashKvRequest,
) -> Result<Bytes, CallError> {
    let view = context.reader().store().view();
    reads::answer(context, true, move |context| {
        let found = view.hash(request.revision).map_err(|error| context.read_error(error))?;
        Ok(HashKvResponse {
            header: context.header(view.revision()),
            hash: found.hash,
            compact_revision: found.compact_revision,
            hash_revision: found.revision,
        })
    })
    .await
}
