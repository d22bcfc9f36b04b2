//! A random driver against a naive model, over a disk that loses power at any operation.
//!
//! The model keeps the state after every record that was submitted. Whatever happens, the log must open with one of these
//! states, and with none older than the last one it was told is synced.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Harness, entry, small, vote};
use kvorum_disk::{Disk, FaultyDisk, OpKind};
use kvorum_types::Position;
use kvorum_wal::{Done, Log, LogEntry, Options, Vote};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A log, naively.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<Position>,
    /// Those after `purged`.
    entries: Vec<LogEntry>,
}

impl Model {
    fn last(&self) -> Option<Position> {
        self.entries.last().map(|entry| entry.position).or(self.purged)
    }

    fn first_index(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    fn next_index(&self) -> u64 {
        self.first_index() + self.entries.len() as u64
    }

    fn truncate(&mut self, end: u64) {
        self.entries.truncate((end - self.first_index()) as usize);
    }

    fn purge(&mut self, upto: Position) {
        let count = upto.index + 1 - self.first_index();
        self.entries.drain(..self.entries.len().min(count as usize));
        self.purged = Some(upto);
    }

    /// Checks that a log shows exactly this.
    fn check(&self, log: &Log, random: &mut Random, what: &str) {
        assert_eq!(log.vote(), self.vote, "{what}");
        assert_eq!(log.purged(), self.purged, "{what}");
        assert_eq!(log.last(), self.last(), "{what}");
        let has_entries = !self.entries.is_empty();
        assert_eq!(log.first_index(), has_entries.then_some(self.first_index()), "{what}");
        for _ in 0..3 {
            let Some(skip) = random.below(self.entries.len() as u64 + 1).checked_sub(1) else {
                return;
            };
            let start = self.first_index() + skip;
            let count = random.below(20) + 1;
            let bytes_max = random.below(3000) as usize;
            let read = log.read_through(start..start + count, bytes_max).expect("the disk works");
            let wanted = &self.entries[skip as usize..];
            assert!(!read.is_empty() && read.len() as u64 <= count, "{what}");
            assert_eq!(read, wanted[..read.len()], "{what}: {start}+{count}");
            assert_eq!(log.term_at(start), Some(wanted[0].position.term), "{what}");
        }
    }

    /// Checks that a log shows exactly this, every entry of it.
    fn check_all(&self, harness: &Harness, what: &str) {
        assert_eq!(harness.log().vote(), self.vote, "{what}");
        assert_eq!(harness.log().purged(), self.purged, "{what}");
        assert_eq!(harness.log().last(), self.last(), "{what}");
        assert_eq!(harness.read_from(self.first_index()), self.entries, "{what}");
    }
}

/// One life of the log, from an opening to a crash.
struct Life {
    /// The state after each record that was submitted, the recovered one first.
    states: Vec<Model>,
    /// How many records are known to be synced.
    synced: Arc<AtomicUsize>,
    term: u64,
}

impl Life {
    fn now(&self) -> &Model {
        self.states.last().expect("there is the recovered state")
    }

    fn submit(&mut self, change: impl FnOnce(&mut Model)) {
        let mut next = self.now().clone();
        change(&mut next);
        self.states.push(next);
    }

    /// A callback for what was submitted so far.
    fn done(&self) -> Done {
        let (synced, count) = (self.synced.clone(), self.states.len() - 1);
        Box::new(move |outcome| {
            if outcome.is_ok() {
                let before = synced.swap(count, Ordering::Relaxed);
                assert!(before <= count, "reports out of order");
            }
        })
    }

    fn act(&mut self, log: &Log, random: &mut Random) {
        match random.below(20) {
            0..12 => self.append(log, random),
            12..14 => {
                self.term += random.below(2);
                let vote = Vote { committed: random.below(2) == 1, ..vote(self.term) };
                self.submit(|model| model.vote = Some(vote));
                log.save_vote(vote, self.done());
            }
            14..16 => {
                let count = self.now().entries.len() as u64;
                let end = self.now().next_index() - random.below(count.min(30) + 1);
                self.submit(|model| model.truncate(end));
                log.truncate_after(end.checked_sub(1), self.done());
                self.term += 1;
            }
            16..18 => self.purge(log, random),
            _ => {
                if let Some(last) = self.now().last() {
                    log.set_committed(last);
                }
            }
        }
    }

    fn append(&mut self, log: &Log, random: &mut Random) {
        let first = self.now().next_index();
        let more: Vec<LogEntry> = (0..random.below(6))
            .map(|i| {
                let length = if random.below(40) == 0 { 6000 } else { random.below(200) };
                let byte = random.below(256) as u8;
                entry(self.term, first + i, &vec![byte; length as usize])
            })
            .collect();
        for entry in &more {
            self.submit(|model| model.entries.push(entry.clone()));
        }
        log.append(more, self.done());
    }

    fn purge(&mut self, log: &Log, random: &mut Random) {
        let count = self.now().entries.len() as u64;
        let upto = if random.below(30) == 0 {
            // A snapshot from elsewhere, behind the end.
            self.term += 1;
            Position::new(self.term, self.now().next_index() + random.below(50))
        } else if let Some(skip) = random.below(count + 1).checked_sub(1) {
            self.now().entries[skip as usize].position
        } else {
            return;
        };
        self.submit(|model| model.purge(upto));
        log.purge(upto);
    }
}

/// Runs one life, which the disk may end at any moment.
fn live(harness: &mut Harness, life: &mut Life, random: &mut Random, what: &str) {
    for _ in 0..random.below(120) {
        life.act(&harness.wal.log, random);
        if random.below(3) == 0 && harness.step().is_err() {
            return;
        }
        if random.below(6) == 0 {
            harness.wal.reader.step(Duration::MAX);
        }
        // A log that has failed takes nothing more, and once the power is going nothing can be read.
        if harness.log().stats().has_failed {
            return;
        }
        if random.below(10) == 0 && harness.disk.boot_id().is_ok() {
            life.now().check(&harness.wal.log, random, what);
        }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let options = Options {
        segment_bytes: 2048 + random.below(8) * 1024,
        tail_bytes: random.below(8000) as usize,
        batch_bytes: 200 + random.below(4000) as usize,
        ..small()
    };
    let disk = FaultyDisk::new();
    let mut found = Model::default();
    let mut incarnation = 0;
    for number in 0..6 {
        let what = format!("seed {seed} life {number}");
        let mut harness = Harness::on(disk.clone(), options.clone());
        let identity = harness.recovered().identity;
        assert!(identity.incarnation.0 > incarnation, "{what}");
        incarnation = identity.incarnation.0;
        found.check_all(&harness, &what);
        assert!(harness.recovered().committed <= harness.recovered().last, "{what}");
        let term = found.last().map_or(1, |last| last.term).max(found.vote.map_or(1, |v| v.term));
        let mut life = Life { states: vec![found], synced: Arc::default(), term };

        match random.below(6) {
            0 => {}
            1 => {
                let kind = [OpKind::Write, OpKind::Sync][random.below(2) as usize];
                disk.fail_nth(Some(kind), 1 + random.below(20), std::io::ErrorKind::Other);
            }
            _ => disk.halt_after(random.below(120)),
        }
        live(&mut harness, &mut life, &mut random, &what);
        drop(harness);
        // A kill of the process keeps what was written; a power loss takes some of what was not synced.
        if random.below(4) > 0 {
            disk.power_loss(random.below(u64::MAX));
        } else {
            disk.clear_faults();
        }
        found = check_found(&disk, &options, &life, &what);
    }
}

/// Opens the log and finds the state it shows among those it may show.
fn check_found(disk: &FaultyDisk, options: &Options, life: &Life, what: &str) -> Model {
    let harness = Harness::on(disk.fork(), options.clone());
    let log = harness.log();
    let synced = life.synced.load(Ordering::Relaxed);
    let entries = log.first_index().map_or(Vec::new(), |first| harness.read_from(first));
    let shown = Model { vote: log.vote(), purged: log.purged(), entries };
    let allowed = &life.states[synced..];
    assert!(allowed.contains(&shown), "{what}: {synced} synced, found another state");
    shown
}

#[test]
fn whatever_happens_the_log_is_found_in_a_state_it_was_in() {
    for seed in 0..400 {
        run(seed);
    }
}

/// Paste the seed of a failing run here.
#[test]
fn one_seed_again() {
    run(0);
}
