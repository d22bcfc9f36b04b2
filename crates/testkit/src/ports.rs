//! Ports that stay a test's own while a member is down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use rand::RngExt;

/// Below the range from which Linux takes the ports of outgoing connections, so that none of those is in the way.
const PORTS: std::ops::Range<u16> = 11_000..32_000;

/// A port of the loopback interface that no other test takes, in this process or another, until it is dropped.
///
/// A socket that is bound once cannot keep a port over a restart, and one that stays bound makes a member that is down
/// look like one that is slow. So the port is kept by a lock on a file instead.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A port that is free now.
    pub fn reserve() -> Port {
        let dir = std::env::temp_dir().join("kvorum-test-ports");
        fs::create_dir_all(&dir).expect("the temporary directory is writable");
        loop {
            let number = rand::rng().random_range(PORTS);
            let lock = File::create(dir.join(number.to_string())).expect("the lock file opens");
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Port { number, _lock: lock };
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }

    /// Listens on it.
    pub fn listen(&self) -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number)).expect("a reserved port is free")
    }
}
