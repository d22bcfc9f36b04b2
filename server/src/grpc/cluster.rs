//! The Cluster service: who belongs to the cluster.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;

/// The members, sorted by id.
pub(super) async fn member_list(
    context: &Context,
    request: &MemberListRequest,
) -> Result<Bytes, CallError> {
    if request.linearizable {
        context.read_barrier().await?;
    }
    let members = context.reader().members();
    frame(&MemberListResponse {
        // Answers about the cluster carry no revision.
        header: context.header(0),
        members: members.iter().map(shown_member).collect(),
    })
}

fn shown_member(member: &kvorum_machine::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
