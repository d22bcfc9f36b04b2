//! The Cluster service: who belongs to the cluster, and changing that.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use kvorum_consensus::MemberChange;
use kvorum_machine as machine;
use kvorum_proto::api::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use kvorum_proto::errors::EtcdError;
use kvorum_types::MemberId;

use super::context::Context;
use super::method::MemberMethod;
use super::reply::frame;
use super::service::decode;
use crate::config::ServerUrl;
use crate::config::identity::member_id;
use crate::errors::CallError;

/// Answers a call of the service.
pub(super) async fn unary(
    context: &Context,
    method: MemberMethod,
    headers: &HeaderMap,
    encoded: &Bytes,
) -> Result<Bytes, CallError> {
    match method {
        MemberMethod::Add => {
            let request: MemberAddRequest = decode(encoded)?;
            context.admit(headers, false)?;
            add(context, request).await
        }
        MemberMethod::Remove => {
            let MemberRemoveRequest { id } = decode(encoded)?;
            context.admit(headers, false)?;
            let members = change(context, MemberChange::Remove { id: MemberId(id) }).await?;
            frame(&MemberRemoveResponse { header: context.header(0), members })
        }
        MemberMethod::Update => {
            let request: MemberUpdateRequest = decode(encoded)?;
            context.admit(headers, false)?;
            let (id, peer_urls) = (MemberId(request.id), texts(&parse(&request.peer_ur_ls)?));
            let members = change(context, MemberChange::Update { id, peer_urls }).await?;
            frame(&MemberUpdateResponse { header: context.header(0), members })
        }
        MemberMethod::List => {
            let request: MemberListRequest = decode(encoded)?;
            context.admit(headers, false)?;
            list(context, &request).await
        }
        MemberMethod::Promote => {
            let MemberPromoteRequest { id } = decode(encoded)?;
            context.admit(headers, false)?;
            let members = change(context, MemberChange::Promote { id: MemberId(id) }).await?;
            frame(&MemberPromoteResponse { header: context.header(0), members })
        }
    }
}

/// Adds a member under a new id. It is to be started after that, and finds its id by its addresses.
async fn add(context: &Context, request: MemberAddRequest) -> Result<Bytes, CallError> {
    let mut urls = parse(&request.peer_ur_ls)?;
    urls.sort();
    let (peer_urls, is_learner) = (texts(&urls), request.is_learner);
    let joined_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // etcd leaves the cluster's token out, so that the time alone tells apart who was at these addresses.
    let id = member_id(&peer_urls, "", Some(joined_at));
    let added = MemberChange::Add { id, peer_urls: peer_urls.clone(), is_learner };
    let members = change(context, added).await?;
    let member = Member { id: id.0, peer_ur_ls: peer_urls, is_learner, ..Member::default() };
    frame(&MemberAddResponse { header: context.header(0), member: Some(member), members })
}

async fn change(context: &Context, change: MemberChange) -> Result<Vec<Member>, CallError> {
    Ok(context.change_members(change).await?.iter().map(shown).collect())
}

/// Reads peer URLs. etcd leaves those of an update to the client to check; what cannot be dialled is refused here too.
fn parse(urls: &[String]) -> Result<Vec<ServerUrl>, CallError> {
    let parsed = urls.iter().map(|url| url.parse()).collect::<Result<Vec<ServerUrl>, _>>();
    match parsed {
        Ok(urls) if !urls.is_empty() => Ok(urls),
        Ok(_) | Err(_) => Err(EtcdError::MemberBadUrls.into()),
    }
}

fn texts(urls: &[ServerUrl]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

/// The members, sorted by id.
async fn list(context: &Context, request: &MemberListRequest) -> Result<Bytes, CallError> {
    if request.linearizable {
        context.read_barrier().await?;
    }
    let members = context.reader().members();
    // Answers about the cluster carry no revision.
    frame(&MemberListResponse {
        header: context.header(0),
        members: members.iter().map(shown).collect(),
    })
}

fn shown(member: &machine::Member) -> Member {
    Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
