//! Fewer bytes between members: zstd for chunks of snapshots and, where the operator wants it, for large entries.
//!
//! Every compressed piece says how long it was, and stands by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// The fastest level: what is sent is mostly JSON and protobuf, of which the higher ones make little less.
const LEVEL: i32 = 1;

/// `bytes`, compressed. None if that makes them no shorter.
pub(crate) fn compress(bytes: &[u8]) -> Option<Bytes> {
    let compressed = zstd::bulk::compress(bytes, LEVEL).ok()?;
    (compressed.len() < bytes.len()).then(|| compressed.into())
}

/// What was compressed; it must have been just so long.
pub(crate) fn decompress(compressed: &[u8], raw_bytes: usize) -> io::Result<Bytes> {
    let bytes = zstd::bulk::decompress(compressed, raw_bytes)?;
    if bytes.len() != raw_bytes {
        let what = format!("{raw_bytes} bytes announced, {} came", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(bytes.into())
}

/// How many bytes of snapshots this member has sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SnapshotTraffic {
    /// As they are in the files.
    pub bytes: u64,
    /// As they went over the network.
    pub sent_bytes: u64,
}

/// Counts them.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    counts: Arc<[AtomicU64; 2]>,
}

impl Counter {
    pub(crate) fn add(&self, bytes: usize, sent_bytes: usize) {
        for (count, more) in self.counts.iter().zip([bytes, sent_bytes]) {
            count.fetch_add(more as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> SnapshotTraffic {
        let [bytes, sent_bytes] = [0, 1].map(|place: usize| {
            self.counts.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        SnapshotTraffic { bytes, sent_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_comes_back_and_nothing_else_does() {
        let raw = b"{\"kind\":\"Pod\"}".repeat(1000);
        let compressed = compress(&raw).expect("repetition compresses");
        assert_eq!(decompress(&compressed, raw.len()).unwrap(), raw);
        assert!(decompress(&compressed, raw.len() - 1).is_err(), "more than announced");
        assert!(decompress(&compressed, raw.len() + 1).is_err(), "less than announced");
        assert!(decompress(&compressed[1..], raw.len()).is_err(), "no zstd");
        assert!(decompress(&compressed[..compressed.len() / 2], raw.len()).is_err(), "cut");
        assert_eq!(compress(b"x"), None);
    }
}
