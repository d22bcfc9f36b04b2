//! Joining a cluster that runs: `--initial-cluster-state existing` and no log yet.
//!
//! The operator has added the member to the cluster before (`member add`), and lists all members, this one among them, in
//! `--initial-cluster`. What the member does not know is its id: the cluster chose it. So it asks the other members it
//! finds in the list, one after the other, who belongs to the cluster, and is the one at its own addresses. Who is asked
//! makes sure first that it knows of all that was decided, and asks all others what they have seen of who is yet to tell
//! that it started. Without a leader it can say of a member that it ran before, and of none that it did not.
//!
//! | what is found | answer |
//! |---|---|
//! | no member answers, or none that has a leader | refused |
//! | the list has more members than the cluster, or fewer | refused |
//! | a member of the cluster is not in the list | refused |
//! | this member has told clients where it is, or was seen with a log: it ran before | refused: what it promised is lost with its log |
//! | more learners than --max-learners | refused |

use std::time::Duration;

use kvorum_consensus::InitialMember;
use kvorum_pool::BufferPool;
use kvorum_proto::peer::{DiscoverReply, DiscoveredMember};
use kvorum_types::{ClusterId, MemberId};
use tokio::time::timeout;
use tracing::warn;

use crate::CoreMember;
use crate::config::{Config, ServerUrl};
use crate::peer::discover;

/// How long a member that tells of its cluster makes sure first that it leaves out nothing: less than it is waited for.
const CERTAIN_TIME_MAX: Duration = Duration::from_secs(4);

/// Why a member cannot join. The first words are etcd's.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody of the cluster could be asked.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: \
         {reasons}"
    )]
    NoAnswer {
        /// What became of each question.
        reasons: String,
    },
    /// More members are listed than there are, or fewer.
    #[error(
        "error validating peerURLs {members}: member count is unequal: --initial-cluster has {listed_count}, the \
         cluster {count}"
    )]
    CountsDiffer {
        /// The cluster's members.
        members: String,
        /// How many are listed.
        listed_count: usize,
        /// How many there are.
        count: usize,
    },
    /// A member of the cluster is not listed.
    #[error(
        "error validating peerURLs {members}: PeerURLs: no match found for existing member ({id}, [{urls}])"
    )]
    NoMatch {
        /// The cluster's members.
        members: String,
        /// The one that is not listed.
        id: MemberId,
        /// Where it is.
        urls: String,
    },
    /// The member ran before and has lost its log.
    #[error(
        "member {id} has already been started, but its log is gone: remove it from the cluster and add it again"
    )]
    Started {
        /// Its id.
        id: MemberId,
    },
    /// More learners than this member allows.
    #[error("membership: too many learner members in cluster: {count}, --max-learners is {most}")]
    TooManyLearners {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Who a member is that has joined.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Joined {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    /// All members, this one among them.
    pub(crate) members: Vec<InitialMember>,
}

/// Finds out who this member is, from the others that its configuration names.
pub(crate) async fn join(config: &Config, pool: &BufferPool) -> Result<Joined, JoinError> {
    let others = config.initial_cluster.members().filter(|(name, _)| *name != config.name);
    let mut urls = others.flat_map(|(_, urls)| urls).collect::<Vec<_>>();
    urls.sort();
    let mut reasons = Vec::new();
    for url in urls {
        match discover(url, pool).await {
            Ok(reply) if reply.members.is_empty() => {
                reasons.push(format!("{url}: it knows no members yet"));
            }
            Ok(reply) => match find_self(config, &reply) {
                Err(started @ JoinError::Started { .. }) => return Err(started),
                found if reply.certain => return found,
                Ok(_) | Err(_) => reasons.push(format!("{url}: it knows no leader to make sure")),
            },
            Err(error) => {
                warn!(%url, %error, "cannot ask for the members of the cluster");
                reasons.push(format!("{url}: {error}"));
            }
        }
    }
    Err(JoinError::NoAnswer { reasons: reasons.join("; ") })
}

/// Compares what the operator listed with what the cluster says.
fn find_self(config: &Config, reply: &DiscoverReply) -> Result<Joined, JoinError> {
    let listed = config.initial_cluster.members().collect::<Vec<_>>();
    let members = || reply.members.iter().map(shown).collect::<Vec<_>>().join(",");
    if listed.len() != reply.members.len() {
        let (listed_count, count) = (listed.len(), reply.members.len());
        return Err(JoinError::CountsDiffer { members: members(), listed_count, count });
    }
    let mut own = None;
    for member in &reply.members {
        let matching = listed.iter().find(|(_, urls)| is_at(member, urls));
        let Some((name, _)) = matching else {
            let (id, urls) = (MemberId(member.id), member.peer_urls.join(" "));
            return Err(JoinError::NoMatch { members: members(), id, urls });
        };
        if *name == config.name {
            own = Some(member);
        }
    }
    // As many names as members, and two members at one address there cannot be: one of them is this.
    let Some(own) = own else {
        let urls = config.initial_cluster.urls_of(&config.name).unwrap_or_default();
        let urls = urls.iter().map(ServerUrl::as_str).collect::<Vec<_>>().join(" ");
        return Err(JoinError::NoMatch { members: members(), id: MemberId::default(), urls });
    };
    let (member, most) = (MemberId(own.id), config.membership.max_learners);
    if !own.client_urls.is_empty() || own.has_log {
        return Err(JoinError::Started { id: member });
    }
    let count = reply.members.iter().filter(|member| member.is_learner).count();
    if count > most {
        return Err(JoinError::TooManyLearners { count, most });
    }
    let members = reply.members.iter().map(|member| InitialMember {
        id: MemberId(member.id),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
    });
    Ok(Joined { cluster: ClusterId(reply.cluster_id), member, members: members.collect() })
}

fn is_at(member: &DiscoveredMember, listed: &[ServerUrl]) -> bool {
    let urls = member.peer_urls.iter().map(|url| url.parse()).collect::<Result<Vec<_>, _>>();
    urls.is_ok_and(|mut urls| {
        urls.sort();
        ServerUrl::are_same(listed, &urls)
    })
}

fn shown(member: &DiscoveredMember) -> String {
    format!("{}=[{}]", MemberId(member.id), member.peer_urls.join(" "))
}

/// What a member tells of its cluster.
pub(crate) async fn tell(member: &CoreMember) -> DiscoverReply {
    let found = timeout(CERTAIN_TIME_MAX, make_sure(member)).await;
    let (members, certain) = match found {
        Ok(Some(members)) => (members, true),
        Ok(None) | Err(_) => (known(member), false),
    };
    DiscoverReply { cluster_id: member.status().cluster.0, members, certain }
}

/// The members as they are known here.
fn known(member: &CoreMember) -> Vec<DiscoveredMember> {
    let members = member.reader().members();
    let told = members.iter().map(|member| DiscoveredMember {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
        has_log: !member.client_urls.is_empty(),
    });
    told.collect()
}

/// The members as a leader confirms them, and as all others have seen them; none without a leader.
async fn make_sure(member: &CoreMember) -> Option<Vec<DiscoveredMember>> {
    member.read_barrier().await.ok()?;
    let mut members = known(member);
    for known in members.iter_mut().filter(|known| !known.has_log) {
        known.has_log = member.has_seen_log(MemberId(known.id)).await?;
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InitialCluster;

    fn config(name: &str, cluster: &str) -> Config {
        let mut config = crate::Server::builder().name(name).config;
        config.initial_cluster = cluster.parse::<InitialCluster>().unwrap();
        config
    }

    fn member(id: u64, urls: &[&str], client_url: Option<&str>) -> DiscoveredMember {
        DiscoveredMember {
            id,
            name: format!("m{id}"),
            peer_urls: urls.iter().map(ToString::to_string).collect(),
            client_urls: client_url.iter().map(ToString::to_string).collect(),
            is_learner: false,
            has_log: false,
        }
    }

    fn cluster() -> DiscoverReply {
        let members = vec![
            member(0xa, &["http://10.0.0.1:1"], Some("http://10.0.0.1:2")),
            member(0xb, &["http://10.0.0.2:1", "http://10.0.0.2:3"], Some("http://10.0.0.2:2")),
            member(0xc, &["http://10.0.0.3:1"], None),
        ];
        DiscoverReply { cluster_id: 9, members, certain: true }
    }

    const LISTED: &str =
        "a=http://10.0.0.1:1,b=http://10.0.0.2:3,b=http://10.0.0.2:1,c=http://10.0.0.3:1";

    #[test]
    fn a_member_is_the_one_at_its_own_addresses() {
        let joined = find_self(&config("c", LISTED), &cluster()).unwrap();
        assert_eq!((joined.cluster, joined.member), (ClusterId(9), MemberId(0xc)));
        let ids = joined.members.iter().map(|member| member.id.0).collect::<Vec<_>>();
        assert_eq!(ids, [0xa, 0xb, 0xc]);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_etcds_words() {
        let refusal = |name: &str, listed: &str, reply: &DiscoverReply| {
            find_self(&config(name, listed), reply).unwrap_err().to_string()
        };
        let members =
            "a=[http://10.0.0.1:1],b=[http://10.0.0.2:1 http://10.0.0.2:3],c=[http://10.0.0.3:1]";
        let fewer = LISTED.rsplit_once(',').unwrap().0;
        assert_eq!(
            refusal("a", fewer, &cluster()),
            format!(
                "error validating peerURLs {members}: member count is unequal: --initial-cluster has 2, the cluster 3"
            )
        );
        let other = LISTED.replace("10.0.0.2:3", "10.0.0.2:4");
        assert_eq!(
            refusal("c", &other, &cluster()),
            format!(
                "error validating peerURLs {members}: PeerURLs: no match found for existing member (b, \
                 [http://10.0.0.2:1 http://10.0.0.2:3])"
            )
        );
        assert_eq!(
            refusal("a", LISTED, &cluster()),
            "member a has already been started, but its log is gone: remove it from the cluster and add it again"
        );
        let mut seen = cluster();
        seen.members[2].has_log = true;
        assert_eq!(
            refusal("c", LISTED, &seen),
            "member c has already been started, but its log is gone: remove it from the cluster and add it again"
        );
        let mut learners = cluster();
        learners.members.iter_mut().for_each(|member| member.is_learner = true);
        assert_eq!(
            refusal("c", LISTED, &learners),
            "membership: too many learner members in cluster: 3, --max-learners is 1"
        );
    }
}
