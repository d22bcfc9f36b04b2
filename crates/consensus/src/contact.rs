//! Which other members answer, and since when.
//!
//! etcd changes the voters only while they have been connected for a while, and a member there is connected to all others
//! whoever leads. So here every member asks every other one a small question now and then: one that has just been elected
//! knows as much of the others as one that has led for long.
//!
//! A member is in touch since it first answered on the connection that it still answers on. An answer that does not come
//! within an election timeout ends that, and so does the end of the connection: a member that was away, however shortly,
//! begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kvorum_types::MemberId;
use openraft::async_runtime::Select2;
use parking_lot::Mutex;

use crate::probes;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// Since when the other members are in touch.
#[derive(Default)]
pub(crate) struct Contact {
    since: Mutex<BTreeMap<MemberId, Since>>,
}

/// The beginning of a time without a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Since {
    /// Which connection to the member it is, counted from 1.
    connection: u64,
    /// By the clock of the leadership.
    at: Duration,
}

impl Contact {
    /// A member has answered on its nth connection: for how long it has been in touch.
    fn answered(&self, id: MemberId, connection: u64, now: Duration) -> Duration {
        let mut since = self.since.lock();
        let fresh = Since { connection, at: now };
        let known = since.entry(id).or_insert(fresh);
        if known.connection != connection {
            *known = fresh;
        }
        now.saturating_sub(known.at)
    }

    /// A member has not answered.
    fn missed(&self, id: MemberId) {
        self.since.lock().remove(&id);
    }

    /// Forgets all but these.
    fn retain(&self, ids: &[MemberId]) {
        self.since.lock().retain(|id, _| ids.contains(id));
    }
}

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let asking = async {
        loop {
            let others = others(&shared);
            shared.contact.retain(&others);
            ask(&shared, &others).await;
            R::sleep(shared.settings.election_timeout / 4).await;
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(asking)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

fn others<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Vec<MemberId> {
    let members = shared.reader.members();
    members.iter().map(|member| member.id).filter(|id| !shared.is_me(*id)).collect()
}

/// Who of these answers now, within an election timeout, and for how long each has been in touch.
pub(crate) async fn ask<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    ids: &[MemberId],
) -> BTreeMap<MemberId, Duration> {
    let asking = ids.iter().map(|id| async move {
        let answer = probes::ask(shared, *id, shared.settings.id).await;
        if answer.is_none() {
            shared.contact.missed(*id);
            return None;
        }
        let connection = shared.peers.get(*id).control.connection_count();
        let now = shared.leadership.now();
        Some((*id, shared.contact.answered(*id, connection, now)))
    });
    join_all(asking).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MemberId = MemberId(7);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn time_in_touch_is_counted_from_the_first_answer_after_the_last_gap() {
        let contact = Contact::default();
        assert_eq!(contact.answered(ID, 1, seconds(10)), seconds(0));
        assert_eq!(contact.answered(ID, 1, seconds(14)), seconds(4));
        contact.missed(ID);
        assert_eq!(contact.answered(ID, 1, seconds(20)), seconds(0));
        assert_eq!(contact.answered(ID, 1, seconds(26)), seconds(6));
    }

    /// It was gone between two questions, and nobody noticed.
    #[test]
    fn another_connection_is_a_gap() {
        let contact = Contact::default();
        contact.answered(ID, 1, seconds(10));
        assert_eq!(contact.answered(ID, 2, seconds(20)), seconds(0));
        assert_eq!(contact.answered(ID, 2, seconds(21)), seconds(1));
    }

    #[test]
    fn who_is_no_member_is_forgotten() {
        let contact = Contact::default();
        contact.answered(ID, 1, seconds(10));
        contact.retain(&[MemberId(8)]);
        assert_eq!(contact.answered(ID, 1, seconds(11)), seconds(0));
    }
}
