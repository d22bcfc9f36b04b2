//! Members and endpoints as rows of text: the lines of the simple format and the cells of tables.

use kvorum_client::api::etcdserverpb::{HashKvResponse, MemberListResponse, StatusResponse};

use super::{At, Health};
use crate::go::size;

/// Titles of `members`.
pub const MEMBERS: [&str; 6] = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
/// Titles of `health`.
pub const HEALTH: [&str; 4] = ["ENDPOINT", "HEALTH", "TOOK", "ERROR"];
/// Titles of `status`.
pub const STATUS: [&str; 10] = [
    "ENDPOINT",
    "ID",
    "VERSION",
    "DB SIZE",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
];
/// Titles of `hashes`.
pub const HASHES: [&str; 2] = ["ENDPOINT", "HASH"];

pub fn members(answer: &MemberListResponse) -> Vec<Vec<String>> {
    let row = |member: &kvorum_client::api::etcdserverpb::Member| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        vec![
            format!("{:x}", member.id),
            status.to_string(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    answer.members.iter().map(row).collect()
}

pub fn health(endpoints: &[Health]) -> Vec<Vec<String>> {
    let row = |Health { endpoint, healthy, took, error }: &Health| {
        vec![endpoint.clone(), healthy.to_string(), took.clone(), error.clone()]
    };
    endpoints.iter().map(row).collect()
}

pub fn status(endpoints: &[At<StatusResponse>]) -> Vec<Vec<String>> {
    let row = |(endpoint, status): &At<StatusResponse>| {
        let id = status.header.unwrap_or_default().member_id;
        vec![
            endpoint.clone(),
            format!("{id:x}"),
            status.version.clone(),
            size::format(status.db_size.cast_unsigned()),
            (status.leader == id).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
        ]
    };
    endpoints.iter().map(row).collect()
}

pub fn hashes(endpoints: &[At<HashKvResponse>]) -> Vec<Vec<String>> {
    let row =
        |(endpoint, answer): &At<HashKvResponse>| vec![endpoint.clone(), answer.hash.to_string()];
    endpoints.iter().map(row).collect()
}
