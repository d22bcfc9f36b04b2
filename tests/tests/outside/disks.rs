//! Members without room on their disks: somebody else's file takes what is left, to the last byte, and goes again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kvorum_testkit::{Cluster, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::load::Load;
use crate::rounds;

/// How large the disks are: an alarm ends only where twice as much is left as the log and the store need.
const DISK_MIB: u64 = 768;

/// Answers between two faults.
const ANSWERS_BETWEEN: u64 = 40;

/// How long the disks stay full, in milliseconds.
const FULL: std::ops::Range<u64> = 500..2_000;

/// A small filesystem in memory. Unmounted when dropped.
struct Filesystem {
    folder: PathBuf,
}

impl Filesystem {
    /// Mounts it; why not, where the machine does not allow it.
    fn mount(folder: &Path) -> Result<Filesystem, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let size = format!("size={DISK_MIB}m,mode=0700");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &size, "kvorum-test"]).arg(folder).output();
        let done = mount.map_err(|error| format!("mount: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        Ok(Filesystem { folder: folder.to_owned() })
    }

    /// Takes all that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = File::create(self.foreign()).expect("a file can be made");
        let piece = vec![7; 1 << 20];
        while file.write(&piece).is_ok_and(|written| written > 0) {}
    }

    /// Gives it back.
    fn free(&self) {
        std::fs::remove_file(self.foreign()).expect("the file is there");
    }

    fn foreign(&self) -> PathBuf {
        self.folder.join("foreign")
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        // Lazily: a member may still be at work in it, and ends soon.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// A filesystem for each member; None, and a line that says so, where the machine does not allow it.
fn filesystems(cluster: &Cluster) -> Option<Vec<Filesystem>> {
    let mut all = Vec::new();
    for member in 0..cluster.len() {
        match Filesystem::mount(cluster.data_dir(member)) {
            Ok(filesystem) => all.push(filesystem),
            Err(why) => {
                eprintln!("skipped: no small filesystems on this machine: {why}");
                return None;
            }
        }
    }
    Some(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_members_without_room_are_told_nothing_wrong() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::of(3).as_processes().flags(["--auto-disarm"]).prepare();
    let Some(filesystems) = filesystems(&cluster) else { return };
    for member in 0..cluster.len() {
        cluster.launch(member).await;
    }
    for member in 0..cluster.len() {
        cluster.wait_ready(member).await;
    }
    let load = Load::start(cluster.endpoints(), seed);
    load.wait_for(ANSWERS_BETWEEN).await;
    for round in 0..rounds() {
        let one = random.random_range(0..cluster.len());
        let full: Vec<&Filesystem> = match round % 2 {
            0 => filesystems.iter().collect(),
            _ => vec![&filesystems[one]],
        };
        full.iter().for_each(|filesystem| filesystem.fill());
        tokio::time::sleep(Duration::from_millis(random.random_range(FULL))).await;
        full.iter().for_each(|filesystem| filesystem.free());
        load.wait_for(ANSWERS_BETWEEN).await;
    }
    load.finish("full disks").await;
    cluster.assert_members_agree().await;
}
