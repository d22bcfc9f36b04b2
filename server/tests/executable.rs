//! The executable's command line, as far as it needs no running member.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use kvorum_disk::{Disk, RealDisk};
use kvorum_types::{ClusterId, MemberId, Position};
use kvorum_wal::{LogEntry, Options};

fn kvorum(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvorum"))
        .args(arguments)
        .env_clear()
        .output()
        .expect("the executable was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_names_kvorum_and_the_api() {
    let output = kvorum(&["--version"]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    assert!(said.contains(env!("CARGO_PKG_VERSION")) && said.contains("3.7.1"), "{said}");
}

#[test]
fn an_unknown_flag_is_refused_naming_the_nearest() {
    let output = kvorum(&["--data-dri", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--data-dir"), "{}", text(&output.stderr));
}

/// A log of ten entries, and its directory.
fn log(dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let mut wal = kvorum_wal::open(disk, dir, ClusterId(9), MemberId(1), options).unwrap();
    for index in 0..10 {
        let payload = vec![b'x'; 100].into();
        let entry = LogEntry { position: Position::new(1, index), kind: 1, payload };
        wal.log.append(vec![entry], Box::new(|written| written.unwrap()));
        wal.writer.step().unwrap();
    }
}

#[test]
fn a_log_can_be_shown_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    log(&wal);
    let wal_text = wal.display().to_string();

    let dump = kvorum(&["wal", "dump", &wal_text]);
    assert!(dump.status.success(), "{}", text(&dump.stderr));
    assert_eq!(text(&dump.stdout).matches(" entry ").count(), 10, "{}", text(&dump.stdout));
    let verify = kvorum(&["wal", "verify", &wal_text]);
    assert!(verify.status.success(), "{}", text(&verify.stderr));
    let said = text(&verify.stdout);
    assert!(said.contains("entries      10\n") && said.contains("last         1.9\n"), "{said}");

    // A byte in a batch that later ones prove.
    let segment = std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "wal")).min();
    let segment = segment.expect("there is a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let payload = bytes.windows(50).position(|window| window == [b'x'; 50]).unwrap();
    bytes[payload] = b'y';
    std::fs::write(&segment, bytes).unwrap();
    let verify = kvorum(&["wal", "verify", &wal_text]);
    assert_eq!(verify.status.code(), Some(1));
    let said = text(&verify.stderr);
    assert!(said.contains("segment") && said.contains("offset"), "{said}");
}
