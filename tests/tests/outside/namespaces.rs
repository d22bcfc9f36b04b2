//! Network namespaces: a machine of its own for each member, as far as the network goes.
//!
//! ```text
//!   test (10.213.N.1) -- bridge --+-- member 0 (10.213.N.10)
//!                                 +-- member 1 (10.213.N.11)
//!                                 +-- member 2 (10.213.N.12)
//! ```
//!
//! A way is cut by telling one side a wrong hardware address of the other: its packets are lost in silence, as in a network
//! that is cut. One side alone makes a cut of one direction.

use std::process::{Command, Stdio, id};

/// The hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

/// Names of namespaces begin so, then come the test's process and the member.
const PREFIX: &str = "kvorum";

/// The namespaces of one cluster. Removed when dropped.
#[derive(Debug)]
pub struct Namespaces {
    /// The third byte of all addresses.
    subnet: u32,
    count: usize,
}

impl Namespaces {
    /// Makes them; why not, where the machine does not allow it.
    pub fn make(count: usize) -> Result<Namespaces, String> {
        remove_orphans();
        let namespaces = Namespaces { subnet: id() % 250 + 1, count };
        namespaces.set_up()?;
        Ok(namespaces)
    }

    fn set_up(&self) -> Result<(), String> {
        let bridge = self.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", self.address(1)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for member in 0..self.count {
            let (name, outer) = (self.name(member), format!("kvv{}-{member}", id()));
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let address = format!("{}/24", self.member_address(member));
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("kvb{}", id())
    }

    /// What a namespace is called.
    pub fn name(&self, member: usize) -> String {
        format!("{PREFIX}-{}-{member}", id())
    }

    fn address(&self, last: usize) -> String {
        format!("10.213.{}.{last}", self.subnet)
    }

    /// Where a member is.
    pub fn member_address(&self, member: usize) -> String {
        self.address(10 + member)
    }

    /// Nothing that `from` sends comes to `to` any more.
    pub fn cut(&self, from: usize, to: usize) {
        let (name, address) = (self.name(from), self.member_address(to));
        let words = ["neigh", "replace", &address, "lladdr", NOBODY, "nud", "permanent"];
        let words = [&["-n", name.as_str()], words.as_slice(), &["dev", "eth0"]].concat();
        ip(&words).expect("a way can be cut");
    }

    /// It comes again.
    pub fn mend(&self, from: usize, to: usize) {
        let (name, address) = (self.name(from), self.member_address(to));
        ip(&["-n", &name, "neigh", "del", &address, "dev", "eth0"]).expect("a way can be mended");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What is not there cannot be removed, and need not be.
        for member in 0..self.count {
            let _ = ip(&["netns", "del", &self.name(member)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

/// Removes what tests left that were ended before they could.
fn remove_orphans() {
    let Ok(listed) = ip(&["netns", "list"]) else { return };
    for line in listed.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let mut parts = name.split('-');
        let (prefix, process) = (parts.next(), parts.next().unwrap_or_default());
        let is_dead = || !std::path::Path::new(&format!("/proc/{process}")).exists();
        if prefix == Some(PREFIX) && !process.is_empty() && is_dead() {
            let _ = ip(&["netns", "del", name]);
            let _ = ip(&["link", "del", &format!("kvb{process}")]);
        }
    }
}

/// Runs `ip`: what it printed, or what it complained of.
fn ip(words: &[&str]) -> Result<String, String> {
    let ran = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let done = ran.map_err(|error| format!("ip: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("ip {}: {}", words.join(" "), said.trim()))
}
