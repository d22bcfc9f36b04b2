//! The operations of a transaction: lines such as `put fruit apple --lease=1f`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use clap::Command;
use kvorum_client::api::etcdserverpb::RequestOp;
use kvorum_client::api::etcdserverpb::request_op::Request;

use super::invalid;
use crate::commands::{del, get, put, words};
use crate::failure::Failure;

/// Reads one operation.
pub fn parse(line: &[u8]) -> Result<RequestOp, Failure> {
    let shown = String::from_utf8_lossy(line);
    let words = words::split(line).map_err(invalid)?;
    if words.len() < 2 {
        return Err(invalid(format!("invalid txn compare request: {shown}")));
    }
    let words = words.into_iter().map(OsString::from_vec);
    let matches = commands()
        .try_get_matches_from(words)
        .map_err(|_| invalid(format!("invalid txn request: {shown}")))?;
    let request = match matches.subcommand() {
        Some(("get", matches)) => Request::RequestRange(get::request(matches)?),
        // The transaction itself is on standard input: no value can be read from it.
        Some(("put", matches)) => Request::RequestPut(put::request(matches, &mut io::empty())?),
        Some(("del", matches)) => Request::RequestDeleteRange(del::request(matches)?),
        _ => return Err(invalid(format!("invalid txn request: {shown}"))),
    };
    Ok(RequestOp { request: Some(request) })
}

fn commands() -> Command {
    Command::new("txn")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .infer_subcommands(true)
        .subcommands([get::command(), put::command(), del::command()])
}
