//! The body of a client's call as it comes in pieces, and the deadline in its headers.
//!
//! Input: how the body is cut; how long a message may be; the body, which is taken for a deadline as well.
//!
//! - However it is cut, the same message comes out, or none.

use bytes::Bytes;
use kvorum_server::hostile;

use super::peer_stream::block_on;
use crate::input::{Input, Writer};

/// Eight digits of hours.
const TIMEOUT_SECONDS_MAX: u64 = 99_999_999 * 3600;

/// The target.
pub fn request_body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cut = usize::from(input.byte());
    let bytes_max = usize::from(input.u16());
    let body = Bytes::copy_from_slice(input.rest());
    let whole = block_on(hostile::request(vec![body.clone()], bytes_max));
    if let Ok(message) = &whole {
        assert!(message.len() <= bytes_max, "{} bytes, {bytes_max} allowed", message.len());
        assert_eq!(body.get(5..), Some(message.as_ref()), "another message than was sent");
    }
    let pieces: Vec<Bytes> = body.chunks(cut.max(1)).map(Bytes::copy_from_slice).collect();
    let joined = block_on(hostile::request(pieces, bytes_max));
    assert_eq!(joined.is_ok(), whole.is_ok(), "{whole:?} whole, {joined:?} in pieces");
    assert!(joined.is_err() || joined == whole, "another message when it came in pieces");
    let timeout = hostile::timeout(&body);
    assert!(timeout.is_none_or(|timeout| timeout.as_secs() <= TIMEOUT_SECONDS_MAX));
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let bodies: [&[u8]; 6] =
        [b"\0\0\0\0\x07message", b"\0\0\0\0\0", b"\x01\0\0\0\x01x", b"99999999H", b"5S", b"\0"];
    let of = |body: &&[u8]| Writer::new().byte(3).raw(&100_u16.to_le_bytes()).raw(body).finish();
    bodies.iter().map(of).collect()
}
