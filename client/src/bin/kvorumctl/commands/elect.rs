//! `elect`: stands in an election, or watches one.

use std::io::Write;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use kvorum_client::Error;
use kvorum_client::api::etcdserverpb::RangeResponse;
use kvorum_client::concurrency::{
    Elected, Election, Leadership, Session as Tenure, SessionOptions,
};

use super::lock::{canceled, show};
use super::signals::Signals;
use super::{bytes, output};
use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    Command::new("elect")
        .about("Observes and participates in leader election")
        .long_about(
            "Waits until it is elected with the proposal, prints its key and the proposal, and stays elected until it is \
             stopped by SIGINT or SIGTERM.\n\n\
             With --listen, prints who is elected, and again whenever that or the proposal changes.",
        )
        .override_usage(
            "kvorumctl elect [options] <election-name> <proposal>\n       \
             kvorumctl elect [options] --listen <election-name>",
        )
        .arg(flags::arguments("ELECTION_NAME [PROPOSAL]"))
        .arg(flags::switch("listen", "only watch the election").short('l'))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let bad = |text: &str| Err(Failure::new(BAD_ARGUMENTS, text));
    let listen = matches.is_on("listen");
    let mut arguments = matches.arguments().into_iter().map(bytes);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(name), None, None) if listen => observe(matches, name).await,
        (Some(_), None, None) => bad("no proposal argument but -l not set"),
        (Some(_), Some(_), None) if listen => bad("proposal given but -l is set"),
        (Some(name), Some(proposal), None) => campaign(matches, name, proposal).await,
        _ => bad("elect takes one election name argument and an optional proposal argument"),
    }
}

async fn observe(matches: &ArgMatches, name: Bytes) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let mut signals = Signals::catch()?;
    let mut observer = Election::new(&session.client, name).observe();
    loop {
        let elected = tokio::select! {
            elected = observer.next() => elected,
            () = signals.caught() => return Ok(()),
        };
        match elected {
            Some(Ok(elected)) => print(&session, elected)?,
            _ => return Err(Failure::new(ERROR, "elect: observer lost")),
        }
    }
}

fn print(session: &Session, elected: Elected) -> Result<(), Failure> {
    let answer =
        RangeResponse { header: Some(elected.header), kvs: vec![elected.kv], ..Default::default() };
    let mut text = Vec::new();
    session.printer.range(&mut text, &answer)?;
    let mut out = output().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

async fn campaign(matches: &ArgMatches, name: Bytes, proposal: Bytes) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let tenure = Tenure::open(&session.client, SessionOptions::new()).await?;
    let mut signals = Signals::catch()?;
    let election = Election::new(&session.client, name);
    let elected = tokio::select! {
        elected = election.campaign(&tenure, proposal) => elected.map_err(Failure::from),
        () = signals.caught() => Err(canceled()),
    };
    let led = match elected {
        Ok(leadership) => lead(&session, &leadership, signals).await,
        Err(failure) => Err(failure),
    };
    // Whatever went wrong, nobody shall wait for this session any longer. If it fails the lease runs out.
    drop(tenure.close().await);
    led
}

/// Shows the leadership and keeps it until a signal comes or it is lost.
async fn lead(
    session: &Session,
    leadership: &Leadership,
    mut signals: Signals,
) -> Result<(), Failure> {
    show(session, &session.client, leadership.key().clone(), "").await?;
    tokio::select! {
        () = signals.caught() => match leadership.resign().await {
            Ok(_) | Err(Error::NotElected) => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ = leadership.session().done() => Err(Failure::new(ERROR, "elect: session expired")),
    }
}
