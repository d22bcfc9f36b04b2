//! A line as words, the way a shell would see it.

use crate::go::quote::read_quoted;

/// Splits a line at spaces. A word in double quotes may hold spaces and escapes, one in single quotes holds what it holds;
/// a quote that is not closed is skipped.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        let (word, left) = match first {
            b'"' => match closing_quote(after) {
                Some(_) => {
                    let (word, left) = read_quoted(rest)?;
                    (Some(word), left)
                }
                None => (None, after),
            },
            b'\'' => match after.iter().position(|byte| *byte == b'\'') {
                Some(end) => (Some(after[..end].to_vec()), &after[end + 1..]),
                None => (None, after),
            },
            space if space.is_ascii_whitespace() => (None, after),
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (Some(rest[..end].to_vec()), &rest[end..])
            }
        };
        words.extend(word);
        rest = left;
    }
    Ok(words)
}

/// Where the double quote is that ends the word; one after a backslash does not.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words() {
        let cases: [(&str, &[&str]); 9] = [
            ("put a b", &["put", "a", "b"]),
            ("  put\ta  b ", &["put", "a", "b"]),
            (r#"put "a b" "c\"d\n""#, &["put", "a b", "c\"d\n"]),
            ("put 'a b' 'c\\n'", &["put", "a b", "c\\n"]),
            (r#"put "" ''"#, &["put", "", ""]),
            (r#"get a"b c"#, &["get", "a\"b", "c"]),
            (r#"get "open"#, &["get", "open"]),
            ("get 'open", &["get", "open"]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            let expected: Vec<Vec<u8>> =
                expected.iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(split(line.as_bytes()), Ok(expected), "{line}");
        }
        assert_eq!(split(br#"put "\q""#), Err("invalid syntax".into()));
    }
}
