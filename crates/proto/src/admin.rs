//! What an operator asks of one member: the allocator and the limits of memory.

pub use generated::*;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
mod generated {
    tonic::include_proto!("kvorum.admin.v1");
}
