//! Answers, as scripts show them.

use std::fmt::Write as _;

use kvorum_machine::{CommandError, Outcome, RangeError, Reply, RequestError};
use kvorum_proto::wire::{
    DeleteRangeResponse, KeyValue, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
    response_op::Response,
};

pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Ok(Reply::Put(response)) => put(response),
        Ok(Reply::DeleteRange(response)) => delete_range(response),
        Ok(Reply::Txn(response)) => txn(response),
        Ok(Reply::Compaction(response)) => format!("compacted, {}\n", header(&response.header)),
        Ok(Reply::LeaseGrant(response)) => {
            let header = header(&response.header);
            format!("granted {} for {} s, {header}\n", response.id, response.ttl)
        }
        Ok(Reply::LeaseRevoke(response)) => format!("revoked, {}\n", header(&response.header)),
        Ok(Reply::LeaseExpire | Reply::LeaseCheckpoint) => "noted\n".to_owned(),
        Ok(Reply::MemberAttributes | Reply::Downgrade) => "noted\n".to_owned(),
        Ok(Reply::MembersChanged) => "changed\n".to_owned(),
        Ok(Reply::Alarm(alarms)) => {
            let names: Vec<_> =
                alarms.iter().map(|a| format!("{:?} of {}", a.kind, a.member)).collect();
            format!("alarms: {}\n", names.join(", "))
        }
        Err(error) => command_error(error),
    }
}

pub fn command_error(error: &CommandError) -> String {
    match error {
        CommandError::Invalid(error) => request_error(error),
        other => format!("error: {other}\n"),
    }
}

pub fn request_error(error: &RequestError) -> String {
    format!("refused: {error}\n")
}

pub fn range_error(error: &RangeError) -> String {
    match error {
        RangeError::Invalid(error) => request_error(error),
        other => format!("error: {other}\n"),
    }
}

pub fn range(response: &RangeResponse) -> String {
    let mut out = String::new();
    for kv in &response.kvs {
        writeln!(out, "{}", key_value(kv)).unwrap();
    }
    let more = if response.more { ", more" } else { "" };
    writeln!(out, "count {}{more}, {}", response.count, header(&response.header)).unwrap();
    out
}

fn put(response: &PutResponse) -> String {
    let previous = match &response.prev_kv {
        Some(kv) => format!(", was {}", key_value(kv)),
        None => String::new(),
    };
    format!("put{previous}, {}\n", header(&response.header))
}

fn delete_range(response: &DeleteRangeResponse) -> String {
    let mut out = format!("deleted {}, {}\n", response.deleted, header(&response.header));
    for kv in &response.prev_kvs {
        writeln!(out, "  was {}", key_value(kv)).unwrap();
    }
    out
}

pub fn txn(response: &TxnResponse) -> String {
    let branch = if response.succeeded { "then" } else { "else" };
    let mut out = format!("txn took {branch}, {}\n", header(&response.header));
    for operation in &response.responses {
        let shown = match &operation.response {
            Some(Response::ResponseRange(response)) => range(response),
            Some(Response::ResponsePut(response)) => put(response),
            Some(Response::ResponseDeleteRange(response)) => delete_range(response),
            Some(Response::ResponseTxn(response)) => txn(response),
            None => "nothing\n".to_owned(),
        };
        for line in shown.lines() {
            writeln!(out, "  {line}").unwrap();
        }
    }
    out
}

pub fn key_value(kv: &KeyValue) -> String {
    let lease = match kv.lease() {
        0 => String::new(),
        lease => format!(" lease {lease}"),
    };
    let value = match kv.value() {
        [] => String::new(),
        value => format!("={}", text(value)),
    };
    format!(
        "{}{value} (create {} mod {} version {}{lease})",
        text(kv.key()),
        kv.create_revision(),
        kv.mod_revision(),
        kv.version()
    )
}

pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn header(header: &Option<ResponseHeader>) -> String {
    match header {
        Some(header) => format!("revision {}", header.revision),
        None => "no header".to_owned(),
    }
}
