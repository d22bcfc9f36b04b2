//! `kvorum snapshot status|restore`: what is done with a backup where no member runs.

mod progress;
mod restore;
mod status;

use std::process::ExitCode;

use crate::config::SnapshotCommand;

/// Looks at a backup, or makes a member of it. What went wrong goes to standard error, as etcdutl has it.
pub(crate) fn run(command: &SnapshotCommand) -> ExitCode {
    let done = match command {
        SnapshotCommand::Status { path, output } => status::run(path, *output),
        SnapshotCommand::Restore(settings) => restore::run(settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}
