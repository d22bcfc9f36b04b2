//! `move-leader`: hands the leadership over.

use clap::{ArgMatches, Command};
use kvorum_client::Client;

use super::output;
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::go::number::parse_id;
use crate::session::Session;

pub fn command() -> Command {
    Command::new("move-leader")
        .about("Transfers leadership to another cluster member")
        .long_about(
            "Transfers leadership to another cluster member. The leader must be among the endpoints.",
        )
        .override_usage("kvorumctl move-leader <transferee-member-id>")
        .arg(flags::arguments("MEMBER_ID"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let arguments = matches.arguments();
    let [target] = arguments.as_slice() else {
        return Err(Failure::new(BAD_ARGUMENTS, "move-leader command needs 1 argument"));
    };
    let target =
        parse_id(&target.to_string_lossy()).map_err(|error| Failure::new(BAD_ARGUMENTS, error))?;
    let session = Session::open(matches).await?;
    let (client, leader) = leader(&session).await?;
    let answer = client.move_leader(target).await?;
    session.printer.move_leader(&mut output(), leader, target, &answer)
}

/// A client of the endpoint that leads, and the leader's id.
async fn leader(session: &Session) -> Result<(Client, u64), Failure> {
    for endpoint in &session.endpoints {
        let client = session.client_at(endpoint)?;
        let status = client.status().await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            return Ok((client, status.leader));
        }
    }
    let text = format!("no leader endpoint given at [{}]", session.endpoints.join(" "));
    Err(Failure::new(BAD_ARGUMENTS, text))
}
