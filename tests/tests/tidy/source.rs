//! A Rust file as the rules see it: its syntax, its tokens, and which of its lines are tests.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{Attribute, Item};

use crate::Finding;

/// One token outside of tests, as text.
///
/// - A group is its opening token, its content, its closing token.
/// - `::` is one token; every other punctuation is one token a character.
/// - A literal is the empty text: what stands in a string names nothing.
#[derive(Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A parsed file.
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
    pub syntax: syn::File,
    /// Without those in [`Source::test_lines`].
    pub tokens: Vec<Token>,
    /// The line ranges of items behind `#[cfg(test)]`, sorted, not overlapping.
    pub test_lines: Vec<RangeInclusive<usize>>,
    /// Whether the whole file is a test: under a `tests` folder, or a module behind `#[cfg(test)]`.
    pub is_test: bool,
}

impl Source {
    /// Reads `text`, which stands at `path`.
    pub fn parse(path: &str, text: String) -> Result<Source, Finding> {
        let failed = |line, error: String| Finding::new(path, line, format!("no Rust: {error}"));
        let syntax = syn::parse_file(&text)
            .map_err(|error| failed(error.span().start().line, error.to_string()))?;
        let stream: TokenStream =
            text.parse().map_err(|error: proc_macro2::LexError| failed(0, error.to_string()))?;
        let mut test_lines = Vec::new();
        collect_test_lines(&syntax.items, &mut test_lines);
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        tokens.retain(|token| !is_within(&test_lines, token.line));
        let is_test = path.starts_with("tests/") || path.contains("/tests/");
        Ok(Source { path: path.to_owned(), text, syntax, tokens, test_lines, is_test })
    }

    /// How many lines are left when those of tests are taken away.
    pub fn line_count_without_tests(&self) -> usize {
        let test_line_count: usize =
            self.test_lines.iter().map(|range| range.clone().count()).sum();
        self.text.lines().count().saturating_sub(test_line_count)
    }

    /// The folder of the package that this file belongs to: `crates/wal`, `server`, `tests`.
    pub fn package_folder(&self) -> &str {
        let depth = if self.path.starts_with("crates/") { 2 } else { 1 };
        let end = self.path.match_indices('/').nth(depth - 1).map_or(0, |(at, _)| at);
        &self.path[..end]
    }

    /// Where `pattern` stands in the tokens: the index of its first token, each time.
    pub fn find<'a>(&'a self, pattern: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        let windows = self.tokens.windows(pattern.len()).enumerate();
        windows
            .filter(move |(_, window)| window.iter().map(|token| &token.text).eq(pattern))
            .map(|(at, _)| at)
    }

    /// The text of the token at `at`; empty outside the file.
    pub fn token(&self, at: Option<usize>) -> &str {
        at.and_then(|at| self.tokens.get(at)).map_or("", |token| &token.text)
    }
}

/// Marks the files of modules that another file declares behind `#[cfg(test)]`.
pub fn mark_test_files(sources: &mut [Source]) {
    let mut stems = Vec::new();
    for source in sources.iter() {
        let folder = child_folder(&source.path);
        let modules = source.syntax.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => Some(module),
            _ => None,
        });
        stems.extend(
            modules
                .filter(|module| is_test_only(&module.attrs))
                .map(|m| format!("{folder}{}", m.ident)),
        );
    }
    for source in sources {
        let is_below = |stem: &String| match source.path.strip_prefix(stem.as_str()) {
            Some(rest) => rest == ".rs" || rest.starts_with('/'),
            None => false,
        };
        source.is_test |= stems.iter().any(is_below);
    }
}

/// The folder, with its `/`, in which the modules declared in the file at `path` stand.
fn child_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{folder}/"),
        _ => format!("{folder}/{}/", name.trim_end_matches(".rs")),
    }
}

fn collect_test_lines(items: &[Item], into: &mut Vec<RangeInclusive<usize>>) {
    for item in items {
        let Some(attributes) = attributes(item) else { continue };
        if is_test_only(attributes) {
            let span = item.span();
            into.push(span.start().line..=span.end().line);
        } else if let Item::Mod(module) = item
            && let Some((_, content)) = &module.content
        {
            collect_test_lines(content, into);
        }
    }
}

fn attributes(item: &Item) -> Option<&[Attribute]> {
    Some(match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return None,
    })
}

/// Whether `#[cfg(test)]` or `#[cfg(all(test, ...))]` is among `attributes`.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.meta.require_list().map(|list| list.tokens.to_string());
        condition.is_ok_and(|condition| {
            let condition = condition.replace(' ', "");
            condition == "test" || condition.starts_with("all(test")
        })
    })
}

fn is_within(ranges: &[RangeInclusive<usize>], line: usize) -> bool {
    ranges.iter().any(|range| range.contains(&line))
}

/// Appends the tokens of `stream`, groups opened. The walk keeps its own stack, as nesting has no limit in a source.
fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut stack: Vec<(proc_macro2::token_stream::IntoIter, Option<Token>)> =
        vec![(stream.into_iter(), None)];
    while let Some((rest, _)) = stack.last_mut() {
        let Some(tree) = rest.next() else {
            let (_, closing) = stack.pop().expect("the loop saw the top of the stack");
            into.extend(closing);
            continue;
        };
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                into.push(Token { text: open.to_owned(), line });
                let line = group.span_close().start().line;
                stack.push((
                    group.stream().into_iter(),
                    Some(Token { text: close.to_owned(), line }),
                ));
            }
            TokenTree::Ident(ident) => into.push(Token { text: ident.to_string(), line }),
            TokenTree::Literal(_) => into.push(Token { text: String::new(), line }),
            TokenTree::Punct(punct)
                if punct.as_char() == ':' && punct.spacing() == Spacing::Joint =>
            {
                into.push(Token { text: "::".to_owned(), line });
                let _second_colon = rest.next();
            }
            TokenTree::Punct(punct) => into.push(Token { text: punct.to_string(), line }),
        }
    }
}

/// A source for a rule's own test.
pub fn sample(path: &str, text: &str) -> Source {
    Source::parse(path, text.to_owned()).expect("the sample is Rust")
}

#[test]
fn lines_and_tokens_of_tests_are_told_from_the_rest() {
    let text = "fn a() { b::c(\"d\") }\n#[cfg(test)]\nmod tests {\n    fn e() {}\n}\n";
    let source = sample("crates/wal/src/log.rs", text);
    assert_eq!(source.test_lines, [2..=5]);
    assert_eq!(source.line_count_without_tests(), 1);
    let texts: Vec<&str> = source.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["fn", "a", "(", ")", "{", "b", "::", "c", "(", "", ")", "}"]);
    assert_eq!(source.package_folder(), "crates/wal");
}

#[test]
fn a_module_behind_cfg_test_marks_its_file() {
    let mut sources = vec![
        sample("crates/wal/src/log.rs", "#[cfg(test)]\nmod model;\nmod frame;\n"),
        sample("crates/wal/src/log/model.rs", ""),
        sample("crates/wal/src/log/frame.rs", ""),
        sample("crates/wal/tests/open.rs", ""),
    ];
    mark_test_files(&mut sources);
    let is_test: Vec<bool> = sources.iter().map(|source| source.is_test).collect();
    assert_eq!(is_test, [false, true, false, true]);
}
