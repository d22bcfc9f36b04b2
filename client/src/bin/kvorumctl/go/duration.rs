//! Durations (Go's `time.Duration`).

use std::time::Duration;

use super::quote::quoted;

const NANOS_PER_MICRO: u128 = 1_000;
const NANOS_PER_MILLI: u128 = 1_000_000;
const NANOS_PER_SECOND: u128 = 1_000_000_000;
const SECONDS_PER_MINUTE: u128 = 60;

/// A duration such as `300ms`, `1.5h` or `2h45m`. Negative ones are refused: no flag of ours means anything by them.
pub fn parse(text: &str) -> Result<Duration, String> {
    let name = quoted(text.as_bytes());
    let invalid = || format!("time: invalid duration {name}");
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut nanos = 0u128;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if number.is_empty() {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {name}"));
        }
        let unit_nanos = nanos_per(unit).ok_or_else(|| {
            format!("time: unknown unit {} in duration {name}", quoted(unit.as_bytes()))
        })?;
        nanos = nanos.saturating_add(scaled(number, unit_nanos).ok_or_else(invalid)?);
        rest = after;
    }
    // Go's durations end at 2^63 nanoseconds, which is 292 years.
    match u64::try_from(nanos) {
        Ok(nanos) if i64::try_from(nanos).is_ok() => Ok(Duration::from_nanos(nanos)),
        _ => Err(invalid()),
    }
}

fn nanos_per(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => NANOS_PER_MICRO,
        "ms" => NANOS_PER_MILLI,
        "s" => NANOS_PER_SECOND,
        "m" => SECONDS_PER_MINUTE * NANOS_PER_SECOND,
        "h" => 60 * SECONDS_PER_MINUTE * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// `number`, digits with at most one point among them, times `unit_nanos`, rounded down.
fn scaled(number: &str, unit_nanos: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    // Beyond nanoseconds of an hour further digits count for nothing.
    let fraction = fraction.get(..fraction.len().min(13))?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    digits(whole)?.checked_mul(unit_nanos)?.checked_add(digits(fraction)? * unit_nanos / scale)
}

/// A duration as Go prints it: `1h2m3.5s`, `3.319653ms`, `12ns`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..NANOS_PER_MICRO => format!("{nanos}ns"),
        NANOS_PER_MICRO..NANOS_PER_MILLI => decimal(nanos, NANOS_PER_MICRO, "\u{b5}s"),
        NANOS_PER_MILLI..NANOS_PER_SECOND => decimal(nanos, NANOS_PER_MILLI, "ms"),
        _ => {
            let minutes = nanos / NANOS_PER_SECOND / SECONDS_PER_MINUTE;
            let seconds =
                decimal(nanos % (SECONDS_PER_MINUTE * NANOS_PER_SECOND), NANOS_PER_SECOND, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// `nanos` in units, with as many decimals as it takes and no more.
fn decimal(nanos: u128, unit_nanos: u128, unit: &str) -> String {
    let (whole, rest) = (nanos / unit_nanos, nanos % unit_nanos);
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let width = unit_nanos.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{format, parse};

    #[test]
    fn reads() {
        let cases = [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2h45m", 9_900_000_000_000),
            ("1m0.5s", 60_500_000_000),
            (".5s", 500_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("+3ns", 3),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for (text, expected) in [
            ("", r#"time: invalid duration """#),
            ("abc", r#"time: invalid duration "abc""#),
            ("-1s", r#"time: invalid duration "-1s""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("5x", r#"time: unknown unit "x" in duration "5x""#),
            (".s", r#"time: invalid duration ".s""#),
            ("1.2.3s", r#"time: invalid duration "1.2.3s""#),
            ("3000000h", r#"time: invalid duration "3000000h""#),
        ] {
            assert_eq!(parse(text), Err(expected.into()));
        }
    }

    #[test]
    fn writes() {
        let cases = [
            (0, "0s"),
            (12, "12ns"),
            (1_500, "1.5\u{b5}s"),
            (3_319_653, "3.319653ms"),
            (2_000_000, "2ms"),
            (1_000_000_000, "1s"),
            (59_000_000_001, "59.000000001s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(format(Duration::from_nanos(nanos)), expected);
        }
    }
}
