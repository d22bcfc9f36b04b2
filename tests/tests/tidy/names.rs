//! Which names may stand where: channels, durable bytes, engines, and what panics on foreign bytes.
//!
//! The rules look at tokens, so a name inside a macro counts and one inside a string or a comment does not. Lines of
//! tests are left out: a test may unwrap, sleep and rename.

use crate::Finding;
use crate::source::Source;

/// Crates that are stepped by their caller: no clock, no thread, no file but through `disk`.
const STEPPED_CRATES: [&str; 10] = [
    "crates/consensus",
    "crates/lease",
    "crates/machine",
    "crates/metrics",
    "crates/mvcc",
    "crates/pool",
    "crates/proto",
    "crates/types",
    "crates/wal",
    "crates/watch",
];

/// The one crate that makes bytes durable.
const DISK: &str = "crates/disk";

/// The one file of a client's tool that saves something: a backup, which is no part of a member's data.
const SAVES_BACKUPS: &str = "client/src/bin/kvorumctl/commands/snapshot.rs";

/// The one file that names sled; it opens its own files.
const SLED: &str = "crates/mvcc/src/backend/sled.rs";

/// The one crate that names openraft.
const CONSENSUS: &str = "crates/consensus";

/// Files that read bytes which came from a disk or a network. A file that starts to do so is added here.
const PARSING_FILES: [&str; 35] = [
    "client/src/range.rs",
    "client/src/snapshot.rs",
    "crates/consensus/src/codec.rs",
    "crates/consensus/src/compression.rs",
    "crates/heap/src/profile/dump.rs",
    "crates/heap/src/settings.rs",
    "crates/lease/src/chunk.rs",
    "crates/machine/src/checkpoint/backup.rs",
    "crates/machine/src/checkpoint/files.rs",
    "crates/machine/src/checkpoint/format.rs",
    "crates/machine/src/checkpoint/reader.rs",
    "crates/machine/src/command.rs",
    "crates/machine/src/layout.rs",
    "crates/machine/src/leases.rs",
    "crates/machine/src/state.rs",
    "crates/mvcc/src/backend/sled.rs",
    "crates/mvcc/src/block.rs",
    "crates/mvcc/src/meta.rs",
    "crates/mvcc/src/open.rs",
    "crates/mvcc/src/record.rs",
    "crates/proto/src/wire/event.rs",
    "crates/proto/src/wire/fields.rs",
    "crates/proto/src/wire/key_value.rs",
    "crates/types/src/cursor.rs",
    "crates/wal/src/identity.rs",
    "crates/wal/src/reader.rs",
    "crates/wal/src/record.rs",
    "crates/wal/src/search.rs",
    "crates/wal/src/segment.rs",
    "crates/wal/src/survey.rs",
    "crates/wal/src/window.rs",
    "server/src/grpc/receive.rs",
    "server/src/listen/pings.rs",
    "server/src/peer/frame.rs",
    "server/src/peer/handshake.rs",
];

/// All rules of this module.
pub fn check(source: &Source) -> Vec<Finding> {
    if source.is_test {
        return Vec::new();
    }
    let mut findings = Vec::new();
    findings.extend(no_unbounded_channel(source));
    findings.extend(only_disk_makes_durable(source));
    findings.extend(engines_stay_in_their_place(source));
    findings.extend(stepped_crates_stay_stepped(source));
    if PARSING_FILES.contains(&source.path.as_str()) {
        findings.extend(foreign_bytes_never_panic(source));
    }
    findings
}

/// A file that is renamed or removed leaves [`PARSING_FILES`] too.
pub fn listed_files_exist(files: &[String]) -> Vec<Finding> {
    let listed = PARSING_FILES.iter().chain([&SLED, &SAVES_BACKUPS]);
    let lost = listed.filter(|path| !files.iter().any(|file| file == *path));
    lost.map(|path| {
        Finding::new(path, 0, "no such file: mend its place in tests/tests/tidy/names.rs")
    })
    .collect()
}

/// Findings with the same text wherever one of `patterns` stands.
fn forbid(source: &Source, patterns: &[&[&str]], what: &str) -> Vec<Finding> {
    let places = patterns.iter().flat_map(|pattern| source.find(pattern));
    places.map(|at| Finding::new(&source.path, source.tokens[at].line, what)).collect()
}

fn no_unbounded_channel(source: &Source) -> Vec<Finding> {
    let patterns: [&[&str]; 7] = [
        &["unbounded_channel"],
        &["unbounded", "("],
        &["UnboundedReceiver"],
        &["UnboundedSender"],
        // Without a capacity this is the standard library's, which has none.
        &["mpsc", "::", "channel", "(", ")"],
        &["std", "::", "sync", "::", "mpsc", "::", "channel"],
        &["channel", "::", "<", "(", ")", ">", "(", ")"],
    ];
    forbid(
        source,
        &patterns,
        "an unbounded channel: give it a capacity, and say what happens when it is full",
    )
}

fn only_disk_makes_durable(source: &Source) -> Vec<Finding> {
    if source.package_folder() == DISK || source.path == SAVES_BACKUPS {
        return Vec::new();
    }
    let patterns: [&[&str]; 7] = [
        &["fdatasync"],
        &["fs", "::", "rename"],
        &["fsync"],
        &["renameat"],
        &["sync_all"],
        &["sync_file_range"],
        &["syncfs"],
    ];
    let what = "only crates/disk makes bytes durable: go through its Disk and DiskFile";
    let mut findings = forbid(source, &patterns, what);
    // `DiskFile` has a `sync_data` too; a file that could hold one of the standard library's may not call it.
    let has_std_files = ["fs", "File"].iter().any(|name| source.find(&[name]).next().is_some());
    if has_std_files {
        findings.extend(forbid(source, &[&[".", "sync_data", "("]], what));
    }
    findings
}

fn engines_stay_in_their_place(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_crate_name = |at: usize| source.token(at.checked_sub(1)) != "::";
    // Beside `mod sled;` the name means that module.
    let is_module = source.find(&["mod", "sled"]).next().is_some();
    if source.path != SLED && !is_module {
        let starts = source.find(&["sled", "::"]).chain(source.find(&["use", "sled"]));
        let lines = starts.filter(|at| is_crate_name(*at)).map(|at| source.tokens[at].line);
        let what = "only crates/mvcc/src/backend/sled.rs names sled: use the Backend trait";
        findings.extend(lines.map(|line| Finding::new(&source.path, line, what)));
    }
    if source.package_folder() != CONSENSUS {
        let patterns: [&[&str]; 4] =
            [&["openraft"], &["openraft_macros"], &["openraft_rt"], &["openraft_rt_tokio"]];
        let what =
            "only crates/consensus names openraft: give consensus a type of its own for this";
        findings.extend(forbid(source, &patterns, what));
    }
    findings
}

fn stepped_crates_stay_stepped(source: &Source) -> Vec<Finding> {
    let folder = source.package_folder();
    let is_built_in =
        source.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with("/src/"));
    if !STEPPED_CRATES.contains(&folder) || !is_built_in || source.path == SLED {
        return Vec::new();
    }
    let mut findings = forbid(
        source,
        &[
            &["std", "::", "fs"],
            &["tokio", "::", "fs"],
            &["rustix", "::", "fs"],
            &["File", "::", "open"],
        ],
        "this crate reaches files through crates/disk only",
    );
    if folder != CONSENSUS {
        let patterns: [&[&str]; 5] = [
            &["thread", "::", "spawn"],
            &["thread", "::", "Builder"],
            &["Instant", "::", "now"],
            &["SystemTime", "::", "now"],
            &["thread", "::", "sleep"],
        ];
        let what =
            "no clock and no thread here: take the time as an argument, offer a step function";
        findings.extend(forbid(source, &patterns, what));
    }
    findings
}

/// No unwrap, no expect, no indexing, no narrowing `as`: each would turn damage into a panic or a wrong value.
fn foreign_bytes_never_panic(source: &Source) -> Vec<Finding> {
    let mut findings = forbid(
        source,
        &[&[".", "unwrap", "("], &[".", "expect", "("], &[".", "unwrap_err", "("]],
        "this file parses foreign bytes: return an error instead of unwrapping",
    );
    findings.extend(forbid(
        source,
        &[&["as", "i16"], &["as", "u16"], &["as", "i32"], &["as", "u32"]],
        "this file parses foreign bytes: narrow with try_from, not with as",
    ));
    let indexed = source.find(&["["]).filter(|at| is_index(source, *at));
    let what =
        "this file parses foreign bytes: use get, split_at_checked or a ByteCursor, not indexing";
    findings.extend(indexed.map(|at| Finding::new(&source.path, source.tokens[at].line, what)));
    findings
}

/// Whether the bracket at `at` indexes what stands before it, rather than starting an array, a type or a pattern.
fn is_index(source: &Source, at: usize) -> bool {
    const BEFORE_ARRAYS: [&str; 17] = [
        "as", "break", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move",
        "mut", "ref", "return", "where", "while",
    ];
    let before = source.token(at.checked_sub(1));
    let is_lifetime = source.token(at.checked_sub(2)) == "'";
    let is_name = before.starts_with(|first: char| first.is_alphabetic() || first == '_');
    let is_value = matches!(before, ")" | "]" | "?") || is_name;
    is_value && !is_lifetime && !BEFORE_ARRAYS.contains(&before) && !follows_attribute(source, at)
}

/// Whether the bracket before `at` closes an attribute, as in `#[allow(x)] [1, 2]`.
fn follows_attribute(source: &Source, at: usize) -> bool {
    let mut depth = 0_usize;
    for place in (0..at).rev() {
        match source.token(Some(place)) {
            "]" => depth += 1,
            "[" if depth == 1 => return source.token(place.checked_sub(1)) == "#",
            "[" => depth -= 1,
            _ if depth == 0 => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{CONSENSUS, PARSING_FILES, SLED, check, listed_files_exist};
    use crate::source::{mark_test_files, sample};

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let mut lines: Vec<usize> =
            check(&sample(path, text)).iter().map(|finding| finding.line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    #[test]
    fn an_unbounded_channel_is_found() {
        let bad = "use std::sync::mpsc;\nfn a() {\n mpsc::channel();\n tokio::sync::mpsc::unbounded_channel();\n \
                   crossbeam_channel::unbounded();\n mpsc::channel::<()>();\n}\n";
        assert_eq!(lines("server/src/a.rs", bad), [3, 4, 5, 6]);
        let imported = "use std::sync::mpsc::channel;\n";
        assert_eq!(lines("server/src/a.rs", imported), [1]);
        let good = "fn a() {\n tokio::sync::mpsc::channel(8);\n oneshot::channel();\n mpsc::sync_channel(1);\n}\n";
        assert!(lines("server/src/a.rs", good).is_empty());
    }

    #[test]
    fn a_sync_or_rename_outside_disk_is_found() {
        let bad = "fn a(f: std::fs::File) {\n f.sync_all();\n std::fs::rename(a, b);\n f.sync_data();\n}\n";
        assert_eq!(lines("server/src/a.rs", bad), [2, 3, 4]);
        assert!(lines("crates/disk/src/real.rs", bad).is_empty());
        let through_the_door =
            "fn a(f: &dyn DiskFile) {\n f.sync_data();\n disk.rename(a, b);\n}\n";
        assert!(lines("crates/wal/src/a.rs", through_the_door).is_empty());
        let tested = format!("#[cfg(test)]\nmod tests {{\n{bad}}}\n");
        assert!(lines("server/src/a.rs", &tested).is_empty());
    }

    #[test]
    fn sled_outside_its_file_is_found() {
        let bad = "use sled::Db;\nfn a() {\n sled::open(p);\n}\n";
        assert_eq!(lines("crates/mvcc/src/store.rs", bad), [1, 3]);
        assert!(lines(SLED, bad).is_empty());
        let module = "mod sled;\npub use sled::SledBackend;\n";
        assert!(lines("crates/mvcc/src/backend/mod.rs", module).is_empty());
    }

    #[test]
    fn openraft_outside_consensus_is_found() {
        let bad = "use openraft::Raft;\n";
        assert_eq!(lines("server/src/a.rs", bad), [1]);
        assert!(lines(&format!("{CONSENSUS}/src/a.rs"), bad).is_empty());
    }

    #[test]
    fn a_clock_a_thread_or_a_file_in_a_stepped_crate_is_found() {
        let bad = "fn a() {\n std::thread::spawn(b);\n Instant::now();\n std::fs::read(p);\n}\n";
        assert_eq!(lines("crates/wal/src/a.rs", bad), [2, 3, 4]);
        assert!(lines("server/src/a.rs", bad).is_empty());
    }

    #[test]
    fn a_panic_on_foreign_bytes_is_found() {
        let bad = "fn a(b: &'a [u8]) {\n b.get(0).unwrap();\n b.first().expect(\"x\");\n b[0];\n c()[1];\n \
                   f(d[..4]);\n g!(h[1]);\n e as u32;\n}\n";
        assert_eq!(lines(PARSING_FILES[0], bad), [2, 3, 4, 5, 6, 7, 8]);
        assert!(lines("server/src/a.rs", bad).is_empty());
    }

    #[test]
    fn arrays_types_and_patterns_are_no_indexing() {
        let good = "#[derive(Debug)]\nstruct A<'a>(&'a [u8], [u8; 4]);\nfn a(b: &mut [u8]) -> Vec<[u8; 2]> {\n \
                    let [c, d] = [1, 2];\n for e in [c, d] {}\n #[allow(x)]\n [1].len();\n return [vec![1]];\n}\n";
        assert!(lines(PARSING_FILES[0], good).is_empty());
    }

    #[test]
    fn tests_may_do_all_of_it() {
        let mut sources = vec![
            sample("crates/wal/src/a.rs", "#[cfg(test)]\nmod b;\n"),
            sample("crates/wal/src/a/b.rs", "use openraft::Raft;\n"),
        ];
        mark_test_files(&mut sources);
        assert!(sources.iter().all(|source| check(source).is_empty()));
    }

    #[test]
    fn a_listed_file_that_is_gone_is_found() {
        assert_eq!(listed_files_exist(&[]).len(), PARSING_FILES.len() + 2);
    }
}
