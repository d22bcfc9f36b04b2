//! Answers about leases, in every format that is not the answer's own.

use std::io::{Result, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kvorum_client::api::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseTimeToLiveResponse, ResponseHeader,
};

use super::{fields, json};
use crate::go::json::{Object, array, string};
use crate::go::number::lease_id;
use crate::go::quote::quoted;

pub fn simple_grant(out: &mut dyn Write, answer: &LeaseGrantResponse) -> Result<()> {
    writeln!(out, "lease {} granted with TTL({}s)", lease_id(answer.id), answer.ttl)
}

pub fn simple_revoke(out: &mut dyn Write, id: i64) -> Result<()> {
    writeln!(out, "lease {} revoked", lease_id(id))
}

pub fn simple_keep_alive(out: &mut dyn Write, answer: &LeaseKeepAliveResponse) -> Result<()> {
    writeln!(out, "lease {} keepalived with TTL({})", lease_id(answer.id), answer.ttl)
}

pub fn simple_time_to_live(
    out: &mut dyn Write,
    keys: bool,
    answer: &LeaseTimeToLiveResponse,
) -> Result<()> {
    let LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = answer;
    let id = lease_id(*id);
    if *granted_ttl == 0 && *ttl == -1 {
        return writeln!(out, "lease {id} already expired");
    }
    write!(out, "lease {id} granted with TTL({granted_ttl}s), remaining({ttl}s)")?;
    if keys {
        write!(out, ", attached keys([")?;
        out.write_all(&answer.keys.join(&b' '))?;
        write!(out, "])")?;
    }
    writeln!(out)
}

pub fn simple_list(out: &mut dyn Write, answer: &LeaseLeasesResponse) -> Result<()> {
    writeln!(out, "found {} leases", answer.leases.len())?;
    answer.leases.iter().try_for_each(|lease| writeln!(out, "{}", lease_id(lease.id)))
}

pub fn fields_grant(out: &mut dyn Write, answer: &LeaseGrantResponse) -> Result<()> {
    fields::header(out, answer.header)?;
    writeln!(out, "\"ID\" : {}", answer.id)?;
    writeln!(out, "\"TTL\" : {}", answer.ttl)
}

pub fn fields_revoke(out: &mut dyn Write, answer: &LeaseRevokeResponse) -> Result<()> {
    fields::header(out, answer.header)
}

pub fn fields_keep_alive(out: &mut dyn Write, answer: &LeaseKeepAliveResponse) -> Result<()> {
    fields::header(out, answer.header)?;
    writeln!(out, "\"ID\" : {}", answer.id)?;
    writeln!(out, "\"TTL\" : {}", answer.ttl)
}

pub fn fields_time_to_live(out: &mut dyn Write, answer: &LeaseTimeToLiveResponse) -> Result<()> {
    fields::header(out, answer.header)?;
    writeln!(out, "\"ID\" : {}", answer.id)?;
    writeln!(out, "\"TTL\" : {}", answer.ttl)?;
    writeln!(out, "\"GrantedTTL\" : {}", answer.granted_ttl)?;
    answer.keys.iter().try_for_each(|key| writeln!(out, "\"Key\" : {}", quoted(key)))
}

pub fn fields_list(out: &mut dyn Write, answer: &LeaseLeasesResponse) -> Result<()> {
    fields::header(out, answer.header)?;
    answer.leases.iter().try_for_each(|lease| writeln!(out, "\"ID\" : {}", lease.id))
}

/// Go's structs for leases hold the header's fields themselves, and leave nothing out.
fn with_header_fields(header: Option<ResponseHeader>) -> Object {
    json::header(header.unwrap_or_default())
}

pub fn json_grant(answer: &LeaseGrantResponse) -> Object {
    with_header_fields(answer.header)
        .always("ID", &answer.id.to_string())
        .always("TTL", &answer.ttl.to_string())
        .always("Error", &string(&answer.error))
}

pub fn json_revoke(answer: &LeaseRevokeResponse) -> Object {
    json::with_header(answer.header)
}

pub fn json_keep_alive(answer: &LeaseKeepAliveResponse) -> Object {
    with_header_fields(answer.header)
        .always("ID", &answer.id.to_string())
        .always("TTL", &answer.ttl.to_string())
}

pub fn json_time_to_live(answer: &LeaseTimeToLiveResponse) -> Object {
    let key = |key: &bytes::Bytes| format!("\"{}\"", STANDARD.encode(key));
    let keys = match answer.keys.as_slice() {
        [] => "null".into(),
        keys => array(keys.iter().map(key)),
    };
    with_header_fields(answer.header)
        .always("id", &answer.id.to_string())
        .always("ttl", &answer.ttl.to_string())
        .always("granted-ttl", &answer.granted_ttl.to_string())
        .always("keys", &keys)
}

pub fn json_list(answer: &LeaseLeasesResponse) -> Object {
    let lease = |id: i64| Object::new().always("id", &id.to_string()).finish();
    let leases = array(answer.leases.iter().map(|lease_status| lease(lease_status.id)));
    with_header_fields(answer.header).always("leases", &leases)
}
