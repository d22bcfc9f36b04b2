//! What a Raft entry carries: batches of commands. The bytes are drawn in `docs/formats/entry.md`.

pub use generated::{
    Batch, Command, CommandKind, Downgrade, Entry, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire,
    LeaseRef, MemberAdd, MemberAttributes, MemberPromote, MemberRemove, MemberUpdate,
};

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
mod generated {
    tonic::include_proto!("kvorum.entry.v1");
}
