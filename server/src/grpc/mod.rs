//! The client port's gRPC services, over HTTP/2 streams as the HTTP library hands them out.
//!
//! ```text
//! request -> service -> method -> receive -> decode -> context.admit -> kv, range_stream, maintenance, cluster, health -> reply
//!               |          |   +- context.admit -> snapshot: a backup, piece by piece -> reply
//!               |          |   +- context.admit -> watch: requests -> hub -> response -> reply
//!               |          |   +- context.admit -> lease, concurrency -> the member, the hub -> reply
//!               |          +- reflection
//!               +- not gRPC: http
//! ```
//!
//! KV is written by hand, not generated, because its calls are the server's hottest path:
//!
//! - The bytes of a request as the client sent them go on to the log; decoding borrows from them.
//! - An answer is encoded once, behind its prefix, into one buffer of just its length.
//! - Between the HTTP library and a handler there is no boxed body, no stream of messages and no router.
//!
//! What etcd refuses before a handler runs is refused in etcd's order: the message itself, a member without a vote, the
//! client's version, a required leader, then the request's own rules.

mod alarm;
mod call_end;
mod cluster;
mod concurrency;
mod context;
mod deadline;
mod defragment;
mod downgrade;
mod health;
mod heap;
mod kv;
mod leader_watch;
mod lease;
mod maintenance;
mod method;
mod range_stream;
mod reads;
mod receive;
mod reflection;
mod reply;
mod requests;
mod service;
mod snapshot;
mod turns;
mod watch;

pub(crate) mod hostile;

pub(crate) use context::Context;
pub(crate) use reply::ReplyBody;
pub(crate) use service::ClientService;
pub(crate) use watch::Watches;
