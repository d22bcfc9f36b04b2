//! `get`: reads a key or a range.

use std::ffi::OsString;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::RangeRequest;
use kvorum_client::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_client::{EVERY_KEY_AFTER, prefix_end};

use super::{bytes, output};
use crate::failure::{BAD_ARGUMENTS, BAD_FEATURE, Failure};
use crate::flags::{self, Flags};
use crate::go::quote::quoted;
use crate::session::Session;

pub fn command() -> Command {
    Command::new("get")
        .about("Gets the key or a range of keys")
        .override_usage("kvorumctl get [options] <key> [range_end]")
        .arg(flags::arguments("KEY [RANGE_END]"))
        .arg(flags::text(
            "consistency",
            "l for linearizable, s for serializable: perhaps stale (l)",
        ))
        .arg(flags::switch("count-only", "get only the count (with --write-out=fields)"))
        .arg(flags::switch("from-key", "get the key and every key after it"))
        .arg(flags::switch("keys-only", "leave the values out"))
        .arg(flags::integer("limit", "at most so many keys, 0 for all (0)"))
        .arg(flags::text("order", "ASCEND or DESCEND (ASCEND)"))
        .arg(flags::switch("prefix", "get the keys that begin with the key"))
        .arg(flags::switch("print-value-only", "print no keys (with --write-out=simple)"))
        .arg(flags::integer("rev", "read at this revision, 0 for the newest (0)"))
        .arg(flags::text("sort-by", "CREATE, KEY, MODIFY, VALUE or VERSION (KEY)"))
        .arg(flags::integer("min-create-rev", "only keys created at this revision or later"))
        .arg(flags::integer("max-create-rev", "only keys created at this revision or before"))
        .arg(flags::integer("min-mod-rev", "only keys changed at this revision or later"))
        .arg(flags::integer("max-mod-rev", "only keys changed at this revision or before"))
        .arg(flags::switch("stream", "get the answer in pieces (servers from 3.7)"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches)?;
    let session = Session::open(matches).await?;
    let answer = if matches.is_on("stream") {
        session.client.range_stream(request).await?.collect().await?
    } else {
        session.client.range(request).await?
    };
    let mut printer = session.printer;
    if matches.is_on("count-only") && !printer.is_fields() {
        return Err(bad("--count-only is only for `--write-out=fields`"));
    }
    if matches.is_on("print-value-only") {
        if !printer.is_simple() {
            return Err(bad("print-value-only is only for `--write-out=simple`"));
        }
        printer = printer.values_only();
    }
    printer.range(&mut output(), &answer)
}

/// The request that the flags describe, for `get` and for the operation of a transaction.
pub fn request(matches: &ArgMatches) -> Result<RangeRequest, Failure> {
    let arguments = matches.arguments();
    if arguments.is_empty() {
        return Err(bad(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    }
    if matches.is_on("keys-only") && matches.is_on("count-only") {
        return Err(bad(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let serializable = is_serializable(matches.text("consistency"))?;
    let (key, range_end) = range(matches, arguments)?;
    let (sort_order, sort_target) = sort(matches.text("order"), matches.text("sort-by"))?;
    let positive = |name: &str| matches.integer(name).filter(|number| *number > 0).unwrap_or(0);
    for (min, max) in [("min-create-rev", "max-create-rev"), ("min-mod-rev", "max-mod-rev")] {
        if positive(max) > 0 && positive(min) > positive(max) {
            let text = format!("--{min}={} > --{max}={}", positive(min), positive(max));
            return Err(Failure::new(BAD_FEATURE, text));
        }
    }
    Ok(RangeRequest {
        key,
        range_end,
        limit: matches.integer("limit").unwrap_or(0),
        revision: positive("rev"),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: matches.is_on("keys-only"),
        count_only: matches.is_on("count-only"),
        min_mod_revision: positive("min-mod-rev"),
        max_mod_revision: positive("max-mod-rev"),
        min_create_revision: positive("min-create-rev"),
        max_create_revision: positive("max-create-rev"),
    })
}

/// Key and range_end from the arguments and the flags --prefix and --from-key.
pub fn range(matches: &ArgMatches, arguments: Vec<OsString>) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (matches.is_on("prefix"), matches.is_on("from-key"));
    if prefix && from_key {
        return Err(bad("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    let mut arguments = arguments.into_iter().map(bytes);
    let key = arguments.next().unwrap_or_default();
    let range_end = arguments.next();
    if (prefix || from_key) && range_end.is_some() {
        return Err(bad(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    // No key can be empty, so every key begins with the least one there can be.
    let first_key = || Bytes::from_static(b"\0");
    let open_end = || Bytes::from_static(EVERY_KEY_AFTER);
    Ok(match (prefix || from_key, key.is_empty()) {
        (false, _) => (key, range_end.unwrap_or_default()),
        (true, true) => (first_key(), open_end()),
        (true, false) if prefix => {
            let end = prefix_end(&key);
            (key, end)
        }
        (true, false) => (key, open_end()),
    })
}

/// Whether a flag --consistency asks for reads that may be stale.
pub fn is_serializable(consistency: &str) -> Result<bool, Failure> {
    match consistency {
        "s" => Ok(true),
        "l" | "" => Ok(false),
        other => {
            let other = quoted(other.as_bytes());
            Err(Failure::new(BAD_FEATURE, format!("unknown consistency flag {other}")))
        }
    }
}

fn sort(order: &str, target: &str) -> Result<(SortOrder, SortTarget), Failure> {
    let sort_order = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::new(BAD_FEATURE, format!("bad sort order {order}"))),
    };
    let sort_target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(BAD_FEATURE, format!("bad sort target {target}"))),
    };
    // Keys come in ascending order anyway; asked for it, a server would first read all of them.
    if sort_target == SortTarget::Key && sort_order == SortOrder::Ascend {
        return Ok((SortOrder::None, sort_target));
    }
    Ok((sort_order, sort_target))
}

fn bad(message: &str) -> Failure {
    Failure::new(BAD_ARGUMENTS, message)
}

#[cfg(test)]
#[path = "get_tests.rs"]
mod tests;
