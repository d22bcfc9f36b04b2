//! Quoted strings (Go's `%q`, and what `strconv.Unquote` and `fmt.Sscanf` read).

use std::fmt::Write;

/// `bytes` in double quotes, with everything escaped that is not printable UTF-8.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut out, c));
        for byte in chunk.invalid() {
            push_hex(&mut out, *byte);
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\0'..=' ' | '\x7f' if c != ' ' => push_hex(out, c as u8),
        _ if is_printable(c) => out.push(c),
        '\0'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes it"),
        _ => write!(out, "\\U{:08x}", u32::from(c)).expect("a String takes it"),
    }
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").expect("a String takes it");
}

/// Whether Go prints the character as it is. `str::escape_debug` escapes the same ones, apart from single quotes, and from
/// combining marks, which it escapes only at the start of a string.
fn is_printable(c: char) -> bool {
    let after_another: String = ['x', c].iter().collect();
    c == '\'' || !after_another.escape_debug().any(|escaped| escaped == '\\')
}

/// Reads a quoted string at the start of `input`: in double quotes with escapes, or in back quotes without. Returns its
/// content and what follows it.
pub fn read_quoted(input: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    match input.split_first() {
        Some((b'`', rest)) => {
            let end = rest.iter().position(|byte| *byte == b'`').ok_or("unexpected EOF")?;
            Ok((rest[..end].to_vec(), &rest[end + 1..]))
        }
        Some((b'"', rest)) => read_escaped(rest),
        Some(_) => Err("expected quoted string".into()),
        None => Err("unexpected EOF".into()),
    }
}

/// Reads up to the closing double quote.
fn read_escaped(mut input: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let mut content = Vec::new();
    loop {
        match input {
            [] => return Err("unexpected EOF".into()),
            [b'"', rest @ ..] => return Ok((content, rest)),
            [b'\n', ..] => return Err("invalid syntax".into()),
            [b'\\', rest @ ..] => input = read_escape(rest, &mut content)?,
            [byte, rest @ ..] => {
                content.push(*byte);
                input = rest;
            }
        }
    }
}

/// Reads what follows a backslash and returns what follows that.
fn read_escape<'a>(input: &'a [u8], content: &mut Vec<u8>) -> Result<&'a [u8], String> {
    let (kind, rest) = input.split_first().ok_or("unexpected EOF")?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => *kind,
        b'x' => return read_code(rest, 2, 16, content),
        b'u' => return read_code(rest, 4, 16, content),
        b'U' => return read_code(rest, 8, 16, content),
        b'0'..=b'7' => return read_code(input, 3, 8, content),
        _ => return Err("invalid syntax".into()),
    };
    content.push(simple);
    Ok(rest)
}

/// Reads a code of exactly `digits` digits. Two hexadecimal or three octal digits are a byte, more are a character.
fn read_code<'a>(
    input: &'a [u8],
    digits: usize,
    radix: u32,
    content: &mut Vec<u8>,
) -> Result<&'a [u8], String> {
    let (code, rest) = input.split_at_checked(digits).ok_or("unexpected EOF")?;
    let text = std::str::from_utf8(code).map_err(|_| "invalid syntax")?;
    let number = u32::from_str_radix(text, radix).map_err(|_| "invalid syntax")?;
    if digits <= 3 {
        content.push(u8::try_from(number).map_err(|_| "invalid syntax")?);
    } else {
        let c = char::from_u32(number).ok_or("invalid syntax")?;
        content.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::{quoted, read_quoted};

    #[test]
    fn quotes_as_go_does() {
        let cases: [(&[u8], &str); 9] = [
            (b"", r#""""#),
            (b"foo bar", r#""foo bar""#),
            (b"k\xff\xfe\"\t\x01", r#""k\xff\xfe\"\t\x01""#),
            (b"\x07\x08\x0c\n\r\x0b\\\x7f\x00", r#""\a\b\f\n\r\v\\\x7f\x00""#),
            ("\u{20ac}\u{1f600}".as_bytes(), "\"\u{20ac}\u{1f600}\""),
            ("\u{200b}\u{a0}\u{ad}".as_bytes(), r#""\u200b\u00a0\u00ad""#),
            ("\u{e000}\u{10ffff}".as_bytes(), r#""\ue000\U0010ffff""#),
            ("e\u{301}'".as_bytes(), "\"e\u{301}'\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quoted(bytes), expected);
        }
    }

    #[test]
    fn reads_what_go_writes() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for bytes in [&every_byte[..], "a\u{200b}\u{1f600}\"\\".as_bytes(), b""] {
            let text = quoted(bytes) + " rest";
            assert_eq!(read_quoted(text.as_bytes()), Ok((bytes.to_vec(), &b" rest"[..])));
        }
        let text = br#""\101\x42\u00e9\U0001f600""#;
        assert_eq!(read_quoted(text).unwrap().0, "AB\u{e9}\u{1f600}".as_bytes());
        assert_eq!(read_quoted(b"`a\\n\"`").unwrap().0, br#"a\n""#);
    }

    #[test]
    fn refuses_what_go_refuses() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "unexpected EOF"),
            (b"foo", "expected quoted string"),
            (b"'foo'", "expected quoted string"),
            (b"\"foo", "unexpected EOF"),
            (b"`foo", "unexpected EOF"),
            (br#""\q""#, "invalid syntax"),
            (br#""\xg0""#, "invalid syntax"),
            (br#""\ud800""#, "invalid syntax"),
        ];
        for (text, expected) in cases {
            assert_eq!(read_quoted(text), Err(expected.into()), "{text:?}");
        }
    }
}
