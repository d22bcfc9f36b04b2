//! The layout of the files, pinned: a log that an earlier build wrote must always open.
//!
//! `UPDATE_EXAMPLE=1 cargo test -p kvorum-wal --test format` writes the example anew, after a change of the format that is
//! meant; `docs/formats/wal.md` and the format version change with it.

mod harness;

use std::path::{Path, PathBuf};

use harness::{CLUSTER, DIR, Harness, MEMBER, entries, entry};
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_types::{MemberId, Position};
use kvorum_wal::{Options, Vote, inspect};

const FILES: [&str; 3] = ["identity", "0000000000000001.wal", "0000000000000002.wal"];

fn example_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/example").join(name)
}

fn options() -> Options {
    Options { segment_bytes: 1200, ..harness::small() }
}

/// Every type of record, and two segments.
fn write_example() -> FaultyDisk {
    let mut harness = Harness::new(options());
    let vote = Vote { term: 3, candidate: Some(MemberId(0x22)), committed: true };
    harness.save_vote(vote);
    harness.append(entries(2, 0..4));
    harness.write_all();
    harness.log().set_committed(Position::new(2, 1));
    harness.truncate_after(Some(2));
    harness.append(vec![entry(3, 3, b""), entry(3, 4, &[0xab; 300])]);
    harness.write_all();
    harness.log().purge(Position::new(2, 1));
    harness.append(vec![entry(3, 5, b"the next segment")]);
    harness.write_all();
    harness.disk.clone()
}

/// The zeroes at the end of a segment, behind its last record, are left out.
fn written_part(disk: &FaultyDisk, name: &str) -> Vec<u8> {
    let mut bytes = disk.contents(&Path::new(DIR).join(name)).expect("it is there");
    let mut end = None;
    inspect::dump(disk, Path::new(DIR), &mut |shown| {
        if harness::segment_path(shown.segment).ends_with(name) {
            end = Some(shown.offset + shown.bytes);
        }
    })
    .expect("the log is sound");
    bytes.truncate(end.map_or(bytes.len(), |end| end as usize));
    bytes
}

#[test]
fn the_example_is_written_byte_for_byte() {
    let disk = write_example();
    for name in FILES {
        let bytes = written_part(&disk, name);
        if std::env::var_os("UPDATE_EXAMPLE").is_some() {
            std::fs::create_dir_all(example_path("")).expect("the directory can be made");
            std::fs::write(example_path(name), &bytes).expect("the example can be written");
        }
        let example = std::fs::read(example_path(name)).expect("the example is there");
        assert_eq!(bytes, example, "{name}");
    }
    assert_eq!(disk.list(Path::new(DIR)).expect("it is there").len(), FILES.len());
}

#[test]
fn the_example_is_read() {
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new(DIR)).expect("the disk works");
    for name in FILES {
        let bytes = std::fs::read(example_path(name)).expect("the example is there");
        disk.set_contents(&Path::new(DIR).join(name), &bytes).expect("the disk works");
    }
    let summary = inspect::verify(&disk, Path::new(DIR)).expect("it is sound");
    assert_eq!((summary.identity.cluster, summary.identity.member), (CLUSTER, MEMBER));
    assert_eq!((summary.records, summary.entries, summary.segments), (13, 7, (1, 2)));

    let harness = Harness::on(disk, options());
    let wanted = Vote { term: 3, candidate: Some(MemberId(0x22)), committed: true };
    assert_eq!(harness.recovered().vote, Some(wanted));
    assert_eq!(harness.recovered().committed, Some(Position::new(2, 1)));
    assert_eq!(harness.recovered().purged, Some(Position::new(2, 1)));
    let kept = [entries(2, 2..3), vec![entry(3, 3, b""), entry(3, 4, &[0xab; 300])]].concat();
    assert_eq!(harness.read_from(2), [kept, vec![entry(3, 5, b"the next segment")]].concat());
}

/// What the format's page draws, in numbers.
#[test]
fn the_first_record_is_laid_out_as_drawn() {
    let disk = write_example();
    let segment = disk.contents(&harness::segment_path(1)).expect("it is there");
    assert_eq!(&segment[..8], b"kvorumWL");
    assert_eq!(segment[8..12], 1_u32.to_le_bytes(), "format version");
    assert_eq!(segment[28..36], 1_u64.to_le_bytes(), "segment");
    assert_eq!(segment[36..44], CLUSTER.0.to_le_bytes());
    assert_eq!(segment[44..52], MEMBER.0.to_le_bytes());
    assert_eq!(segment[52..60], 0_u64.to_le_bytes(), "incarnation");
    assert_eq!(segment[60..64], crc32c::crc32c(&segment[..60]).to_le_bytes());

    let record = &segment[64..];
    assert_eq!(record[..4], 78_u32.to_le_bytes(), "length of a head");
    assert_eq!(record[4], 1, "type of a head");
    assert_eq!(record[5..8], [0; 3]);
    assert_eq!(record[8..16], 1_u64.to_le_bytes(), "batch");
    assert_eq!(record[16..20], [0; 4], "distance to the start of the batch");
    let seed = crc32c::crc32c(&[1_u64.to_le_bytes(), 64_u64.to_le_bytes()].concat());
    let header_crc = crc32c::crc32c_append(seed, &record[..20]);
    assert_eq!(record[20..24], header_crc.to_le_bytes());
    let payload_crc = crc32c::crc32c_append(header_crc, &record[28..28 + 78]);
    assert_eq!(record[24..28], payload_crc.to_le_bytes());
    assert_eq!(record[28 + 78..112], [0; 6], "padding");
    assert_eq!(record[112 + 4], 3, "type of a vote");
}
