//! The fields format: `"Name" : value`, a line each.

use std::io::{Result, Write};

use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, MemberListResponse, PutResponse, RangeResponse,
    ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_client::api::mvccpb::KeyValue;

use super::{At, Health};
use crate::go::quote::quoted;

pub fn range(out: &mut dyn Write, answer: &RangeResponse) -> Result<()> {
    header(out, answer.header)?;
    answer.kvs.iter().try_for_each(|kv| key_value(out, "", kv))?;
    writeln!(out, "\"More\" : {}", answer.more)?;
    writeln!(out, "\"Count\" : {}", answer.count)
}

pub fn put(out: &mut dyn Write, answer: &PutResponse) -> Result<()> {
    header(out, answer.header)?;
    answer.prev_kv.iter().try_for_each(|kv| key_value(out, "Prev", kv))
}

pub fn delete(out: &mut dyn Write, answer: &DeleteRangeResponse) -> Result<()> {
    header(out, answer.header)?;
    writeln!(out, "\"Deleted\" : {}", answer.deleted)?;
    answer.prev_kvs.iter().try_for_each(|kv| key_value(out, "Prev", kv))
}

pub fn txn(out: &mut dyn Write, answer: &TxnResponse) -> Result<()> {
    header(out, answer.header)?;
    writeln!(out, "\"Succeeded\" : {}", answer.succeeded)?;
    for operation in &answer.responses {
        match &operation.response {
            Some(Response::ResponseRange(answer)) => range(out, answer)?,
            Some(Response::ResponsePut(answer)) => put(out, answer)?,
            Some(Response::ResponseDeleteRange(answer)) => delete(out, answer)?,
            Some(Response::ResponseTxn(_)) | None => writeln!(out, "\"Unknown\" : \"\"")?,
        }
    }
    Ok(())
}

pub fn watch(out: &mut dyn Write, answer: &WatchResponse) -> Result<()> {
    header(out, answer.header)?;
    for event in &answer.events {
        writeln!(out, "\"Type\" : {}", event.r#type().as_str_name())?;
        event.prev_kv.iter().try_for_each(|kv| key_value(out, "Prev", kv))?;
        event.kv.iter().try_for_each(|kv| key_value(out, "", kv))?;
    }
    Ok(())
}

pub fn members(out: &mut dyn Write, answer: &MemberListResponse) -> Result<()> {
    header(out, answer.header)?;
    for member in &answer.members {
        writeln!(out, "\"ID\" : {}", member.id)?;
        text(out, "Name", &member.name)?;
        member.peer_ur_ls.iter().try_for_each(|url| text(out, "PeerURL", url))?;
        member.client_ur_ls.iter().try_for_each(|url| text(out, "ClientURL", url))?;
        writeln!(out, "\"IsLearner\" : {}", member.is_learner)?;
        writeln!(out)?;
    }
    Ok(())
}

pub fn health(out: &mut dyn Write, endpoints: &[Health]) -> Result<()> {
    for Health { endpoint, healthy, took, error } in endpoints {
        text(out, "Endpoint", endpoint)?;
        writeln!(out, "\"Health\" : {healthy}")?;
        writeln!(out, "\"Took\" : {took}")?;
        writeln!(out, "\"Error\" : {error}")?;
        writeln!(out)?;
    }
    Ok(())
}

pub fn status(out: &mut dyn Write, endpoints: &[At<StatusResponse>]) -> Result<()> {
    for (endpoint, status) in endpoints {
        header(out, status.header)?;
        text(out, "Version", &status.version)?;
        writeln!(out, "\"DBSize\" : {}", status.db_size)?;
        writeln!(out, "\"Leader\" : {}", status.leader)?;
        writeln!(out, "\"IsLearner\" : {}", status.is_learner)?;
        writeln!(out, "\"RaftIndex\" : {}", status.raft_index)?;
        writeln!(out, "\"RaftTerm\" : {}", status.raft_term)?;
        writeln!(out, "\"RaftAppliedIndex\" : {}", status.raft_applied_index)?;
        writeln!(out, "\"Errors\" : [{}]", status.errors.join(" "))?;
        text(out, "Endpoint", endpoint)?;
        writeln!(out)?;
    }
    Ok(())
}

pub fn hashes(out: &mut dyn Write, endpoints: &[At<HashKvResponse>]) -> Result<()> {
    for (endpoint, answer) in endpoints {
        header(out, answer.header)?;
        text(out, "Endpoint", endpoint)?;
        writeln!(out, "\"Hash\" : {}", answer.hash)?;
        writeln!(out)?;
    }
    Ok(())
}

pub fn header(out: &mut dyn Write, header: Option<ResponseHeader>) -> Result<()> {
    let header = header.unwrap_or_default();
    writeln!(out, "\"ClusterID\" : {}", header.cluster_id)?;
    writeln!(out, "\"MemberID\" : {}", header.member_id)?;
    writeln!(out, "\"Revision\" : {}", header.revision)?;
    writeln!(out, "\"RaftTerm\" : {}", header.raft_term)
}

fn key_value(out: &mut dyn Write, prefix: &str, kv: &KeyValue) -> Result<()> {
    writeln!(out, "\"{prefix}Key\" : {}", quoted(&kv.key))?;
    writeln!(out, "\"{prefix}CreateRevision\" : {}", kv.create_revision)?;
    writeln!(out, "\"{prefix}ModRevision\" : {}", kv.mod_revision)?;
    writeln!(out, "\"{prefix}Version\" : {}", kv.version)?;
    writeln!(out, "\"{prefix}Value\" : {}", quoted(&kv.value))?;
    writeln!(out, "\"{prefix}Lease\" : {}", kv.lease)
}

fn text(out: &mut dyn Write, name: &str, value: &str) -> Result<()> {
    writeln!(out, "\"{name}\" : {}", quoted(value.as_bytes()))
}
