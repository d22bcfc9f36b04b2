//! `member`: who belongs to the cluster.

use clap::{ArgMatches, Command};

use super::{get, help, output};
use crate::failure::Failure;
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    let list = Command::new("list")
        .about("Lists all members in the cluster")
        .long_about(
            "Lists all members in the cluster.\n\n\
             The simple format prints ID, status, name, peer URLs, client URLs and whether it is a learner.",
        )
        .arg(flags::arguments("").hide(true))
        .arg(flags::text("consistency", "l for linearizable, s for serializable: perhaps stale (l)"));
    Command::new("member")
        .about("Membership related commands")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(list)
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("list", matches)) => list(matches).await,
        _ => help(&["member"]),
    }
}

async fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let linearizable = !get::is_serializable(matches.text("consistency"))?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_list(linearizable).await?;
    session.printer.members(&mut output(), &answer)
}
