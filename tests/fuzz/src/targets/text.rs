//! Texts as Go writes them, which the client's tool reads and writes: lengths of time, numbers, quoted strings, sizes.
//!
//! Input: the text.
//!
//! - What is read is written as text that is read the same.

/// The tool's own source: it is part of a program and of no library.
#[path = "../../../../client/src/bin/kvorumctl/go/mod.rs"]
#[allow(missing_docs, dead_code)]
mod go;

use go::number::{Base, parse_bool, parse_id, parse_int};

/// The target.
pub fn text(bytes: &[u8]) {
    check_quotes(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = go::duration::parse(text) {
        let written = go::duration::format(duration);
        assert_eq!(go::duration::parse(&written), Ok(duration), "{text:?} {written:?}");
    }
    for base in [Base::Any, Base::Decimal, Base::Hexadecimal] {
        let Ok(number) = parse_int(text, base) else { continue };
        assert_eq!(parse_int(&number.to_string(), Base::Decimal), Ok(number), "{text:?}");
        assert!(!go::size::format(number.unsigned_abs()).is_empty());
    }
    if let Ok(id) = parse_id(text) {
        assert_eq!(parse_id(&format!("{id:x}")), Ok(id));
    }
    if let Ok(flag) = parse_bool(text) {
        assert_eq!(parse_bool(&flag.to_string()), Ok(flag));
    }
}

fn check_quotes(bytes: &[u8]) {
    let quoted = go::quote::quoted(bytes);
    let read = go::quote::read_quoted(quoted.as_bytes());
    let (unquoted, rest) = read.unwrap_or_else(|error| panic!("{quoted}: {error}"));
    assert!(rest.is_empty(), "{quoted} is read up to {rest:?}");
    assert_eq!(unquoted, bytes, "{quoted}");
    if let Ok((read, rest)) = go::quote::read_quoted(bytes) {
        assert!(rest.len() < bytes.len());
        assert!(read.len() <= 4 * bytes.len(), "{read:?} of {bytes:?}");
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "1h30m0.5s",
        "300ms",
        "1.5h",
        "+3ns",
        "0",
        "1\u{b5}s",
        "9223372036s",
        "-17",
        "0x1F",
        "0b11",
        "1_000",
        "7fffffffffffffff",
        "9223372036854775807",
        "true",
        "T",
        "\"a\\x00\\n\\u1234\\U0001f600\\101\" rest",
        "`raw`",
        "\"\\\"\"",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
