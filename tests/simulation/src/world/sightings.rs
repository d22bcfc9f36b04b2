//! What is seen of members from outside of them, between two turns of their tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_judges::cluster::{Sighting, What};
use kvorum_judges::history::Moment;
use kvorum_mvcc::Read;
use kvorum_types::MemberId;

use super::node::CLUSTER;
use super::{SimMember, World};
use crate::workload::door::{Door, Surroundings};

/// How often members are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How many looks there are to one at everything that a member holds.
const LOOKS_A_HASH: u64 = 8;

/// What was seen last of the logs.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The newest index that any member has applied.
    applied: u64,
    /// Up to where each member's log was durable.
    durable: BTreeMap<MemberId, u64>,
    /// Who votes, by what each member knows.
    voters: BTreeMap<MemberId, Vec<BTreeSet<MemberId>>>,
}

/// The index of the newest checkpoint on a member's disk.
fn newest_checkpoint(disk: &FaultyDisk) -> Option<u64> {
    let names = disk.list(Path::new("/data/member/checkpoint")).ok()?;
    names.iter().filter_map(|name| name.strip_suffix(".ckpt")?.parse().ok()).max()
}

impl World {
    /// After a step of one of a member's workers: if anything is applied that was not applied anywhere before, it has to
    /// be durable at a quorum now.
    pub(super) fn after_step(&self, id: MemberId) {
        let Some((index, revision)) = self.newly_applied(id) else { return };
        for other in self.members() {
            self.see_log(other);
        }
        self.saw(id, What::Applied { index, revision });
    }

    fn newly_applied(&self, id: MemberId) -> Option<(u64, i64)> {
        let mut state = self.state();
        let door = state.nodes.get(&id)?.door.as_ref()?;
        let index = door.reader.applied()?.index;
        let revision = door.reader.store().revision();
        let is_new = index > state.logs.applied;
        state.logs.applied = state.logs.applied.max(index);
        is_new.then_some((index, revision))
    }

    /// Writes down how far the log of a running member is durable, and who it knows to vote, where that is news.
    pub(super) fn see_log(&self, id: MemberId) {
        let Some(member) = self.member(id) else { return };
        let (durable, voters) = (member.durable_index(), member.voters());
        let news = {
            let logs = &mut self.state().logs;
            let is_durable_news = logs.durable.get(&id).copied() != durable;
            logs.durable.extend(durable.map(|index| (id, index)));
            let is_voters_news = logs.voters.get(&id) != Some(&voters);
            if is_voters_news {
                logs.voters.insert(id, voters.clone());
            }
            (durable.filter(|_| is_durable_news), is_voters_news.then_some(voters))
        };
        if let Some(index) = news.0 {
            self.saw(id, What::Durable { index });
        }
        if let Some(voters) = news.1 {
            let number = |config: BTreeSet<MemberId>| config.iter().map(|id| id.0).collect();
            self.saw(id, What::Voters(voters.into_iter().map(number).collect()));
        }
    }

    /// What a member calls durable is there when its power goes at this very moment.
    fn check_durable(&self, id: MemberId, member: &SimMember) {
        let (Some(durable), Some(disk)) =
            (member.durable_index(), self.on_disk(id, FaultyDisk::fork))
        else {
            return;
        };
        disk.power_loss_taking_all();
        let checkpoint = newest_checkpoint(&disk);
        let dir = Path::new("/data/member/wal");
        let opened = kvorum_wal::open(Arc::new(disk), dir, CLUSTER, id, self.profile().wal.clone());
        let last = opened.map(|wal| wal.recovered.last.max(wal.recovered.purged));
        // After a snapshot the log is given up before it says so; the checkpoint stands for it.
        match last.map(|last| last.map(|last| last.index).max(checkpoint)) {
            Ok(last) if last >= Some(durable) => {}
            Ok(last) => self.note_wrong(format_args!(
                "{id} calls its log durable: up to {durable}, of which {last:?} would be left"
            )),
            Err(error) => self.note_wrong(format_args!("{id} would not open its log: {error}")),
        }
    }

    /// Looks at all members again and again, from now on.
    pub fn look_on(&self) {
        let world = self.clone();
        let looking = async move {
            for look in 0_u64.. {
                world.sleep(LOOK).await;
                for id in world.members() {
                    let Some(door) = world.door(id) else { continue };
                    world.look_at(id, &door, look % LOOKS_A_HASH == 0);
                    if look % LOOKS_A_HASH == id.0 % LOOKS_A_HASH {
                        world.look_at_disk(id);
                    }
                }
            }
        };
        self.spawn(looking.boxed());
    }

    fn look_at_disk(&self, id: MemberId) {
        let may_fail = self.state().nodes.get(&id).is_some_and(|node| node.may_fail);
        if let Some(member) = self.member(id).filter(|_| !may_fail) {
            self.check_durable(id, &member);
        }
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
