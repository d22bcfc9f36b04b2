//! What may stand in a file as text: ASCII in code, and nothing that points outside the project.

use proc_macro2::{TokenStream, TokenTree};

use crate::Finding;
use crate::source::Source;

/// Words that name a place or a paper outside the project. They are put together here so that this file is clean.
const OUTSIDE: [&str; 8] = [
    concat!("sha", "red/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/", "plan"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("DESI", "GN.md"),
    concat!("DESI", "GN section"),
    concat!("STY", "LE.md"),
];

/// Files that came from elsewhere word for word.
const QUOTED_FILES: [&str; 1] = ["LICENSE"];

/// Finds words of [`OUTSIDE`], where they do not end a longer word.
pub fn names_nothing_outside(path: &str, content: &str) -> Vec<Finding> {
    if QUOTED_FILES.contains(&path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        for word in OUTSIDE {
            let starts = line.match_indices(word).map(|(at, _)| &line[..at]);
            let is_word =
                |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if starts.into_iter().any(is_word) {
                let what = format!(
                    "{word:?} points outside the project: say here what is needed from there"
                );
                findings.push(Finding::new(path, number, what));
            }
        }
    }
    findings
}

/// Code and comments are ASCII; only strings, shown to eyes, may hold more.
pub fn ascii_but_in_strings(source: &Source) -> Vec<Finding> {
    if source.text.is_ascii() {
        return Vec::new();
    }
    let stream: TokenStream = source.text.parse().expect("the source has been parsed before");
    let mut strings = Vec::new();
    collect_strings(stream, &source.text, &mut strings);
    let mut findings = Vec::new();
    let mut offset = 0;
    for (number, line) in (1..).zip(source.text.split_inclusive('\n')) {
        let foreign = line.char_indices().find(|(at, c)| {
            !c.is_ascii() && !strings.iter().any(|string| string.contains(&(offset + at)))
        });
        if let Some((_, c)) = foreign {
            let what =
                format!("{c:?} is not ASCII: code and comments are, only strings may hold more");
            findings.push(Finding::new(&source.path, number, what));
        }
        offset += line.len();
    }
    findings
}

/// The byte ranges of string and character literals; a doc comment is a literal too, but not one of these.
fn collect_strings(stream: TokenStream, text: &str, into: &mut Vec<std::ops::Range<usize>>) {
    let mut waiting = vec![stream];
    while let Some(stream) = waiting.pop() {
        for tree in stream {
            match tree {
                TokenTree::Group(group) => waiting.push(group.stream()),
                TokenTree::Literal(literal) => {
                    let range = literal.span().byte_range();
                    let is_comment =
                        text.get(range.clone()).is_none_or(|text| text.starts_with('/'));
                    into.extend((!is_comment).then_some(range));
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OUTSIDE, ascii_but_in_strings, names_nothing_outside};
    use crate::source::sample;

    #[test]
    fn a_word_that_points_outside_is_found_in_any_file() {
        for word in OUTSIDE {
            let found = names_nothing_outside("docs/a.md", &format!("one\nsee {word} there\n"));
            assert_eq!(found.len(), 1, "{word}");
            assert_eq!(found[0].line, 2);
        }
        assert!(names_nothing_outside("LICENSE", OUTSIDE[0]).is_empty());
        assert!(names_nothing_outside("docs/a.md", &format!("un{}", OUTSIDE[0])).is_empty());
    }

    #[test]
    fn a_foreign_letter_outside_a_string_is_found() {
        let lines = |text: &str| -> Vec<usize> {
            ascii_but_in_strings(&sample("server/src/a.rs", text)).iter().map(|f| f.line).collect()
        };
        assert_eq!(lines("// \u{2192}\nfn a() {}\n"), [1]);
        assert_eq!(lines("/// \u{2192}\nfn a() {}\n"), [1]);
        assert_eq!(lines("fn a() { b(\"\u{2192}\") } // \u{2192}\n"), [1]);
        assert!(lines("fn a() { b(\"\u{2192}\", '\u{2192}') }\n").is_empty());
    }
}
