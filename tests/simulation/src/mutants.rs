//! The known bugs that can be planted again (feature `mutants`), and what each does.
//!
//! The places are in the crates themselves: where the code asks [`kvorum_types::mutants::is_on`] for a name of this list.
//! Names with a number are bugs that etcd or openraft had, each planted where our code would have it.

/// One bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mutant {
    /// What it is chosen by.
    pub name: &'static str,
    /// What goes wrong with it.
    pub what: &'static str,
}

const fn mutant(name: &'static str, what: &'static str) -> Mutant {
    Mutant { name, what }
}

/// All of them, by name.
pub const ALL: [Mutant; 45] = [
    mutant("compaction-drops-visible", "a compaction keeps only the newest version of a key"),
    mutant("etcd-13060", "a range with a limit counts only what it returns"),
    mutant("etcd-13508", "a new leader gives a lease all its time again, whatever was noted"),
    mutant("etcd-13766", "the store says that it is one publish behind what it holds"),
    mutant("etcd-14370", "an append is acknowledged before it is synced"),
    mutant("etcd-15220", "progress is told while watchers are still catching up"),
    mutant("etcd-15247", "a leader that stalled and was replaced ends leases"),
    mutant("etcd-17529", "a watcher that was blocked misses a revision"),
    mutant("etcd-17780", "the revision is taken from the keys that are left"),
    mutant("etcd-18089", "a deletion inside a transaction is lost when it is compacted at"),
    mutant("etcd-18667", "a transaction writes, then fails on a compacted read"),
    mutant("etcd-18799", "a transaction that fails half way leaves its first half"),
    mutant("etcd-19179", "a deletion at the very revision of a compaction is lost"),
    mutant("etcd-20221", "a watcher is told what was before its start"),
    mutant("etcd-20418", "a leader names a read index without asking a majority"),
    mutant("etcd-20615", "a keep-alive succeeds though the lease is revoked"),
    mutant("etcd-9496", "a new leader does not give leases their time again"),
    mutant("forward-for-another-term", "a leader takes what was forwarded to an earlier one"),
    mutant("forward-retried-after-unknown", "a forward without an answer is sent again"),
    mutant(
        "leader-change-told-early",
        "a change of leader is told as a loss of what may still come",
    ),
    mutant("lease-key-not-detached", "a key that was put without a lease stays with its old one"),
    mutant("lease-leaves-a-key", "a lease that ends leaves one of its keys"),
    mutant("lease-renewed-by-follower", "a follower answers keep-alives by itself"),
    mutant(
        "lease-renewed-without-quorum",
        "a leader answers keep-alives without asking a majority",
    ),
    mutant("lease-table-not-installed", "a snapshot brings the keys and not the leases"),
    mutant("openraft-2116", "a snapshot is installed while the engine still has work queued"),
    mutant("purge-past-checkpoint", "the log is purged up to what is applied"),
    mutant("read-before-applied", "a read is served before its index is applied"),
    mutant("read-index-reused", "a read takes the index of a round that began before it"),
    mutant("read-without-quorum", "a leader serves reads without asking a majority"),
    mutant("revision-for-nothing", "a transaction that changes nothing takes a revision"),
    mutant("store-ahead-of-log", "the store writes behind what the log has not synced"),
    mutant("swallowed-told-as-lost", "what a snapshot may hold is told as lost"),
    mutant("truncate-not-synced", "a truncation is acknowledged before it is synced"),
    mutant("vote-not-synced", "a vote is given before it is synced"),
    mutant("wal-batch-not-synced", "batches of the log are not synced"),
    mutant("wal-incarnation-reused", "a member begins its next run under the number of the last"),
    mutant("wal-last-batch-not-rewritten", "recovery trusts what a failed sync left in the cache"),
    mutant("wal-stale-record-revived", "recovery leaves whole records behind a torn one"),
    mutant("wal-sync-error-ignored", "the log goes on after a sync that failed"),
    mutant("wal-truncation-not-written", "a truncation leaves no record"),
    mutant("watch-from-now-late", "a watcher \"from now\" misses the next revision"),
    mutant("watch-hub-skips", "a hub that is late skips what it has not read"),
    mutant("watch-prev-kv-newest", "what was before a change is told as what is now"),
    mutant("watch-revision-cut", "a revision larger than a step is told in part"),
];

/// Plants one of [`ALL`] in this process. Says why it cannot.
pub fn plant(name: &str) -> Result<(), String> {
    if !ALL.iter().any(|mutant| mutant.name == name) {
        let names: Vec<&str> = ALL.iter().map(|mutant| mutant.name).collect();
        return Err(format!("there is no mutant {name}; there are: {}", names.join(", ")));
    }
    #[cfg(feature = "mutants")]
    {
        kvorum_types::mutants::choose(name);
        Ok(())
    }
    #[cfg(not(feature = "mutants"))]
    Err("this program was built without the feature `mutants`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::ALL;

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a folder of the tree") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => sources(&path, found),
                false => found.push(path),
            }
        }
    }

    /// The names that the crates ask for.
    fn asked() -> BTreeSet<String> {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(crates).expect("the crates") {
            sources(&entry.expect("a crate").path().join("src"), &mut files);
        }
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        let mut names = BTreeSet::new();
        for text in texts {
            for asking in text.split("mutants::is_on(").skip(1) {
                let name = asking.split('"').nth(1).expect("a name is asked for");
                names.insert(name.to_owned());
            }
        }
        names
    }

    #[test]
    fn the_list_names_every_bug_that_can_be_planted() {
        let listed: BTreeSet<String> = ALL.iter().map(|mutant| mutant.name.to_owned()).collect();
        assert_eq!(listed, asked());
        assert!(ALL.is_sorted_by(|one, other| one.name < other.name));
    }
}
