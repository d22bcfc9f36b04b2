//! `endpoint`: how single members are.

use std::future::Future;
use std::io::stderr;
use std::time::Instant;

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::{AlarmMember, AlarmType, RangeRequest};
use kvorum_client::{Client, Error, EtcdError};
use tokio::task::JoinSet;

use super::{help, output};
use crate::failure::{ERROR, Failure};
use crate::flags::{self, Flags};
use crate::go::duration;
use crate::output::{At, Health};
use crate::session::Session;

pub fn command() -> Command {
    let hashkv = Command::new("hashkv")
        .about("Prints the KV history hash for each endpoint")
        .arg(flags::integer("rev", "hash the history up to this revision, 0 for all (0)"));
    let health = Command::new("health").about("Checks whether endpoints are healthy");
    let status = Command::new("status").about("Prints out the status of endpoints").long_about(
        "Prints out the status of endpoints.\n\n\
         The simple format prints endpoint, ID, version, db size, is leader, is learner, raft term, raft index, \
         raft applied index and errors.",
    );
    Command::new("endpoint")
        .about("Endpoint related commands")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .arg(
            flags::switch("cluster", "use all endpoints from the cluster member list").global(true),
        )
        .subcommands(
            [hashkv, health, status].map(|command| command.arg(flags::arguments("").hide(true))),
        )
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("health", matches)) => health(matches).await,
        Some(("status", matches)) => status(matches).await,
        Some(("hashkv", matches)) => hashkv(matches).await,
        _ => help(&["endpoint"]),
    }
}

async fn status(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let asked = ask(&session, matches, "status", |client| async move { client.status().await });
    let (answers, error) = asked.await?;
    session.printer.status(&mut output(), &answers)?;
    error.map_or(Ok(()), |_| Err(Failure::silent(ERROR)))
}

async fn hashkv(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::open(matches).await?;
    let revision = matches.integer("rev").unwrap_or(0);
    let asked =
        ask(&session, matches, "hash", |client| async move { client.hash_kv(revision).await });
    let (answers, error) = asked.await?;
    session.printer.hashes(&mut output(), &answers)?;
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// Asks each endpoint in turn. Tells of those that fail, and returns the answers of the others with the last error.
async fn ask<Answer, Asked>(
    session: &Session,
    matches: &ArgMatches,
    what: &str,
    question: impl Fn(Client) -> Asked,
) -> Result<(Vec<At<Answer>>, Option<Error>), Failure>
where
    Asked: Future<Output = Result<Answer, Error>>,
{
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(session, matches).await? {
        match question(session.client_at(&endpoint)?).await {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(error) => {
                eprintln!("Failed to get the {what} of endpoint {endpoint} ({error})");
                failed = Some(error);
            }
        }
    }
    Ok((answers, failed))
}

/// The endpoints that were given, or with --cluster those that the members advertise.
pub async fn endpoints(session: &Session, matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    if !matches.is_on("cluster") {
        return Ok(session.endpoints.clone());
    }
    let answer = session.client.member_list(true).await.map_err(|error| {
        let text = format!("failed to fetch endpoints from etcd cluster member list: {error}");
        Failure::new(ERROR, text)
    })?;
    Ok(answer.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// Asks all endpoints at once; the first to answer is printed first.
async fn health(matches: &ArgMatches) -> Result<(), Failure> {
    let session = Session::prepare(matches)?;
    let mut checks = JoinSet::new();
    for endpoint in endpoints(&session, matches).await? {
        let client = session.client_at(&endpoint)?;
        checks.spawn(async move { check(endpoint, client).await });
    }
    let mut endpoints = Vec::new();
    while let Some(checked) = checks.join_next().await {
        endpoints.push(checked.map_err(|error| Failure::new(ERROR, error.to_string()))?);
    }
    session.printer.health(&mut output(), &mut stderr(), &endpoints)?;
    if endpoints.iter().any(|endpoint| !endpoint.error.is_empty()) {
        return Err(Failure::new(ERROR, "unhealthy cluster"));
    }
    Ok(())
}

/// Reads some key: an answer, even that it may not be read, means that there is a quorum. Then asks for alarms.
async fn check(endpoint: String, client: Client) -> Health {
    if let Err(error) = client.sign_in().await {
        return Health { endpoint, healthy: false, took: String::new(), error: error.to_string() };
    }
    let started = Instant::now();
    let request = RangeRequest { key: "health".into(), ..Default::default() };
    let read = client.range(request).await;
    let took = started.elapsed();
    let error = match read {
        Err(error) if error.etcd() != Some(EtcdError::PermissionDenied) => error.to_string(),
        _ => match client.alarm_list().await {
            Ok(answer) => alarms(&answer.alarms),
            Err(_) => "Unable to fetch the alarm list".into(),
        },
    };
    Health { endpoint, healthy: error.is_empty(), took: duration::format(took), error }
}

fn alarms(alarms: &[AlarmMember]) -> String {
    if alarms.is_empty() {
        return String::new();
    }
    let names = alarms.iter().map(|alarm| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
        AlarmType::None => "UNKNOWN ",
    });
    format!("Active Alarm(s): {}", names.collect::<String>())
}
