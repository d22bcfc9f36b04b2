//! What is seen of members from outside of them, between two turns of their tasks.

use std::time::Duration;

use futures_util::FutureExt;
use kvorum_judges::cluster::{Sighting, What};
use kvorum_judges::history::Moment;
use kvorum_mvcc::Read;
use kvorum_types::MemberId;

use super::World;
use crate::workload::door::{Door, Surroundings};

/// How often members are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How many looks there are to one at everything that a member holds.
const LOOKS_A_HASH: u64 = 8;

impl World {
    /// Looks at all members again and again, from now on.
    pub fn look_on(&self) {
        let world = self.clone();
        let looking = async move {
            for look in 0_u64.. {
                world.sleep(LOOK).await;
                for id in world.members() {
                    let Some(door) = world.door(id) else { continue };
                    world.look_at(id, &door, look % LOOKS_A_HASH == 0);
                }
            }
        };
        self.spawn(looking.boxed());
    }

    fn look_at(&self, id: MemberId, door: &Door, with_hash: bool) {
        let store = door.reader.store();
        if let Some(applied) = door.reader.applied() {
            let (index, revision) = (applied.index, store.revision());
            self.saw(id, What::Applied { index, revision });
        }
        if !with_hash {
            return;
        }
        let view = store.view();
        if let Ok(found) = view.hash(0) {
            let (revision, compact_revision) = (view.revision(), view.compact_revision());
            self.saw(id, What::Hashed { revision, compact_revision, hash: found.hash.into() });
        }
    }

    /// Writes down what was seen of a member.
    pub(super) fn saw(&self, id: MemberId, what: What) {
        let at = self.now();
        let mut state = self.state();
        let place = u64::try_from(state.sightings.len()).unwrap_or(u64::MAX);
        state.sightings.push(Sighting { at: Moment { at, place }, member: id.0, what });
    }
}
