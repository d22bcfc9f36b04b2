//! Whether this member is the only one that decides.
//!
//! A leader that is the only voter need not ask anyone before it answers a linearizable read: nobody else can have
//! committed anything. That must stop to be true before another vote can count, so it is taken back here, on the engine's
//! own path into the log, before the entry that adds a voter can be answered for. It is given again only when everything
//! the engine reports agrees with what went into the log last.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_types::{MemberId, Position};
use parking_lot::Mutex;

use crate::types::Membership;

/// Follows the newest membership in the log.
///
/// - While `decides_alone()`, the newest membership in the log is committed and has this member as its only voter, and
///   this member leads and has applied an entry of its own term.
pub(crate) struct Voters {
    me: MemberId,
    newest: Mutex<Option<Newest>>,
    alone: AtomicBool,
}

struct Newest {
    position: Position,
    only_me: bool,
}

impl Voters {
    pub(crate) fn new(me: MemberId) -> Voters {
        Voters { me, newest: Mutex::new(None), alone: AtomicBool::new(false) }
    }

    pub(crate) fn decides_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// A membership goes into the log.
    pub(crate) fn appended(&self, position: Position, membership: &Membership) {
        let voters = membership.voter_ids().collect::<BTreeSet<u64>>();
        let only_me = voters == BTreeSet::from([self.me.0]);
        let mut newest = self.newest.lock();
        *newest = Some(Newest { position, only_me });
        self.alone.store(false, Ordering::Release);
    }

    /// The log is cut, or a snapshot takes its place: another member leads. This one does not decide alone again before
    /// an entry says so.
    pub(crate) fn overruled(&self) {
        let mut newest = self.newest.lock();
        *newest = Some(Newest { position: Position::default(), only_me: false });
        self.alone.store(false, Ordering::Release);
    }

    /// A vote is about to be stored.
    pub(crate) fn vote_changed(&self) {
        let _newest = self.newest.lock();
        self.alone.store(false, Ordering::Release);
    }

    /// What the engine reports while this member leads in a term of which it has applied an entry: the membership that
    /// is committed and also the newest, and where it stands.
    pub(crate) fn leads(&self, position: Position, membership: &Membership) {
        let mut newest = self.newest.lock();
        if newest.is_none() {
            let voters = membership.voter_ids().collect::<BTreeSet<u64>>();
            let only_me = voters == BTreeSet::from([self.me.0]);
            *newest = Some(Newest { position, only_me });
        }
        let agrees =
            newest.as_ref().is_some_and(|newest| newest.position == position && newest.only_me);
        self.alone.store(agrees, Ordering::Release);
    }

    /// The engine reports that this member does not lead, or not yet, or that a change is under way.
    pub(crate) fn leads_not(&self) {
        self.alone.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::Node;

    fn voters(ids: &[u64]) -> Membership {
        let nodes = ids.iter().map(|id| (*id, Node::default())).collect::<BTreeMap<_, _>>();
        Membership::new(vec![ids.iter().copied().collect()], nodes).expect("voters are members")
    }

    #[test]
    fn the_only_voter_decides_alone_until_a_second_enters_the_log() {
        let watch = Voters::new(MemberId(1));
        assert!(!watch.decides_alone());
        watch.appended(Position::new(0, 0), &voters(&[1]));
        assert!(!watch.decides_alone(), "appended is not committed");
        watch.leads(Position::new(0, 0), &voters(&[1]));
        assert!(watch.decides_alone());
        watch.appended(Position::new(1, 5), &voters(&[1, 2]));
        assert!(!watch.decides_alone());
        watch.leads(Position::new(0, 0), &voters(&[1]));
        assert!(!watch.decides_alone(), "an old report changes nothing");
        watch.leads(Position::new(1, 5), &voters(&[1, 2]));
        assert!(!watch.decides_alone());
    }

    #[test]
    fn a_vote_for_anyone_ends_it_until_the_next_report() {
        let watch = Voters::new(MemberId(1));
        watch.leads(Position::new(0, 0), &voters(&[1]));
        assert!(watch.decides_alone(), "after a start there is only the report");
        watch.vote_changed();
        assert!(!watch.decides_alone());
        watch.leads(Position::new(0, 0), &voters(&[1]));
        assert!(watch.decides_alone());
        watch.overruled();
        watch.leads(Position::new(0, 0), &voters(&[1]));
        assert!(!watch.decides_alone());
    }
}
