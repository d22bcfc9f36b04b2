//! `txn`: a transaction, read from standard input.
//!
//! The input is three groups of lines, each ended by an empty line: comparisons, operations for when all of them hold,
//! and operations for when one does not.
//!
//! ```text
//! value("fruit") = "apple"
//! mod("fruit") > "0"
//!
//! put fruit pear
//! get fruit
//!
//! get fruit
//!
//! ```

mod compare;
mod operation;

use std::io::BufRead;

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::TxnRequest;

use super::output;
use crate::failure::{BAD_ARGUMENTS, Failure, INVALID_INPUT};
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    Command::new("txn")
        .about("Processes all the requests in one transaction")
        .long_about(
            "Reads a transaction from standard input and does it in one revision or not at all.\n\n\
             The input is three groups of lines, each ended by an empty line: comparisons such as\n\
             \n    value(\"fruit\") = \"apple\"\n    \
             create(\"fruit\") != \"0\"\n\n\
             (also version, mod and lease; and =, !=, < and >), then get, put and del as on the command line for when all \
             comparisons hold, and the same for when one does not.",
        )
        .arg(flags::arguments("").hide(true))
        .arg(flags::switch("interactive", "say what is asked for").short('i'))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if !matches.arguments().is_empty() {
        return Err(Failure::new(BAD_ARGUMENTS, "txn command does not accept argument"));
    }
    let session = Session::open(matches).await?;
    let prompt =
        if matches.is_on("interactive") { |text: &str| println!("{text}") } else { |_: &str| {} };
    let request = read(&mut std::io::stdin().lock(), prompt)?;
    let answer = session.client.txn(request).await?;
    session.printer.txn(&mut output(), &answer)
}

/// Reads the three groups; `prompt` is told before each.
fn read(input: &mut dyn BufRead, prompt: impl Fn(&str)) -> Result<TxnRequest, Failure> {
    prompt("compares:");
    let compare = read_group(input, |line| compare::parse(line).map_err(invalid))?;
    prompt("success requests (get, put, del):");
    let success = read_group(input, operation::parse)?;
    prompt("failure requests (get, put, del):");
    let failure = read_group(input, operation::parse)?;
    Ok(TxnRequest { compare, success, failure })
}

/// Reads lines up to an empty one. Input that ends before it is an error, even if its last line is whole.
fn read_group<T>(
    input: &mut dyn BufRead,
    parse: impl Fn(&[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let mut line = Vec::new();
        input.read_until(b'\n', &mut line).map_err(|error| invalid(error.to_string()))?;
        if !line.ends_with(b"\n") {
            return Err(invalid("EOF".into()));
        }
        match line.trim_ascii() {
            [] => return Ok(items),
            line => items.push(parse(line)?),
        }
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(INVALID_INPUT, message)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
