//! What the tests share: a log on a faulty disk, and a list of what was reported.
#![allow(dead_code, reason = "each test uses its own part")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_types::{ClusterId, MemberId, Position};
use kvorum_wal::{Done, Log, LogEntry, OpenError, Options, Recovered, Vote, Wal, Written, open};

pub const DIR: &str = "/wal";
pub const CLUSTER: ClusterId = ClusterId(0xc1);
pub const MEMBER: MemberId = MemberId(0x11);

/// Limits so small that a few entries reach them.
pub fn small() -> Options {
    let segment_bytes = 4096;
    Options { segment_bytes, tail_bytes: 2048, batch_bytes: 1024, ..Options::default() }
}

pub fn open_on(disk: &FaultyDisk, options: Options) -> Result<Wal, OpenError> {
    open(Arc::new(disk.clone()), Path::new(DIR), CLUSTER, MEMBER, options)
}

pub fn segment_path(segment: u64) -> PathBuf {
    Path::new(DIR).join(format!("{segment:016x}.wal"))
}

pub fn entry(term: u64, index: u64, payload: &[u8]) -> LogEntry {
    let payload = Bytes::copy_from_slice(payload);
    LogEntry { position: Position::new(term, index), kind: 1, payload }
}

/// Entries with a payload that says which one it is.
pub fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<LogEntry> {
    range.map(|index| entry(term, index, format!("payload {term}.{index}").as_bytes())).collect()
}

pub fn vote(term: u64) -> Vote {
    Vote { term, candidate: Some(MEMBER), committed: false }
}

/// A label, and how what it stands for ended.
pub type Report = (u64, Result<(), io::ErrorKind>);

/// What was reported, in order.
#[derive(Clone, Default)]
pub struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    /// A callback that adds to the list.
    pub fn done(&self, label: u64) -> Done {
        let reports = self.0.clone();
        Box::new(move |outcome| {
            let outcome = outcome.map_err(|error| error.kind());
            reports.lock().expect("no test panics in a callback").push((label, outcome));
        })
    }

    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.0.lock().expect("no test panics in a callback"))
    }

    /// The labels reported so far; all of them succeeded.
    pub fn take_successes(&self) -> Vec<u64> {
        self.take()
            .into_iter()
            .map(|(label, outcome)| {
                outcome.expect("every report is a success");
                label
            })
            .collect()
    }
}

/// An open log on a faulty disk.
pub struct Harness {
    pub disk: FaultyDisk,
    pub wal: Wal,
    pub reports: Reports,
    pub options: Options,
}

impl Harness {
    /// An empty log.
    pub fn new(options: Options) -> Harness {
        Harness::on(FaultyDisk::new(), options)
    }

    pub fn on(disk: FaultyDisk, options: Options) -> Harness {
        let wal = open_on(&disk, options.clone()).expect("the log opens");
        Harness { disk, wal, reports: Reports::default(), options }
    }

    /// Closes the log and opens it again.
    pub fn reopen(self) -> Harness {
        let Harness { disk, wal, options, .. } = self;
        drop(wal);
        Harness::on(disk, options)
    }

    /// Loses the power with all that was not synced, and opens the log again.
    pub fn reopen_after_power_loss(self) -> Harness {
        self.disk.power_loss_taking_all();
        self.reopen()
    }

    pub fn log(&self) -> &Log {
        &self.wal.log
    }

    pub fn recovered(&self) -> &Recovered {
        &self.wal.recovered
    }

    pub fn append(&self, entries: Vec<LogEntry>) {
        let label = entries.last().map_or(0, |entry| entry.position.index);
        self.log().append(entries, self.reports.done(label));
    }

    /// Appends entries and has them written and synced, each as a batch of its own.
    pub fn append_synced(&mut self, entries: Vec<LogEntry>) {
        for entry in entries {
            self.append(vec![entry]);
            self.write_all();
        }
    }

    pub fn save_vote(&self, vote: Vote) {
        self.log().save_vote(vote, self.reports.done(vote.term));
    }

    pub fn truncate_after(&self, last: Option<u64>) {
        self.log().truncate_after(last, self.reports.done(last.unwrap_or(u64::MAX)));
    }

    pub fn step(&mut self) -> io::Result<Written> {
        self.wal.writer.step()
    }

    /// Steps the writer until it is idle.
    pub fn write_all(&mut self) {
        while !self.step().expect("the disk works").idle {}
    }

    /// Steps the reader until it is idle, long after whatever it waits for.
    pub fn keep_up(&mut self) {
        while !self.wal.reader.step(Duration::MAX).idle {}
    }

    /// All entries from `first` on, from memory or from the disk.
    pub fn read_from(&self, first: u64) -> Vec<LogEntry> {
        let end = self.log().last().map_or(0, |last| last.index + 1);
        let mut read = Vec::new();
        let mut next = first;
        while next < end {
            let more = self.log().read_through(next..end, 500).expect("the log can be read");
            assert!(!more.is_empty(), "nothing at {next} of {end}");
            next += more.len() as u64;
            read.extend(more);
        }
        read
    }

    pub fn segment_files(&self) -> Vec<String> {
        let names = self.disk.list(Path::new(DIR)).expect("the directory is there");
        names.into_iter().filter(|name| name.ends_with(".wal")).collect()
    }
}
