//! What a client is told when it is made.

use std::fmt;
use std::time::Duration;

use tonic::transport::Endpoint;

use crate::error::Error;

/// How long a call may take, unless told otherwise. What etcdctl allows a command.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take. What etcdctl allows.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a silent connection with open calls is trusted, and how long its ping may take. What Kubernetes has.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Go's client refuses to send more, so that a server of default settings never sees a request it must refuse.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What gRPC can carry at all: a range may be large.
const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// A user and the password, from which the client gets its tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// In clear; it is sent to the server, which keeps a hash.
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where the servers are and how patient the client is.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, `http://host:port` or `unix:///path`, one or more.
    pub endpoints: Vec<String>,
    /// The whole of a call: waiting for a connection, sending, every retry. Default 5 s. A watch that waits so long (a second
    /// at least) to be created is tried at another endpoint.
    pub request_timeout: Duration,
    /// One attempt to connect to one endpoint. Default 2 s.
    pub dial_timeout: Duration,
    /// How long a connection with an open call, as every watch is, may be silent before it is pinged; `None` for never.
    /// Default 30 s, as Kubernetes has it. Servers take pings more frequent than every 5 s amiss.
    pub keep_alive_interval: Option<Duration>,
    /// How long a ping may go unanswered before the connection is given up, and a watch goes on elsewhere. Default 10 s.
    pub keep_alive_timeout: Duration,
    /// Who the client is, where servers ask.
    pub credentials: Option<Credentials>,
    /// Larger requests are refused without being sent. Default 2 MiB.
    pub request_bytes_max: usize,
    /// Larger answers are refused. Default 2 GiB - 1, which is all gRPC allows.
    pub response_bytes_max: usize,
}

impl Config {
    /// The default settings for these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            request_timeout: REQUEST_TIMEOUT,
            dial_timeout: DIAL_TIMEOUT,
            keep_alive_interval: Some(KEEP_ALIVE_INTERVAL),
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            credentials: None,
            request_bytes_max: REQUEST_BYTES_MAX,
            response_bytes_max: RESPONSE_BYTES_MAX,
        }
    }

    /// Every endpoint in the form the transport wants.
    pub(crate) fn transport_endpoints(&self) -> Result<Vec<Endpoint>, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        self.endpoints.iter().map(|endpoint| self.transport_endpoint(endpoint)).collect()
    }

    fn transport_endpoint(&self, endpoint: &str) -> Result<Endpoint, Error> {
        let invalid = |reason: String| Error::InvalidEndpoint { endpoint: endpoint.into(), reason };
        let uri = endpoint_uri(endpoint).map_err(|reason| invalid(reason.into()))?;
        let mut transport = Endpoint::from_shared(uri)
            .map_err(|error| invalid(error.to_string()))?
            .connect_timeout(self.dial_timeout)
            .tcp_nodelay(true);
        if let Some(interval) = self.keep_alive_interval {
            transport = transport
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(self.keep_alive_timeout);
        }
        Ok(transport)
    }
}

/// The URI of an endpoint as people write it.
fn endpoint_uri(endpoint: &str) -> Result<String, &'static str> {
    let endpoint = endpoint.trim();
    match endpoint.split_once("://") {
        _ if endpoint.is_empty() => Err("it is empty"),
        Some(("http" | "unix", "")) => Err("it names no host"),
        Some(("http" | "unix", _)) => Ok(endpoint.to_string()),
        Some(("https" | "unixs", _)) => Err("TLS is not supported yet"),
        Some(_) => Err("only http:// and unix:// are known"),
        None if endpoint.starts_with("unix:") => Ok(endpoint.to_string()),
        None => Ok(format!("http://{endpoint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Credentials, endpoint_uri};
    use crate::error::Error;

    #[test]
    fn endpoints_as_people_write_them() {
        assert_eq!(endpoint_uri("127.0.0.1:2379").unwrap(), "http://127.0.0.1:2379");
        assert_eq!(endpoint_uri(" localhost:2379 ").unwrap(), "http://localhost:2379");
        assert_eq!(endpoint_uri("http://[::1]:2379/").unwrap(), "http://[::1]:2379/");
        assert_eq!(endpoint_uri("unix:///run/kv.sock").unwrap(), "unix:///run/kv.sock");
        for refused in ["", "https://a:1", "unixs://a", "ftp://a", "http://"] {
            assert!(endpoint_uri(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_bad_endpoint_is_named() {
        let error = Config::new(["127.0.0.1:1", "https://b:2"]).transport_endpoints().unwrap_err();
        assert_eq!(error.to_string(), r#"bad endpoint "https://b:2": TLS is not supported yet"#);
        assert!(matches!(
            Config::new([""; 0]).transport_endpoints().unwrap_err(),
            Error::NoEndpoints
        ));
    }

    #[test]
    fn silent_connections_are_pinged_unless_told_otherwise() {
        let config = Config::new(["a"]);
        let seconds = [config.keep_alive_interval.unwrap(), config.keep_alive_timeout];
        assert_eq!(seconds.map(|time| time.as_secs()), [30, 10]);
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials = Credentials { user: "ada".into(), password: "secret".into() };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("ada") && !shown.contains("secret"), "{shown}");
    }
}
