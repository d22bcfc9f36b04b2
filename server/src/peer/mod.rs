//! The peer transport: what carries the consensus crate's messages between members, over TCP or Unix sockets.
//!
//! A connection belongs to one lane and carries frames both ways ([`frame`]); before the first message both sides tell
//! who they are ([`handshake`]). One that is yet to join may only ask who the members are ([`discovery`]). [`PeerTransport`] opens connections, [`Acceptor`] takes them in. Everything here runs on
//! the core's runtime and knows nothing of what the messages mean.
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | connecting | [`CONNECT_TIME_MAX`] | the next address, then an error |
//! | a handshake | `HANDSHAKE_TIME_MAX`, `HANDSHAKE_BYTES_MAX` | closed |
//! | a frame that has begun | `STALL_TIME_MAX` without progress | closed |
//! | a silent connection | [`DEAD_TIME_MAX`], by the kernel's probes | closed |
//! | connections accepted | [`CONNECTIONS_MAX`], [`CONNECTIONS_PER_MEMBER_MAX`] of one member | refused with the reason |
//! | handshakes under way | [`HANDSHAKES_MAX`] | closed at once |

use std::time::Duration;

mod accept;
mod discovery;
pub(crate) mod frame;
pub(crate) mod handshake;
mod hash;
mod pipe;
mod transport;

pub(crate) use accept::{Acceptor, Host};
pub(crate) use discovery::discover;
pub(crate) use hash::{answer_hash, ask_hash};
pub use pipe::{PeerRx, PeerTx};
pub use transport::PeerTransport;

/// How long one address may take to accept a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a connection may be dead before the kernel reports it.
const DEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections accepted from all members together.
const CONNECTIONS_MAX: usize = 512;

/// Connections accepted from one member: its lanes, and what is left of lanes it has already given up.
const CONNECTIONS_PER_MEMBER_MAX: usize = 32;

/// Accepted connections whose handshake is not done.
const HANDSHAKES_MAX: usize = 64;

#[cfg(test)]
mod tests;
