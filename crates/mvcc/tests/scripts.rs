//! Scripts in `testscripts/`: read them to see what the store does. `UPDATE_GOLDENFILES=1` writes their output anew.

mod support;

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::Runner;
use kvorum_mvcc::{
    Backend, Maintainer, MemBackend, Opened, Options, RangeOptions, RangeResult, Read, ReadError,
    Restore, Store, View, WriteTxn, create, open,
};
use kvorum_types::{KeyRange, Revision};
use support::small_options;

/// What a script can say. Reads take `@revision`; those of a pinned view take `view=name`.
#[derive(goldenscript::Command)]
enum Step {
    /// Puts a key: alone, or in the open transaction.
    Put {
        key: String,
        value: String,
        #[arg(key, optional)]
        lease: i64,
    },
    /// Deletes the keys from one up to another.
    Delete {
        key: String,
        end: Option<String>,
    },
    /// Several operations in one transaction: `txn put/a/1 delete/b get/a`, and `abort` at the end to drop it.
    Txn(Vec<String>),
    /// Publishes what was committed.
    Publish,
    /// Raises the compaction revision.
    Compact(i64),
    /// The keys from one up to another.
    Range {
        key: Option<String>,
        end: Option<String>,
        #[arg(key, optional)]
        at: i64,
        #[arg(key, optional)]
        limit: usize,
        #[arg(key, optional)]
        keys_only: bool,
        #[arg(key)]
        view: Option<String>,
    },
    /// The changes from a revision on.
    Changes {
        from: i64,
        #[arg(key)]
        view: Option<String>,
    },
    /// The hash up to a revision.
    Hash(i64),
    /// Pins a view under a name, or lets it go.
    Pin(String),
    Unpin(String),
    /// Lets the maintainer work until it rests, `seconds` after the start; the log is durable up to `durable`.
    Maintain {
        #[arg(key)]
        durable: Option<u64>,
        #[arg(key, optional)]
        seconds: u64,
        #[arg(key, optional)]
        flush: bool,
    },
    /// What the backend holds.
    Stored,
    /// Opens the store again as a crash would leave it.
    Crash,
    /// Goes on with a copy made from exported blocks.
    Restore,
}

struct Script {
    backend: Arc<MemBackend>,
    store: Store,
    maintainer: Maintainer,
    views: Vec<(String, View)>,
    index: u64,
}

impl Script {
    fn new() -> Script {
        let backend = Arc::new(MemBackend::new());
        let Opened { store, maintainer, .. } = create(backend.clone(), options()).unwrap();
        Script { backend, store, maintainer, views: Vec::new(), index: 0 }
    }

    fn view(&self, name: Option<&String>) -> Result<View, Box<dyn Error>> {
        let Some(name) = name else { return Ok(self.store.reader().view()) };
        let found = self.views.iter().find(|(known, _)| known == name);
        Ok(found.ok_or("no such view")?.1.clone())
    }

    fn txn(&mut self, operations: &[String]) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        let mut txn = self.store.begin();
        for operation in operations {
            match operation.split_once('/') {
                Some(("put", pair)) => {
                    let (key, value) = pair.split_once('/').ok_or("put/key/value")?;
                    txn.put(key.as_bytes(), value.as_bytes(), 0);
                }
                Some(("delete", key)) => {
                    let deleted = txn.delete_range(&range(Some(key), None));
                    writeln!(output, "{operation} -> {} deleted", deleted.len())?;
                }
                Some(("get", key)) => {
                    let found = txn.range(&range(Some(key), None), 0, &RangeOptions::default());
                    write!(output, "{operation} at {} -> {}", txn.revision(), show(found))?;
                }
                _ if operation == "abort" => {
                    drop(txn);
                    writeln!(output, "aborted at {}", self.store.revision())?;
                    return Ok(output);
                }
                _ => return Err("put/, delete/, get/ or abort".into()),
            }
        }
        output.push_str(&commit(txn));
        Ok(output)
    }

    fn maintain(&mut self, durable: Option<u64>, seconds: u64, flush: bool) -> String {
        let durable = durable.or(Some(u64::MAX));
        let (mut written, mut freed) = (0, 0);
        if flush {
            self.maintainer.flush_all(durable).unwrap();
        }
        loop {
            let done = self.maintainer.step(durable, Duration::from_secs(seconds)).unwrap();
            written += done.blocks_written;
            freed += done.blocks_freed;
            if done.idle {
                return format!("{written} blocks written, {freed} freed\n");
            }
        }
    }

    fn stored(&self) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        for key in self.backend.keys()? {
            let bytes = self.backend.read(key)?.ok_or("gone")?;
            writeln!(
                output,
                "block {} from change {}: {} B",
                key.serial,
                key.first_change,
                bytes.len()
            )?;
        }
        let reader = self.store.reader();
        let (sizes, is_scrubbed) = (reader.sizes(), reader.is_scrubbed());
        writeln!(
            output,
            "tail {} B, {} keys, scrubbed {is_scrubbed}",
            sizes.tail_bytes, sizes.key_count
        )?;
        Ok(output)
    }

    fn reopen(&mut self, backend: Arc<MemBackend>) -> Result<String, Box<dyn Error>> {
        let Opened { store, maintainer, meta, .. } = open(backend.clone(), options())?;
        (self.backend, self.store, self.maintainer) = (backend, store, maintainer);
        self.views.clear();
        self.index = meta.map_or(0, |meta| meta.index);
        let (revision, compacted) = (self.store.revision(), self.store.compact_revision());
        Ok(format!("at index {}, revision {revision}, compacted {compacted}\n", self.index))
    }

    fn restore(&mut self) -> Result<String, Box<dyn Error>> {
        let view = self.store.reader().view();
        let backend = Arc::new(MemBackend::new());
        let mut restore = Restore::new(backend.clone(), options())?;
        let (mut export, mut count) = (view.export(), 0);
        while let Some(block) = export.next_block()? {
            restore.push(block)?;
            count += 1;
        }
        let (revision, compacted) = (view.revision(), view.compact_revision());
        restore.finish(revision, compacted, self.index, Bytes::new())?;
        Ok(format!("{count} blocks, {}", self.reopen(backend)?))
    }
}

fn options() -> Options {
    Options { view_age_max: Duration::from_secs(60), ..small_options() }
}

fn range(key: Option<&str>, end: Option<&str>) -> KeyRange {
    let Some(key) = key else { return KeyRange::all() };
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    KeyRange::from_wire(bytes(key), end.map_or_else(Bytes::new, bytes))
}

fn commit(txn: WriteTxn<'_>) -> String {
    let committed = txn.commit();
    format!("revision {}, {} changes\n", committed.revision, committed.changes)
}

fn show(result: Result<RangeResult, ReadError>) -> String {
    let result = match result {
        Ok(result) => result,
        Err(error) => return format!("{error}\n"),
    };
    let mut output = format!("count {}\n", result.count);
    for record in &result.records {
        let (key, value) =
            (String::from_utf8_lossy(record.key()), String::from_utf8_lossy(record.value()));
        let (create, main) = (record.create_revision(), record.mod_revision());
        let value = if value.len() > 20 { format!("{} B", value.len()) } else { value.to_string() };
        let _ = write!(
            output,
            "  {key}={value} create {create} mod {main} version {}",
            record.version()
        );
        let _ = match record.lease() {
            0 => writeln!(output),
            lease => writeln!(output, " lease {lease}"),
        };
    }
    output
}

impl Runner for Script {
    type Command = Step;

    fn run(
        &mut self,
        step: &Step,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        match step {
            Step::Put { key, value, lease } => {
                let mut txn = self.store.begin();
                txn.put(key.as_bytes(), value.as_bytes(), *lease);
                Ok(commit(txn))
            }
            Step::Delete { key, end } => {
                let mut txn = self.store.begin();
                txn.delete_range(&range(Some(key), end.as_deref()));
                Ok(commit(txn))
            }
            Step::Txn(operations) => self.txn(operations),
            Step::Publish => {
                self.index += 1;
                self.store.publish(self.index, Bytes::new());
                Ok(format!("index {}\n", self.index))
            }
            Step::Compact(revision) => Ok(match self.store.compact(*revision) {
                Ok(()) => format!("compacted {}\n", self.store.compact_revision()),
                Err(error) => format!("{error}\n"),
            }),
            Step::Range { key, end, at, limit, keys_only, view } => {
                let options = RangeOptions { limit: *limit, keys_only: *keys_only, count: true };
                let view = self.view(view.as_ref())?;
                Ok(show(view.range(&range(key.as_deref(), end.as_deref()), *at, &options)))
            }
            Step::Changes { from, view } => {
                let changes =
                    self.view(view.as_ref())?.changes(Revision::new(*from, 0), usize::MAX);
                Ok(show_changes(changes))
            }
            Step::Hash(revision) => Ok(match self.store.reader().view().hash(*revision) {
                Ok(hash) => {
                    let (at, compacted) = (hash.revision, hash.compact_revision);
                    format!("{:08x} at {at}, compacted {compacted}\n", hash.hash)
                }
                Err(error) => format!("{error}\n"),
            }),
            Step::Pin(name) => {
                self.views.push((name.clone(), self.store.reader().view()));
                Ok(String::new())
            }
            Step::Unpin(name) => {
                self.views.retain(|(known, _)| known != name);
                Ok(String::new())
            }
            Step::Maintain { durable, seconds, flush } => {
                Ok(self.maintain(*durable, *seconds, *flush))
            }
            Step::Stored => self.stored(),
            Step::Crash => self.reopen(Arc::new(self.backend.fork())),
            Step::Restore => self.restore(),
        }
    }
}

fn show_changes(changes: Result<kvorum_mvcc::Changes, ReadError>) -> String {
    let changes = match changes {
        Ok(changes) => changes.changes,
        Err(error) => return format!("{error}\n"),
    };
    let mut output = String::new();
    for change in changes {
        let key = String::from_utf8_lossy(change.record.key());
        let verb = if change.is_tombstone { "delete" } else { "put" };
        let _ = writeln!(output, "{} {verb} {key}", change.revision);
    }
    output
}

/// Runs every script, and fails on a topic without scripts.
#[test]
fn scripts() {
    let mut count = 0;
    for topic in std::fs::read_dir("testscripts").unwrap() {
        for case in std::fs::read_dir(topic.unwrap().path()).unwrap() {
            goldenscript::run(&mut Script::new(), case.unwrap().path()).unwrap();
            count += 1;
        }
    }
    assert!(count >= 8, "{count} scripts");
}
