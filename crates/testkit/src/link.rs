//! The way to a member, which can be cut while the member lives.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::ports::Port;

/// Passes on what comes for a port, unless it is cut: then connections end, and none begins. What the member behind it
/// sends on connections of its own goes on.
#[derive(Debug)]
pub(crate) struct Link {
    port: Port,
    is_cut: watch::Sender<bool>,
    passing: JoinHandle<()>,
}

impl Link {
    /// A port from which everything goes to another one. Must be called within a tokio runtime.
    pub(crate) fn open(to: u16) -> Link {
        let port = Port::reserve();
        let listener = port.listen();
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let listener = TcpListener::from_std(listener).expect("the listener joins the runtime");
        let (is_cut, cut) = watch::channel(false);
        Link { port, is_cut, passing: tokio::spawn(pass_on(listener, to, cut)) }
    }

    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass_on(listener: TcpListener, to: u16, cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = accepted
            && !*cut.borrow()
        {
            connections.spawn(connect(stream, to, cut.clone()));
        }
    }
}

async fn connect(mut from: TcpStream, to: u16, mut cut: watch::Receiver<bool>) {
    let Ok(mut to) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    // What is slow is for the members to say.
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => {}
        _ = cut.wait_for(|is_cut| *is_cut) => {}
    }
}
