//! The URLs a member listens on and tells others about.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// A URL as etcd's flags take it: a scheme and an address, no path, no query.
///
/// - Ordered and shown by its text, because ids are derived from the sorted texts.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerUrl {
    text: String,
    scheme: Scheme,
    address: Address,
}

/// The four schemes etcd knows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// TCP.
    Http,
    /// TCP with TLS.
    Https,
    /// A Unix socket.
    Unix,
    /// A Unix socket with TLS.
    Unixs,
}

/// Where a [`ServerUrl`] points.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// A host name or IP address (without brackets) and a port.
    Tcp {
        /// May be empty, where the URL has only a port.
        host: String,
        /// 0 asks the system for a free one.
        port: u16,
    },
    /// A socket file.
    Unix(PathBuf),
}

/// Why a text is not a [`ServerUrl`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// Nothing was given where at least one URL is needed.
    #[error("no valid URLs given")]
    Missing,
    /// Another scheme, or none.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No port, a port that is no number, or a stray colon.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// Something follows the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// A Unix socket without a file.
    #[error("URL does not name a socket file: {0}")]
    Socket(String),
}

impl ServerUrl {
    /// A plain TCP URL.
    pub fn http(host: &str, port: u16) -> ServerUrl {
        let bracketed = host.parse::<Ipv6Addr>().is_ok();
        let text = if bracketed {
            format!("http://[{host}]:{port}")
        } else {
            format!("http://{host}:{port}")
        };
        let address = Address::Tcp { host: host.to_owned(), port };
        ServerUrl { text, scheme: Scheme::Http, address }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it points.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The URL as it was given, without blanks around it and with a lower-case scheme.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether connections to it are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// Whether a socket can be bound to it: etcd wants an IP address, `localhost` or a socket file.
    pub(super) fn is_bindable(&self) -> bool {
        match &self.address {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => host == "localhost" || host.parse::<IpAddr>().is_ok(),
        }
    }

    /// Whether others can be told to connect to it.
    pub(super) fn has_host(&self) -> bool {
        !matches!(&self.address, Address::Tcp { host, .. } if host.is_empty())
    }

    /// Reads a comma-separated list: sorted, each URL once, at least one.
    pub(super) fn parse_list(text: &str) -> Result<Vec<ServerUrl>, UrlError> {
        let mut urls = text.split(',').map(str::parse).collect::<Result<Vec<ServerUrl>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<ServerUrl, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Missing);
        }
        let (scheme, rest) =
            text.split_once(':').ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let scheme_text = scheme.to_ascii_lowercase();
        let scheme = match scheme_text.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let address = match scheme {
            Scheme::Http | Scheme::Https => parse_tcp(text, rest)?,
            Scheme::Unix | Scheme::Unixs => parse_socket(text, rest)?,
        };
        Ok(ServerUrl { text: format!("{scheme_text}:{rest}"), scheme, address })
    }
}

fn parse_tcp(text: &str, rest: &str) -> Result<Address, UrlError> {
    let host_port = || UrlError::HostPort(text.to_owned());
    let authority = rest.strip_prefix("//").ok_or_else(host_port)?;
    if authority.contains(['/', '?', '#', '@']) {
        return Err(UrlError::Path(text.to_owned()));
    }
    let (host, port) = authority.rsplit_once(':').ok_or_else(host_port)?;
    let port = port.parse::<u16>().map_err(|_| host_port())?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
        None if !host.contains(['[', ']', ':', ' ']) => host,
        _ => return Err(host_port()),
    };
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn parse_socket(text: &str, rest: &str) -> Result<Address, UrlError> {
    // `unix:///a/b` and `unix:/a/b` name /a/b; `unix://a` names a file in the working directory.
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(UrlError::Socket(text.to_owned()));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_etcd_reads_them() {
        let good = [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379),
            (" http://localhost:2380 ", "localhost", 2380),
            ("HTTPS://host.example:1", "host.example", 1),
            ("http://[::1]:2379", "::1", 2379),
            ("http://:2379", "", 2379),
        ];
        for (text, host, port) in good {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.address(), &Address::Tcp { host: host.to_owned(), port }, "{text}");
        }
        let socket: ServerUrl = "unix:///run/kvorum.sock".parse().unwrap();
        assert_eq!(socket.address(), &Address::Unix(PathBuf::from("/run/kvorum.sock")));
        assert_eq!("HTTPS://h:1".parse::<ServerUrl>().unwrap().as_str(), "https://h:1");
    }

    #[test]
    fn what_is_no_url_says_why() {
        let bad = [
            ("", "no valid URLs given"),
            ("127.0.0.1:2379", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:2379"),
            ("ftp://h:1", "URL scheme must be http, https, unix, or unixs: ftp://h:1"),
            ("http://h", "URL address does not have the form \"host:port\": http://h"),
            ("http://h:port", "URL address does not have the form \"host:port\": http://h:port"),
            ("http://h:70000", "URL address does not have the form \"host:port\": http://h:70000"),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            ("http://h:1/", "URL must not contain a path: http://h:1/"),
            ("http://h:1/p", "URL must not contain a path: http://h:1/p"),
            ("unix://", "URL does not name a socket file: unix://"),
        ];
        for (text, wanted) in bad {
            assert_eq!(text.parse::<ServerUrl>().unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_list_is_sorted_and_without_repeats() {
        let urls = ServerUrl::parse_list("http://b:1,http://a:1, http://b:1").unwrap();
        let texts: Vec<_> = urls.iter().map(ServerUrl::as_str).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
        assert_eq!(ServerUrl::parse_list("http://b:1,"), Err(UrlError::Missing));
    }

    #[test]
    fn built_urls_read_back_the_same() {
        for (host, port) in [("127.0.0.1", 1), ("::1", 2), ("localhost", 3)] {
            let url = ServerUrl::http(host, port);
            assert_eq!(url.as_str().parse(), Ok(url));
        }
    }
}
