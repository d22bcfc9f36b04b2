//! Who belongs to the cluster, as the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvorum_proto::entry::{MemberAdd, MemberAttributes, MemberPromote, MemberRemove, MemberUpdate};
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
    /// The members a cluster begins with. From then on only commands change them.
    pub(crate) fn found(&mut self, seeds: Vec<MemberSeed>) -> bool {
        if !self.current.is_empty() || !self.removed.is_empty() {
            return false;
        }
        let member = |seed: MemberSeed| Member {
            id: seed.id,
            name: seed.name,
            peer_urls: seed.peer_urls,
            client_urls: Vec::new(),
            is_learner: seed.is_learner,
        };
        let members: BTreeMap<_, _> =
            seeds.into_iter().map(|seed| (seed.id, member(seed))).collect();
        self.current = Arc::new(members.into_values().collect());
        true
    }

    /// A new member. A learner must leave no more than `learners_max` of them.
    pub(crate) fn add(&mut self, add: MemberAdd) -> Result<(), CommandError> {
        let id = MemberId(add.member_id);
        if self.removed.contains(&id) {
            return Err(CommandError::MemberNotFound);
        }
        let Err(place) = self.place(id) else { return Err(CommandError::MemberExists) };
        self.check_urls(id, &add.peer_urls)?;
        let learners_max = usize::try_from(add.learners_max).unwrap_or(usize::MAX);
        if add.is_learner && self.current.iter().filter(|m| m.is_learner).count() >= learners_max {
            return Err(CommandError::TooManyLearners);
        }
        let (peer_urls, is_learner) = (add.peer_urls, add.is_learner);
        let member = Member { id, peer_urls, is_learner, ..Member::default() };
        Arc::make_mut(&mut self.current).insert(place, member);
        Ok(())
    }

    /// A member leaves. Its id does not come back.
    pub(crate) fn remove(&mut self, remove: MemberRemove) -> Result<(), CommandError> {
        let id = MemberId(remove.member_id);
        let place = self.place(id).map_err(|_| CommandError::MemberNotFound)?;
        let has_other_voters = self.current.iter().any(|m| m.id != id && !m.is_learner);
        if !has_other_voters {
            return Err(CommandError::LastVoter);
        }
        Arc::make_mut(&mut self.current).remove(place);
        Arc::make_mut(&mut self.removed).insert(id);
        Ok(())
    }

    /// A member has moved. Its role stays.
    pub(crate) fn update(&mut self, update: MemberUpdate) -> Result<(), CommandError> {
        let id = MemberId(update.member_id);
        self.place(id).map_err(|_| CommandError::MemberNotFound)?;
        self.check_urls(id, &update.peer_urls)?;
        self.known(id)?.peer_urls = update.peer_urls;
        Ok(())
    }

    /// A learner gets a vote.
    pub(crate) fn promote(&mut self, promote: MemberPromote) -> Result<(), CommandError> {
        let id = MemberId(promote.member_id);
        let place = self.place(id).map_err(|_| CommandError::MemberNotFound)?;
        if !self.current.get(place).is_some_and(|member| member.is_learner) {
            return Err(CommandError::MemberNotLearner);
        }
        self.known(id)?.is_learner = false;
        Ok(())
    }

    /// Whether a member has that id now.
    pub(crate) fn has(&self, id: MemberId) -> bool {
        self.place(id).is_ok()
    }

    fn place(&self, id: MemberId) -> Result<usize, usize> {
        self.current.binary_search_by_key(&id, |member| member.id)
    }

    fn known(&mut self, id: MemberId) -> Result<&mut Member, CommandError> {
        let place = self.place(id).map_err(|_| CommandError::MemberNotFound)?;
        Arc::make_mut(&mut self.current).get_mut(place).ok_or(CommandError::MemberNotFound)
    }

    /// Nobody else may be found where `id` is.
    fn check_urls(&self, id: MemberId, peer_urls: &[String]) -> Result<(), CommandError> {
        let others = self.current.iter().filter(|member| member.id != id);
        let mut taken = others.flat_map(|member| &member.peer_urls);
        match taken.any(|url| peer_urls.contains(url)) {
            true => Err(CommandError::PeerUrlExists),
            false => Ok(()),
        }
    }

    /// Notes what a member tells about itself.
    pub(crate) fn set_attributes(
        &mut self,
        attributes: MemberAttributes,
    ) -> Result<(), CommandError> {
        let member = self.known(MemberId(attributes.member_id))?;
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

    fn founded() -> Members {
        let mut members = Members::default();
        assert!(members.found(vec![seed(3, "c"), seed(1, "a"), seed(12, "")]));
        members
    }

    fn add(id: u64, is_learner: bool) -> MemberAdd {
        let peer_urls = vec![format!("http://peer-{id}")];
        MemberAdd { member_id: id, peer_urls, is_learner, learners_max: 2 }
    }

    #[test]
    fn only_a_cluster_without_members_is_founded() {
        let mut members = founded();
        assert!(!members.found(vec![seed(1, "a")]));
        let ids: Vec<_> = members.current.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [1, 3, 12]);
    }

    #[test]
    fn a_removed_id_does_not_come_back() {
        let mut members = founded();
        assert_eq!(members.remove(MemberRemove { member_id: 3 }), Ok(()));
        let not_found = Err(CommandError::MemberNotFound);
        assert_eq!(members.remove(MemberRemove { member_id: 3 }), not_found);
        assert_eq!(members.add(add(3, false)), not_found);
        assert_eq!(members.set_attributes(attributes(3, "c")), not_found);
        assert_eq!(*members.removed, BTreeSet::from([MemberId(3)]));
        let last = Err(CommandError::LastVoter);
        assert_eq!(members.remove(MemberRemove { member_id: 1 }), last, "12 does not vote");
    }

    #[test]
    fn a_new_member_is_like_no_other() {
        let mut members = founded();
        assert_eq!(members.add(add(1, false)), Err(CommandError::MemberExists));
        let taken = MemberAdd { member_id: 5, ..add(1, false) };
        assert_eq!(members.add(taken), Err(CommandError::PeerUrlExists));
        assert_eq!(members.add(add(5, true)), Ok(()));
        assert_eq!(members.add(add(6, true)), Err(CommandError::TooManyLearners));
        assert_eq!(members.add(add(6, false)), Ok(()));
        let ids: Vec<_> = members.current.iter().map(|m| (m.id.0, m.is_learner)).collect();
        assert_eq!(ids, [(1, false), (3, false), (5, true), (6, false), (12, true)]);
    }

    /// etcd's issue 21736: an update made a voter of a learner.
    #[test]
    fn issue_21736_an_update_of_a_learner_leaves_it_one() {
        let mut members = founded();
        members.set_attributes(attributes(12, "l")).unwrap();
        let peer_urls = vec!["http://elsewhere".to_owned()];
        let update = |member_id| MemberUpdate { member_id, peer_urls: peer_urls.clone() };
        assert_eq!(members.update(update(12)), Ok(()));
        let learner = members.current.last().unwrap();
        assert!(learner.is_learner);
        assert_eq!((learner.name.as_str(), &learner.peer_urls), ("l", &peer_urls));
        assert_eq!(members.update(update(1)), Err(CommandError::PeerUrlExists));
        assert_eq!(members.update(update(2)), Err(CommandError::MemberNotFound));

        assert_eq!(members.promote(MemberPromote { member_id: 12 }), Ok(()));
        let not_learner = Err(CommandError::MemberNotLearner);
        assert_eq!(members.promote(MemberPromote { member_id: 12 }), not_learner);
    }
}
