//! The membership's own encoding, in log entries, checkpoints and snapshot headers. Drawn in `docs/formats/peer.md`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_machine::MemberSeed;
use kvorum_proto::peer;
use kvorum_types::MemberId;
use prost::Message;

use crate::types::{Membership, Node};

/// Bytes that are not an encoded membership.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    #[error("not a membership: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("a membership without voters")]
    NoVoters,
    #[error("a membership with a voter that is no member")]
    UnknownVoter,
}

pub(crate) fn encode(membership: &Membership) -> Bytes {
    let voters = |ids: &BTreeSet<u64>| peer::Voters { ids: ids.iter().copied().collect() };
    let node = |(id, node): (&u64, &Node)| peer::Node {
        id: *id,
        peer_urls: node.peer_urls.clone(),
        name: node.name.clone(),
    };
    let encoded = peer::Membership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        nodes: membership.nodes().map(node).collect(),
    };
    Bytes::from(encoded.encode_to_vec())
}

pub(crate) fn decode(bytes: Bytes) -> Result<Membership, MembershipError> {
    let decoded = peer::Membership::decode(bytes)?;
    if decoded.configs.is_empty() || decoded.configs.iter().any(|config| config.ids.is_empty()) {
        return Err(MembershipError::NoVoters);
    }
    let configs = decoded
        .configs
        .into_iter()
        .map(|voters| voters.ids.into_iter().collect::<BTreeSet<u64>>())
        .collect();
    let nodes = decoded
        .nodes
        .into_iter()
        .map(|node| (node.id, Node { peer_urls: node.peer_urls, name: node.name }))
        .collect::<BTreeMap<u64, Node>>();
    Membership::new(configs, nodes).map_err(|_| MembershipError::UnknownVoter)
}

/// The members as the state machine shows them.
pub(crate) fn seeds(membership: &Membership) -> Vec<MemberSeed> {
    let voters = membership.voter_ids().collect::<BTreeSet<u64>>();
    membership
        .nodes()
        .map(|(id, node)| MemberSeed {
            id: MemberId(*id),
            name: node.name.clone(),
            peer_urls: node.peer_urls.clone(),
            is_learner: !voters.contains(id),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node { peer_urls: vec![format!("http://{name}:2380")], name: name.to_owned() }
    }

    #[test]
    fn a_membership_survives_its_encoding() {
        let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let nodes =
            BTreeMap::from([(1, node("a")), (2, node("b")), (3, node("c")), (9, node("d"))]);
        let membership = Membership::new(configs, nodes).expect("every voter is a member");
        let decoded = decode(encode(&membership)).expect("what was encoded decodes");
        assert_eq!(decoded, membership);
        let seeds = seeds(&decoded);
        assert_eq!(seeds.len(), 4);
        assert_eq!(seeds.iter().filter(|seed| seed.is_learner).count(), 1);
    }

    #[test]
    fn what_is_no_membership_is_refused() {
        assert!(matches!(decode(Bytes::from_static(&[0xff])), Err(MembershipError::Decode(_))));
        assert!(matches!(decode(Bytes::new()), Err(MembershipError::NoVoters)));
        let stranger =
            peer::Membership { configs: vec![peer::Voters { ids: vec![7] }], nodes: vec![] };
        let bytes = Bytes::from(stranger.encode_to_vec());
        assert!(matches!(decode(bytes), Err(MembershipError::UnknownVoter)));
    }
}
