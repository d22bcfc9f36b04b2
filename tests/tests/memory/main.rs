//! Memory of members: what an operator reads and sets, what outlives a restart, and what happens at the limit.

mod commands;
mod embedded;
mod flood;
mod metrics;
mod settings;

use kvorum_client::{Client, Config};
use kvorum_testkit::Cluster;

const MIB: u64 = 1 << 20;

/// A client of one member, which answers for itself.
fn client_of(cluster: &Cluster, member: usize) -> Client {
    Client::new(Config::new([cluster.client_urls()[member].clone()])).expect("a URL is an endpoint")
}

/// What the process of a member has in memory.
fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The value of a variable with which a process was started.
fn variable(process: u32, name: &str) -> Option<String> {
    let variables = std::fs::read(format!("/proc/{process}/environ")).ok()?;
    let variables = String::from_utf8_lossy(&variables).into_owned();
    variables.split('\0').find_map(|variable| {
        variable.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned)
    })
}
