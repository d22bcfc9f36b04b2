//! The write-ahead log, as the engine wants it.
//!
//! - An append is visible to readers when it returns, and durable when its callback comes; the engine never waits.
//! - A vote is durable when `save_vote` returns, and so is a truncation.
//! - What is committed is only noted: it rides along with the next write.
//! - Nothing that is not applied is ever purged, and of the rest no more than `retention` allows, however much the engine
//!   asks for.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use kvorum_types::Position;
use kvorum_wal::{Done, Log, LogEntry, Read};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::codec;
use crate::errors::FatalError;
use crate::runtime::Runtime;
use crate::stop::Stop;
use crate::types::{Entry, LogId, Payload, TypeConfig, Vote, log_id, position};
use crate::types::{vote_from_log, vote_to_log};
use crate::voters::Voters;

/// A new leader's first entry, without payload.
pub(crate) const ENTRY_BLANK: u8 = 0;
/// An encoded `kvorum.entry.v1.Entry`.
pub(crate) const ENTRY_COMMANDS: u8 = 1;
/// An encoded `kvorum.peer.v1.Membership`.
pub(crate) const ENTRY_MEMBERSHIP: u8 = 2;

/// How many bytes of entries one read for a peer gives, unless a single entry is longer.
const PEER_READ_BYTES_MAX: usize = 1024 * 1024;
/// How many bytes of entries are read at a time to be applied.
const APPLY_READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The index of the newest applied entry.
pub(crate) type AppliedIndex = Arc<dyn Fn() -> Option<u64> + Send + Sync>;
/// The last index that may be purged; none while all entries have to stay.
pub(crate) type PurgeLimit = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// The engine's door to the log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    voters: Arc<Voters>,
    applied: AppliedIndex,
    purge_limit: PurgeLimit,
    stop: Arc<Stop>,
}

impl LogStore {
    pub(crate) fn new(
        log: Log,
        voters: Arc<Voters>,
        applied: AppliedIndex,
        purge_limit: PurgeLimit,
        stop: Arc<Stop>,
    ) -> LogStore {
        LogStore { log, voters, applied, purge_limit, stop }
    }

    /// `range` without what the log does not hold at its ends.
    fn held(&self, range: impl RangeBounds<u64>) -> Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let first = self.log.first_index().unwrap_or(u64::MAX);
        let after = self.log.last().map_or(0, |last| last.index + 1);
        let start = start.max(first);
        start..end.min(after).max(start)
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Reading {
        match self.log.read(range.clone(), bytes_max) {
            Read::Entries(entries) => Reading::Done(entries),
            Read::OnDisk => {
                let (tx, rx) = oneshot::channel();
                // A receiver that is gone asked for nothing any more.
                let reply = Box::new(move |read| drop(tx.send(read)));
                self.log.read_on_disk(range, bytes_max, reply);
                Reading::Waiting(rx)
            }
        }
    }

    /// At least one entry of `range`, unless it is empty.
    async fn read_some(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let entries = match self.read(range.clone(), bytes_max) {
            Reading::Done(entries) => entries,
            Reading::Waiting(read) => read.await.map_err(|_| reader_gone())??,
        };
        check_start(&entries, range.start)?;
        let read = entries.into_iter().map(entry_from_log).collect();
        note_failure(&self.stop, &read);
        read
    }

    async fn read_all(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let mut some = self.read_some(next..range.end, APPLY_READ_BYTES_MAX).await?;
            next += some.len() as u64;
            entries.append(&mut some);
        }
        Ok(entries)
    }
}

enum Reading {
    Done(Vec<LogEntry>),
    Waiting(oneshot::Receiver<io::Result<Vec<LogEntry>>>),
}

fn reader_gone() -> io::Error {
    io::Error::other("the log's reader has stopped")
}

/// A read gives something, and begins where it was asked to: a hole in the log is never skipped.
fn check_start(entries: &[LogEntry], start: u64) -> io::Result<()> {
    match entries.first() {
        Some(entry) if entry.position.index == start => Ok(()),
        Some(entry) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {start} was read, {} came", entry.position),
        )),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {start} was read, nothing came"),
        )),
    }
}

pub(crate) fn entry_from_log(entry: LogEntry) -> io::Result<Entry> {
    let LogEntry { position, kind, payload } = entry;
    codec::entry_from_parts(position, u32::from(kind), payload).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("entry {position}: {error}"))
    })
}

/// Stops the member for what the log failed at, before the engine does it without knowing why.
fn note_failure<A>(stop: &Stop, result: &io::Result<A>) {
    if let Err(error) = result {
        // The log of a member that stops may be closed before the engine has ended.
        if stop.is_stopped() && kvorum_wal::is_closed(error) {
            return;
        }
        let error = io::Error::new(error.kind(), error.to_string());
        stop.fail(FatalError::Log(Arc::new(error)));
    }
}

/// Calls `submit` with a callback, and waits for the callback.
async fn wait_for(stop: &Arc<Stop>, submit: impl FnOnce(Done)) -> io::Result<()> {
    let (tx, rx) = oneshot::channel();
    let stop = stop.clone();
    submit(Box::new(move |done| {
        note_failure(&stop, &done);
        drop(tx.send(done));
    }));
    rx.await.map_err(|_| io::Error::other("the log's writer has stopped"))?
}

impl<R: Runtime> RaftLogReader<TypeConfig<R>> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read_all(self.held(range)).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.vote().as_ref().map(vote_from_log))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_some(self.held(start..end), PEER_READ_BYTES_MAX).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        EntryStream {
            range: self.held(range),
            log: self.clone(),
            ready: VecDeque::new(),
            waiting: None,
        }
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> io::Result<Vec<LogId>> {
        let (first, last) = (position(range.start()), position(range.end()));
        let term_at = |index| {
            self.log.term_at(index).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("entry {index} has no term"))
            })
        };
        let mut ends = Vec::new();
        let mut next = first.index;
        while next <= last.index {
            let term = term_at(next)?;
            // The last entry of this term: terms only grow, so it can be searched for.
            let (mut inside, mut outside) = (next, last.index + 1);
            while inside + 1 < outside {
                let middle = inside + (outside - inside) / 2;
                if term_at(middle)? == term { inside = middle } else { outside = middle }
            }
            ends.push(log_id(Position::new(term, inside)));
            next = inside + 1;
        }
        Ok(ends)
    }
}

impl<R: Runtime> RaftLogStorage<TypeConfig<R>> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<R>>> {
        let purged = self.log.purged();
        Ok(LogState {
            last_purged_log_id: purged.map(log_id),
            last_log_id: self.log.last().or(purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.voters.voted(vote);
        if kvorum_types::mutants::is_on("vote-not-synced") {
            self.log.save_vote(vote_to_log(vote), Box::new(drop));
            return Ok(());
        }
        wait_for(&self.stop, |done| self.log.save_vote(vote_to_log(vote), done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.set_committed(position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.committed().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut tickets, mut rooms) = (Vec::new(), Vec::new());
        let mut log_entries = Vec::new();
        for entry in entries {
            let position = entry.position();
            let (kind, payload) = codec::payload_bytes(&entry);
            match entry.payload {
                Payload::Commands(proposal) => {
                    tickets.extend(proposal.ticket.map(|ticket| (ticket, position)));
                    rooms.extend(proposal.room);
                }
                Payload::Membership(membership) => self.voters.appended(position, &membership),
                Payload::Blank => {}
            }
            log_entries.push(LogEntry { position, kind, payload });
        }
        let stop = self.stop.clone();
        let is_early = kvorum_types::mutants::is_on("etcd-14370");
        let (early, callback) =
            if is_early { (Some(callback), None) } else { (None, Some(callback)) };
        let done = move |done| {
            note_failure(&stop, &done);
            if let Some(callback) = callback {
                callback.io_completed(done);
            }
        };
        self.log.append(log_entries, Box::new(done));
        if let Some(callback) = early {
            callback.io_completed(Ok(()));
        }
        // What was kept for the entries is theirs now.
        drop(rooms);
        for (ticket, position) in tickets {
            ticket.appended(position);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let last = last.map(|last| last.index);
        self.voters.overruled();
        if kvorum_types::mutants::is_on("truncate-not-synced") {
            self.log.truncate_after(last, Box::new(drop));
            return Ok(());
        }
        wait_for(&self.stop, |done| self.log.truncate_after(last, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let upto = position(&upto);
        let applied = (self.applied)();
        assert!(
            applied >= Some(upto.index),
            "a purge up to {upto} would remove what is not applied: applied is {applied:?}"
        );
        if self.log.term_at(upto.index) != Some(upto.term) {
            // A snapshot has been installed beyond the log's end: nothing of the log is of use any more.
            self.log.purge(upto);
            return Ok(());
        }
        if kvorum_types::mutants::is_on("purge-past-checkpoint") {
            let applied = applied.unwrap_or_default();
            if let Some(term) = self.log.term_at(applied) {
                self.log.purge(Position::new(term, applied));
            }
            return Ok(());
        }
        let Some(limit) = (self.purge_limit)() else { return Ok(()) };
        let index = upto.index.min(limit);
        if let Some(term) = self.log.term_at(index) {
            self.log.purge(Position::new(term, index));
        }
        Ok(())
    }
}

/// Entries to apply, read a few at a time: from memory at once, from the disk when they come.
struct EntryStream {
    /// What has not been read yet.
    range: Range<u64>,
    log: LogStore,
    ready: VecDeque<LogEntry>,
    waiting: Option<oneshot::Receiver<io::Result<Vec<LogEntry>>>>,
}

impl EntryStream {
    fn take(&mut self, entries: Vec<LogEntry>) -> io::Result<()> {
        check_start(&entries, self.range.start)?;
        self.range.start += entries.len() as u64;
        self.ready.extend(entries);
        Ok(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reading = match self.waiting.take() {
            Some(waiting) => Reading::Waiting(waiting),
            None => self.log.read(self.range.clone(), APPLY_READ_BYTES_MAX),
        };
        let entries = match reading {
            Reading::Done(entries) => entries,
            Reading::Waiting(mut waiting) => match Pin::new(&mut waiting).poll(context) {
                Poll::Ready(read) => read.map_err(|_| reader_gone())??,
                Poll::Pending => {
                    self.waiting = Some(waiting);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(self.take(entries))
    }
}

impl Stream for EntryStream {
    type Item = io::Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Poll::Ready(Some(entry_from_log(entry)));
            }
            if self.range.is_empty() {
                return Poll::Ready(None);
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.range.start = self.range.end;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
