//! `completion`: a script that lets a shell complete commands and flags.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::{Shell, generate};

use super::output;
use crate::cli;
use crate::failure::Failure;

pub fn command() -> Command {
    Command::new("completion")
        .about("Prints a completion script for a shell")
        .long_about(
            "Prints a completion script for a shell.\n\n\
             For bash: source <(kvorumctl completion bash)",
        )
        .arg(Arg::new("shell").help("the shell").required(true).value_parser(value_parser!(Shell)))
}

pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let shell: Shell = *matches.get_one("shell").expect("clap requires it");
    generate(shell, &mut cli::command(), cli::NAME, &mut output());
    Ok(())
}
