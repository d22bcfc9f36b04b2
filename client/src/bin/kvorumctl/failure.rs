//! How a command ends when it fails: etcdctl's exit codes, and one line on standard error.

use std::process::ExitCode;

use kvorum_client::Error;

/// The request failed, or a flag could not be understood.
pub const ERROR: u8 = 1;
/// The client could not be made: no endpoint, or not who one says one is.
pub const BAD_CONNECTION: u8 = 2;
/// Standard input holds something that could not be understood, or ended too early.
pub const INVALID_INPUT: u8 = 3;
/// A flag has a value that is not supported.
pub const BAD_FEATURE: u8 = 4;
/// A watch has come to its end, or a backup was not saved.
pub const INTERRUPTED: u8 = 5;
/// Arguments are missing or do not go together.
pub const BAD_ARGUMENTS: u8 = 128;

/// Why a command ends early.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the constants of this module.
    code: u8,
    /// What is printed after `Error: `; nothing if all has been said.
    message: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: Some(message.into()) }
    }

    /// A failure of which the user has been told already.
    pub fn silent(code: u8) -> Failure {
        Failure { code, message: None }
    }

    /// What is wrong, for a message that says where.
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Prints the message and gives the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            eprintln!("Error: {message}");
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(ERROR, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// Standard output is gone or full. A reader that has had enough is no error.
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::silent(ERROR),
            _ => Failure::new(ERROR, error.to_string()),
        }
    }
}
