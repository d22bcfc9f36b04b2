//! The part of a URL behind the question mark.

use http::Uri;

/// Names and values. Nothing is unescaped: no name or value that is asked for here needs escaping.
pub(super) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Query<'a> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect())
    }

    /// Whether the name is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| *found == name)
    }

    /// The first value of that name.
    pub(super) fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of that name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| *found == name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_told_apart() {
        let uri = Uri::from_static("/readyz?verbose&exclude=a&exclude=b&serializable=true&x=1=2");
        let query = Query::of(&uri);
        assert!(query.has("verbose") && !query.has("a") && !query.has(""));
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.first("serializable"), Some("true"));
        assert_eq!(query.first("x"), Some("1=2"));
        assert_eq!(query.first("verbose"), Some(""));
        assert!(!Query::of(&Uri::from_static("/readyz")).has("verbose"));
    }
}
