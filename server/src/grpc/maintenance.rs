//! The Maintenance service: how the member is doing.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::Read;
use kvorum_proto::api::etcdserverpb::{
    DowngradeInfo, HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusResponse,
};
use kvorum_proto::errors::EtcdError;
use kvorum_types::MemberId;

use super::alarm;
use super::context::Context;
use super::reads::{self, Size};
use super::reply::frame;
use crate::errors::CallError;
use crate::version::VERSIONS;

/// What this member knows of itself. Needs no leader.
pub(super) fn status(context: &Context) -> Result<Bytes, CallError> {
    let status = context.status();
    let store = context.reader().store();
    let sizes = store.sizes();
    let in_use_bytes = i64::try_from(sizes.in_use_bytes).unwrap_or(i64::MAX);
    let disk_bytes = i64::try_from(sizes.disk_bytes).unwrap_or(i64::MAX);
    let no_leader = status.leader.is_none().then(|| EtcdError::NoLeader.message().to_owned());
    let alarms = context.reader().alarms();
    let errors = no_leader.into_iter().chain(alarms.iter().map(alarm::in_words)).collect();
    let downgrade = context.reader().downgrade();
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
        db_size_quota: context.quota_bytes(),
        downgrade_info: Some(DowngradeInfo {
            enabled: downgrade.is_some(),
            target_version: downgrade.as_deref().unwrap_or_default().to_owned(),
        }),
    })
}

/// An index as etcd counts, from 1; 0 is none.
fn shown_index(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
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

/// The hash of all keys and their history since the last compaction. etcd's is one of its file, and tells nobody else
/// anything; this one is the same on members with the same history.
pub(super) async fn hash(context: &Arc<Context>) -> Result<Bytes, CallError> {
    let view = context.reader().store().view();
    reads::answer(context, Size::of(true), move |context| {
        let found = context.hash(&view, 0)?;
        Ok(HashResponse { header: context.header(view.revision()), hash: found.hash })
    })
    .await
}

/// The hash of the keys up to a revision. Members with the same history have the same.
pub(super) async fn hash_kv(
    context: &Arc<Context>,
    request: HashKvRequest,
) -> Result<Bytes, CallError> {
    let view = context.reader().store().view();
    reads::answer(context, Size::of(true), move |context| {
        let found = context.hash(&view, request.revision)?;
        Ok(HashKvResponse {
            header: context.header(view.revision()),
            hash: found.hash,
            compact_revision: found.compact_revision,
            hash_revision: found.revision,
        })
    })
    .await
}
