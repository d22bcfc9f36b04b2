//! Frames: how a byte stream between two members is cut into messages.
//!
//! ```text
//! | length: u32 | crc32c: u32 | payload: length bytes |
//! ```
//!
//! Numbers are little-endian. The checksum covers the four length bytes and the payload, so that a stream that has lost
//! its place is noticed at the next frame. `docs/formats/peer-frames.md` has the whole picture.
//!
//! A frame's payload is read into one pooled buffer and handed on as one [`Bytes`]: what is sliced from it never keeps
//! more than its own frame alive.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvorum_pool::{Buffer, BufferPool};
use kvorum_types::ByteCursor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The length and the checksum that stand before every payload.
pub(crate) const FRAME_HEADER_BYTES: usize = size_of::<u32>() + size_of::<u32>();

/// How much is asked of the socket at once while no large frame is under way.
const STAGE_BYTES: usize = 64 << 10;

/// How long a frame that has begun may make no progress, in either direction, before its connection is given up.
/// etcd's raft-read-timeout and raft-write-timeout have the same default.
pub(crate) const STALL_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The header announces more than a frame on this connection may hold.
    #[error("a frame of {length} bytes, more than the {bytes_max} allowed")]
    TooLarge { length: u32, bytes_max: u32 },
    /// The payload is not what was sent.
    #[error("a frame of {length} bytes with checksum {found:08x}, {wanted:08x} announced")]
    Checksum { length: u32, wanted: u32, found: u32 },
    /// The stream ended within a frame.
    #[error("the connection ended within a frame")]
    Cut,
    /// The other side stopped sending within a frame.
    #[error("no byte for {} s within a frame", STALL_TIME_MAX.as_secs())]
    Stalled,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        let kind = match error {
            FrameError::Io(error) => return error,
            FrameError::TooLarge { .. } | FrameError::Checksum { .. } => io::ErrorKind::InvalidData,
            FrameError::Cut => io::ErrorKind::UnexpectedEof,
            FrameError::Stalled => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, error)
    }
}

#[derive(Clone, Copy)]
struct Header {
    length: u32,
    checksum: u32,
}

/// A frame whose header has been read.
struct Filling {
    header: Header,
    payload: Buffer,
}

impl Filling {
    fn bytes_missing(&self) -> usize {
        (self.header.length as usize).saturating_sub(self.payload.len())
    }
}

/// Reads frames off a byte stream.
///
/// - [`FrameReader::next`] may be cancelled at any await: what has been read stays in the reader.
/// - `staged` holds bytes only of frames after the one in `filling`.
pub(crate) struct FrameReader<R> {
    source: R,
    pool: BufferPool,
    staged: BytesMut,
    filling: Option<Filling>,
    bytes_max: u32,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses payloads of more than `bytes_max` bytes.
    pub(crate) fn new(source: R, pool: BufferPool, bytes_max: u32) -> FrameReader<R> {
        FrameReader { source, pool, staged: BytesMut::new(), filling: None, bytes_max }
    }

    /// Sets another limit for the frames that follow.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u32) {
        self.bytes_max = bytes_max;
    }

    /// The next `N` bytes of the stream, outside any frame.
    pub(crate) async fn preamble<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        while self.staged.len() < N {
            self.read_some().await?;
        }
        let mut bytes = [0; N];
        self.staged.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    /// The next frame's payload; `None` when the other side closed the stream between two frames.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if self.filling.is_none()
                && let Some(header) = self.take_header()?
            {
                let payload = self.pool.take(header.length as usize);
                self.filling = Some(Filling { header, payload });
            }
            if let Some(mut filling) = self.filling.take() {
                let ready = self.staged.split_to(filling.bytes_missing().min(self.staged.len()));
                filling.payload.extend_from_slice(&ready);
                if filling.bytes_missing() == 0 {
                    return checked(filling).map(Some);
                }
                self.filling = Some(filling);
            }
            match self.read_some().await {
                Ok(()) => {}
                Err(FrameError::Cut) if self.is_between_frames() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.filling.is_none() && self.staged.is_empty()
    }

    fn take_header(&mut self) -> Result<Option<Header>, FrameError> {
        let mut cursor = ByteCursor::new(&self.staged);
        let (Ok(length), Ok(checksum)) = (cursor.take_u32(), cursor.take_u32()) else {
            return Ok(None);
        };
        if length > self.bytes_max {
            return Err(FrameError::TooLarge { length, bytes_max: self.bytes_max });
        }
        self.staged.advance(FRAME_HEADER_BYTES);
        Ok(Some(Header { length, checksum }))
    }

    /// Waits for at least one more byte: without limit between frames, for [`STALL_TIME_MAX`] within one.
    async fn read_some(&mut self) -> Result<(), FrameError> {
        let between = self.is_between_frames();
        let read = async {
            match &mut self.filling {
                // A large payload goes straight to where it stays.
                Some(filling) if filling.bytes_missing() > STAGE_BYTES => {
                    let missing = filling.bytes_missing();
                    self.source.read_buf(&mut filling.payload.as_vec().limit(missing)).await
                }
                _ => {
                    self.staged.reserve(STAGE_BYTES);
                    self.source.read_buf(&mut self.staged).await
                }
            }
        };
        let count = if between {
            read.await?
        } else {
            timeout(STALL_TIME_MAX, read).await.map_err(|_| FrameError::Stalled)??
        };
        if count == 0 { Err(FrameError::Cut) } else { Ok(()) }
    }
}

fn checked(filling: Filling) -> Result<Bytes, FrameError> {
    let Filling { header: Header { length, checksum: wanted }, payload } = filling;
    let found = checksum(length, std::iter::once(&*payload));
    if found != wanted {
        return Err(FrameError::Checksum { length, wanted, found });
    }
    Ok(payload.freeze())
}

fn checksum<'a>(length: u32, parts: impl Iterator<Item = &'a [u8]>) -> u32 {
    let seed = crc32c::crc32c(&length.to_le_bytes());
    parts.fold(seed, crc32c::crc32c_append)
}

/// Writes frames to a byte stream.
///
/// - A send that failed or was cancelled may have left half a frame behind: every later one fails.
pub(crate) struct FrameWriter<W> {
    sink: W,
    bytes_max: u32,
    is_broken: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer that refuses payloads of more than `bytes_max` bytes.
    pub(crate) fn new(sink: W, bytes_max: u32) -> FrameWriter<W> {
        FrameWriter { sink, bytes_max, is_broken: false }
    }

    /// Sets another limit for the frames that follow.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u32) {
        self.bytes_max = bytes_max;
    }

    /// Writes bytes outside any frame.
    pub(crate) async fn preamble(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&mut [IoSlice::new(bytes)]).await
    }

    /// Writes one frame whose payload is the parts one after the other, without copying them together.
    pub(crate) async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let length = u32::try_from(bytes)
            .ok()
            .filter(|length| *length <= self.bytes_max)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too large"))?;
        let checksum = checksum(length, parts.iter().map(Bytes::as_ref));
        let [length, checksum] = [length.to_le_bytes(), checksum.to_le_bytes()];
        let mut slices = Vec::with_capacity(parts.len() + 2);
        slices.push(IoSlice::new(&length));
        slices.push(IoSlice::new(&checksum));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        self.write_all(&mut slices).await
    }

    async fn write_all(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let write = timeout(STALL_TIME_MAX, self.sink.write_vectored(slices));
            match write.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => IoSlice::advance_slices(&mut slices, count),
            }
        }
        self.is_broken = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u32 = 4 << 20;

    fn reader<R: AsyncRead + Unpin>(source: R) -> FrameReader<R> {
        FrameReader::new(source, BufferPool::new(8 << 20), BYTES_MAX)
    }

    async fn encoded(parts: &[Bytes]) -> Vec<u8> {
        let mut writer = FrameWriter::new(Vec::new(), BYTES_MAX);
        writer.send(parts).await.unwrap();
        writer.sink
    }

    #[tokio::test]
    async fn frames_of_every_size_arrive_whole_through_a_narrow_pipe() {
        let (near, far) = tokio::io::duplex(1500);
        let sizes = [0, 1, 7, 8, 9, 1499, 1500, 64 << 10, (64 << 10) + 1, 1 << 20, 3 << 20];
        let send = async {
            let mut writer = FrameWriter::new(near, BYTES_MAX);
            for size in sizes {
                let body = Bytes::from((0..size).map(|at: usize| at as u8).collect::<Vec<_>>());
                let (head, tail) = (body.slice(..size / 3), body.slice(size / 3..));
                writer.send(&[head, Bytes::new(), tail]).await.unwrap();
            }
        };
        let receive = async {
            let mut reader = reader(far);
            for size in sizes {
                let frame = reader.next().await.unwrap().unwrap();
                assert_eq!(frame.len(), size);
                assert!(frame.iter().enumerate().all(|(at, byte)| *byte == at as u8), "{size}");
            }
            assert_eq!(reader.next().await.unwrap(), None);
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_is_noticed() {
        let frame = encoded(&[Bytes::from_static(b"one message")]).await;
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = reader(&damaged[..]).next().await;
            assert!(read.is_err(), "bit {bit}: {read:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_cut_within_a_frame_is_an_error_and_between_frames_is_the_end() {
        let frame = encoded(&[Bytes::from_static(b"one message")]).await;
        for cut in 1..frame.len() {
            let read = reader(&frame[..cut]).next().await;
            assert!(matches!(read, Err(FrameError::Cut)), "{cut}: {read:?}");
        }
        assert_eq!(reader(&frame[..0]).next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_on_both_sides_before_its_payload() {
        let mut writer = FrameWriter::new(Vec::new(), 3);
        let sent = writer.send(&[Bytes::from_static(b"four")]).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(writer.sink.is_empty());

        let mut header = Vec::new();
        header.extend((BYTES_MAX + 1).to_le_bytes());
        header.extend([0; 4]);
        let read = reader(&header[..]).next().await;
        assert!(matches!(read, Err(FrameError::TooLarge { .. })), "{read:?}");
    }

    #[tokio::test]
    async fn a_receive_that_is_cancelled_loses_nothing() {
        let (mut near, far) = tokio::io::duplex(64);
        let frame = encoded(&[Bytes::from(vec![7; 40])]).await;
        let mut reader = reader(far);
        for piece in frame.chunks(5) {
            near.write_all(piece).await.unwrap();
            let whole = timeout(Duration::ZERO, reader.next()).await;
            if let Ok(frame) = whole {
                assert_eq!(frame.unwrap().unwrap(), vec![7; 40]);
                return;
            }
        }
        assert_eq!(reader.next().await.unwrap().unwrap(), vec![7; 40]);
    }

    #[tokio::test]
    async fn half_a_frame_and_then_silence_is_given_up() {
        let (mut near, far) = tokio::io::duplex(64);
        let frame = encoded(&[Bytes::from_static(b"one message")]).await;
        near.write_all(&frame[..9]).await.unwrap();
        let read = reader(far).next().await;
        assert!(matches!(read, Err(FrameError::Stalled)), "{read:?}");
    }

    #[tokio::test]
    async fn a_send_that_stalled_breaks_the_writer() {
        let (near, _far) = tokio::io::duplex(64);
        let mut writer = FrameWriter::new(near, BYTES_MAX);
        let sent = writer.send(&[Bytes::from(vec![0; 100])]).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let sent = writer.send(&[Bytes::new()]).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
