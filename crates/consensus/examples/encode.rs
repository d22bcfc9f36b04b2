//! Prints what the encoding of entries allocates, with a pool and without: `make encode-cost`.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use kvorum_consensus::{BatchName, encode_entry};
use kvorum_pool::BufferPool;
use kvorum_proto::entry::CommandKind;
use kvorum_types::{Incarnation, MemberId};
use tikv_jemalloc_ctl::{Access, AsName, Name, epoch, thread};

#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ENTRIES: u64 = 200_000;
/// How many entries are on their way to the disk at one time.
const IN_FLIGHT: usize = 8;
/// The allocator's classes for small memory: one bin each.
const BINS: usize = 36;
/// Buffers of entries are at least this large; what is smaller is the handle of a shared buffer.
const BUFFER_BYTES_MIN: usize = 256;

fn main() {
    println!("{ENTRIES} entries each, {IN_FLIGHT} of them held at a time\n");
    println!(
        "| commands of an entry | of bytes | pool | buffers allocated | bytes an entry | ns an entry |"
    );
    println!("|---|---|---|---|---|---|");
    for (commands, bytes) in [(1, 300), (1, 2_000), (8, 300), (64, 300), (64, 4_000)] {
        let without = measure(commands, bytes, &BufferPool::new(0), "off");
        let with = measure(commands, bytes, &BufferPool::new(64 << 20), "on");
        let fewer = 100.0 * (1.0 - with as f64 / without as f64);
        println!("| {commands} | {bytes} | | {fewer:.2} % fewer | | |");
    }
}

/// Encodes entries, prints what that took, and says how many buffers were allocated.
fn measure(commands: usize, bytes: usize, pool: &BufferPool, name: &str) -> u64 {
    let request = Bytes::from(vec![b'v'; bytes]);
    let requests = vec![(CommandKind::Put, &request); commands];
    let started = Instant::now();
    encode(&requests, pool);
    let took = started.elapsed().as_nanos() as f64 / ENTRIES as f64;

    // A thread's cache hides from the bins what it lends again.
    let cache = b"thread.tcache.enabled\0".name();
    cache.write(false).expect("a thread may have no cache");
    let allocated = thread::allocatedp::read().expect("jemalloc tells what a thread allocates");
    let (buffers, bytes_before) = (buffers_allocated(), allocated.get());
    encode(&requests, pool);
    let each = (allocated.get() - bytes_before) as f64 / ENTRIES as f64;
    let buffers = buffers_allocated() - buffers;
    cache.write(true).expect("a thread may have a cache");
    println!("| {commands} | {bytes} | {name} | {buffers} | {each:.1} | {took:.0} |");
    buffers
}

fn encode(requests: &[(CommandKind, &Bytes)], pool: &BufferPool) {
    let mut held = VecDeque::with_capacity(IN_FLIGHT + 1);
    for sequence in 0..ENTRIES {
        let batch = BatchName { origin: MemberId(1), incarnation: Incarnation(1), sequence };
        held.push_back(encode_entry(pool, batch, requests.iter().copied()));
        if held.len() > IN_FLIGHT {
            held.pop_front();
        }
    }
}

/// How often memory of a buffer's size was allocated so far: from the bins that are large enough, and beyond them.
fn buffers_allocated() -> u64 {
    epoch::advance().expect("jemalloc counts");
    let bins: u64 = (0..BINS)
        .filter(|bin| read::<usize>(&format!("arenas.bin.{bin}.size")) >= BUFFER_BYTES_MIN)
        .map(|bin| read::<u64>(&format!("stats.arenas.{ALL_ARENAS}.bins.{bin}.nmalloc")))
        .sum();
    bins + read::<u64>(&format!("stats.arenas.{ALL_ARENAS}.large.nmalloc"))
}

/// What stands for all arenas together.
const ALL_ARENAS: u32 = 4096;

fn read<T>(name: &str) -> T
where
    Name: Access<T>,
{
    let name = format!("{name}\0");
    name.as_bytes().name().read().unwrap_or_else(|error| panic!("{name}: {error}"))
}
