//! The command line of kvorum, and of any other server of etcd's v3 API: etcdctl's commands, flags, formats and exit codes,
//! and a load generator.

mod bench;
mod cli;
mod commands;
mod failure;
mod flags;
mod globals;
mod go;
mod output;
mod session;

use std::process::ExitCode;

use cli::Parsed;
use failure::{ERROR, Failure};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn start() -> Result<(), Failure> {
    match cli::parse(std::env::args_os())? {
        Parsed::Print(text) => {
            print!("{text}");
            Ok(())
        }
        // One thread is enough for a command, and leaves the other to the servers of a benchmark.
        Parsed::Run(matches) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(ERROR, error.to_string()))?
            .block_on(commands::run(&matches)),
    }
}
