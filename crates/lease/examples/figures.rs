//! Prints what leases cost: `cargo run --release -p kvorum-lease --example figures`.
//!
//! Figures of one thread, of the table and the deadlines alone: without a network, a log or a store around them.

use std::time::{Duration, Instant};

use kvorum_lease::chunk::{Decoder, Encoder};
use kvorum_lease::{Deadlines, Event, Renewal, Table};
use kvorum_types::LeaseId;

const LEASE_COUNT: u64 = 1_000_000;
/// How many changes are made between two views, as between two publishes.
const BATCH: u64 = 64;
/// As many as one command revokes.
const DUE_MAX: usize = 512;
const STEP: usize = 4096;

/// Name, TTL in seconds, whether each lease has a key.
const CASES: [(&str, i64, bool); 3] = [
    ("TTL of 60 s", 60, false),
    ("TTL of 1 hour, to be checkpointed", 3600, false),
    ("TTL of 60 s, a key of 30 bytes each", 60, true),
];

/// Each case in a process of its own, since none gives back all memory.
fn main() {
    let mut arguments = std::env::args();
    let program = arguments.next().expect("a program has a name");
    if let Some(case) = arguments.next() {
        let (name, ttl, has_keys) = CASES[case.parse::<usize>().expect("a case has a number")];
        return measure(name, ttl, has_keys);
    }
    for case in 0..CASES.len() {
        let child = std::process::Command::new(&program).arg(case.to_string()).status();
        assert!(child.expect("the program can be run again").success());
    }
}

fn id(number: u64) -> LeaseId {
    // In an order that has nothing to do with the number.
    LeaseId(((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) as i64)
}

fn measure(name: &str, ttl: i64, has_keys: bool) {
    println!("{LEASE_COUNT} leases, {name}");
    let mut memory = Memory::new();
    let mut table = grant(ttl);
    memory.print("table");
    if has_keys {
        attach(&mut table);
        memory.print("attachments");
    }
    encode(&table);
    let mut deadlines = promote(&table);
    memory.print("deadlines");
    renew(&mut deadlines, &table);
    expire(&mut deadlines, &mut table, ttl);
    let start = Instant::now();
    drop((table, deadlines));
    println!("  drop of what is left: {:?}", start.elapsed());
}

fn grant(ttl: i64) -> Table {
    let mut table = Table::new();
    let mut view = table.view();
    let mut longest = Longest::begin();
    for number in 0..LEASE_COUNT {
        table.grant(id(number), ttl, number).expect("no id comes twice");
        if number % BATCH == 0 {
            view = table.view();
        }
        longest.lap();
    }
    longest.print("grant", LEASE_COUNT);
    assert_eq!(view.len() as u64, LEASE_COUNT - BATCH + 1);
    table
}

fn attach(table: &mut Table) {
    let mut view = table.view();
    let mut longest = Longest::begin();
    for number in 0..LEASE_COUNT {
        table.attach(format!("/services/instance/{:011}", number).as_bytes(), id(number));
        if number % BATCH == 0 {
            view = table.view();
        }
        longest.lap();
    }
    longest.print("attach", LEASE_COUNT);
    assert!(view.key_count() > 0);
}

fn encode(table: &Table) {
    let (start, mut encoder) = (Instant::now(), Encoder::new(table.view()));
    let chunks: Vec<_> = std::iter::from_fn(|| encoder.next_chunk()).collect();
    let bytes: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    println!("  to chunks: {:?} in all, {bytes} bytes", start.elapsed());
    let (start, mut decoder) = (Instant::now(), Decoder::new());
    for chunk in &chunks {
        decoder.push(chunk).expect("what was written can be read");
    }
    assert_eq!(decoder.finish().view().len() as u64, LEASE_COUNT);
    println!("  from chunks, and drop: {:?} in all", start.elapsed());
}

fn promote(table: &Table) -> Deadlines {
    let mut deadlines = Deadlines::new(Duration::from_secs(300));
    deadlines.promote(table.view(), Duration::ZERO, Duration::from_secs(1));
    let (start, mut longest) = (Instant::now(), Longest::begin());
    while deadlines.promote_step(STEP) {
        longest.lap();
    }
    println!("  promotion: {:?} in all", start.elapsed());
    longest.print("step of it, of 4096 leases", LEASE_COUNT / STEP as u64);
    deadlines
}

fn renew(deadlines: &mut Deadlines, table: &Table) {
    let (view, mut longest) = (table.view(), Longest::begin());
    for number in 0..LEASE_COUNT {
        let now = Duration::from_micros(number);
        let renewal = deadlines.renew(id(number), now, &view);
        assert!(matches!(renewal, Renewal::Renewed { .. }));
        longest.lap();
    }
    longest.print("renewal", LEASE_COUNT);
}

fn expire(deadlines: &mut Deadlines, table: &mut Table, ttl: i64) {
    let now = Duration::from_secs(ttl as u64 + 2);
    let (mut taking, mut revoking, mut telling) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut view = table.view();
    loop {
        let start = Instant::now();
        let due = deadlines.due(now, DUE_MAX);
        taking += start.elapsed();
        if due.is_empty() {
            break;
        }
        let start = Instant::now();
        for (id, _) in &due {
            table.revoke(*id).expect("it is there");
        }
        view = table.view();
        revoking += start.elapsed();
        let start = Instant::now();
        for (id, granted) in due {
            deadlines.on_event(&Event::Revoked { id, granted }, now);
        }
        telling += start.elapsed();
    }
    assert!(view.is_empty() && view.key_count() == 0);
    let per = |name, time: Duration| {
        println!("  {name}: {} ns", time.as_nanos() / u128::from(LEASE_COUNT))
    };
    per("due", taking);
    per("revoke in the table", revoking);
    per("revoke told to the deadlines", telling);
}

/// Times what is done often, and remembers the longest time.
struct Longest {
    begin: Instant,
    last: Instant,
    longest: Duration,
}

impl Longest {
    fn begin() -> Longest {
        let now = Instant::now();
        Longest { begin: now, last: now, longest: Duration::ZERO }
    }

    fn lap(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    fn print(&self, name: &str, count: u64) {
        let mean = self.begin.elapsed().as_nanos() / u128::from(count);
        println!("  {name}: {mean} ns, the longest {:?}", self.longest);
    }
}

/// Tells how much more memory is resident each time.
struct Memory {
    last: u64,
}

impl Memory {
    fn new() -> Memory {
        Memory { last: resident_bytes() }
    }

    fn print(&mut self, name: &str) {
        let now = resident_bytes();
        println!("  memory, {name}: {} B a lease", now.saturating_sub(self.last) / LEASE_COUNT);
        self.last = now;
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok());
    1024 * kib.unwrap_or(0_u64)
}
