//! `heap`: the allocator of a member and the limits of its memory. Only kvorum has that; etcd answers that it does not.

use std::fs;
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use kvorum_client::Client;
use kvorum_client::admin::{Arena, PolicyResponse, SetRequest, Settings, StatsResponse};

use super::{endpoint, help, output};
use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};
use crate::flags::{self, Flags};
use crate::output::heap::{Row, Value};
use crate::session::Session;

const PERSIST: &str = "keep it over restarts of the member";

pub fn command() -> Command {
    let none = || flags::arguments("").hide(true);
    let cluster = || flags::switch("cluster", "use all endpoints from the cluster member list");
    let persist = || flags::switch("persist", PERSIST);
    let arena = || flags::integer("arena", "only the arena of that index");
    let stats = Command::new("stats")
        .about("Prints the figures of the allocator, and what was refused and purged")
        .arg(none())
        .arg(cluster())
        .arg(flags::switch("arenas", "print those of each arena too"));
    let policy = Command::new("policy")
        .about("Prints the policy and all settings, or takes on balanced, latency or compact")
        .arg(flags::arguments("[POLICY]"))
        .arg(cluster())
        .arg(persist());
    let set = Command::new("set")
        .about("Sets all that is named, or nothing")
        .arg(none())
        .arg(cluster())
        .arg(arena())
        .arg(persist())
        .args(settings_flags());
    let purge = Command::new("purge")
        .about("Gives freed memory back to the system")
        .arg(none())
        .arg(cluster())
        .arg(arena());
    let profile = Command::new("profile")
        .about("Saves who holds what of the memory, as a file for pprof; sampling is on after `set --profiling`")
        .arg(flags::arguments("FILE"));
    Command::new("heap")
        .about("Memory of members: the allocator, limits, purges (kvorum only)")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands([policy, profile, purge, set, stats])
}

fn settings_flags() -> [clap::Arg; 9] {
    [
        flags::switch("background-threads", "give freed memory back by threads of the allocator"),
        flags::integer("dirty-decay-ms", "how long freed memory is kept, from 0 to 86400000"),
        flags::integer(
            "muzzy-decay-ms",
            "how long it is then left to the system, from 0 to 86400000",
        ),
        flags::switch("profiling", "sample who allocates"),
        flags::integer("arenas", "from the next start on: how many arenas, from 1 to 1024"),
        flags::integer("thread-cache-bytes", "from the next start on: from 0 to 32768"),
        flags::integer(
            "quiet-purge-ms",
            "purge after so long without requests, from 1000; 0: never",
        ),
        flags::integer(
            "soft-limit-bytes",
            "memory beyond which is purged, from 67108864; 0: no limit",
        ),
        flags::integer(
            "hard-limit-bytes",
            "memory at which large requests are refused; 0: no limit",
        ),
    ]
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return help(&["heap"]) };
    if name == "profile" {
        return profile(matches).await;
    }
    // What is wrong with the arguments shows before anything is sent.
    let request = (name == "set").then(|| set_request(matches)).transpose()?;
    let policy = policy_argument(name, matches)?;
    let session = Session::open(matches).await?;
    let endpoints = endpoint::endpoints(&session, matches).await?;
    for at in &endpoints {
        let client = session.client_at(at)?;
        if endpoints.len() > 1 && !session.printer.is_json() {
            println!("{at}");
        }
        match (name, &request) {
            ("stats", _) => {
                let answer = client.heap_stats(matches.is_on("arenas")).await?;
                session.printer.heap(&mut output(), &stats_rows(&answer), &answer)?;
            }
            ("purge", _) => purge(&session, &client, matches).await?,
            (_, Some(request)) => print(&session, &client.heap_set(request.clone()).await?)?,
            _ => {
                let answer = match &policy {
                    Some(policy) => {
                        client.heap_set_policy(policy, matches.is_on("persist")).await?
                    }
                    None => client.heap_policy().await?,
                };
                print(&session, &answer)?;
            }
        }
    }
    Ok(())
}

fn policy_argument(name: &str, matches: &ArgMatches) -> Result<Option<String>, Failure> {
    match (name, matches.arguments().as_slice()) {
        ("policy", [policy]) => Ok(Some(policy.to_string_lossy().into_owned())),
        ("policy", []) if matches.is_on("persist") => {
            Err(Failure::new(BAD_ARGUMENTS, "heap policy --persist needs a policy to keep"))
        }
        (_, []) => Ok(None),
        ("policy", _) => {
            Err(Failure::new(BAD_ARGUMENTS, "heap policy command takes one policy at most"))
        }
        _ => Err(Failure::new(BAD_ARGUMENTS, format!("heap {name} command takes no arguments"))),
    }
}

fn set_request(matches: &ArgMatches) -> Result<SetRequest, Failure> {
    let switch = |name: &str| matches.get_one::<bool>(name).copied();
    let settings = Settings {
        policy: None,
        background_threads: switch("background-threads"),
        dirty_decay_ms: matches.integer("dirty-decay-ms"),
        muzzy_decay_ms: matches.integer("muzzy-decay-ms"),
        profiling: switch("profiling"),
        arenas: small(matches, "arenas")?,
        thread_cache_bytes: unsigned(matches, "thread-cache-bytes")?,
        quiet_purge_ms: unsigned(matches, "quiet-purge-ms")?,
        soft_limit_bytes: unsigned(matches, "soft-limit-bytes")?,
        hard_limit_bytes: unsigned(matches, "hard-limit-bytes")?,
    };
    if settings == Settings::default() {
        return Err(Failure::new(BAD_ARGUMENTS, "heap set command needs something to set"));
    }
    let (arena, persist) = (small(matches, "arena")?, matches.is_on("persist"));
    Ok(SetRequest { settings: Some(settings), arena, persist })
}

fn unsigned(matches: &ArgMatches, name: &str) -> Result<Option<u64>, Failure> {
    let number = matches.integer(name).map(u64::try_from).transpose();
    number.map_err(|_| Failure::new(BAD_ARGUMENTS, format!("--{name} must be 0 or more")))
}

fn small(matches: &ArgMatches, name: &str) -> Result<Option<u32>, Failure> {
    let number = matches.integer(name).map(u32::try_from).transpose();
    number.map_err(|_| {
        Failure::new(BAD_ARGUMENTS, format!("--{name} must be from 0 to {}", u32::MAX))
    })
}

async fn purge(session: &Session, client: &Client, matches: &ArgMatches) -> Result<(), Failure> {
    let answer = client.heap_purge(small(matches, "arena")?).await?;
    let rows = [
        number("resident_bytes_before", answer.resident_bytes_before),
        number("resident_bytes_after", answer.resident_bytes_after),
    ];
    session.printer.heap(&mut output(), &rows, &answer)
}

async fn profile(matches: &ArgMatches) -> Result<(), Failure> {
    let [file] = <[_; 1]>::try_from(matches.arguments()).map_err(|_| {
        Failure::new(BAD_ARGUMENTS, "heap profile command needs a FILE to save it in")
    })?;
    let file = PathBuf::from(file);
    let session = Session::open(matches).await?;
    let answer = session.client.heap_profile().await?;
    let saved = fs::write(&file, &answer.pprof);
    saved.map_err(|error| {
        Failure::new(ERROR, format!("cannot write {}: {error}", file.display()))
    })?;
    println!("Profile saved at {}", file.display());
    Ok(())
}

fn print(session: &Session, answer: &PolicyResponse) -> Result<(), Failure> {
    let mut rows = settings_rows(&answer.in_force.clone().unwrap_or_default());
    let persisted = settings_rows(&answer.persisted.clone().unwrap_or_default());
    rows.push(("persisted".to_owned(), Value::Rows(persisted)));
    rows.push(number("memory_bytes", answer.memory_bytes));
    session.printer.heap(&mut output(), &rows, answer)
}

fn settings_rows(settings: &Settings) -> Vec<Row> {
    let row = |name: &str, value: Option<Value>| value.map(|value| (name.to_owned(), value));
    let count = |value: Option<u64>| value.map(|value| Value::Number(value.into()));
    let time = |value: Option<i64>| value.map(|value| Value::Number(value.into()));
    let rows = [
        row("policy", settings.policy.clone().map(Value::Text)),
        row("background_threads", settings.background_threads.map(Value::Switch)),
        row("dirty_decay_ms", time(settings.dirty_decay_ms)),
        row("muzzy_decay_ms", time(settings.muzzy_decay_ms)),
        row("profiling", settings.profiling.map(Value::Switch)),
        row("arenas", count(settings.arenas.map(u64::from))),
        row("thread_cache_bytes", count(settings.thread_cache_bytes)),
        row("quiet_purge_ms", count(settings.quiet_purge_ms)),
        row("soft_limit_bytes", count(settings.soft_limit_bytes)),
        row("hard_limit_bytes", count(settings.hard_limit_bytes)),
    ];
    rows.into_iter().flatten().collect()
}

fn stats_rows(stats: &StatsResponse) -> Vec<Row> {
    let purges = stats.purges.unwrap_or_default();
    let purges = vec![
        number("quiet", purges.quiet),
        number("soft_limit", purges.soft_limit),
        number("hard_limit", purges.hard_limit),
        number("asked_for", purges.asked_for),
        number("failed", purges.failed),
        number("given_back_bytes", purges.given_back_bytes),
    ];
    let mut rows = vec![
        number("allocated_bytes", stats.allocated_bytes),
        number("active_bytes", stats.active_bytes),
        number("metadata_bytes", stats.metadata_bytes),
        number("resident_bytes", stats.resident_bytes),
        number("mapped_bytes", stats.mapped_bytes),
        number("retained_bytes", stats.retained_bytes),
        number("purgeable_bytes", stats.purgeable_bytes),
        switch("background_threads", stats.background_threads),
        number("background_thread_count", stats.background_thread_count),
        number("dirty_decay_ms", stats.dirty_decay_ms),
        number("muzzy_decay_ms", stats.muzzy_decay_ms),
        number("arena_limit", stats.arena_limit),
        number("thread_cache_bytes_max", stats.thread_cache_bytes_max),
        switch("profiling_available", stats.profiling_available),
        switch("profiling_active", stats.profiling_active),
        number("profiling_sample_bytes", stats.profiling_sample_bytes),
        number("process_resident_bytes", stats.process_resident_bytes),
        number("promised_bytes", stats.promised_bytes),
        switch("at_hard_limit", stats.at_hard_limit),
        number("refused_count", stats.refused_count),
        ("purges".to_owned(), Value::Rows(purges)),
    ];
    rows.extend(stats.arenas.iter().map(arena_row));
    rows
}

fn arena_row(arena: &Arena) -> Row {
    let rows = vec![
        number("thread_count", arena.thread_count),
        number("small_bytes", arena.small_bytes),
        number("large_bytes", arena.large_bytes),
        number("active_bytes", arena.active_bytes),
        number("dirty_bytes", arena.dirty_bytes),
        number("muzzy_bytes", arena.muzzy_bytes),
        number("resident_bytes", arena.resident_bytes),
        number("mapped_bytes", arena.mapped_bytes),
        number("retained_bytes", arena.retained_bytes),
        number("dirty_decay_ms", arena.dirty_decay_ms),
        number("muzzy_decay_ms", arena.muzzy_decay_ms),
    ];
    (format!("arena_{}", arena.index), Value::Rows(rows))
}

fn number(name: &str, value: impl Into<i128>) -> Row {
    (name.to_owned(), Value::Number(value.into()))
}

fn switch(name: &str, on: bool) -> Row {
    (name.to_owned(), Value::Switch(on))
}
