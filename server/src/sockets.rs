//! The sockets that a member listens on.

use std::io;

use crate::builder::Builder;
use crate::config::ServerUrl;
use crate::failure::StartError;
use crate::socket::{BoundListener, Listener};

/// A member's sockets, before anything is answered on them.
pub(crate) struct Sockets {
    pub(crate) clients: Vec<BoundListener>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) peers: Vec<BoundListener>,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) metrics: Vec<BoundListener>,
    pub(crate) metrics_urls: Vec<String>,
}

impl Sockets {
    pub(crate) fn bind(builder: &Builder) -> Result<Sockets, StartError> {
        let config = &builder.config;
        let (clients, client_urls) = bind(&config.listen_client_urls, &builder.client_listeners)?;
        let (peers, peer_urls) = bind(&config.listen_peer_urls, &builder.peer_listeners)?;
        let (metrics, metrics_urls) = bind(&config.listen_metrics_urls, &[])?;
        Ok(Sockets { clients, client_urls, peers, peer_urls, metrics, metrics_urls })
    }
}

fn bind(
    urls: &[ServerUrl],
    given: &[std::net::TcpListener],
) -> Result<(Vec<BoundListener>, Vec<String>), StartError> {
    let failed = |url: &str| {
        let url = url.to_owned();
        move |source: io::Error| StartError::Listen { url, source }
    };
    let mut bound = Vec::new();
    for url in urls {
        bound.push(BoundListener::bind(url.address()).map_err(failed(url.as_str()))?);
    }
    for listener in given {
        let taken = listener.try_clone().and_then(BoundListener::from_std);
        bound.push(taken.map_err(failed("a socket handed over"))?);
    }
    let urls = bound.iter().map(BoundListener::url).collect::<io::Result<Vec<_>>>();
    Ok((bound, urls.map_err(failed("a bound socket"))?))
}

/// Begins to accept, on the runtime this is called in.
pub(crate) fn listen(bound: BoundListener) -> Result<Listener, StartError> {
    let url = bound.url().unwrap_or_default();
    Listener::new(bound).map_err(|source| StartError::Listen { url, source })
}

/// Where clients are told to connect.
pub(crate) fn advertised(configured: &[ServerUrl], bound: &[String]) -> Vec<String> {
    match configured {
        [] => bound.to_vec(),
        configured => configured.iter().map(|url| url.as_str().to_owned()).collect(),
    }
}
