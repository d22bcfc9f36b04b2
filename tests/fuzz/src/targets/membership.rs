//! A membership, as it stands in entries, checkpoints and the headers of snapshots.
//!
//! Input: its bytes.
//!
//! - What is understood has members, and is written as bytes that are understood the same.

use bytes::Bytes;
use kvorum_consensus::hostile;

use crate::samples;

/// The target.
pub fn membership(bytes: &[u8]) {
    if let Ok(once) = hostile::membership(Bytes::copy_from_slice(bytes)) {
        assert_eq!(hostile::membership(once.clone()), Ok(once));
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![samples::membership().to_vec()]
}
