//! What the executable `kvorum` does: `kvorum [flags]`, `kvorum dev`, `kvorum wal`, `kvorum snapshot`.
//!
//! | exit code | after |
//! |---|---|
//! | 0 | SIGTERM or SIGINT; a text that was asked for; as in etcd, a member that the cluster has removed |
//! | 1 | a member that did not start, or that stopped because of an error; a log that is damaged |
//! | 2 | a command line that cannot be understood |

use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_heap::Heap;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::builder::Builder;
use crate::config::{self, Config, Invocation};
use crate::server::Server;
use crate::{dev, logging, memory, snapshot_tool, version, wal_tool};

/// How long a member may take to end after a signal. What it acknowledged is on disk, so cutting it short loses nothing.
const STOP_TIME_MAX: Duration = Duration::from_millis(1900);

/// Open files that a member asks the system for, as far as its limit can be raised.
const DESCRIPTORS_WANTED: u64 = 1 << 20;

/// Runs the executable with these arguments (without its name) and this environment.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let environment: Vec<_> = environment.into_iter().collect();
    let parsed = match config::parse(arguments, environment.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("kvorum: {error}");
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match parsed.invocation {
        Invocation::Print(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Invocation::Wal(command) => wal_tool::run(&command),
        Invocation::Snapshot(command) => snapshot_tool::run(&command),
        Invocation::Dev(options) => {
            logging::start(options.log);
            on_runtime(dev::run(options.member_count))
        }
        Invocation::Serve(config) => {
            let restarted = memory::restart_if_wanted(&config, &environment);
            logging::start(config.log);
            for warning in parsed.warnings.into_iter().chain(restarted.warnings) {
                warn!("{warning}");
            }
            on_runtime(serve(*config))
        }
    }
}

/// Runs a command that waits more than it works.
fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    raise_descriptor_limit();
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            eprintln!("kvorum: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot listen for signals: {error}")),
    };
    info!(
        name = config.name,
        data_dir = %config.data_dir.display(),
        version = version::VERSIONS.kvorum,
        "starting"
    );
    let server = tokio::select! {
        started = member(config).start() => match started {
            Ok(server) => server,
            Err(error) if error.is_removed() => return removed(&error.to_string()),
            Err(error) => return failed(&error.to_string()),
        },
        // Nothing is promised to anybody yet, so there is nothing to end in order.
        name = signals.next() => {
            info!(signal = name, "exiting before the start was done");
            std::process::exit(0)
        }
    };
    tokio::select! {
        ended = server.wait() => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.is_removed() => removed(&error.to_string()),
            Err(error) => failed(&error.to_string()),
        },
        name = signals.next() => {
            info!(signal = name, "stopping");
            end(server).await
        }
    }
}

/// The member, with the allocator if that is ours.
fn member(config: Config) -> Builder {
    let member = Builder::from_config(config);
    match Heap::of_process() {
        Some(heap) => member.heap(heap),
        None => member,
    }
}

/// Waits for an end in order, but not for ever. Further signals change nothing: some supervisors send several at once.
async fn end(server: Server) -> ExitCode {
    let member = server.member().clone();
    let mut stopping = pin!(server.stop());
    match timeout(STOP_TIME_MAX, stopping.as_mut()).await {
        Ok(Ok(())) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) if error.is_removed() => removed(&error.to_string()),
        Ok(Err(error)) => failed(&error.to_string()),
        // Waiting for threads is what took too long, and whoever drops what waits waits too.
        Err(_) => match member.fatal().now_or_never() {
            Some(failure) => {
                failed(&failure.to_string());
                std::process::exit(1)
            }
            None => {
                warn!("not everything had ended in time");
                std::process::exit(0)
            }
        },
    }
}

/// Says why the process ends, on its log and where no log is read.
pub(crate) fn failed(message: &str) -> ExitCode {
    error!("{message}");
    eprintln!("kvorum: {message}");
    ExitCode::FAILURE
}

/// Says that the member's time is over. It has done what it was told: a supervisor must not start it again.
fn removed(message: &str) -> ExitCode {
    warn!("{message}");
    eprintln!("kvorum: {message}");
    ExitCode::SUCCESS
}

/// The signals that ask the process to end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer kill the process.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Lets the process open as many files as its system allows: every connection is one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS_WANTED, |most| most.min(DESCRIPTORS_WANTED));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "cannot raise the limit of open files");
    }
}
