//! `defrag`: has members give back the space that they no longer need.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use indicatif::ProgressBar;

use super::{endpoint, output};
use crate::failure::{ERROR, Failure};
use crate::flags;
use crate::go::duration;
use crate::session::Session;

/// How often the sign of life on a terminal moves.
const TICK: Duration = Duration::from_millis(100);

pub fn command() -> Command {
    Command::new("defrag")
        .about("Defragments the storage of the members with given endpoints")
        .arg(flags::arguments("").hide(true))
        .arg(flags::switch("cluster", "use all endpoints from the cluster member list"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let mut has_failed = false;
    for endpoint in endpoint::endpoints(&session, matches).await? {
        let client = session.client_at(&endpoint)?;
        let waiting = waiting(&endpoint);
        let started = Instant::now();
        let done = client.defragment().await;
        let took = duration::format(started.elapsed());
        waiting.finish_and_clear();
        match done {
            Ok(_) => {
                let mut out = output();
                writeln!(out, "Finished defragmenting etcd member[{endpoint}]. took {took}")?;
            }
            Err(error) => {
                has_failed = true;
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})");
            }
        }
    }
    if has_failed { Err(Failure::silent(ERROR)) } else { Ok(()) }
}

/// A sign of life for whoever watches: the answer comes when all is done.
fn waiting(endpoint: &str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(format!("defragmenting {endpoint}"));
    bar.enable_steady_tick(TICK);
    bar
}
