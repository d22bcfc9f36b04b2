//! Turns `proto/` into Rust, without a protoc on the machine.
//!
//! Two generations are made. The first, everything as plain structs with clients and servers, becomes `api`, `entry` and
//! `peer`. The second holds only the answers that carry key-values or events, with those two replaced by the raw types of
//! `wire`; whatever else they mention is taken from the first, so that requests have one Rust type.

use std::path::{Path, PathBuf};

use protox::prost::Message;
use tonic_prost_build::{Config, FileDescriptorSet};

/// The directory of the `.proto` files, seen from this package.
const PROTO_DIR: &str = "../../proto";

/// Every file, in no particular order.
const PROTO_FILES: [&str; 8] = [
    "authpb/auth.proto",
    "etcdserverpb/rpc.proto",
    "kvorum/admin/v1/heap.proto",
    "kvorum/entry.proto",
    "kvorum/peer.proto",
    "mvccpb/kv.proto",
    "v3electionpb/election.proto",
    "v3lockpb/lock.proto",
];

/// Answers that hold an `mvccpb.KeyValue` or an `mvccpb.Event`, directly or through one another.
const RAW_MESSAGES: [&str; 7] = [
    "DeleteRangeResponse",
    "PutResponse",
    "RangeResponse",
    "RangeStreamResponse",
    "ResponseOp",
    "TxnResponse",
    "WatchResponse",
];

/// What every answer begins with; raw answers take the plain one.
const HEADER: &str = "ResponseHeader";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO_DIR}");
    println!("cargo:rerun-if-changed=build.rs");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTO_FILES, [PROTO_DIR])?;
    write_reflection_set(&descriptors, &out_dir)?;
    generate_raw(&descriptors, &out_dir.join("wire"))?;
    generate_plain(descriptors, &out_dir)?;
    Ok(())
}

/// Writes what server reflection shows: etcd's packages, without comments.
fn write_reflection_set(descriptors: &FileDescriptorSet, out_dir: &Path) -> std::io::Result<()> {
    let mut shown = descriptors.clone();
    shown.file.retain(|file| !file.package().starts_with("kvorum."));
    for file in &mut shown.file {
        file.source_code_info = None;
    }
    std::fs::write(out_dir.join("reflection.bin"), shown.encode_to_vec())
}

/// Generates plain structs, clients and servers for everything.
fn generate_plain(descriptors: FileDescriptorSet, out_dir: &Path) -> std::io::Result<()> {
    let mut config = Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, config)
}

/// Generates `RAW_MESSAGES` a second time, over raw key-values and events.
fn generate_raw(descriptors: &FileDescriptorSet, out_dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(out_dir)?;
    let mut files = descriptors.clone();
    files.file.retain(|file| matches!(file.package(), "etcdserverpb" | "mvccpb"));
    for file in &mut files.file {
        // Comments are addressed by the position of a message in its file, which filtering shifts.
        file.source_code_info = None;
        file.service.clear();
        file.enum_type.clear();
        if file.package() == "etcdserverpb" {
            file.message_type.retain(|message| {
                message.name() == HEADER || RAW_MESSAGES.contains(&message.name())
            });
            assert_eq!(file.message_type.len(), 1 + RAW_MESSAGES.len(), "a message was renamed");
        }
    }

    let mut config = Config::new();
    config
        .bytes(["."])
        .extern_path(".mvccpb.KeyValue", "crate::wire::KeyValue")
        .extern_path(".mvccpb.Event", "crate::wire::Event")
        .extern_path(
            format!(".etcdserverpb.{HEADER}"),
            format!("crate::api::etcdserverpb::{HEADER}"),
        );
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .out_dir(out_dir)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(files, config)
}
