//! `lock`: holds a lock, for as long as it runs or for as long as a command does.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command as Child, ExitStatus, Stdio};

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::RangeRequest;
use kvorum_client::concurrency::{Lock, Mutex, Session as Tenure, SessionOptions};
use kvorum_client::{Client, Error};

use super::child::{how, why_not};
use super::signals::Signals;
use super::{bytes, output};
use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};
use crate::flags::{self, Flags};
use crate::session::Session;

/// Seconds, unless told otherwise.
const TTL: i64 = 10;

pub fn command() -> Command {
    Command::new("lock")
        .about("Acquires a named lock")
        .long_about(
            "Waits for the lock of a name and holds it.\n\n\
             With a command, runs it while the lock is held, with ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment, and ends \
             with its exit code. Without one, prints the lock's key and holds it until it is stopped by SIGINT or SIGTERM. \
             Flags of the command come after two dashes.\n\n\
             A lock does not by itself keep two from working at once: its holder may lose it without noticing. What must not \
             be done twice has to be guarded by the create revision of ETCD_LOCK_KEY, in a transaction.",
        )
        .override_usage("kvorumctl lock [options] <lockname> [--] [exec-command [argument]...]")
        .arg(flags::arguments("LOCKNAME [COMMAND]..."))
        .arg(flags::integer("ttl", "seconds after which the lock is lost when the servers cannot be reached (10)"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let mut arguments = matches.arguments().into_iter();
    let name = arguments.next().ok_or_else(|| {
        let text = "lock takes a lock name argument and an optional command to execute";
        Failure::new(BAD_ARGUMENTS, text)
    })?;
    let command: Vec<OsString> = arguments.collect();
    let session = Session::open(matches).await?;
    // Caught only once there is something to release.
    let options = SessionOptions::new().ttl(matches.integer("ttl").unwrap_or(TTL));
    let tenure = Tenure::open(&session.client, options).await?;
    let mut signals = Signals::catch()?;
    let mutex = Mutex::new(&tenure, bytes(name));
    let lock = tokio::select! {
        lock = mutex.lock() => lock.map_err(Failure::from),
        () = signals.caught() => Err(canceled()),
    };
    let held = match lock {
        Ok(lock) if command.is_empty() => hold(&session, &lock, signals).await,
        Ok(lock) => run_with(&lock, &command).await,
        Err(failure) => Err(failure),
    };
    // Whatever went wrong, nobody shall wait for this session any longer. If it fails the lease runs out.
    drop(tenure.close().await);
    held
}

/// What etcdctl says when it is stopped while it waits.
pub fn canceled() -> Failure {
    Failure::new(ERROR, "context canceled")
}

/// Shows the lock and holds it until a signal comes or it is lost.
async fn hold(session: &Session, lock: &Lock, mut signals: Signals) -> Result<(), Failure> {
    show(session, &session.client, lock.key().clone(), "lock lost on init").await?;
    tokio::select! {
        () = signals.caught() => released(lock.unlock().await),
        _ = lock.session().done() => Err(Failure::new(ERROR, "session expired")),
    }
}

/// Prints a key that was just written.
pub async fn show(
    session: &Session,
    client: &Client,
    key: bytes::Bytes,
    missing: &str,
) -> Result<(), Failure> {
    let answer = client.range(RangeRequest { key, ..Default::default() }).await?;
    if answer.kvs.is_empty() && !missing.is_empty() {
        return Err(Failure::new(ERROR, missing));
    }
    let mut text = Vec::new();
    session.printer.range(&mut text, &answer)?;
    let mut out = output().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// A key that somebody else deleted is released too.
fn released(unlocked: Result<(), Error>) -> Result<(), Failure> {
    match unlocked {
        Ok(()) | Err(Error::LockReleased) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Runs the command while the lock is held. One that fails ends the program with its code.
async fn run_with(lock: &Lock, command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Child::new(program);
    child
        .args(arguments)
        .env("ETCD_LOCK_KEY", std::ffi::OsStr::from_bytes(lock.key()))
        .env("ETCD_LOCK_REV", lock.header().revision.to_string())
        .stdin(Stdio::null());
    // The lease is kept alive meanwhile, so it is waited for elsewhere.
    let running = tokio::task::spawn_blocking(move || child.status());
    tokio::pin!(running);
    let (ended, is_lost) = tokio::select! {
        ended = &mut running => (ended, false),
        _ = lock.session().done() => {
            eprintln!("Warning: session expired, the lock is lost while the command runs");
            (running.await, true)
        }
    };
    let unlocked = if is_lost { Ok(()) } else { released(lock.unlock().await) };
    match ended.map_err(std::io::Error::other).and_then(|ended| ended) {
        Ok(status) if !status.success() => Err(Failure::new(exit_code(status), how(status))),
        Ok(_) if is_lost => Err(Failure::new(ERROR, "session expired")),
        Ok(_) => unlocked,
        Err(error) => Err(Failure::new(ERROR, why_not(program, &error))),
    }
}

/// The code to end with after a command that failed; Go's -1 for one that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
