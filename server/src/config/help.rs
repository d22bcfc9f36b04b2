//! The text of `--help`.

use std::fmt::Write;

use super::flags::{FLAGS, Group, Kind};

const USAGE: &str = "\
Usage:

  kvorum [flags]
    Start a member.

  kvorum dev [--members N]
    Start a throw-away cluster in this process.

  kvorum wal dump|verify DIR
    Show or check a write-ahead log that no member has open.

  kvorum snapshot status|restore FILE
    Look at a backup, or make a member of a new cluster from it.

  kvorum --version
    Show the version.

  kvorum -h | --help
    Show this help.

A flag comes as --flag value or --flag=value. Where it is missing, KVORUM_FLAG is looked for in the environment, then
ETCD_FLAG (upper case, underscores for dashes). Two of them that differ stop the start.
";

const GROUPS: [(Group, &str); 12] = [
    (Group::Member, "Member"),
    (Group::Clustering, "Clustering"),
    (Group::Limits, "Limits"),
    (Group::Watches, "Watches"),
    (Group::Leases, "Leases"),
    (Group::Compaction, "Compaction"),
    (Group::Checks, "Checks"),
    (Group::Memory, "Memory"),
    (Group::Monitoring, "Monitoring"),
    (Group::Logging, "Logging"),
    (Group::Unsafe, "Unsafe"),
    (Group::Other, "Other"),
];

pub(super) fn serve_text() -> String {
    let mut text = USAGE.to_owned();
    for (group, heading) in GROUPS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{heading}:\n");
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            let _ = match flag.kind {
                Kind::Switch if flag.default == "false" => writeln!(text, "  --{}", flag.name),
                _ => writeln!(text, "  --{} '{}'", flag.name, flag.default),
            };
            let _ = writeln!(text, "    {}", flag.help);
        }
    }
    text
}
