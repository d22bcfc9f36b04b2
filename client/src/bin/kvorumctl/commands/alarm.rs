//! `alarm`: what keeps the cluster from taking writes.

use clap::{ArgMatches, Command};

use super::{help, output};
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    let arguments = || flags::arguments("").hide(true);
    let disarm = Command::new("disarm").about("Disarms all alarms").arg(arguments());
    let list = Command::new("list").about("Lists all alarms").arg(arguments());
    Command::new("alarm")
        .about("Alarm related commands")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands([disarm, list])
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else { return help(&["alarm"]) };
    if !matches.arguments().is_empty() {
        let text = format!("alarm {name} command accepts no arguments");
        return Err(Failure::new(BAD_ARGUMENTS, text));
    }
    let session = Session::open(matches).await?;
    let answer = match name {
        "disarm" => session.client.alarm_disarm_all().await?,
        _ => session.client.alarm_list().await?,
    };
    session.printer.alarms(&mut output(), &answer)
}
