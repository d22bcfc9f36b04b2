//! The JSON format: one line, fields under the names of the protobuf messages.

use std::io::{Result, Write};

use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::{
    DeleteRangeResponse, DowngradeInfo, HashKvResponse, Member, MemberListResponse, PutResponse,
    RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_client::api::mvccpb::{Event, KeyValue};

use super::{At, Health};
use crate::go::json::{Object, array, string};

/// Writes an object and ends the line.
pub fn line(out: &mut dyn Write, object: Object) -> Result<()> {
    writeln!(out, "{}", object.finish())
}

pub fn range(answer: &RangeResponse) -> Object {
    with_header(answer.header)
        .list("kvs", answer.kvs.iter().map(|kv| key_value(kv).finish()))
        .flag("more", answer.more)
        .number("count", answer.count)
}

pub fn put(answer: &PutResponse) -> Object {
    with_header(answer.header).object("prev_kv", answer.prev_kv.as_ref().map(key_value))
}

pub fn delete(answer: &DeleteRangeResponse) -> Object {
    with_header(answer.header)
        .number("deleted", answer.deleted)
        .list("prev_kvs", answer.prev_kvs.iter().map(|kv| key_value(kv).finish()))
}

pub fn txn(answer: &TxnResponse) -> Object {
    with_header(answer.header)
        .flag("succeeded", answer.succeeded)
        .list("responses", answer.responses.iter().map(operation))
}

fn operation(operation: &ResponseOp) -> String {
    let answer = match &operation.response {
        Some(Response::ResponseRange(answer)) => ("response_range", range(answer)),
        Some(Response::ResponsePut(answer)) => ("response_put", put(answer)),
        Some(Response::ResponseDeleteRange(answer)) => ("response_delete_range", delete(answer)),
        Some(Response::ResponseTxn(answer)) => ("response_txn", txn(answer)),
        None => return Object::new().always("Response", "null").finish(),
    };
    let (name, answer) = answer;
    Object::new().object("Response", Some(Object::new().object(name, Some(answer)))).finish()
}

/// A watch response has the names of a Go struct, not of the message.
pub fn watch(answer: &WatchResponse) -> Object {
    let events = match answer.header {
        Some(_) => array(answer.events.iter().map(event)),
        None => "null".into(),
    };
    Object::new()
        .object("Header", Some(header(answer.header.unwrap_or_default())))
        .always("Events", &events)
        .always("CompactRevision", &answer.compact_revision.to_string())
        .always("Canceled", &answer.canceled.to_string())
        .always("Created", &answer.created.to_string())
}

fn event(event: &Event) -> String {
    Object::new()
        .number("type", event.r#type)
        .object("kv", event.kv.as_ref().map(key_value))
        .object("prev_kv", event.prev_kv.as_ref().map(key_value))
        .finish()
}

pub fn members(answer: &MemberListResponse) -> Object {
    with_header(answer.header).list("members", answer.members.iter().map(member))
}

/// A member, as the text of its object.
pub fn member(member: &Member) -> String {
    member_object(member).finish()
}

/// A member.
pub fn member_object(member: &Member) -> Object {
    Object::new()
        .number("ID", member.id)
        .text("name", &member.name)
        .list("peerURLs", member.peer_ur_ls.iter().map(|url| string(url)))
        .list("clientURLs", member.client_ur_ls.iter().map(|url| string(url)))
        .flag("isLearner", member.is_learner)
}

/// Members with ids in hexadecimal. The names differ from the plain form in one place, as they do in etcdctl 3.5.
pub fn members_hex(answer: &MemberListResponse) -> Object {
    let header = answer.header.unwrap_or_default();
    let header = Object::new()
        .always("cluster_id", &hexadecimal(header.cluster_id))
        .always("member_id", &hexadecimal(header.member_id))
        .always("raft_term", &format!("{:x}", header.raft_term));
    let urls = |urls: &[String]| array(urls.iter().map(|url| string(url)));
    let member = |member: &Member| {
        Object::new()
            .always("ID", &hexadecimal(member.id))
            .always("name", &string(&member.name))
            .always("peerURLs", &urls(&member.peer_ur_ls))
            .always("clientURLS", &urls(&member.client_ur_ls))
            .finish()
    };
    Object::new().object("header", Some(header)).list("members", answer.members.iter().map(member))
}

fn hexadecimal(id: u64) -> String {
    format!("\"{id:x}\"")
}

pub fn health(endpoints: &[Health]) -> String {
    array(endpoints.iter().map(|Health { endpoint, healthy, took, error }| {
        Object::new()
            .always("endpoint", &string(endpoint))
            .always("health", &healthy.to_string())
            .always("took", &string(took))
            .text("error", error)
            .finish()
    }))
}

pub fn status(endpoints: &[At<StatusResponse>]) -> String {
    at("Status", endpoints, |status| {
        with_header(status.header)
            .text("version", &status.version)
            .number("dbSize", status.db_size)
            .number("leader", status.leader)
            .number("raftIndex", status.raft_index)
            .number("raftTerm", status.raft_term)
            .number("raftAppliedIndex", status.raft_applied_index)
            .list("errors", status.errors.iter().map(|error| string(error)))
            .number("dbSizeInUse", status.db_size_in_use)
            .flag("isLearner", status.is_learner)
            .text("storageVersion", &status.storage_version)
            .number("dbSizeQuota", status.db_size_quota)
            .object("downgradeInfo", status.downgrade_info.as_ref().map(downgrade))
    })
}

fn downgrade(info: &DowngradeInfo) -> Object {
    Object::new().flag("enabled", info.enabled).text("targetVersion", &info.target_version)
}

pub fn hashes(endpoints: &[At<HashKvResponse>]) -> String {
    at("HashKV", endpoints, |answer| {
        with_header(answer.header)
            .number("hash", answer.hash)
            .number("compact_revision", answer.compact_revision)
            .number("hash_revision", answer.hash_revision)
    })
}

/// A list of endpoints, each with its answer under `name`.
fn at<Answer>(name: &str, endpoints: &[At<Answer>], object: impl Fn(&Answer) -> Object) -> String {
    array(endpoints.iter().map(|(endpoint, answer)| {
        Object::new()
            .always("Endpoint", &string(endpoint))
            .object(name, Some(object(answer)))
            .finish()
    }))
}

pub fn with_header(answered: Option<ResponseHeader>) -> Object {
    Object::new().object("header", answered.map(header))
}

pub fn header(header: ResponseHeader) -> Object {
    Object::new()
        .number("cluster_id", header.cluster_id)
        .number("member_id", header.member_id)
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
}

fn key_value(kv: &KeyValue) -> Object {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
}
