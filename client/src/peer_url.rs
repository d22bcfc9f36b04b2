//! The URLs of a member's peers, checked before they are sent, in the words of Go's package net/url and of etcd.

use crate::error::Error;

/// Checks a list of peer URLs as etcd's client does: each has a scheme that etcd knows and, but for sockets, a host and a
/// port and nothing after it.
pub(crate) fn check(urls: &[String]) -> Result<(), Error> {
    let refused = |reason: String| Err(Error::InvalidPeerUrl { reason });
    if urls.is_empty() {
        return refused("no valid URLs given".into());
    }
    urls.iter().try_for_each(|url| check_one(url.trim()).or_else(refused))
}

fn check_one(url: &str) -> Result<(), String> {
    let unparsable = |reason: &str| Err(format!("parse {url:?}: {reason}"));
    if url.chars().any(|c| c.is_ascii_control()) {
        return unparsable("net/url: invalid control character in URL");
    }
    let text = url.split('#').next().unwrap_or_default();
    let (scheme, rest) = match scheme(text) {
        Ok(split) => split,
        Err(reason) => return unparsable(reason),
    };
    let rest = rest.split('?').next().unwrap_or_default();
    let is_path = scheme.is_empty() && !rest.starts_with('/');
    if is_path && rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
        return unparsable("first path segment in URL cannot contain colon");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(port) = port(host)
        && !port.bytes().all(|digit| digit.is_ascii_digit())
    {
        return unparsable(&format!("invalid port {:?} after host", format!(":{port}")));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "unix" | "unixs" => Ok(()),
        "http" | "https" if !has_host_and_port(host) => {
            Err(format!("URL address does not have the form \"host:port\": {url}"))
        }
        "http" | "https" if !path.is_empty() => Err(format!("URL must not contain a path: {url}")),
        "http" | "https" => Ok(()),
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
}

/// The scheme, empty if there is none, and what follows its colon.
fn scheme(text: &str) -> Result<(&str, &str), &'static str> {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match text.find(|c| !is_scheme(c)) {
        Some(0) if text.starts_with(':') => Err("missing protocol scheme"),
        Some(end)
            if text[end..].starts_with(':')
                && text.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            Ok((&text[..end], &text[end + 1..]))
        }
        _ => Ok(("", text)),
    }
}

/// What follows the last colon behind the host.
fn port(host: &str) -> Option<&str> {
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    behind.rsplit_once(':').map(|(_, port)| port)
}

/// Whether there is exactly one colon outside of brackets.
fn has_host_and_port(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(_, behind)| behind.starts_with(':')),
        None => host.matches(':').count() == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    // The texts are what etcdctl 3.5.1 printed.
    #[test]
    fn urls_are_refused_in_etcds_words() {
        let cases = [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:2380", "URL scheme must be http, https, unix, or unixs: localhost:2380"),
            (
                "ftp://127.0.0.1:22",
                "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:22",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            ("http://::1:80", "URL address does not have the form \"host:port\": http://::1:80"),
            ("http://127.0.0.1:1/path", "URL must not contain a path: http://127.0.0.1:1/path"),
            (
                "http://foo.bar:abc",
                "parse \"http://foo.bar:abc\": invalid port \":abc\" after host",
            ),
            (
                "127.0.0.1:2380",
                "parse \"127.0.0.1:2380\": first path segment in URL cannot contain colon",
            ),
            ("://a", "parse \"://a\": missing protocol scheme"),
        ];
        for (url, text) in cases {
            let error = check(&["http://127.0.0.1:1".into(), url.into()]).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        assert_eq!(check(&[]).unwrap_err().to_string(), "no valid URLs given");
        for url in [
            "http://127.0.0.1:2380",
            " https://[::1]:2380 ",
            "unix:///run/peer",
            "http://localhost:0",
        ] {
            assert!(check(&[url.into()]).is_ok(), "{url}");
        }
    }
}
