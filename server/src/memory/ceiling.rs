//! The hard limit: what may still be promised of the memory there is.
//!
//! ```text
//! 0             soft                             hard          hard + 5 %
//! |--------------|--------------------------------|--------------|
//!     all calm     purged now and then             large reads    so are all that
//!                                                  and writes     put something
//!                                                  are refused
//! ```
//!
//! Whoever is about to use much memory asks for a **grant** first. What is granted and not yet part of what the process was
//! last seen to have is **promised**; a grant is given while both together stay within the limit. What the process has
//! includes pages that are free and only kept, so before anybody is refused the keeper purges and looks again: the refused
//! wait for that **verdict**, and are judged by it.
//!
//! - Only the keeper looks at the process and judges; callers read two numbers.
//! - A request for little costs one relaxed load.
//! - A grant that is settled (its buffers are there) stays promised until the keeper has looked once more, so that no byte
//!   is missing between two looks. From then on the buffers count as what the process has, until they are freed: an answer
//!   until its last byte is out. A grant that is dropped is taken back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::entry::{Command, CommandKind, Entry};
use kvorum_proto::wire::TxnRequest;
use prost::Message;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::errors::CallError;

/// What is large: requests and answers of more bytes than this ask first.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// The share of the limit beyond it at which everything that puts something is refused.
const BEYOND_PART: u64 = 20;

/// How long a refused request waits for memory to be purged and looked at again.
const VERDICT_TIME_MAX: Duration = Duration::from_millis(500);

/// How many wait for that at a time. Each may hold what it has read.
const WAITING_MAX: usize = 64;

const CALM: u8 = 0;
const AT_LIMIT: u8 = 1;
const BEYOND_LIMIT: u8 = 2;

/// The ceiling of one process. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(crate) struct Ceiling(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `u64::MAX`: none.
    hard_limit_bytes: AtomicU64,
    /// What the process was last seen to have.
    resident_bytes: AtomicU64,
    /// Granted, and not in `resident_bytes` yet.
    promised_bytes: AtomicU64,
    /// The part of it that the next look will see.
    settled_bytes: AtomicU64,
    level: AtomicU8,
    /// Whether somebody would have been refused since the keeper last looked.
    is_short: AtomicBool,
    refused_count: AtomicU64,
    granted_count: AtomicU64,
    /// Who waits for a verdict.
    waiting: Semaphore,
    /// The number of the last verdict.
    verdicts: watch::Sender<u64>,
    /// The number of the verdict that is wanted.
    wanted: watch::Sender<u64>,
}

/// What a caller may use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    ceiling: Ceiling,
    bytes: u64,
}

/// Figures of the ceiling.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CeilingFigures {
    /// What the process was last seen to have.
    pub(crate) resident_bytes: u64,
    /// What was granted beside that.
    pub(crate) promised_bytes: u64,
    /// Requests that were refused for want of memory.
    pub(crate) refused_count: u64,
    /// Grants that were given.
    pub(crate) granted_count: u64,
    /// Whether large requests are refused as things stand.
    pub(crate) is_at_limit: bool,
}

impl Default for Ceiling {
    /// Without a limit.
    fn default() -> Ceiling {
        Ceiling(Arc::new(Shared {
            hard_limit_bytes: AtomicU64::new(u64::MAX),
            resident_bytes: AtomicU64::new(0),
            promised_bytes: AtomicU64::new(0),
            settled_bytes: AtomicU64::new(0),
            level: AtomicU8::new(CALM),
            is_short: AtomicBool::new(false),
            refused_count: AtomicU64::new(0),
            granted_count: AtomicU64::new(0),
            waiting: Semaphore::new(WAITING_MAX),
            verdicts: watch::Sender::new(0),
            wanted: watch::Sender::new(0),
        }))
    }
}

impl Ceiling {
    /// Refuses what puts something while memory is beyond the limit, however little it is.
    pub(crate) fn admit_put(&self) -> Result<(), CallError> {
        if self.0.level.load(Ordering::Relaxed) == BEYOND_LIMIT {
            return Err(self.refuse());
        }
        Ok(())
    }

    /// Whether what a follower forwards may go into the log: its own member has judged it by its own memory, this one has
    /// to hold it too. An entry goes in whole or not at all.
    pub(crate) fn admits_forwarded(&self, entry: &Bytes) -> bool {
        let level = self.0.level.load(Ordering::Relaxed);
        if level == CALM {
            return true;
        }
        let is_small = |command: &Command| {
            let is_put = puts(command);
            !is_put || level == AT_LIMIT && command.request.len() <= LARGE_BYTES
        };
        // What cannot be read is not for memory to judge.
        let batches = Entry::decode(entry.clone()).map(|entry| entry.batches).unwrap_or_default();
        let admits = batches.iter().flat_map(|batch| &batch.commands).all(is_small);
        if !admits {
            self.0.refused_count.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    /// Memory for so many bytes, if there is or if a purge makes it.
    pub(crate) async fn grant(&self, bytes: usize) -> Result<Grant, CallError> {
        let mut grant = Grant { ceiling: self.clone(), bytes: 0 };
        grant.grow_to(bytes).await?;
        Ok(grant)
    }

    /// The same for what cannot be refused any more.
    pub(crate) fn grant_unasked(&self, bytes: usize) -> Grant {
        let bytes = bytes as u64;
        self.0.promised_bytes.fetch_add(bytes, Ordering::Relaxed);
        Grant { ceiling: self.clone(), bytes }
    }

    /// Sets the limit; none: no limit. The next look judges by it.
    pub(super) fn set_hard_limit(&self, bytes: Option<u64>) {
        self.0.hard_limit_bytes.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.ask();
    }

    /// The limit.
    pub(super) fn hard_limit_bytes(&self) -> Option<u64> {
        Some(self.0.hard_limit_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes != u64::MAX)
    }

    pub(crate) fn figures(&self) -> CeilingFigures {
        CeilingFigures {
            resident_bytes: self.0.resident_bytes.load(Ordering::Relaxed),
            promised_bytes: self.0.promised_bytes.load(Ordering::Relaxed),
            refused_count: self.0.refused_count.load(Ordering::Relaxed),
            granted_count: self.0.granted_count.load(Ordering::Relaxed),
            is_at_limit: self.0.level.load(Ordering::Relaxed) != CALM,
        }
    }

    /// Takes what `look` finds the process to have. What was settled before is part of it.
    pub(super) fn observe(&self, look: impl FnOnce() -> u64) -> u64 {
        let settled = self.0.settled_bytes.swap(0, Ordering::AcqRel);
        let resident = look();
        self.0.resident_bytes.store(resident, Ordering::Relaxed);
        self.0.promised_bytes.fetch_sub(settled, Ordering::AcqRel);
        resident
    }

    /// Judges by the last look, and tells those who wait that it answers what was wanted up to number `wanted`. True if
    /// the level is another one now.
    pub(super) fn judge(&self, wanted: u64) -> bool {
        let resident = self.0.resident_bytes.load(Ordering::Relaxed);
        let level = match self.hard_limit_bytes() {
            Some(limit) if resident >= limit.saturating_add(limit / BEYOND_PART) => BEYOND_LIMIT,
            Some(limit) if resident >= limit => AT_LIMIT,
            _ => CALM,
        };
        let before = self.0.level.swap(level, Ordering::Relaxed);
        if wanted > *self.0.verdicts.borrow() {
            self.0.verdicts.send_replace(wanted);
        }
        (before == CALM) != (level == CALM)
    }

    /// The number of the verdict that is wanted.
    pub(super) fn wanted(&self) -> u64 {
        *self.0.wanted.borrow()
    }

    /// Whether somebody would have been refused since this was last asked.
    pub(super) fn take_short(&self) -> bool {
        self.0.is_short.swap(false, Ordering::AcqRel)
    }

    /// Tells when a verdict is wanted.
    pub(super) fn watch_wanted(&self) -> watch::Receiver<u64> {
        self.0.wanted.subscribe()
    }

    /// Wants a verdict that begins after this; its number.
    fn ask(&self) -> u64 {
        let mut number = 0;
        self.0.wanted.send_modify(|wanted| {
            *wanted += 1;
            number = *wanted;
        });
        number
    }

    /// Promises more, if all of it stays within the limit.
    fn try_promise(&self, bytes: u64) -> bool {
        let limit = self.0.hard_limit_bytes.load(Ordering::Relaxed);
        let before = self.0.promised_bytes.fetch_add(bytes, Ordering::AcqRel);
        let resident = self.0.resident_bytes.load(Ordering::Relaxed);
        let is_within =
            limit == u64::MAX || resident.saturating_add(before).saturating_add(bytes) <= limit;
        if !is_within {
            self.0.promised_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        is_within
    }

    fn refuse(&self) -> CallError {
        self.0.refused_count.fetch_add(1, Ordering::Relaxed);
        CallError::NoMemory {
            resident_bytes: self.0.resident_bytes.load(Ordering::Relaxed),
            limit_bytes: self.0.hard_limit_bytes.load(Ordering::Relaxed),
        }
    }

    async fn promise(&self, bytes: u64) -> Result<(), CallError> {
        if self.try_promise(bytes) {
            self.0.granted_count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let Ok(_place) = self.0.waiting.try_acquire() else { return Err(self.refuse()) };
        let mut verdicts = self.0.verdicts.subscribe();
        self.0.is_short.store(true, Ordering::Release);
        let number = self.ask();
        // Nobody judges where there is no keeper, and one that is busy for so long has no memory to give.
        let _ = timeout(VERDICT_TIME_MAX, verdicts.wait_for(|given| *given >= number)).await;
        if !self.try_promise(bytes) {
            return Err(self.refuse());
        }
        self.0.granted_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Grant {
    /// Has the grant be of so many bytes; less is free.
    pub(crate) async fn grow_to(&mut self, bytes: usize) -> Result<(), CallError> {
        let bytes = bytes as u64;
        if bytes > self.bytes {
            self.ceiling.promise(bytes - self.bytes).await?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// The same without waiting, where what it is for was read already.
    pub(crate) fn grow_now(&mut self, bytes: usize) -> Result<(), CallError> {
        let more = (bytes as u64).saturating_sub(self.bytes);
        if !self.ceiling.try_promise(more) {
            return Err(self.ceiling.refuse());
        }
        self.bytes += more;
        Ok(())
    }

    /// Says that what it was given for has been allocated.
    pub(crate) fn settle(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.ceiling.0.settled_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The same bytes, with the grant until the last of them is dropped: for what is about to be copied.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _grant: self })
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.ceiling.0.promised_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

fn puts(command: &Command) -> bool {
    match command.kind() {
        CommandKind::Put => true,
        CommandKind::Txn => TxnRequest::decode(command.request.clone())
            .is_ok_and(|request| kvorum_machine::txn::has_put(&request)),
        _ => false,
    }
}

struct Held {
    bytes: Bytes,
    _grant: Grant,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kvorum_proto::entry::Batch;

    use super::*;

    const MIB: usize = 1 << 20;

    /// A ceiling of 100 MiB over a process that has so many.
    fn ceiling(resident_mib: usize) -> Ceiling {
        let ceiling = Ceiling::default();
        ceiling.set_hard_limit(Some(100 * MIB as u64));
        look(&ceiling, resident_mib);
        ceiling
    }

    /// An entry of one command of so many bytes.
    fn entry(kind: CommandKind, bytes: usize) -> Bytes {
        let command =
            Command { kind: kind.into(), request: vec![0; bytes].into(), ..Command::default() };
        let batch = Batch { commands: vec![command], ..Batch::default() };
        Entry { batches: vec![batch] }.encode_to_vec().into()
    }

    fn look(ceiling: &Ceiling, resident_mib: usize) {
        ceiling.observe(|| (resident_mib * MIB) as u64);
        ceiling.judge(ceiling.wanted());
    }

    fn promised_mib(ceiling: &Ceiling) -> u64 {
        ceiling.figures().promised_bytes / MIB as u64
    }

    /// A grant that is judged again while the process has so many.
    async fn granted(ceiling: &Ceiling, mib: usize, then_mib: usize) -> Result<Grant, CallError> {
        let before = ceiling.wanted();
        let judge = async {
            while ceiling.wanted() == before {
                tokio::task::yield_now().await;
            }
            look(ceiling, then_mib);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            granted = ceiling.grant(mib * MIB) => granted,
            () = judge => unreachable!("it never ends"),
        }
    }

    #[tokio::test]
    async fn what_is_promised_stays_within_the_limit_together_with_what_there_is() {
        let ceiling = ceiling(50);
        let first = ceiling.grant(30 * MIB).await.unwrap();
        let second = ceiling.grant(20 * MIB).await.unwrap();
        assert_eq!(promised_mib(&ceiling), 50);
        assert!(granted(&ceiling, 1, 50).await.is_err());
        drop(first);
        assert!(ceiling.grant(30 * MIB).await.is_ok(), "what is dropped is taken back");
        drop(second);
        assert_eq!(promised_mib(&ceiling), 0);
    }

    #[tokio::test]
    async fn who_would_be_refused_is_judged_after_a_purge() {
        let ceiling = ceiling(90);
        let grant = granted(&ceiling, 30, 40).await.unwrap();
        assert_eq!(ceiling.figures().refused_count, 0);
        let refused = granted(&ceiling, 31, 40).await.unwrap_err();
        assert_eq!(refused.to_string(), "etcdserver: too many requests");
        assert_eq!(ceiling.figures().refused_count, 1);
        drop(grant);
    }

    #[tokio::test]
    async fn what_is_settled_stays_promised_until_the_next_look() {
        let ceiling = ceiling(50);
        ceiling.grant(30 * MIB).await.unwrap().settle();
        assert_eq!(promised_mib(&ceiling), 30);
        // Settled while the look is under way: it may have come too late to be seen.
        ceiling.observe(|| {
            ceiling.grant(10 * MIB).now_or_never().unwrap().unwrap().settle();
            (80 * MIB) as u64
        });
        assert_eq!(promised_mib(&ceiling), 10);
        look(&ceiling, 90);
        assert_eq!(promised_mib(&ceiling), 0);
    }

    #[tokio::test]
    async fn beyond_the_limit_even_small_puts_are_refused_and_all_recovers() {
        let (small, large) = (entry(CommandKind::Put, 9), entry(CommandKind::Put, MIB));
        let deletes = entry(CommandKind::DeleteRange, MIB);
        let ceiling = ceiling(99);
        assert!(ceiling.admit_put().is_ok() && ceiling.admits_forwarded(&large));
        look(&ceiling, 100);
        assert!(ceiling.admit_put().is_ok() && ceiling.figures().is_at_limit);
        assert!(ceiling.admits_forwarded(&small) && !ceiling.admits_forwarded(&large));
        look(&ceiling, 105);
        assert!(ceiling.admit_put().is_err() && !ceiling.admits_forwarded(&small));
        assert!(ceiling.admits_forwarded(&deletes));
        look(&ceiling, 60);
        assert!(ceiling.admit_put().is_ok() && ceiling.admits_forwarded(&large));
        assert!(!ceiling.figures().is_at_limit);
    }

    #[tokio::test]
    async fn without_a_limit_all_is_granted_and_counted() {
        let ceiling = Ceiling::default();
        look(&ceiling, 1 << 20);
        let grant = ceiling.grant(MIB << 20).await.unwrap();
        assert_eq!(ceiling.hard_limit_bytes(), None);
        assert_eq!(promised_mib(&ceiling), 1 << 20);
        drop(grant);
        let unasked = self::ceiling(100).grant_unasked(MIB);
        assert_eq!(promised_mib(&unasked.ceiling), 1);
    }

    #[tokio::test]
    async fn a_grant_grows_and_stays_what_it_was_when_it_cannot() {
        let ceiling = ceiling(50);
        let mut grant = ceiling.grant(10 * MIB).await.unwrap();
        grant.grow_to(20 * MIB).await.unwrap();
        grant.grow_to(MIB).await.unwrap();
        assert!(grant.grow_now(60 * MIB).is_err());
        assert_eq!(promised_mib(&ceiling), 20);
        let bytes = grant.hold(Bytes::from_static(b"held"));
        let part = bytes.slice(1..2);
        drop(bytes);
        assert_eq!(promised_mib(&ceiling), 20);
        drop(part);
        assert_eq!(promised_mib(&ceiling), 0);
    }

    #[tokio::test]
    async fn no_more_wait_for_a_verdict_than_there_are_places() {
        let ceiling = ceiling(100);
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(ceiling.grant(MIB))).collect();
        let mut waiting = futures_util::future::join_all(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        assert!(ceiling.grant(MIB).now_or_never().is_some_and(|refused| refused.is_err()));
        look(&ceiling, 10);
        assert!(waiting.await.into_iter().all(|granted| granted.is_ok()));
    }
}
