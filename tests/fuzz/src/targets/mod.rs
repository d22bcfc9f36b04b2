//! One file for each target: the function, and the seeds it begins with.

pub mod backup;
pub mod block;
pub mod checkpoint;
pub mod config;
pub mod damage;
pub mod entry;
pub mod key_value;
pub mod member_dir;
pub mod membership;
pub mod peer_message;
pub mod peer_stream;
pub mod request;
pub mod request_body;
pub mod store;
pub mod text;
pub mod wal;
