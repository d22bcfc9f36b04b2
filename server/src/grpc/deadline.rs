//! How long a client is willing to wait.

use std::future::pending;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::sleep;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The most digits gRPC allows.
const DIGITS_MAX: usize = 8;

/// Waits until the client's deadline has passed; for ever if it has none.
pub(super) async fn passed(headers: &HeaderMap) {
    match timeout(headers) {
        Some(left) => sleep(left).await,
        None => pending().await,
    }
}

/// What is left of the client's deadline, from `grpc-timeout`: up to eight digits and a unit. One that cannot be read is
/// none: the client keeps its own watch.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 60 * 60)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("4999m", Some(Duration::from_millis(4999))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(359_999_996_400))),
            ("100000000n", None),
            ("5", None),
            ("S", None),
            ("", None),
            ("-5S", None),
            ("5s", None),
        ];
        for (text, wanted) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            assert_eq!(timeout(&headers), wanted, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
