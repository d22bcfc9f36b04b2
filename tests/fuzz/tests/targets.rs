//! Every target over its regressions, its seeds and what a seeded mutator makes of them.
//!
//! `KVORUM_TEST_FUZZ_CASES=N` runs N cases of the cheapest targets and as many less of the others as they are dearer;
//! `KVORUM_TEST_SEED=S` draws others. A case that fails is cut down and printed; saved as
//! `regressions/<target>/<name>.hex` it is run first from then on.

use std::cell::Cell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use kvorum_fuzz::mutate::{Mutator, minimise};
use kvorum_fuzz::{TARGETS, Target};
use peak_alloc::PeakAlloc;

/// Counts what is held, so that a length that was made up cannot make a parser ask for memory.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A target may hold as many times its input at once, beside its fixed part.
const BYTES_PER_INPUT_BYTE: usize = 64;
/// Cases of the cheapest target in the suite.
const CASES: usize = 15_000;
/// How often a failing case is run again to be made shorter.
const MINIMISE_TRIES: usize = 4000;
const SEED: u64 = 0x6b76_6f72;

/// One at a time: the allocator counts for all threads together.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Whether this thread expects its panics, and prints them itself.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics off the screen that are caught and told by the driver.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// What is wrong with a case; `None`: nothing.
fn failure(target: &Target, input: &[u8]) -> Option<String> {
    let held_before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    IS_QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    IS_QUIET.set(false);
    let held = MEMORY.peak_usage().saturating_sub(held_before);
    let allowed = target.bytes_held + BYTES_PER_INPUT_BYTE * input.len();
    match outcome {
        Err(panic) => Some(told(&*panic)),
        Ok(()) if held > allowed => {
            Some(format!("{held} bytes held for {} of input, {allowed} allowed", input.len()))
        }
        Ok(()) => None,
    }
}

fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// What a failure says but for its numbers, so that cutting down does not lead from one to another.
fn kind(why: &str) -> String {
    why.chars().filter(|c| !c.is_ascii_digit()).take(30).collect()
}

fn check(target: &Target, input: &[u8], origin: &str) {
    let Some(why) = failure(target, input) else { return };
    let is_same =
        |shorter: &[u8]| failure(target, shorter).is_some_and(|now| kind(&now) == kind(&why));
    let shortest = minimise(input, MINIMISE_TRIES, is_same);
    let name = target.name;
    let now = failure(target, &shortest).unwrap_or_default();
    panic!(
        "{name}, {origin}: {why}\ncut down to {} of {} bytes: {now}\n{}",
        shortest.len(),
        input.len(),
        to_hex(&shortest)
    );
}

fn to_hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for line in bytes.chunks(32) {
        line.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("a string takes all"));
        hex.push('\n');
    }
    hex
}

fn from_hex(text: &str, path: &Path) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.chars().filter_map(|c| c.to_digit(16)))
        .collect();
    assert!(digits.len().is_multiple_of(2), "{}: half a byte", path.display());
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn regressions(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
    let Ok(files) = std::fs::read_dir(root) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        files.map(|file| file.expect("a file of the tree is listed").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a regression is text");
        let input = from_hex(&text, &path);
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

/// Runs one target as the suite does.
fn drive(name: &str) {
    hush();
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is in the list");
    let _turn = turn();
    let mut seeds = (target.seeds)();
    // What is made once and kept must not count for a case.
    seeds.iter().for_each(|seed| (target.run)(seed));
    for (path, input) in regressions(target) {
        check(target, &input, &path.display().to_string());
        seeds.push(input);
    }
    seeds.iter().for_each(|seed| check(target, seed, "a seed"));
    let seed = number_of("KVORUM_TEST_SEED").unwrap_or(SEED);
    let cases = number_of("KVORUM_TEST_FUZZ_CASES").map_or(CASES, |cases| cases as usize);
    let mut mutator = Mutator::new(seed);
    for case in 0..cases / target.weight {
        let input = mutator.next(&seeds);
        check(target, &input, &format!("KVORUM_TEST_SEED={seed}, case {case}"));
    }
}

macro_rules! drive_each {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                drive(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_driven_here_and_by_cargo_fuzz() {
            let driven = [$(stringify!($name)),*];
            let listed = TARGETS.map(|target| target.name);
            assert_eq!(driven, listed);
            let cargo_fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("cargo-fuzz");
            let manifest = std::fs::read_to_string(cargo_fuzz.join("Cargo.toml"));
            let manifest = manifest.expect("it is in the tree");
            for name in listed {
                assert!(cargo_fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

drive_each![
    wal,
    damage,
    block,
    store,
    checkpoint,
    backup,
    member_dir,
    entry,
    membership,
    peer_message,
    peer_stream,
    request,
    request_body,
    key_value,
    config,
    text,
];

#[test]
fn a_case_that_breaks_a_promise_is_found_cut_down_and_told() {
    fn breaks(bytes: &[u8]) {
        assert!(!bytes.contains(&0x42), "there is a 42");
    }
    fn hoards(bytes: &[u8]) {
        drop(vec![0_u8; 100 * bytes.len() + 1]);
    }
    hush();
    let _turn = turn();
    let target = |run| Target { name: "sample", run, seeds: Vec::new, bytes_held: 1000, weight: 1 };
    assert_eq!(failure(&target(breaks), b"AAB").as_deref(), Some("there is a 42"));
    assert_eq!(failure(&target(breaks), b"AAA"), None);
    let caught = catch_unwind(|| check(&target(breaks), &[0, 1, 0x42, 3], "here"));
    let text = told(&*caught.expect_err("the case fails"));
    assert!(text.contains("cut down to 1 of 4 bytes") && text.ends_with("42\n"), "{text}");
    assert_eq!(failure(&target(hoards), &[0; 5]), None);
    let hoarded = failure(&target(hoards), &[0; 1000]);
    assert!(hoarded.is_some_and(|why| why.contains("65000 allowed")));
}

#[test]
fn files_that_were_written_have_their_checksums_where_the_seal_puts_them() {
    use kvorum_fuzz::seal;
    let checkpoint = include_bytes!("../../../crates/machine/tests/checkpoint_v2.ckpt").to_vec();
    let mut sealed = checkpoint.clone();
    assert_eq!(seal::checkpoint(&mut sealed), Some(checkpoint.len()));
    assert_eq!(sealed, checkpoint);
    let unchanged = |original: &[u8], seal: &dyn Fn(&mut [u8])| {
        let mut sealed = original.to_vec();
        seal(&mut sealed);
        assert_eq!(sealed, original);
        // The last byte of what is covered matters.
        let place = original.iter().rposition(|byte| *byte != 0).expect("it is not empty");
        sealed[place] ^= 1;
        seal(&mut sealed);
        assert_ne!(sealed, original);
    };
    unchanged(include_bytes!("../../../crates/mvcc/tests/block_v1.bin"), &seal::block);
    unchanged(include_bytes!("../../../crates/mvcc/tests/meta_v1.bin"), &seal::block);
    let example = |name: &str| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/wal/tests/data/example");
        std::fs::read(path.join(name)).expect("it is pinned")
    };
    unchanged(&example("0000000000000001.wal"), &|bytes| seal::segment(bytes, 1));
    unchanged(&example("0000000000000002.wal"), &|bytes| seal::segment(bytes, 2));
    let identity = example("identity");
    let mut sealed = identity.clone();
    seal::identity(&mut sealed);
    assert_eq!(sealed, identity);
}
