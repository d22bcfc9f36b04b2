//! What a Raft entry carries: batches of commands. The bytes are drawn in `docs/formats/entry.md`.

pub use generated::{
    Batch, Command, CommandKind, Entry, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire, LeaseRef,
    MemberAttributes,
};

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
mod generated {
    tonic::include_proto!("kvorum.entry.v1");
}
