//! Rust types, clients and service traits for everything under `proto/` (etcd's v3 API, the admin API, the log
//! entry and the peer protocol), and the table of etcd's error texts.
//!
//! This crate must never hold logic: what a message means is decided by those who send and receive it.
//!
//! The API exists twice. [`api`] has plain structs, for clients and for everything that is not hot. [`wire`] has the
//! answers of KV and Watch over key-values and events that stay encoded, for a server that copies stored bytes into an
//! answer; requests are the same types in both. The two encode to the same bytes.

pub mod admin;
pub mod api;
pub mod entry;
pub mod errors;
pub mod peer;
pub mod wire;

/// The descriptors of etcd's packages as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reflection.bin"));
