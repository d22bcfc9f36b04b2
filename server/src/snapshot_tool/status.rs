//! `kvorum snapshot status`: what is in a backup, once all of it was checked.

use std::io::{self, Write};
use std::path::Path;

use kvorum_disk::RealDisk;
use kvorum_machine::{BackupCheck, BackupError, BackupFile, BackupSummary};
use serde_json::json;

use crate::config::SnapshotOutput;
use crate::version::VERSIONS;

const HEADINGS: [&str; 5] = ["hash", "revision", "total keys", "total size", "version"];

pub(super) fn run(path: &Path, output: SnapshotOutput) -> Result<(), String> {
    let verify = |check| BackupFile::verify(&RealDisk::new(), path, check);
    let file = match verify(BackupCheck::Digest) {
        // As with etcdutl, a file copied from a data directory can be looked at too.
        Err(BackupError::NoDigest) => verify(BackupCheck::NoDigest),
        verified => verified,
    };
    let text = shown(&file.map_err(|error| error.to_string())?.summary(), output);
    // Whoever closed the pipe has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn shown(summary: &BackupSummary, output: SnapshotOutput) -> String {
    let BackupSummary { hash, revision, change_count, bytes, .. } = *summary;
    let version = VERSIONS.storage;
    let row = [
        format!("{hash:x}"),
        revision.to_string(),
        change_count.to_string(),
        human(bytes),
        version.to_owned(),
    ];
    match output {
        SnapshotOutput::Simple => format!("{}\n", row.join(", ")),
        SnapshotOutput::Table => table(&row),
        SnapshotOutput::Json => {
            let shown = json!({
                "hash": hash,
                "revision": revision,
                "totalKey": change_count,
                "totalSize": bytes,
                "version": version,
            });
            format!("{shown}\n")
        }
        SnapshotOutput::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {change_count}\n\"Size\" : {bytes}\n\
             \"Version\" : {version}\n"
        ),
    }
}

fn table(row: &[String; 5]) -> String {
    let widths: Vec<usize> =
        HEADINGS.iter().zip(row).map(|(heading, cell)| heading.len().max(cell.len())).collect();
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let headings = HEADINGS.iter().zip(&widths);
    let headings: String =
        headings.map(|(heading, width)| format!("| {:^width$} ", heading.to_uppercase())).collect();
    let cells: String =
        row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:>width$} ")).collect();
    format!("{rule}+\n{headings}|\n{rule}+\n{cells}|\n{rule}+\n")
}

/// A size as etcdutl writes it: two digits, and units of 1,000.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if bytes < 10 {
        return format!("{bytes} {name}");
    }
    let rounded = (value * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 { format!("{rounded:.1} {name}") } else { format!("{rounded:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> BackupSummary {
        BackupSummary {
            hash: 0x0dcb_7ac1,
            revision: 42,
            compact_revision: -1,
            change_count: 41,
            lease_count: 0,
            bytes: 20_512,
        }
    }

    #[test]
    fn a_status_is_shown_in_etcdutls_formats() {
        let of = |output| shown(&summary(), output);
        let version = VERSIONS.storage;
        assert_eq!(of(SnapshotOutput::Simple), format!("dcb7ac1, 42, 41, 20 kB, {version}\n"));
        let json: serde_json::Value = serde_json::from_str(&of(SnapshotOutput::Json)).unwrap();
        assert_eq!(json["hash"], 0x0dcb_7ac1);
        assert_eq!((&json["totalKey"], &json["totalSize"]), (&json!(41), &json!(20_512)));
        assert!(
            of(SnapshotOutput::Fields).starts_with("\"Hash\" : 231439041\n\"Revision\" : 42\n")
        );
        let table = of(SnapshotOutput::Table);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
        assert!(lines[1].contains("TOTAL KEYS") && lines[3].contains("20 kB"), "{table}");
    }

    #[test]
    fn sizes_are_written_as_etcdutl_writes_them() {
        let shown = [9, 10, 999, 1_000, 20_512, 999_949, 1_234_567].map(human);
        assert_eq!(shown, ["9 B", "10 B", "999 B", "1.0 kB", "20 kB", "1000 kB", "1.2 MB"]);
    }
}
