//! Listening sockets.

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, UnixListener};

use super::Socket;
use crate::config::Address;

/// How many connections the kernel holds that have not been accepted yet. It caps the value by its own setting.
const BACKLOG: i32 = 4096;

/// A socket that the kernel queues connections on, before a runtime accepts them.
pub(crate) enum BoundListener {
    Tcp(net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
}

/// The file that stands for a Unix socket; removed on drop.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever binds next removes what is left, so a failure here only leaves a dead file behind.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundListener {
    /// Listens at `address`. A name may have to be looked up, which blocks.
    pub(crate) fn bind(address: &Address) -> io::Result<BoundListener> {
        match address {
            Address::Tcp { host, port } => bind_first(&candidates(host, *port)?),
            Address::Unix(path) => bind_unix(path),
        }
    }

    /// Takes over a socket that is listening already.
    pub(crate) fn from_std(listener: net::TcpListener) -> io::Result<BoundListener> {
        // One that was bound by others may have a short queue; listening again lengthens it.
        SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(BoundListener::Tcp(listener))
    }

    /// The URL of what was really bound: with the port that the kernel chose, where 0 was asked for.
    pub(crate) fn url(&self) -> io::Result<String> {
        Ok(match self {
            BoundListener::Tcp(listener) => format!("http://{}", listener.local_addr()?),
            BoundListener::Unix(_, SocketFile(path)) => format!("unix://{}", path.display()),
        })
    }
}

/// What a host name stands for; without one, every address of the machine.
fn candidates(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    // `localhost` has two addresses; the one that every client tries comes first.
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn bind_first(candidates: &[SocketAddr]) -> io::Result<BoundListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in candidates {
        match bind_tcp(*address) {
            Ok(listener) => return Ok(BoundListener::Tcp(listener)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_tcp(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A member that is started again must not wait for its old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<BoundListener> {
    let listener = match unix::UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead_socket(path)?;
            unix::UnixListener::bind(path)
        }
        bound => bound,
    }?;
    listener.set_nonblocking(true)?;
    Ok(BoundListener::Unix(listener, SocketFile(path.to_owned())))
}

/// Removes the file of a Unix socket that nobody listens on any more.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    match unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// A socket whose connections are accepted by the runtime it was made on.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Lets the current runtime accept from `bound`.
    pub(crate) fn new(bound: BoundListener) -> io::Result<Listener> {
        Ok(match bound {
            BoundListener::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            BoundListener::Unix(listener, file) => {
                Listener::Unix { listener: UnixListener::from_std(listener)?, _file: file }
            }
        })
    }

    /// The next connection. May be cancelled without losing one.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(tcp, _)| Socket::Tcp(tcp)),
            Listener::Unix { listener, .. } => {
                listener.accept().await.map(|(unix, _)| Socket::Unix(unix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_unix_socket_is_taken_over_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("member");
        let address = Address::Unix(path.clone());
        let live = BoundListener::bind(&address).unwrap();
        let second = BoundListener::bind(&address).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(live.url().unwrap(), format!("unix://{}", path.display()));

        // The standard library's own listener leaves its file behind, as a process that was killed does.
        drop(live);
        drop(unix::UnixListener::bind(&path).unwrap());
        BoundListener::bind(&address).unwrap();
    }

    #[test]
    fn the_url_names_the_port_that_was_chosen() {
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let url = BoundListener::bind(&address).unwrap().url().unwrap();
        assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    }
}
