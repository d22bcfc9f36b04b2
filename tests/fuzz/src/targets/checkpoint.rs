//! A checkpoint as another member sends it: received, verified, installed.
//!
//! Input: whether checksums are set right; the file.
//!
//! - It is refused when it has come, refused when it is installed, or is a state that goes on: it takes a write, and its own
//!   checkpoint is the same state.

use crate::input::{Input, Writer, raw_and_sealed};
use crate::rig::Rig;
use crate::samples::sample;
use crate::{examine, seal};

const PIECE_BYTES: usize = 1000;

/// The target.
pub fn checkpoint(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_sealed = input.flag();
    let mut file = input.rest().to_vec();
    if is_sealed {
        seal::checkpoint(&mut file);
    }
    let mut rig = Rig::new();
    let mut receiver = rig.checkpoints.receive().expect("the disk works");
    for piece in file.chunks(PIECE_BYTES) {
        receiver.write(piece).expect("the disk works");
    }
    let Ok(received) = receiver.finish() else { return };
    let position = received.position();
    if rig.machine.install(received).is_ok() {
        assert_eq!(rig.machine.applied(), Some(position), "installed at another position");
        examine::machine(&mut rig);
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let files: [&[u8]; 3] = [
        &sample().checkpoint,
        include_bytes!("../../../../crates/machine/tests/checkpoint_v1.ckpt"),
        include_bytes!("../../../../crates/machine/tests/checkpoint_v2.ckpt"),
    ];
    files.iter().flat_map(|file| raw_and_sealed(&Writer::new().raw(file))).collect()
}
