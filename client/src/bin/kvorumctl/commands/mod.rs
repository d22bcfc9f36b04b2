//! One file a command: its flags, its arguments, and what it does.

mod alarm;
mod child;
mod compaction;
mod completion;
mod defrag;
mod del;
mod downgrade;
mod elect;
mod endpoint;
pub mod get;
mod heap;
mod lease;
mod lock;
mod member;
mod move_leader;
mod put;
mod signals;
mod snapshot;
mod txn;
mod version;
mod watch;
mod words;

use std::ffi::OsString;
use std::io::{Stdout, stdout};
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::{ArgMatches, Command};

use crate::bench;
use crate::cli;
use crate::failure::Failure;

/// Every command, in the order help shows them.
pub fn all() -> Vec<Command> {
    vec![
        get::command(),
        put::command(),
        del::command(),
        txn::command(),
        watch::command(),
        compaction::command(),
        lease::command(),
        lock::command(),
        elect::command(),
        endpoint::command(),
        member::command(),
        move_leader::command(),
        alarm::command(),
        defrag::command(),
        snapshot::command(),
        downgrade::command(),
        heap::command(),
        bench::command(),
        version::command(),
        completion::command(),
    ]
}

/// Runs the command that was asked for.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return help(&[]) };
    match name {
        "get" => get::run(matches).await,
        "put" => put::run(matches).await,
        "del" => del::run(matches).await,
        "txn" => txn::run(matches).await,
        "watch" => watch::run(matches).await,
        "compaction" => compaction::run(matches).await,
        "lease" => lease::run(matches).await,
        "lock" => lock::run(matches).await,
        "elect" => elect::run(matches).await,
        "endpoint" => endpoint::run(matches).await,
        "member" => member::run(matches).await,
        "move-leader" => move_leader::run(matches).await,
        "alarm" => alarm::run(matches).await,
        "snapshot" => snapshot::run(matches).await,
        "defrag" => defrag::run(matches).await,
        "downgrade" => downgrade::run(matches).await,
        "heap" => heap::run(matches).await,
        "bench" => bench::run(matches).await,
        "version" => version::run(),
        "completion" => completion::run(matches),
        _ => help(&[]),
    }
}

/// Prints the help of the command at the end of `path`.
pub fn help(path: &[&str]) -> Result<(), Failure> {
    let mut root = cli::command();
    root.build();
    let mut command = &mut root;
    for name in path {
        command = command.find_subcommand_mut(name).expect("a command of ours");
    }
    command.print_help()?;
    Ok(())
}

/// Where answers are printed.
fn output() -> Stdout {
    stdout()
}

/// An argument's bytes, as they are.
fn bytes(argument: OsString) -> Bytes {
    argument.into_vec().into()
}
