//! Integers and bools (Go's package strconv).

use super::quote::quoted;

/// How digits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// 0x, 0o, 0b or a leading 0 say which; underscores may separate digits. How flags are read.
    Any,
    /// Base 10.
    Decimal,
    /// Base 16, without a prefix. How lease ids are read.
    Hexadecimal,
}

/// A whole number of 64 bits.
pub fn parse_int(text: &str, base: Base) -> Result<i64, String> {
    let fail =
        |why: &str| Err(format!("strconv.ParseInt: parsing {}: {why}", quoted(text.as_bytes())));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match base {
        Base::Decimal => (10, digits.to_string()),
        Base::Hexadecimal => (16, digits.to_string()),
        Base::Any => any_base(digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return fail("invalid syntax");
    }
    let magnitude = u128::from_str_radix(&digits, radix).unwrap_or(u128::MAX);
    let limit = i64::MAX.unsigned_abs() + u64::from(negative);
    match u64::try_from(magnitude) {
        Ok(magnitude) if magnitude <= limit => {
            let number = magnitude.cast_signed();
            Ok(if negative { number.wrapping_neg() } else { number })
        }
        _ => fail("value out of range"),
    }
}

/// An id: 64 bits in hexadecimal, without sign or prefix.
pub fn parse_id(text: &str) -> Result<u64, String> {
    let fail =
        |why: &str| Err(format!("strconv.ParseUint: parsing {}: {why}", quoted(text.as_bytes())));
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return fail("invalid syntax");
    }
    u64::from_str_radix(text, 16).or_else(|_| fail("value out of range"))
}

/// The base that a number's prefix names, and its digits.
fn any_base(digits: &str) -> (u32, String) {
    let lower = digits.to_ascii_lowercase();
    let (radix, rest) = match lower.as_str() {
        hex if hex.starts_with("0x") => (16, &hex[2..]),
        octal if octal.starts_with("0o") => (8, &octal[2..]),
        binary if binary.starts_with("0b") => (2, &binary[2..]),
        octal if octal.len() > 1 && octal.starts_with('0') => (8, &octal[1..]),
        decimal => (10, decimal),
    };
    let tidy = !rest.ends_with('_') && !rest.contains("__");
    (radix, if tidy { rest.replace('_', "") } else { rest.to_string() })
}

/// A switch's value.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text.as_bytes()))),
    }
}

/// A lease's id as `%016x` prints it: the sign of one below zero counts among the 16.
pub fn lease_id(id: i64) -> String {
    let sign = if id < 0 { "-" } else { "" };
    format!("{sign}{:0width$x}", id.unsigned_abs(), width = 16 - sign.len())
}

#[cfg(test)]
mod tests {
    use super::{Base, lease_id, parse_bool, parse_id, parse_int};

    #[test]
    fn integers() {
        let good = [
            ("0", Base::Any, 0),
            ("-7", Base::Any, -7),
            ("+7", Base::Decimal, 7),
            ("0x1F", Base::Any, 31),
            ("0b11", Base::Any, 3),
            ("0o17", Base::Any, 15),
            ("017", Base::Any, 15),
            ("1_000", Base::Any, 1000),
            ("010", Base::Decimal, 10),
            ("7fffffffffffffff", Base::Hexadecimal, i64::MAX),
            ("-8000000000000000", Base::Hexadecimal, i64::MIN),
            ("9223372036854775807", Base::Decimal, i64::MAX),
        ];
        for (text, base, number) in good {
            assert_eq!(parse_int(text, base), Ok(number), "{text}");
        }
        for (text, base) in [
            ("", Base::Any),
            ("-", Base::Any),
            ("x", Base::Any),
            ("0x", Base::Any),
            ("1__0", Base::Any),
            ("1_0", Base::Decimal),
            ("0x1", Base::Hexadecimal),
            ("zz", Base::Hexadecimal),
            (" 1", Base::Decimal),
        ] {
            let expected = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
            assert_eq!(parse_int(text, base), Err(expected));
        }
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "999999999999999999999999999999999999999999",
        ] {
            let expected = format!("strconv.ParseInt: parsing {text:?}: value out of range");
            assert_eq!(parse_int(text, Base::Decimal), Err(expected));
        }
    }

    #[test]
    fn lease_ids() {
        assert_eq!(lease_id(0x77), "0000000000000077");
        assert_eq!(lease_id(i64::MAX), "7fffffffffffffff");
        assert_eq!(lease_id(-1), "-000000000000001");
        assert_eq!(lease_id(i64::MIN), "-8000000000000000");
    }

    #[test]
    fn bools() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        assert_eq!(
            parse_bool("yes"),
            Err(r#"strconv.ParseBool: parsing "yes": invalid syntax"#.into())
        );
    }

    #[test]
    fn ids() {
        assert_eq!(parse_id("ffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(parse_id("00B5cf"), Ok(0xb5cf));
        let fail = |text: &str, why| Err(format!("strconv.ParseUint: parsing {text:?}: {why}"));
        for text in ["", "zz", "0x1", "-1", "+1", " 1"] {
            assert_eq!(parse_id(text), fail(text, "invalid syntax"));
        }
        assert_eq!(parse_id("12345678901234567"), fail("12345678901234567", "value out of range"));
    }
}
