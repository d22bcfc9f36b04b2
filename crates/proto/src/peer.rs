//! The messages members exchange. Their frames are drawn in `docs/formats/peer.md`.

pub use generated::*;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
mod generated {
    tonic::include_proto!("kvorum.peer.v1");
}
