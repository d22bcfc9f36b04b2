//! `downgrade`: whether the cluster may go back to an earlier version.

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::downgrade_request::DowngradeAction;

use super::{help, output};
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    let version = || flags::arguments("TARGET_VERSION");
    let validate = Command::new("validate")
        .about("Validate downgrade capability before starting downgrade")
        .arg(version());
    let enable = Command::new("enable").about("Start a downgrade action to cluster").arg(version());
    let cancel = Command::new("cancel")
        .about("Cancel the ongoing downgrade action to cluster")
        .arg(flags::arguments("").hide(true));
    Command::new("downgrade")
        .about("Downgrade related commands")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands([cancel, enable, validate])
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return help(&["downgrade"]) };
    let (action, version) = match name {
        "validate" => (DowngradeAction::Validate, version(matches)?),
        "enable" => (DowngradeAction::Enable, version(matches)?),
        _ => (DowngradeAction::Cancel, String::new()),
    };
    let session = Session::open(matches).await?;
    let answer = session.client.downgrade(action, version).await?;
    session.printer.downgrade(&mut output(), name, &answer)
}

fn version(matches: &ArgMatches) -> Result<String, Failure> {
    let arguments = matches.arguments();
    let reason = match arguments.as_slice() {
        [] => "TARGET_VERSION not provided",
        [version] if version.is_empty() => "target version not provided",
        [version] => return Ok(version.to_string_lossy().into_owned()),
        _ => "too many arguments",
    };
    Err(Failure::new(BAD_ARGUMENTS, reason))
}
