//! `snapshot save`: a backup of one member's state, into a file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use kvorum_client::{Client, Error};
use tokio::time::timeout;

use super::{help, output};
use crate::failure::{BAD_ARGUMENTS, Failure, INTERRUPTED};
use crate::flags::{self, Flags};
use crate::go::errno;
use crate::session::Session;

/// How often the sign of life on a terminal moves.
const TICK: Duration = Duration::from_millis(100);
const STYLE: &str = "{spinner} {bytes}/{total_bytes} {bar:40} {bytes_per_sec}, {eta} left";

pub fn command() -> Command {
    let save = Command::new("save")
        .about("Stores an etcd node backend snapshot to a given file")
        .long_about(
            "Stores a backup of one member's state in a file.\n\n\
             The file has its name only once it is whole, verified and synced. Restore it with `kvorum snapshot restore`.",
        )
        .override_usage("kvorumctl snapshot save <filename>")
        .arg(flags::arguments("FILENAME"));
    Command::new("snapshot")
        .about("Manages etcd node snapshots")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommand(save)
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("save", matches)) => save(matches).await,
        _ => help(&["snapshot"]),
    }
}

async fn save(matches: &ArgMatches) -> Result<(), Failure> {
    let [path] = &matches.arguments()[..] else {
        return Err(Failure::new(BAD_ARGUMENTS, "snapshot save expects one argument"));
    };
    let path = PathBuf::from(path);
    let session = Session::open(matches).await?;
    if session.endpoints.len() != 1 {
        let endpoints = session.endpoints.join(" ");
        let text =
            format!("snapshot must be requested to one selected node, not multiple [{endpoints}]");
        return Err(Failure::new(INTERRUPTED, text));
    }
    let saving = save_to(&session.client, &path);
    // As with etcdctl, only who asks for a time limit gets one.
    let version = match session.time_limit {
        Some(limit) => {
            timeout(limit, saving).await.unwrap_or(Err(not_saved(Error::DeadlineExceeded)))
        }
        None => saving.await,
    }?;
    writeln!(output(), "Snapshot saved at {}", path.display())?;
    if !version.is_empty() {
        writeln!(output(), "Server version {version}")?;
    }
    Ok(())
}

/// Saves a backup; returns the version that the server told.
async fn save_to(client: &Client, path: &Path) -> Result<String, Failure> {
    let mut part = Part::create(path)?;
    let mut snapshot = client.snapshot().await.map_err(not_saved)?;
    let bar = progress();
    let mut version = String::new();
    while let Some(piece) = snapshot.next().await.map_err(not_saved)? {
        part.file.write_all(&piece.bytes).map_err(|error| failed(&part.path, &error))?;
        bar.inc(piece.bytes.len() as u64);
        bar.set_length(bar.position() + piece.remaining_bytes);
        version = piece.version;
    }
    bar.finish_and_clear();
    part.keep(path)?;
    Ok(version)
}

/// A file that is not whole. It is removed unless it is kept.
struct Part {
    file: File,
    path: PathBuf,
    is_kept: bool,
}

impl Part {
    fn create(path: &Path) -> Result<Part, Failure> {
        let mut name = OsString::from(path);
        name.push(".part");
        let path = PathBuf::from(name);
        let mut options = OpenOptions::new();
        // Whoever reads it reads every key.
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(|error| {
            let (path, why) = (path.display(), errno::text(&error));
            Failure::new(INTERRUPTED, format!("could not open {path} (open {path}: {why})"))
        })?;
        Ok(Part { file, path, is_kept: false })
    }

    /// Gives the file its name. File and name are durable on return.
    fn keep(mut self, path: &Path) -> Result<(), Failure> {
        let kept =
            self.file.sync_all().and_then(|()| fs::rename(&self.path, path)).and_then(|()| {
                self.is_kept = true;
                sync_parent(path)
            });
        kept.map_err(|error| {
            let (from, to, why) = (self.path.display(), path.display(), errno::text(&error));
            let text = format!("could not rename {from} to {to} (rename {from} {to}: {why})");
            Failure::new(INTERRUPTED, text)
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            // It would be taken for nothing anyway.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let (path, why) = (path.display(), errno::text(error));
    Failure::new(INTERRUPTED, format!("could not write {path} (write {path}: {why})"))
}

fn not_saved(error: Error) -> Failure {
    Failure::new(INTERRUPTED, error.to_string())
}

fn progress() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(STYLE).expect("the template is one");
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}
