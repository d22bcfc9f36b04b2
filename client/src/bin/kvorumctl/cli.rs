//! The tree of commands.
//!
//! Any command may be shortened to a beginning that no other has: `compact` is `compaction`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::commands;
use crate::failure::{ERROR, Failure};
use crate::globals;
use crate::go::quote::quoted;

/// The program's name.
pub const NAME: &str = "kvorumctl";

/// The root command.
pub fn command() -> Command {
    Command::new(NAME)
        .about("Reads, writes and looks after kvorum, and any other server of etcd's v3 API")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .infer_subcommands(true)
        .max_term_width(100)
        .args(globals::arguments())
        .subcommands(commands::all())
}

/// What the command line asks for.
pub enum Parsed {
    /// A command and its flags.
    Run(ArgMatches),
    /// A text to print, such as help.
    Print(String),
}

/// Reads the command line.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    match command().try_get_matches_from(arguments) {
        Ok(matches) => Ok(Parsed::Run(matches)),
        Err(error) if !error.use_stderr() => Ok(Parsed::Print(error.render().to_string())),
        Err(error) => Err(Failure::new(ERROR, explain(&error, NAME))),
    }
}

/// A mistake in the words etcdctl has for it.
pub fn explain(error: &clap::Error, parent: &str) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = context(ContextKind::InvalidArg);
    // Clap shows a flag with its value's name: `--limit <N>`.
    let name = flag.split([' ', '=', '[']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if name.starts_with("--") => format!("unknown flag: {name}"),
        ErrorKind::UnknownArgument if name.starts_with('-') => {
            let letter = name.chars().nth(1).unwrap_or('-');
            format!("unknown shorthand flag: {letter:?} in {name}")
        }
        // Clap reports an invalid value that is empty as missing.
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("flag needs an argument: {name}")
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = quoted(context(ContextKind::InvalidValue).as_bytes());
            let reason = std::error::Error::source(error).map(ToString::to_string);
            format!(
                "invalid argument {value} for {:?} flag: {}",
                with_letter(name),
                reason.unwrap_or_else(|| "invalid syntax".into())
            )
        }
        ErrorKind::InvalidSubcommand => format!(
            "unknown command {:?} for {parent:?}\nRun '{parent} --help' for usage.",
            context(ContextKind::InvalidSubcommand)
        ),
        _ => {
            let text = error.to_string();
            text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_string()
        }
    }
}

/// A flag's name, behind the letter that is short for it if there is one: `-l, --listen`.
fn with_letter(name: &str) -> String {
    fn letter(command: &Command, name: &str) -> Option<char> {
        let is_meant = |arg: &&clap::Arg| arg.get_long() == Some(name);
        let own = command.get_arguments().find(is_meant).and_then(clap::Arg::get_short);
        own.or_else(|| command.get_subcommands().find_map(|command| letter(command, name)))
    }
    match letter(&command(), name.trim_start_matches('-')) {
        Some(letter) => format!("-{letter}, {name}"),
        None => name.to_string(),
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
