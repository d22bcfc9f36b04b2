//! `lease`: grants, renews and ends leases.

use std::io::Write;

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::LeaseKeepAliveResponse;

use super::{help, output};
use crate::failure::{BAD_ARGUMENTS, BAD_CONNECTION, ERROR, Failure};
use crate::flags::{self, Flags};
use crate::go::number::{Base, lease_id, parse_int};
use crate::session::Session;

pub fn command() -> Command {
    let grant = Command::new("grant")
        .about("Creates leases")
        .long_about(
            "Creates a lease of so many seconds, and prints its id.\n\n\
             Servers raise a time that is shorter than an election takes. A time that begins with a dash comes after two.",
        )
        .override_usage("kvorumctl lease grant <ttl>")
        .arg(flags::arguments("TTL"));
    let revoke = Command::new("revoke")
        .about("Revokes leases")
        .long_about("Ends a lease and deletes its keys.")
        .override_usage("kvorumctl lease revoke <leaseID>")
        .arg(flags::arguments("LEASE_ID"));
    let time_to_live = Command::new("timetolive")
        .about("Get lease information")
        .long_about("Prints how long a lease was granted for and how long it has left.")
        .override_usage("kvorumctl lease timetolive <leaseID> [options]")
        .arg(flags::arguments("LEASE_ID"))
        .arg(flags::switch("keys", "print the lease's keys too"));
    let list = Command::new("list")
        .about("List all active leases")
        .override_usage("kvorumctl lease list")
        .arg(flags::arguments("").hide(true));
    let keep_alive = Command::new("keep-alive")
        .about("Keeps leases alive (renew)")
        .long_about(
            "Keeps a lease alive until it is stopped, printing each renewal.\n\n\
             It ends by itself when the lease does: when it is revoked, or cannot be renewed in time. When the connection or \
             the member is lost, it goes on at the next endpoint.",
        )
        .override_usage("kvorumctl lease keep-alive [options] <leaseID>")
        .arg(flags::arguments("LEASE_ID"))
        .arg(flags::switch("once", "renew the lease once and end"));
    Command::new("lease")
        .about("Lease related commands")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands([grant, revoke, time_to_live, list, keep_alive])
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("grant", matches)) => grant(matches).await,
        Some(("revoke", matches)) => revoke(matches).await,
        Some(("timetolive", matches)) => time_to_live(matches).await,
        Some(("list", matches)) => list(matches).await,
        Some(("keep-alive", matches)) => keep_alive(matches).await,
        _ => help(&["lease"]),
    }
}

async fn grant(matches: &ArgMatches) -> Result<(), Failure> {
    let text = only_argument(matches, "lease grant command needs TTL argument")?;
    let ttl = parse_int(&text, Base::Decimal)
        .map_err(|error| Failure::new(BAD_ARGUMENTS, format!("bad TTL ({error})")))?;
    let session = Session::open(matches).await?;
    let answer = session
        .client
        .lease_grant(ttl, 0)
        .await
        .map_err(|error| Failure::new(ERROR, format!("failed to grant lease ({error})")))?;
    session.printer.lease_grant(&mut output(), &answer)
}

async fn revoke(matches: &ArgMatches) -> Result<(), Failure> {
    let id = lease(matches, "lease revoke command needs 1 argument")?;
    let session = Session::open(matches).await?;
    let answer = session
        .client
        .lease_revoke(id)
        .await
        .map_err(|error| Failure::new(ERROR, format!("failed to revoke lease ({error})")))?;
    session.printer.lease_revoke(&mut output(), id, &answer)
}

async fn time_to_live(matches: &ArgMatches) -> Result<(), Failure> {
    let id = lease(matches, "lease timetolive command needs lease ID as argument")?;
    let keys = matches.is_on("keys");
    let session = Session::open(matches).await?;
    let answer = session.client.lease_time_to_live(id, keys).await.map_err(bad_connection)?;
    session.printer.lease_time_to_live(&mut output(), keys, &answer)
}

async fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let answer = session.client.leases().await.map_err(bad_connection)?;
    session.printer.leases(&mut output(), &answer)
}

async fn keep_alive(matches: &ArgMatches) -> Result<(), Failure> {
    let id = lease(matches, "lease keep-alive command needs lease ID as argument")?;
    let session = Session::open(matches).await?;
    if matches.is_on("once") {
        let answer = session.client.keep_alive_once(id).await.map_err(bad_connection)?;
        return print(&session, &answer);
    }
    let mut kept = session.client.keep_alive(id);
    while let Some(Ok(answer)) = kept.next().await {
        print(&session, &answer)?;
    }
    if session.printer.is_simple() {
        writeln!(output(), "lease {} expired or revoked.", lease_id(id))?;
    }
    Ok(())
}

fn print(session: &Session, answer: &LeaseKeepAliveResponse) -> Result<(), Failure> {
    session.printer.lease_keep_alive(&mut output(), answer)
}

fn bad_connection(error: kvorum_client::Error) -> Failure {
    Failure::new(BAD_CONNECTION, error.to_string())
}

/// The one argument there must be.
fn only_argument(matches: &ArgMatches, missing: &str) -> Result<String, Failure> {
    match matches.arguments().as_slice() {
        [argument] => Ok(argument.to_string_lossy().into_owned()),
        _ => Err(Failure::new(BAD_ARGUMENTS, missing)),
    }
}

fn lease(matches: &ArgMatches, missing: &str) -> Result<i64, Failure> {
    let text = only_argument(matches, missing)?;
    parse_int(&text, Base::Hexadecimal).map_err(|error| {
        Failure::new(BAD_ARGUMENTS, format!("bad lease ID arg ({error}), expecting ID in Hex"))
    })
}
