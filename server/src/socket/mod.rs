//! Listening sockets and connected ones: TCP or Unix domain, for clients and peers alike.

mod listener;
mod stream;

pub(crate) use listener::{BoundListener, Listener};
pub(crate) use stream::Socket;
