//! `version`: of this program, and of the API it speaks.

use std::io::Write;

use clap::Command;

use super::output;
use crate::cli::NAME;
use crate::failure::Failure;
use crate::flags;

/// The version of etcd whose API is spoken, without the patch.
const API_VERSION: &str = "3.7";

pub fn command() -> Command {
    Command::new("version")
        .about("Prints the version of kvorumctl")
        .arg(flags::arguments("").hide(true))
}

pub fn run() -> Result<(), Failure> {
    let mut out = output();
    writeln!(out, "{NAME} version: {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "API version: {API_VERSION}")?;
    Ok(())
}
