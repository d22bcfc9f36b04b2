//! A client connection's socket, with its bytes watched on the way through.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::pings::{GOAWAY_TOO_MANY_PINGS, PingWatch};
use crate::socket::Socket;

/// How many bytes are read before the requests in them are begun. Short frames that wait unread count against a client
/// with the HTTP library, which in the end closes the connection; a burst of requests is nothing else until they are begun.
const TURN_BYTES_MAX: usize = 32 * 1024;

/// What a connection's socket and the task that drives it tell each other.
#[derive(Default)]
pub(super) struct ConnectionState {
    /// Set once the client has said what it speaks.
    pub(super) has_begun: AtomicBool,
    /// Requests whose answer has not been sent whole.
    pub(super) requests: AtomicUsize,
    /// Bytes read in this turn.
    turn_bytes: AtomicUsize,
}

impl ConnectionState {
    /// What was read has been dealt with: there may be more.
    pub(super) fn begin_turn(&self) {
        self.turn_bytes.store(0, Ordering::Relaxed);
    }

    /// Whether nothing more is read before the next turn.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn_bytes.load(Ordering::Relaxed) >= TURN_BYTES_MAX
    }
}

/// A socket that follows HTTP/2's frames both ways and ends the connection of a client that pings too often.
pub(super) struct GuardedSocket {
    socket: Socket,
    state: Arc<ConnectionState>,
    watch: PingWatch,
    /// How much of the farewell has been written.
    farewell_sent: usize,
}

impl GuardedSocket {
    pub(super) fn new(socket: Socket, state: Arc<ConnectionState>) -> GuardedSocket {
        GuardedSocket { socket, state, watch: PingWatch::new(), farewell_sent: 0 }
    }

    /// Writes the farewell, then fails, which ends the connection.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(rest) = GOAWAY_TOO_MANY_PINGS.get(self.farewell_sent..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.farewell_sent += count,
            }
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too_many_pings")))
    }

    /// How many bytes of the next write may pass: all of them, or up to where the farewell belongs.
    fn bytes_allowed(&self) -> usize {
        if !self.watch.is_over() {
            return usize::MAX;
        }
        self.watch.bytes_to_boundary().unwrap_or(1)
    }
}

impl AsyncRead for GuardedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.is_turn_over() {
            // The task that drives the connection knows, and needs no waking.
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, into))?;
        let received = into.filled().get(before..).unwrap_or_default();
        this.state.turn_bytes.fetch_add(received.len(), Ordering::Relaxed);
        let has_requests = this.state.requests.load(Ordering::Relaxed) > 0;
        this.watch.received(received, has_requests, Instant::now());
        if this.watch.has_begun() {
            this.state.has_begun.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let allowed = match this.bytes_allowed() {
            0 => return this.poll_farewell(cx),
            allowed => bytes.get(..allowed).unwrap_or(bytes),
        };
        let count = ready!(Pin::new(&mut this.socket).poll_write(cx, allowed))?;
        this.watch.sent(allowed.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.watch.is_over() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| &**slice));
        }
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, slices))?;
        let mut left = count;
        for slice in slices {
            let sent = slice.get(..left).unwrap_or(&**slice);
            this.watch.sent(sent);
            left -= sent.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        // The HTTP library asks once before it writes anything, and if not, copies frames of up to 1 KiB together instead
        // of writing each for itself. Long ones are to be written as they are all the same.
        self.watch.has_sent() && self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn long_frames_are_written_as_they_are_once_the_library_has_asked() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut guarded = GuardedSocket::new(Socket::Unix(server), Arc::default());
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        guarded.read_exact(&mut [0; 24]).await.unwrap();
        assert!(!guarded.is_write_vectored());
        guarded.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert!(guarded.is_write_vectored());
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        let written =
            poll_fn(|cx| Pin::new(&mut guarded).poll_write_vectored(cx, &slices)).await.unwrap();
        assert_eq!(written, 4);
    }
}
