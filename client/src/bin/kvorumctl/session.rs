//! What a command works with: the client and the printer that the global flags describe.

use std::io::IsTerminal;
use std::time::Duration;

use clap::ArgMatches;
use console::Term;
use kvorum_client::{Client, Credentials, Error};

use crate::failure::{BAD_ARGUMENTS, BAD_CONNECTION, ERROR, Failure};
use crate::globals::Globals;
use crate::output::Printer;

/// The client and the printer of a command.
pub struct Session {
    /// Knows all endpoints, and a token if there is a user.
    pub client: Client,
    /// Prints in the chosen format.
    pub printer: Printer,
    /// The endpoints as they were given.
    pub endpoints: Vec<String>,
    /// How long the command may take, if somebody said so.
    pub time_limit: Option<Duration>,
}

impl Session {
    /// Reads the global flags, makes the client, and signs the user in if there is one.
    pub async fn open(matches: &ArgMatches) -> Result<Session, Failure> {
        let session = Session::prepare(matches)?;
        let signed_in = session.client.sign_in().await;
        signed_in.map_err(|error| Failure::new(BAD_CONNECTION, error.to_string()))?;
        Ok(session)
    }

    /// Reads the global flags and makes the client, but talks to nobody yet.
    pub fn prepare(matches: &ArgMatches) -> Result<Session, Failure> {
        let globals = Globals::read(matches, std::env::vars_os())?;
        if globals.debug() {
            for setting in globals.shown() {
                eprintln!("{setting}");
            }
        }
        let printer = Printer::new(globals.write_out(), globals.hex())?;
        let credentials = credentials(&globals)?;
        let client = Client::new(globals.config(credentials)).map_err(|error| match error {
            Error::NoEndpoints => Failure::new(BAD_CONNECTION, error.to_string()),
            _ => Failure::new(BAD_ARGUMENTS, error.to_string()),
        })?;
        let (endpoints, time_limit) = (globals.endpoints(), globals.time_limit());
        Ok(Session { client, printer, endpoints, time_limit })
    }

    /// A client of one endpoint.
    pub fn client_at(&self, endpoint: &str) -> Result<Client, Failure> {
        self.client.at(endpoint).map_err(|error| Failure::new(BAD_ARGUMENTS, error.to_string()))
    }
}

fn credentials(globals: &Globals) -> Result<Option<Credentials>, Failure> {
    let Some((user, password)) = globals.user() else { return Ok(None) };
    let password = match password {
        Some(password) => password.to_string(),
        None => ask_for_password()?,
    };
    Ok(Some(Credentials { user: user.to_string(), password }))
}

/// Asks on the terminal, without showing what is typed; from a pipe it takes a line.
fn ask_for_password() -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(ERROR, error.to_string());
    eprint!("Password: ");
    if std::io::stdin().is_terminal() {
        return Term::stderr().read_secure_line().map_err(failed);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}
