//! `member`: who belongs to the cluster, and changing that.

use clap::{ArgMatches, Command};

use super::{get, help, output};
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::go::number::parse_id;
use crate::session::Session;

pub fn command() -> Command {
    let add = Command::new("add")
        .about("Adds a member into the cluster")
        .long_about(
            "Adds a member into the cluster, and prints the settings that it is to be started with.\n\n\
             A member that is to vote does so once it has caught up; until then it counts for no majority.",
        )
        .override_usage("kvorumctl member add <memberName> [options]")
        .arg(flags::arguments("MEMBER_NAME"))
        .arg(flags::text("peer-urls", "comma separated peer URLs for the new member"))
        .arg(flags::switch("learner", "the new member is to have no vote"));
    let remove = Command::new("remove")
        .about("Removes a member from the cluster")
        .long_about(
            "Removes a member from the cluster: it stops itself, and its id may not return.",
        )
        .override_usage("kvorumctl member remove <memberID>")
        .arg(flags::arguments("MEMBER_ID"));
    let update = Command::new("update")
        .about("Updates a member in the cluster")
        .override_usage("kvorumctl member update <memberID> [options]")
        .arg(flags::arguments("MEMBER_ID"))
        .arg(flags::text("peer-urls", "comma separated peer URLs for the updated member"));
    let promote = Command::new("promote")
        .about("Promotes a non-voting member in the cluster")
        .override_usage("kvorumctl member promote <memberID>")
        .arg(flags::arguments("MEMBER_ID"));
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
        .subcommands([add, list, promote, remove, update])
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("add", matches)) => add(matches).await,
        Some(("list", matches)) => list(matches).await,
        Some(("promote", matches)) => promote(matches).await,
        Some(("remove", matches)) => remove(matches).await,
        Some(("update", matches)) => update(matches).await,
        _ => help(&["member"]),
    }
}

async fn add(matches: &ArgMatches) -> Result<(), Failure> {
    let name = name(matches)?;
    let (text, urls) = peer_urls(matches)?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_add(urls, matches.is_on("learner")).await?;
    session.printer.member_add(&mut output(), &name, text, &answer)
}

async fn remove(matches: &ArgMatches) -> Result<(), Failure> {
    let id = member(matches)?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_remove(id).await?;
    session.printer.member_remove(&mut output(), id, &answer)
}

async fn update(matches: &ArgMatches) -> Result<(), Failure> {
    let id = member(matches)?;
    let (_, urls) = peer_urls(matches)?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_update(id, urls).await?;
    session.printer.member_update(&mut output(), id, &answer)
}

async fn promote(matches: &ArgMatches) -> Result<(), Failure> {
    let id = member(matches)?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_promote(id).await?;
    session.printer.member_promote(&mut output(), id, &answer)
}

async fn list(matches: &ArgMatches) -> Result<(), Failure> {
    let linearizable = !get::is_serializable(matches.text("consistency"))?;
    let session = Session::open(matches).await?;
    let answer = session.client.member_list(linearizable).await?;
    session.printer.members(&mut output(), &answer)
}

/// The new member's name. What looks like a URL among too many arguments is told where it belongs.
fn name(matches: &ArgMatches) -> Result<String, Failure> {
    let arguments = matches.arguments();
    let texts: Vec<_> = arguments.iter().map(|text| text.to_string_lossy()).collect();
    match texts.as_slice() {
        [] => Err(Failure::new(BAD_ARGUMENTS, "member name not provided")),
        [name] => Ok(name.to_string()),
        texts => {
            let is_url = |text: &str| text.to_lowercase().starts_with("http");
            let hints = texts.iter().filter(|text| is_url(text));
            let hints = hints.map(|url| format!(", did you mean --peer-urls={url}"));
            let hints = hints.collect::<String>();
            Err(Failure::new(BAD_ARGUMENTS, format!("too many arguments{hints}")))
        }
    }
}

/// The only argument, an id.
fn member(matches: &ArgMatches) -> Result<u64, Failure> {
    let arguments = matches.arguments();
    let [id] = arguments.as_slice() else {
        return Err(Failure::new(BAD_ARGUMENTS, "member ID is not provided"));
    };
    parse_id(&id.to_string_lossy()).map_err(|error| {
        let text = format!("bad member ID arg ({error}), expecting ID in Hex");
        Failure::new(BAD_ARGUMENTS, text)
    })
}

/// The URLs as they were given, and one by one.
fn peer_urls(matches: &ArgMatches) -> Result<(&str, Vec<String>), Failure> {
    match matches.text("peer-urls") {
        "" => Err(Failure::new(BAD_ARGUMENTS, "member peer urls not provided")),
        text => Ok((text, text.split(',').map(str::to_owned).collect())),
    }
}
