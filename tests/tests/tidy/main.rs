//! The house rules that a program can check, as one test over the whole tree.
//!
//! ```text
//!  every .rs file --> Source (syntax, tokens, which lines are tests) --> shape, names, text
//!  every Cargo.toml -> Manifest --------------------------------------> manifests
//!  every text file -----------------------------------------------------> text
//! ```
//!
//! A rule is a function from what it looks at to findings; a finding names file, line and what to do. Beside each rule
//! stand tests that it fires on a bad sample and keeps quiet on a good one, so that the rule cannot rot unnoticed.
//! What a rule allows (the dependency arrows, the third-party lists, the files that parse bytes) stands in a table in
//! its module, to be changed there and in `docs/architecture.md` together.
//!
//! Not checked here, because cargo does it better: formatting, clippy's lints, missing documentation, unsafe code.

mod manifests;
mod names;
mod shape;
mod source;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use manifests::Manifest;
use source::Source;

/// A place where the tree breaks a rule, and what to do about it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    /// Relative to the root, with `/`.
    file: String,
    /// From 1; 0 where the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Folders that hold nothing of ours, and the file that takes the first one's place in a linked work tree.
const SKIPPED: [&str; 5] = [".git", ".peers", ".venv", "node_modules", "target"];

#[test]
fn the_tree_is_tidy() {
    let root = root();
    let files = files(&root);
    let mut findings = BTreeSet::new();
    let mut sources = Vec::new();
    let mut manifests = Vec::new();
    for path in &files {
        let Ok(content) = std::fs::read_to_string(root.join(path)) else {
            continue; // Not text: a pinned example of a byte format, say.
        };
        findings.extend(text::names_nothing_outside(path, &content));
        if path.ends_with(".rs") {
            match Source::parse(path, content) {
                Ok(source) => sources.push(source),
                Err(finding) => _ = findings.insert(finding),
            }
        } else if path.ends_with("Cargo.toml") {
            match Manifest::parse(path, &content) {
                Ok(manifest) => manifests.push(manifest),
                Err(finding) => _ = findings.insert(finding),
            }
        }
    }
    source::mark_test_files(&mut sources);
    for source in &sources {
        findings.extend(shape::check(source));
        findings.extend(names::check(source));
        findings.extend(text::ascii_but_in_strings(source));
    }
    for manifest in &manifests {
        findings.extend(manifests::check(manifest));
    }
    findings.extend(names::listed_files_exist(&files));
    assert!(sources.len() > 10 && manifests.len() > 10, "the walk found next to nothing");
    report(&findings);
}

/// Fails with every finding on a line of its own, so that one run names all there is to do.
fn report(findings: &BTreeSet<Finding>) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{} untidy places:\n{}", lines.len(), lines.join("\n"));
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the tests package is a folder of the workspace").to_owned()
}

/// Every file of the tree, relative to `root`, sorted.
fn files(root: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    walk.filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !SKIPPED.contains(&&*name)
    })
    .map(|entry| entry.expect("a file of the tree can be listed"))
    .filter(|entry| entry.file_type().is_file())
    .map(|entry| {
        let path = entry.path().strip_prefix(root).expect("the walk stays under its root");
        path.to_string_lossy().replace('\\', "/")
    })
    .collect()
}
