//! The first members of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::ToSocketAddrs;
use std::str::FromStr;

use kvorum_types::{ClusterId, MemberId};

use super::error::ConfigError;
use super::identity::{cluster_id, member_id};
use super::model::{ClusterState, Config};
use super::settings::join;
use super::url::{Address, ServerUrl, UrlError};

/// The first members and where they can be reached: `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`.
///
/// - A name that is given several times has all the URLs given with it, sorted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<ServerUrl>>,
}

impl InitialCluster {
    /// A cluster of one.
    pub fn of_one(name: &str, peer_urls: Vec<ServerUrl>) -> InitialCluster {
        InitialCluster { members: BTreeMap::from([(name.to_owned(), peer_urls)]) }
    }

    /// A cluster of these members.
    pub fn new(members: impl IntoIterator<Item = (String, Vec<ServerUrl>)>) -> InitialCluster {
        InitialCluster { members: members.into_iter().collect() }
    }

    /// The members' names and URLs, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &[ServerUrl])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// The URLs of the member of that name.
    pub fn urls_of(&self, name: &str) -> Option<&[ServerUrl]> {
        self.members.get(name).map(Vec::as_slice)
    }

    /// The id of each member, by name.
    pub fn member_ids(&self, token: &str) -> BTreeMap<String, MemberId> {
        let id = |urls: &[ServerUrl]| {
            let urls: Vec<&str> = urls.iter().map(ServerUrl::as_str).collect();
            member_id(&urls, token, None)
        };
        self.members.iter().map(|(name, urls)| (name.clone(), id(urls))).collect()
    }

    /// The id of the cluster.
    pub fn cluster_id(&self, token: &str) -> ClusterId {
        let ids: Vec<MemberId> = self.member_ids(token).into_values().collect();
        cluster_id(&ids)
    }

    fn has_repeated_url(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.members.values().flatten().any(|url| !seen.insert(url))
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.members.iter().map(|(name, urls)| pairs(name, urls));
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for InitialCluster {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<InitialCluster, UrlError> {
        let mut members: BTreeMap<String, Vec<ServerUrl>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            let url = url.parse().map_err(|error| match error {
                UrlError::Missing => UrlError::Scheme(pair.to_owned()),
                other => other,
            })?;
            members.entry(name.to_owned()).or_default().push(url);
        }
        members.values_mut().for_each(|urls| urls.sort());
        Ok(InitialCluster { members })
    }
}

impl Config {
    /// Checks what only a member without a log depends on: that the first members include it, at the addresses it
    /// advertises, and no address twice.
    ///
    /// - A member that joins a running cluster announced its addresses when it was added, so they are not compared.
    /// - May resolve host names, which blocks.
    pub fn check_bootstrap(&self) -> Result<(), ConfigError> {
        let cluster = &self.initial_cluster;
        let Some(listed) = cluster.urls_of(&self.name) else {
            return Err(ConfigError::NoLocalMember(self.name.clone()));
        };
        if self.initial_cluster_state == ClusterState::New {
            self.check_advertised(listed)?;
        }
        if cluster.has_repeated_url() {
            return Err(ConfigError::DuplicateUrl(cluster.to_string()));
        }
        Ok(())
    }

    fn check_advertised(&self, listed: &[ServerUrl]) -> Result<(), ConfigError> {
        let advertised = &self.initial_advertise_peer_urls;
        if ServerUrl::are_same(listed, advertised) {
            return Ok(());
        }
        let missing_from = |these: &[ServerUrl], those: &[ServerUrl]| -> Vec<ServerUrl> {
            these.iter().filter(|url| !those.contains(url)).cloned().collect()
        };
        let missing = missing_from(listed, advertised);
        if !missing.is_empty() {
            let missing = pairs(&self.name, &missing);
            return Err(ConfigError::NotAdvertised { missing, urls: join(advertised) });
        }
        let missing = join(&missing_from(advertised, listed));
        Err(ConfigError::NotInCluster { missing, cluster: pairs(&self.name, listed) })
    }
}

fn pairs(name: &str, urls: &[ServerUrl]) -> String {
    urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

impl ServerUrl {
    /// Whether two sorted lists name the same addresses: literally, or once host names are resolved, which blocks.
    pub(crate) fn are_same(these: &[ServerUrl], those: &[ServerUrl]) -> bool {
        these.len() == those.len()
            && (these == those
                || these.iter().all(|url| those.iter().any(|other| is_same_address(url, other))))
    }
}

fn is_same_address(url: &ServerUrl, other: &ServerUrl) -> bool {
    if url == other {
        return true;
    }
    let (Address::Tcp { host, port }, Address::Tcp { host: other_host, port: other_port }) =
        (url.address(), other.address())
    else {
        return false;
    };
    let resolve = |host: &str, port: u16| -> BTreeSet<_> {
        (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
    };
    url.scheme() == other.scheme()
        && port == other_port
        && !resolve(host, *port).is_disjoint(&resolve(other_host, *other_port))
}
