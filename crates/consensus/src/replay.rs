//! What a start applies from the log, before there is an engine.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use kvorum_machine::{self as machine, Checkpoints, Machine};
use kvorum_types::Position;
use kvorum_wal::{Log, LogEntry};

use crate::applier::to_machine;
use crate::errors::{FatalError, StartError};
use crate::log::entry_from_log;
use crate::start::Workshop;
use crate::types::Entry;

/// How many bytes of entries are applied again at a time.
const REPLAY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Brings the leases up to where the store is: they come from an older checkpoint.
pub(crate) async fn leases(
    machine: &mut Machine,
    log: &Log,
    workshop: &mut Workshop,
) -> Result<(), StartError> {
    let Some(behind) = machine.leases_behind() else { return Ok(()) };
    // What the log holds is what was applied only if the two agree at the end of it.
    let agrees = |applied: Position| log.term_at(applied.index) == Some(applied.term);
    if !machine.applied().is_some_and(agrees) {
        let what = "the log is not the one from which the store was made";
        return Err(log_error(io::Error::new(io::ErrorKind::InvalidData, what)));
    }
    let mut next = behind.start;
    while next < behind.end {
        for entry in read(log, next..behind.end, workshop).await? {
            let position = entry.position();
            machine.replay_leases(position, to_machine(entry.payload)).map_err(fatal)?;
            next = position.index + 1;
        }
    }
    tracing::info!(from = behind.start, to = behind.end - 1, "lease commands applied again");
    Ok(())
}

/// Applies what is known to be committed beyond the state: what the log notes, and what a checkpoint covers.
pub(crate) async fn committed(
    machine: &mut Machine,
    checkpoints: &Checkpoints,
    log: &Log,
    workshop: &mut Workshop,
) -> Result<(), StartError> {
    let in_log = |at: &Position| log.term_at(at.index) == Some(at.term);
    let checkpoints = checkpoints.newest_first().into_iter().map(|info| info.position);
    let committed = checkpoints.filter(in_log).chain(log.committed()).map(|at| at.index).max();
    let end = committed.min(log.last().map(|last| last.index)).map_or(0, |index| index + 1);
    let mut next = machine.applied().map_or(0, |applied| applied.index + 1);
    let first = next;
    while next < end {
        for entry in read(log, next..end, workshop).await? {
            let position = entry.position();
            machine.apply(position, to_machine(entry.payload), None).map_err(fatal)?;
            next = position.index + 1;
        }
        machine.publish();
    }
    if next > first {
        tracing::info!(from = first, to = next - 1, "committed entries applied again");
    }
    Ok(())
}

fn fatal(error: machine::FatalError) -> StartError {
    StartError::Fatal(FatalError::Machine(Arc::new(error)))
}

fn log_error(error: io::Error) -> StartError {
    StartError::Fatal(FatalError::Log(Arc::new(error)))
}

/// The next entries, at least one of them.
pub(crate) async fn read(
    log: &Log,
    range: Range<u64>,
    workshop: &mut Workshop,
) -> Result<Vec<Entry>, StartError> {
    let read = workshop.drive(read_from(log, range)).await.and_then(|read| read);
    let entries = read.map_err(log_error)?.into_iter();
    entries.map(|entry| entry_from_log(entry).map_err(log_error)).collect()
}

async fn read_from(log: &Log, range: Range<u64>) -> io::Result<Vec<LogEntry>> {
    match log.read(range.clone(), REPLAY_BYTES_MAX) {
        kvorum_wal::Read::Entries(entries) if entries.is_empty() => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {} is not in the log", range.start),
        )),
        kvorum_wal::Read::Entries(entries) => Ok(entries),
        kvorum_wal::Read::OnDisk => {
            let (tx, rx) = tokio::sync::oneshot::channel();
            let reply = Box::new(move |read| drop(tx.send(read)));
            log.read_on_disk(range, REPLAY_BYTES_MAX, reply);
            rx.await.map_err(|_| io::Error::other("the log's reader has stopped"))?
        }
    }
}
