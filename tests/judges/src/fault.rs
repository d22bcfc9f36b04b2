//! What a judge says when something is wrong.

use std::fmt;

/// A rule that was broken, and what shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault<R> {
    /// Which rule.
    pub rule: R,
    /// How it was broken, in one sentence.
    pub what: String,
    /// The operations and messages that contradict each other, in words.
    pub between: Vec<String>,
}

impl<R> Fault<R> {
    pub(crate) fn new(rule: R, what: impl Into<String>) -> Fault<R> {
        Fault { rule, what: what.into(), between: Vec::new() }
    }

    pub(crate) fn between<T: fmt::Display>(mut self, all: impl IntoIterator<Item = T>) -> Fault<R> {
        self.between.extend(all.into_iter().map(|one| one.to_string()));
        self
    }
}

impl<R: fmt::Debug> fmt::Display for Fault<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.rule, self.what)?;
        self.between.iter().try_for_each(|one| write!(out, "\n    {one}"))
    }
}
