//! Leases as bytes.

use kvorum_lease::Table;
use kvorum_lease::chunk::{ChunkError, Decoder, Encoder, LEASES_MAX};
use kvorum_types::LeaseId;

use crate::random::Random;

fn table(lease_count: u64) -> Table {
    let (mut table, mut random) = (Table::new(), Random(lease_count));
    for index in 0..lease_count {
        let (id, ttl) = (LeaseId(random.number() as i64), 1 + random.below(10_000) as i64);
        table.grant(id, ttl, index).unwrap();
        if random.one_in(3) {
            table.checkpoint(id, index, random.below(10_000) as i64);
        }
    }
    table
}

fn chunks(table: &Table) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(table.view());
    std::iter::from_fn(|| encoder.next_chunk()).map(|chunk| chunk.to_vec()).collect()
}

fn decode(chunks: &[Vec<u8>]) -> Result<(Vec<bool>, Table), ChunkError> {
    let mut decoder = Decoder::new();
    let places = chunks.iter().map(|chunk| decoder.push(chunk)).collect::<Result<_, _>>()?;
    Ok((places, decoder.finish()))
}

#[test]
fn what_was_written_is_read_back_and_only_the_last_chunk_says_so() {
    let full = LEASES_MAX as u64;
    for lease_count in [0, 1, full - 1, full, full + 1, 3 * full] {
        let table = table(lease_count);
        let chunks = chunks(&table);
        assert_eq!(chunks.len(), lease_count.div_ceil(full).max(1) as usize);
        let (mut places, decoded) = decode(&chunks).unwrap();
        assert_eq!(places.pop(), Some(true));
        assert!(places.iter().all(|is_last| !is_last));
        let (found, wanted) = (decoded.view(), table.view());
        assert!(found.iter().eq(wanted.iter()), "{lease_count} leases");
    }
}

#[test]
fn a_cut_chunk_is_refused() {
    let [chunk] = &chunks(&table(3))[..] else { panic!("three leases are one chunk") };
    for place in 0..chunk.len() {
        let cut = Decoder::new().push(&chunk[..place]);
        match (place >= 2).then(|| (place - 2) % 32) {
            Some(0) => assert_eq!(cut, Ok(true), "fewer whole leases, cut at {place}"),
            _ => assert_eq!(cut, Err(ChunkError::Length { bytes: place })),
        }
    }
}

#[test]
fn what_is_no_lease_is_refused() {
    let lease = |id: i64, ttl: i64, remaining: i64| {
        let fields = [id.to_le_bytes(), ttl.to_le_bytes(), [0; 8], remaining.to_le_bytes()];
        fields.concat()
    };
    let push =
        |place: &[u8], leases: &[Vec<u8>]| Decoder::new().push(&[place, &leases.concat()].concat());
    assert_eq!(push(&[1, 0], &[lease(5, 10, 10)]), Ok(false));
    assert_eq!(push(&[2, 0], &[]), Err(ChunkError::UnknownFormatVersion { found: 2 }));
    assert_eq!(push(&[1, 2], &[]), Err(ChunkError::Place { found: 2 }));
    for (id, ttl, remaining) in [(0, 10, 0), (5, 0, 0), (5, -1, 0), (5, 10, 11), (5, 10, -1)] {
        let wanted = Err(ChunkError::Lease { id: LeaseId(id) });
        assert_eq!(push(&[1, 1], &[lease(id, ttl, remaining)]), wanted);
    }
    for second in [4, 5] {
        let wanted = Err(ChunkError::Lease { id: LeaseId(second) });
        assert_eq!(push(&[1, 1], &[lease(5, 1, 0), lease(second, 1, 0)]), wanted);
    }
}
