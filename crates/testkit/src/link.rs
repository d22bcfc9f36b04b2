//! The way to a member, which can be cut while the member lives.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use kvorum_proto::peer::Handshake;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::ports::Port;

/// What every connection begins with: eight bytes, the length of the handshake and a checksum of it.
const PREAMBLE_BYTES: usize = 16;

/// Where the length of the handshake stands.
const LENGTH_AT: std::ops::Range<usize> = 8..12;

/// No handshake is longer.
const HANDSHAKE_BYTES_MAX: u32 = 256;

/// Passes on what comes for a port, unless it is cut: then connections end, and none begins. What the member behind it
/// sends on connections of its own goes on.
#[derive(Debug)]
pub(crate) struct Link {
    port: Port,
    cut: watch::Sender<Cut>,
    passing: JoinHandle<()>,
}

/// Whose connections do not pass.
#[derive(Clone, Debug, Default)]
struct Cut {
    everyone: bool,
    /// Ids of members.
    callers: BTreeSet<u64>,
}

impl Cut {
    fn stops(&self, caller: u64) -> bool {
        self.everyone || self.callers.contains(&caller)
    }
}

impl Link {
    /// A port from which everything goes to another one. Must be called within a tokio runtime.
    pub(crate) fn open(to: u16) -> Link {
        let port = Port::reserve();
        let listener = port.listen();
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let listener = TcpListener::from_std(listener).expect("the listener joins the runtime");
        let (sender, cut) = watch::channel(Cut::default());
        Link { port, cut: sender, passing: tokio::spawn(pass_on(listener, to, cut)) }
    }

    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.cut.send_modify(|cut| cut.everyone = is_cut);
    }

    /// Cuts off one member that calls, or no longer does so.
    pub(crate) fn set_cut_from(&self, caller: u64, is_cut: bool) {
        self.cut.send_modify(|cut| {
            if is_cut {
                cut.callers.insert(caller);
            } else {
                cut.callers.remove(&caller);
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass_on(listener: TcpListener, to: u16, cut: watch::Receiver<Cut>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = accepted
            && !cut.borrow().everyone
        {
            connections.spawn(connect(stream, to, cut.clone()));
        }
    }
}

async fn connect(mut from: TcpStream, to: u16, mut cut: watch::Receiver<Cut>) {
    let passing = async {
        let (caller, beginning) = beginning(&mut from).await?;
        if cut.borrow().stops(caller) {
            return Ok(());
        }
        let mut to = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
        // What is slow is for the members to say.
        let _ = (from.set_nodelay(true), to.set_nodelay(true));
        to.write_all(&beginning).await?;
        tokio::select! {
            _ = copy_bidirectional(&mut from, &mut to) => {}
            _ = cut.wait_for(|cut| cut.stops(caller)) => {}
        }
        io::Result::Ok(())
    };
    // To both sides the connection has ended, whatever became of it.
    let _ = passing.await;
}

/// Reads as far as to know who calls.
async fn beginning(from: &mut TcpStream) -> io::Result<(u64, Vec<u8>)> {
    let mut bytes = vec![0; PREAMBLE_BYTES];
    from.read_exact(&mut bytes).await?;
    let length = u32::from_le_bytes(bytes[LENGTH_AT].try_into().expect("four bytes"));
    let payload_bytes = length.min(HANDSHAKE_BYTES_MAX) as usize;
    bytes.resize(PREAMBLE_BYTES + payload_bytes, 0);
    from.read_exact(&mut bytes[PREAMBLE_BYTES..]).await?;
    let handshake = Handshake::decode(&bytes[PREAMBLE_BYTES..]).map_err(io::Error::other)?;
    Ok((handshake.from, bytes))
}
