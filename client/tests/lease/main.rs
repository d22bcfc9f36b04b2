//! Leases, and what is made of them, against servers that break off wherever they can.

mod concurrency;
mod keep_alive;
mod places;
mod stm;
#[path = "../fake/streams.rs"]
mod streams;

use std::time::Duration;

use bytes::Bytes;
use kvorum_client::{Client, Config};
use prost::Message;
use tonic::Status;

use streams::{Answer, Server};

/// A client that gives up soon where nothing is known of a TTL.
fn client(servers: &[&Server]) -> Client {
    let mut config = Config::new(servers.iter().map(|server| server.endpoint.clone()));
    config.dial_timeout = Duration::from_millis(500);
    Client::new(config).unwrap()
}

fn message(message: &impl Message) -> Answer {
    Ok(message.encode_to_vec().into())
}

fn decoded<M: Message + Default>(bytes: Bytes) -> M {
    M::decode(bytes).unwrap()
}

/// The answer to calls that a test does not expect.
fn unexpected(path: &str, _: Bytes) -> Answer {
    Err(Status::unimplemented(format!("{path} was not expected")))
}
