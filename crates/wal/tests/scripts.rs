//! The scripts in `testscripts/`: what is submitted, what is reported, and the I/O that is done for it (`[ops]`).
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p kvorum-wal --test scripts` writes their output anew.

mod harness;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goldenscript::Context;
use harness::{DIR, MEMBER, entry, open_on, segment_path};
use kvorum_disk::{FaultyDisk, OpKind};
use kvorum_types::Position;
use kvorum_wal::{Done, Options, Read, Vote, Wal, inspect};

#[derive(goldenscript::Command)]
enum Command {
    /// Opens the log.
    Open {
        #[arg(key)]
        segment_bytes: Option<u64>,
        #[arg(key)]
        tail_bytes: Option<usize>,
    },
    /// Appends one entry for each payload; `x@100` is 100 bytes.
    Append {
        term: u64,
        index: u64,
        payloads: Vec<String>,
    },
    Vote {
        term: u64,
        #[arg(key, optional)]
        committed: bool,
    },
    /// Keeps the entries up to an index, or none.
    Truncate {
        last: Option<u64>,
    },
    Purge {
        term: u64,
        index: u64,
    },
    Committed {
        term: u64,
        index: u64,
    },
    /// Steps the writer once.
    Step,
    /// Steps the reader once.
    ReaderStep,
    /// Reads entries, from memory if they are there.
    Read {
        first: u64,
        end: u64,
        bytes_max: Option<usize>,
    },
    Status,
    /// Closes the log, or kills the process: what was written stays, synced or not.
    Close,
    /// Loses the power with all that was not synced.
    PowerLoss,
    /// The nth operation of a kind fails, counted from 1.
    Fail {
        kind: String,
        nth: u64,
    },
    /// Sets how many bytes the disk has.
    Capacity {
        bytes: Option<u64>,
    },
    /// Flips a bit of a byte in a segment.
    Flip {
        segment: u64,
        offset: u64,
    },
    /// Removes a segment's file.
    RemoveSegment {
        segment: u64,
    },
    /// Shows every record.
    Dump,
    Verify,
}

#[derive(Default)]
struct Runner {
    disk: FaultyDisk,
    wal: Option<Wal>,
    reported: Arc<Mutex<String>>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn start_script(&mut self) -> Result<(), Box<dyn Error>> {
        self.disk.list_ops();
        Ok(())
    }

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let outcome = self.run_command(command);
        let mut output = String::new();
        let ops = self.disk.take_ops();
        if context.tags.contains("ops") {
            for op in ops {
                writeln!(output, "  {op}")?;
            }
        }
        output.push_str(&std::mem::take(&mut *self.reported.lock().expect("no callback panics")));
        match outcome {
            Ok(more) => Ok(output + &more),
            Err(error) => Err(format!("{error}\n{output}").trim_end().into()),
        }
    }
}

impl Runner {
    fn run_command(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Open { segment_bytes, tail_bytes } => {
                let options = Options {
                    segment_bytes: segment_bytes.unwrap_or(4096),
                    tail_bytes: tail_bytes.unwrap_or(4096),
                    ..harness::small()
                };
                self.open(options)
            }
            Command::Close => self.close(),
            Command::PowerLoss => {
                self.disk.power_loss_taking_all();
                self.close()
            }
            Command::Fail { kind, nth } => {
                self.disk.fail_nth(Some(op_kind(kind)?), *nth, std::io::ErrorKind::TimedOut);
                Ok(String::new())
            }
            Command::Capacity { bytes } => {
                self.disk.set_capacity(*bytes);
                Ok(String::new())
            }
            Command::Flip { segment, offset } => {
                self.disk.flip(&segment_path(*segment), *offset, 1)?;
                Ok(String::new())
            }
            Command::RemoveSegment { segment } => {
                kvorum_disk::Disk::remove(&self.disk, &segment_path(*segment))?;
                Ok(String::new())
            }
            Command::Dump => self.dump(),
            Command::Verify => {
                let summary = inspect::verify(&self.disk, Path::new(DIR))?;
                Ok(format!("{summary:#?}"))
            }
            submitted => self.submit(submitted),
        }
    }

    fn submit(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let report = |what: String| report(&self.reported, what);
        let wal = self.wal.as_mut().ok_or("the log is not open")?;
        match command {
            Command::Append { term, index, payloads } => {
                let entries = payloads.iter().zip(*index..);
                let entries: Vec<_> =
                    entries.map(|(payload, index)| entry(*term, index, &bytes(payload))).collect();
                let what = format!("append of {term}.{index} and {} more", entries.len() - 1);
                wal.log.append(entries, report(what));
            }
            Command::Vote { term, committed } => {
                let vote = Vote { term: *term, candidate: Some(MEMBER), committed: *committed };
                wal.log.save_vote(vote, report(format!("vote {vote}")));
            }
            Command::Truncate { last } => {
                wal.log.truncate_after(*last, report(format!("truncate after {last:?}")));
            }
            Command::Purge { term, index } => wal.log.purge(Position::new(*term, *index)),
            Command::Committed { term, index } => {
                wal.log.set_committed(Position::new(*term, *index));
            }
            Command::Step => return Ok(format!("{:?}", wal.writer.step()?)),
            Command::ReaderStep => {
                let served = wal.reader.step(Duration::MAX);
                return Ok(format!("did something: {}", !served.idle));
            }
            Command::Read { first, end, bytes_max } => {
                return Self::read(wal, *first..*end, bytes_max.unwrap_or(10_000));
            }
            Command::Status => return Ok(Self::status(wal)),
            _ => return Err("not a command for an open log".into()),
        }
        Ok(String::new())
    }

    fn open(&mut self, options: Options) -> Result<String, Box<dyn Error>> {
        let wal = open_on(&self.disk, options)?;
        let found = wal.recovered.clone();
        self.wal = Some(wal);
        let show =
            |position: Option<Position>| position.map_or("none".to_owned(), |p| p.to_string());
        Ok(format!(
            "incarnation={} vote={} committed={} purged={} last={} torn={}",
            found.identity.incarnation.0,
            found.vote.map_or("none".to_owned(), |vote| vote.to_string()),
            show(found.committed),
            show(found.purged),
            show(found.last),
            found.torn.map_or("none".to_owned(), |torn| format!("{torn:?}")),
        ))
    }

    fn close(&mut self) -> Result<String, Box<dyn Error>> {
        self.wal = None;
        Ok(String::new())
    }

    fn read(
        wal: &Wal,
        range: std::ops::Range<u64>,
        bytes_max: usize,
    ) -> Result<String, Box<dyn Error>> {
        let from = match wal.log.read(range.clone(), bytes_max) {
            Read::Entries(_) => "memory",
            Read::OnDisk => "disk",
        };
        let mut output = format!("from {from}:");
        for entry in wal.log.read_through(range, bytes_max)? {
            let (payload, length) = (&entry.payload, entry.payload.len());
            let shown = String::from_utf8_lossy(&payload[..length.min(8)]);
            write!(output, " {}={shown}", entry.position)?;
            if length > 8 {
                write!(output, "..{length}")?;
            }
        }
        Ok(output)
    }

    fn status(wal: &Wal) -> String {
        let log = &wal.log;
        let stats = log.stats();
        format!(
            "first={:?} last={:?} durable={:?} full={} failed={} segments={} live_bytes={} tail={} \
             waiting={}",
            log.first_index(),
            log.last().map(|last| last.index),
            log.durable_index(),
            stats.is_full,
            stats.has_failed,
            stats.segment_count,
            stats.live_bytes,
            stats.tail_entries,
            stats.queue_units,
        )
    }

    fn dump(&self) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        let outcome = inspect::dump(&self.disk, Path::new(DIR), &mut |shown| {
            output.push_str(&format!("{shown}\n"));
        });
        match outcome {
            Ok(summary) => Ok(output + &format!("torn: {:?}", summary.torn)),
            Err(error) => Err(format!("{error}\n{output}").into()),
        }
    }
}

/// A callback that adds to what is reported.
fn report(reported: &Arc<Mutex<String>>, what: String) -> Done {
    let reported = reported.clone();
    Box::new(move |outcome| {
        let mut reported = reported.lock().expect("no callback panics");
        match outcome {
            Ok(()) => reported.push_str(&format!("synced: {what}\n")),
            Err(error) => reported.push_str(&format!("failed: {what}: {error}\n")),
        }
    })
}

/// A payload as a script writes it.
fn bytes(payload: &str) -> Vec<u8> {
    match payload.split_once('@') {
        Some((unit, count)) => unit.repeat(count.parse().expect("a count")).into_bytes(),
        None => payload.as_bytes().to_vec(),
    }
}

fn op_kind(name: &str) -> Result<OpKind, Box<dyn Error>> {
    match name {
        "write" => Ok(OpKind::Write),
        "sync" => Ok(OpKind::Sync),
        "allocate" => Ok(OpKind::Allocate),
        "remove" => Ok(OpKind::Remove),
        other => Err(format!("no kind of operation is called {other}").into()),
    }
}

/// Every script, whatever topic it is filed under.
fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let inside = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).expect("the directory is there");
        entries.map(|entry| entry.expect("it can be read").path()).collect()
    };
    let mut scripts: Vec<PathBuf> = inside(&root).iter().flat_map(|topic| inside(topic)).collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_prints_what_it_says() {
    let scripts = scripts();
    assert!(scripts.len() >= 8, "{scripts:?}");
    for script in scripts {
        let run = goldenscript::run(&mut Runner::default(), &script);
        run.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    }
}
