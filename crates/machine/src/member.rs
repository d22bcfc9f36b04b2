//! Who belongs to the cluster, as the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvorum_proto::entry::MemberAttributes;
use kvorum_types::MemberId;

use crate::outcome::CommandError;

/// A member, as clients see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// The member's id.
    pub id: MemberId,
    /// Its name; empty until it has started for the first time, unless it was there from the beginning.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it follows the log without a vote.
    pub is_learner: bool,
}

/// What a change of the membership says about one member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MemberSeed {
    /// The member's id.
    pub id: MemberId,
    /// The name it was configured with, where that is known; the name it tells about itself later wins.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it follows the log without a vote.
    pub is_learner: bool,
}

/// The members and those that were.
///
/// - No id is in both: one that was removed does not come back.
/// - Both are shared with readers, and replaced by a copy when they change, which is seldom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    /// Sorted by id.
    pub(crate) current: Arc<Vec<Member>>,
    pub(crate) removed: Arc<BTreeSet<MemberId>>,
}

impl Members {
    /// Takes over a new membership. What members have told about themselves is kept.
    pub(crate) fn replace(&mut self, seeds: Vec<MemberSeed>) {
        let mut known: BTreeMap<MemberId, Member> =
            self.current.iter().map(|member| (member.id, member.clone())).collect();
        let mut removed = BTreeSet::clone(&self.removed);
        let mut current = BTreeMap::new();
        for seed in seeds {
            if removed.contains(&seed.id) {
                continue;
            }
            let mut member = known.remove(&seed.id).unwrap_or_default();
            member.id = seed.id;
            member.peer_urls = seed.peer_urls;
            member.is_learner = seed.is_learner;
            if member.name.is_empty() {
                member.name = seed.name;
            }
            current.insert(seed.id, member);
        }
        removed.extend(known.into_keys().filter(|id| !current.contains_key(id)));
        self.current = Arc::new(current.into_values().collect());
        self.removed = Arc::new(removed);
    }

    /// Notes what a member tells about itself.
    pub(crate) fn set_attributes(
        &mut self,
        attributes: MemberAttributes,
    ) -> Result<(), CommandError> {
        let id = MemberId(attributes.member_id);
        let current = Arc::make_mut(&mut self.current);
        let place = current
            .binary_search_by_key(&id, |member| member.id)
            .map_err(|_| CommandError::MemberNotFound)?;
        let member = current.get_mut(place).ok_or(CommandError::MemberNotFound)?;
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(id: u64, name: &str) -> MemberSeed {
        let peer_urls = vec![format!("http://peer-{id}")];
        MemberSeed { id: MemberId(id), name: name.to_owned(), peer_urls, is_learner: id > 9 }
    }

    fn attributes(id: u64, name: &str) -> MemberAttributes {
        let client_urls = vec![format!("http://{name}")];
        MemberAttributes { member_id: id, name: name.to_owned(), client_urls }
    }

    #[test]
    fn a_change_of_membership_keeps_what_members_told_and_remembers_the_removed() {
        let mut members = Members::default();
        members.replace(vec![seed(3, "c"), seed(1, "a"), seed(12, "")]);
        members.set_attributes(attributes(1, "alpha")).unwrap();
        members.replace(vec![seed(1, "a"), seed(12, "")]);

        let names: Vec<_> = members.current.iter().map(|m| (m.id.0, m.name.as_str())).collect();
        assert_eq!(names, [(1, "alpha"), (12, "")]);
        assert_eq!(members.current[0].client_urls, ["http://alpha"]);
        assert!(members.current[1].is_learner);
        assert_eq!(*members.removed, BTreeSet::from([MemberId(3)]));
    }

    #[test]
    fn a_removed_id_does_not_come_back() {
        let mut members = Members::default();
        members.replace(vec![seed(1, ""), seed(2, "")]);
        members.replace(vec![seed(1, "")]);
        members.replace(vec![seed(1, ""), seed(2, "")]);
        assert_eq!(members.current.len(), 1);
        assert_eq!(members.set_attributes(attributes(2, "b")), Err(CommandError::MemberNotFound));
    }
}
