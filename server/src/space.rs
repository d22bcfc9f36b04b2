//! How much a member may store: the quota, and the room that must be left on its disks.
//!
//! Whoever would go beyond it is refused at once; the alarm that is raised then refuses it on every member. Deletes and
//! compactions go on, and it is for an operator to end the alarm, or for the member itself where it was told so.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_disk::Disk;
use kvorum_machine::{Alarm, AlarmKind};
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, AlarmType};
use kvorum_proto::entry::CommandKind;
use prost::Message;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::CoreMember;

/// How often a member looks at what it stores and at its disks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often while a disk has less than twice what it needs.
const NEAR_INTERVAL: Duration = Duration::from_millis(100);

/// What a key takes beside its bytes, as etcd reckons it.
const OVERHEAD_BYTES: u64 = 256;

/// How long somebody who is refused waits for the alarm at most.
const RAISE_TIME_MAX: Duration = Duration::from_secs(2);

/// A twentieth of a very large disk is more than anybody needs.
const TWENTIETH_BYTES_MAX: u64 = 1 << 30;

/// An alarm ends by itself only when this part of the quota is free.
const FREE_PART: u64 = 10;

/// What a member may store.
pub(crate) struct Space {
    /// None: as much as the disk takes.
    quota_bytes: Option<u64>,
    /// Somebody was refused.
    was_exceeded: AtomicBool,
    look: Notify,
    /// A look is over, and what followed from it.
    looked: Notify,
    disks: Disks,
}

impl Space {
    pub(crate) fn new(quota_bytes: Option<u64>, disks: Disks) -> Space {
        let was_exceeded = AtomicBool::new(false);
        Space { quota_bytes, was_exceeded, look: Notify::new(), looked: Notify::new(), disks }
    }

    /// What whoever can do without leaves free on the disk with the data. Below that an alarm would be raised.
    pub(crate) fn left_bytes(&self) -> u64 {
        let dir = self.disks.dirs.first();
        let total_bytes = dir.and_then(|dir| self.disks.disk.total_bytes(dir).ok());
        self.disks.needed_bytes(total_bytes.unwrap_or_default())
    }

    /// None: as much as the disk takes.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Whether `bytes` may be stored beside those in use. If not, an alarm is raised.
    pub(crate) fn admits(&self, in_use_bytes: u64, bytes: usize) -> bool {
        let Some(quota) = self.quota_bytes else { return true };
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(OVERHEAD_BYTES);
        let admits = in_use_bytes.saturating_add(wanted) < quota;
        if !admits {
            self.was_exceeded.store(true, Ordering::Relaxed);
            self.look.notify_one();
        }
        admits
    }

    /// Waits, after a refusal, until the alarm stands or could not be raised. As in etcd, who is refused sees it.
    pub(crate) async fn wait_for_alarm(&self, stands: impl Fn() -> bool) {
        let raised = async {
            // A look that was under way did not see the refusal; the next one does.
            for _ in 0..2 {
                let looked = self.looked.notified();
                if stands() {
                    return;
                }
                looked.await;
            }
        };
        // There is nothing to be done about an alarm that does not come, and the refusal holds.
        let _ = timeout(RAISE_TIME_MAX, raised).await;
    }

    /// What is wrong with so many bytes in use, and so few free on a disk.
    fn judge(&self, in_use_bytes: u64, disk: DiskRoom) -> Verdict {
        let was_exceeded = self.was_exceeded.swap(false, Ordering::Relaxed);
        let quota = self.quota_bytes.unwrap_or(u64::MAX);
        if was_exceeded || in_use_bytes >= quota || disk == DiskRoom::Little {
            Verdict::Raise
        } else if in_use_bytes <= quota - quota / FREE_PART && disk == DiskRoom::Enough {
            Verdict::MayEnd
        } else {
            Verdict::Leave
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Raise,
    Leave,
    MayEnd,
}

/// The room on the fuller of a member's disks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DiskRoom {
    /// Less than the log needs to go on.
    Little,
    Some,
    /// Twice what it needs.
    Enough,
}

impl DiskRoom {
    fn of(available_bytes: u64, needed_bytes: u64) -> DiskRoom {
        if available_bytes < needed_bytes {
            DiskRoom::Little
        } else if available_bytes < needed_bytes.saturating_mul(2) {
            DiskRoom::Some
        } else {
            DiskRoom::Enough
        }
    }
}

/// What a look at a disk found.
#[derive(Clone, Copy)]
struct Look {
    room: DiskRoom,
    available_bytes: u64,
}

/// The disks of a member.
pub(crate) struct Disks {
    pub(crate) disk: Arc<dyn Disk>,
    /// A directory on each, the one with the data first.
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) segment_bytes: u64,
}

impl Disks {
    /// What a disk must have left: two segments of the log, and a twentieth of the disk, up to a limit. The log needs the
    /// one to go on, the store the other to forget what is deleted: before it is smaller it is larger.
    fn needed_bytes(&self, total_bytes: u64) -> u64 {
        let segments = self.segment_bytes.saturating_mul(2);
        segments.saturating_add((total_bytes / 20).min(TWENTIETH_BYTES_MAX))
    }

    /// The fuller of them; None where one does not say.
    fn look(&self) -> Option<Look> {
        let each = self.dirs.iter().map(|dir| {
            let available_bytes = self.disk.available_bytes(dir).ok()?;
            let needed_bytes = self.needed_bytes(self.disk.total_bytes(dir).ok()?);
            Some(Look { room: DiskRoom::of(available_bytes, needed_bytes), available_bytes })
        });
        let each = each.collect::<Option<Vec<Look>>>()?;
        each.into_iter().min_by_key(|look| (look.room as u8, look.available_bytes))
    }
}

/// Raises this member's alarm, and ends it where that is wished, until the member stops.
pub(crate) async fn watch(member: CoreMember, space: Arc<Space>, auto_disarm: bool) {
    let own = Alarm { member: member.status().id, kind: AlarmKind::NoSpace };
    let mut interval = INTERVAL;
    loop {
        // Elapsed or called, both mean a look.
        let _ = timeout(interval, space.look.notified()).await;
        let looking = space.clone();
        let Ok(look) = spawn_blocking(move || looking.disks.look()).await else { continue };
        // A disk that does not say how full it is counts as one with some room: nothing is raised, and nothing ended.
        let room = look.map_or(DiskRoom::Some, |look| look.room);
        let is_near = look.is_some_and(|look| look.room != DiskRoom::Enough);
        interval = if is_near { NEAR_INTERVAL } else { INTERVAL };
        let little = look.filter(|look| look.room == DiskRoom::Little);
        if little.is_some() && member.give_up_backups() {
            info!("the disk gets full: backups that are being read are given up");
            space.look.notify_one();
            continue;
        }
        member.make_room(little.map(|look| look.available_bytes)).await;
        let is_raised = member.reader().alarms().contains(&own);
        let in_use_bytes = member.reader().store().sizes().in_use_bytes;
        match space.judge(in_use_bytes, room) {
            Verdict::Raise if !is_raised => {
                warn!(
                    in_use_bytes,
                    quota = space.quota_bytes,
                    ?room,
                    "there is no space: raising the alarm"
                );
                propose(&member, own, AlarmAction::Activate).await;
            }
            Verdict::MayEnd if is_raised && auto_disarm => {
                info!(in_use_bytes, "there is space again: ending the alarm");
                propose(&member, own, AlarmAction::Deactivate).await;
            }
            Verdict::Raise | Verdict::Leave | Verdict::MayEnd => {}
        }
        space.looked.notify_waiters();
    }
}

/// What does not succeed is tried again at the next look.
async fn propose(member: &CoreMember, alarm: Alarm, action: AlarmAction) {
    let request = AlarmRequest {
        action: action.into(),
        member_id: alarm.member.0,
        alarm: AlarmType::Nospace.into(),
    };
    let proposed = member.propose(CommandKind::Alarm, request.encode_to_vec().into()).await;
    if let Err(error) = proposed {
        warn!(%error, ?action, "the alarm could not be changed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(quota_bytes: Option<u64>) -> Space {
        let disk = Arc::new(kvorum_disk::FaultyDisk::new());
        Space::new(quota_bytes, Disks { disk, dirs: Vec::new(), segment_bytes: 100 })
    }

    #[test]
    fn what_goes_beyond_the_quota_is_refused_and_raises_an_alarm() {
        let space = space(Some(10_000));
        assert!(space.admits(9_000, 743));
        assert_eq!(space.judge(9_001, DiskRoom::Enough), Verdict::Leave);
        assert!(!space.admits(9_000, 744));
        assert_eq!(space.judge(9_000, DiskRoom::Enough), Verdict::Raise);
        assert_eq!(space.judge(9_000, DiskRoom::Enough), Verdict::MayEnd, "it is raised once");
        assert_eq!(space.judge(10_000, DiskRoom::Enough), Verdict::Raise);
        assert!(!space.admits(u64::MAX, usize::MAX));
    }

    #[test]
    fn without_a_quota_only_the_disk_counts() {
        let space = space(None);
        assert!(space.admits(u64::MAX, usize::MAX));
        assert_eq!(space.judge(1 << 60, DiskRoom::Enough), Verdict::MayEnd);
        assert_eq!(space.judge(0, DiskRoom::Little), Verdict::Raise);
        assert_eq!(space.judge(0, DiskRoom::Some), Verdict::Leave);
    }

    #[test]
    fn a_disk_must_have_room_for_two_segments_and_a_twentieth_of_it() {
        assert_eq!(DiskRoom::of(209, 210), DiskRoom::Little);
        assert_eq!(DiskRoom::of(210, 210), DiskRoom::Some);
        assert_eq!(DiskRoom::of(420, 210), DiskRoom::Enough);
        let disk = Arc::new(kvorum_disk::FaultyDisk::new());
        let disks = Disks { disk, dirs: Vec::new(), segment_bytes: 100 };
        assert_eq!(disks.needed_bytes(200), 210);
        assert_eq!(disks.needed_bytes(1 << 50), 200 + (1 << 30));
    }
}
