//! The messages of KV and Watch as a server's hot paths use them: key-values and events stay encoded.
//!
//! [`KeyValue`] and [`Event`] here are checked bytes. Putting one into an answer copies a reference, and encoding the
//! answer copies the bytes; nothing is decoded and built again. Requests carry no key-value, so they are the types of
//! [`crate::api`].
//!
//! On the wire these are the messages of [`crate::api`] to the byte, with one liberty: a raw message is sent as it was
//! received or stored, where a plain struct is written in the order of its fields without what it does not know.

mod event;
mod fields;
mod key_value;

pub use event::Event;
pub use generated::{
    DeleteRangeResponse, PutResponse, RangeResponse, RangeStreamResponse, ResponseOp, TxnResponse,
    WatchResponse, response_op,
};
pub use key_value::KeyValue;

pub use crate::api::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, RangeRequest,
    RequestOp, ResponseHeader, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, compare, range_request, request_op, watch_create_request,
    watch_request,
};

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/wire/etcdserverpb.rs"));
}
