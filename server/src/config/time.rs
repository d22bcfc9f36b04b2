//! Lengths of time as Go's flags have them.

use std::time::Duration;

use super::error::BadValue;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The most decimals that count: those of a nanosecond in hours, and one more.
const DECIMALS_MAX: usize = 13;

/// Reads `300ms`, `1.5h` or `2h45m`. Times below zero are refused: no flag means anything by them.
pub(super) fn parse_time(text: &str) -> Result<Duration, BadValue> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    nanos(unsigned).map(Duration::from_nanos).ok_or(BadValue::Time)
}

fn nanos(text: &str) -> Option<u64> {
    let (mut rest, mut nanos) = (text, 0_u64);
    loop {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        nanos = nanos.checked_add(scaled(number, nanos_per(unit)?)?)?;
        if after.is_empty() {
            // Go's end at 2^63 nanoseconds.
            return i64::try_from(nanos).ok().map(|_| nanos);
        }
        rest = after;
    }
}

fn nanos_per(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 60 * 60 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// Digits with at most one point among them, times `unit`, rounded down.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
    let decimals = decimals.get(..decimals.len().min(DECIMALS_MAX))?;
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let part = u128::from(read(decimals)?) * u128::from(unit) / scale;
    read(whole)?.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("100ms", Some(100_000_000)),
            ("10m", Some(600_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("1h30m0.5s", Some(5_400_500_000_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("+3ns", Some(3)),
            ("1us", Some(1_000)),
            ("1\u{b5}s", Some(1_000)),
            ("0.00000000000001h", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("-1s", None),
            ("1 s", None),
            ("1s2", None),
            ("3000000h", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_time(text).ok(), wanted.map(Duration::from_nanos), "{text}");
        }
    }
}
