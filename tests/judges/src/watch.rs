//! What clients may rely on when they watch, each watcher beside what really happened.
//!
//! | guarantee | broken when |
//! |---|---|
//! | created first | anything is told before the watcher is said to be there, or that twice |
//! | ordered | a change is told after a later one |
//! | unique | a change is told twice |
//! | atomic | the changes of one revision come apart (fragments of one message count as one) |
//! | reliable | a change between two that are told is not |
//! | resumable | the first that is told is not the first one from the start revision on |
//! | bookmarkable | a revision is told as done before all up to it was told, or is below what was told |
//! | previous value | a key was something else before than is said |
//! | filtered | something is told that was not asked for |
//!
//! Beyond these: what is told has happened so (*true*), and a watcher is cancelled for a compaction only if one took what it
//! still had to be told (*rightly cancelled*).

use std::collections::{BTreeMap, BTreeSet};

use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::Event;
use kvorum_proto::api::mvccpb::event::EventType;

use crate::fault::Fault;
use crate::history::{Heard, History, Input, Moment, Watcher};
use crate::model::{Change, KeyRange, Store};
use crate::words;

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Guarantee {
    /// The watcher is said to be there before anything else.
    CreatedFirst,
    /// Changes come in their order.
    Ordered,
    /// Each comes once.
    Unique,
    /// All of a revision come together.
    Atomic,
    /// None is left out.
    Reliable,
    /// The first is the first wanted.
    Resumable,
    /// What is told to be done is done.
    Bookmarkable,
    /// What a key was before is right.
    PreviousValue,
    /// Nothing comes that was not asked for.
    Filtered,
    /// What is told has happened.
    True,
    /// A cancellation has its reason.
    RightlyCancelled,
}

/// Judges every watcher. `store` is what really happened, as [`crate::linear`] found it.
pub fn check(history: &History, store: &Store) -> Vec<Fault<Guarantee>> {
    let compactions: Vec<(i64, Moment)> = history
        .ops
        .iter()
        .filter_map(|op| match op.input {
            Input::Compact { revision } => Some((revision, op.call)),
            _ => None,
        })
        .collect();
    let judge = |watcher: &Watcher| View::new(store, &compactions, watcher).judge().err();
    history.watchers.iter().filter_map(judge).collect()
}

/// Whether a watcher asks for a change.
pub fn asks_for(request: &WatchCreateRequest, is_delete: bool, key: &[u8]) -> bool {
    let unwanted = if is_delete { FilterType::Nodelete } else { FilterType::Noput };
    let first: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
    KeyRange::new(first, &request.range_end).contains(key)
        && request.filters().all(|filter| filter != unwanted)
}

type Verdict = Result<(), Fault<Guarantee>>;

/// A watcher beside the truth.
struct View<'a> {
    store: &'a Store,
    compactions: &'a [(i64, Moment)],
    watcher: &'a Watcher,
    /// The first revision that is wanted; None: not created yet.
    start: Option<i64>,
    is_over: bool,
    /// What was told: revision, place in it.
    told: BTreeSet<(i64, usize)>,
    /// The newest revision that was told of, or told as done.
    newest: i64,
    /// Up to here all that is wanted was found to be told.
    complete: i64,
    /// Fragments of a message that is not whole yet.
    parts: Vec<&'a Heard>,
}

impl<'a> View<'a> {
    fn new(store: &'a Store, compactions: &'a [(i64, Moment)], watcher: &'a Watcher) -> View<'a> {
        View {
            store,
            compactions,
            watcher,
            start: None,
            is_over: false,
            told: BTreeSet::new(),
            newest: 0,
            complete: 0,
            parts: Vec::new(),
        }
    }

    fn judge(mut self) -> Verdict {
        self.watcher.heard.iter().try_for_each(|heard| self.hear(heard))
    }

    fn fault(
        &self,
        guarantee: Guarantee,
        what: impl Into<String>,
        heard: &Heard,
    ) -> Fault<Guarantee> {
        let heard = format!("[{}] {}", heard.at.place, words::message(&heard.response));
        Fault::new(guarantee, what).between([self.watcher.to_string(), heard])
    }

    fn hear(&mut self, heard: &'a Heard) -> Verdict {
        let response = &heard.response;
        if self.is_over {
            let what = "told after its end";
            return Err(self.fault(Guarantee::RightlyCancelled, what, heard));
        }
        if response.created {
            return self.created(heard);
        }
        let Some(start) = self.start else {
            // What is said of the stream has nothing to do with a watcher that is not there.
            let is_of_stream = response.watch_id < 0 && response.events.is_empty();
            let what = "told before it was said to be there";
            let fault = || self.fault(Guarantee::CreatedFirst, what, heard);
            return if is_of_stream { Ok(()) } else { Err(fault()) };
        };
        if response.canceled {
            return self.canceled(start, heard);
        }
        if response.events.is_empty() && self.parts.is_empty() {
            return self.progress(start, heard);
        }
        self.parts.push(heard);
        if response.fragment {
            return Ok(());
        }
        self.events(start, heard)
    }

    fn created(&mut self, heard: &Heard) -> Verdict {
        if self.start.is_some() {
            return Err(self.fault(Guarantee::CreatedFirst, "said to be there twice", heard));
        }
        if !heard.response.events.is_empty() {
            let what = "told something as it was said to be there";
            return Err(self.fault(Guarantee::CreatedFirst, what, heard));
        }
        let start = match self.watcher.request.start_revision {
            0 => revision(&heard.response) + 1,
            start => start,
        };
        self.start = Some(start);
        self.complete = start - 1;
        self.is_over = heard.response.canceled;
        Ok(())
    }

    fn canceled(&mut self, start: i64, heard: &Heard) -> Verdict {
        self.is_over = true;
        let compacted = heard.response.compact_revision;
        if compacted == 0 {
            return Ok(());
        }
        let next = start.max(self.newest + 1);
        let is_cause =
            |(revision, call): &(i64, Moment)| *revision == compacted && *call < heard.at;
        if next >= compacted || !self.compactions.iter().any(is_cause) {
            let what = format!("cancelled at {compacted} with {next} to be told next");
            return Err(self.fault(Guarantee::RightlyCancelled, what, heard));
        }
        Ok(())
    }

    fn progress(&mut self, start: i64, heard: &Heard) -> Verdict {
        let done = revision(&heard.response);
        // Who asked for no start is told of progress from the start on, even if nothing has happened since.
        let asked = if self.watcher.request.start_revision == 0 { start - 1 } else { start };
        let least = if heard.response.watch_id < 0 { self.newest } else { self.newest.max(asked) };
        if done < least {
            let what = format!("{done} is done after {least}");
            return Err(self.fault(Guarantee::Bookmarkable, what, heard));
        }
        if let Some(missing) = self.missing(done, heard.at) {
            let what = format!("{done} is done, and was not told: {missing}");
            return Err(self.fault(Guarantee::Bookmarkable, what, heard));
        }
        self.newest = self.newest.max(done);
        Ok(())
    }

    /// All fragments of a message.
    fn events(&mut self, start: i64, last: &'a Heard) -> Verdict {
        let parts = std::mem::take(&mut self.parts);
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        let has_told = !self.told.is_empty();
        for heard in &parts {
            for event in &heard.response.events {
                let revision = self.event(start, event, heard)?;
                *counts.entry(revision).or_default() += 1;
            }
        }
        for (revision, count) in &counts {
            let wanted = self.wanted(*revision, last.at).count();
            if *count < wanted {
                let what = format!("{count} of {wanted} changes of {revision} together");
                return Err(self.fault(Guarantee::Atomic, what, last));
            }
        }
        let newest = counts.keys().next_back().copied().unwrap_or_default();
        if revision(&last.response) < newest {
            let what = format!("{newest} is told as of {}", revision(&last.response));
            return Err(self.fault(Guarantee::Bookmarkable, what, last));
        }
        if let Some(missing) = self.missing(newest, last.at) {
            let guarantee = if has_told { Guarantee::Reliable } else { Guarantee::Resumable };
            return Err(self.fault(guarantee, format!("was not told: {missing}"), last));
        }
        Ok(())
    }

    /// One event; its revision.
    fn event(&mut self, start: i64, event: &Event, heard: &Heard) -> Result<i64, Fault<Guarantee>> {
        let kv = event.kv.clone().unwrap_or_default();
        let is_delete = event.r#type() == EventType::Delete;
        let revision = kv.mod_revision;
        let text = words::event(event);
        let fault = |guarantee, what: String| Err(self.fault(guarantee, what, heard));
        if !asks_for(&self.watcher.request, is_delete, &kv.key) {
            return fault(Guarantee::Filtered, format!("nobody asked for {text}"));
        }
        if revision < start {
            return fault(Guarantee::Resumable, format!("{text} is before {start}"));
        }
        let is_it = |change: &Change| change.kv.key == kv.key && change.is_delete == is_delete;
        let changes = self.store.changes(revision).iter().enumerate();
        let same: Vec<(usize, &Change)> = changes.filter(|(_, change)| is_it(change)).collect();
        let Some((last, change)) = same.last() else {
            return fault(Guarantee::True, format!("{text} did not happen"));
        };
        let left = same.iter().find(|(place, _)| !self.told.contains(&(revision, *place)));
        let Some((place, _)) = left else {
            return fault(Guarantee::Unique, format!("{text} again"));
        };
        if same.len() == 1 && change.kv != kv {
            let right = words::key_value(&change.kv);
            return fault(Guarantee::True, format!("{text}, where it was {right}"));
        }
        if self.told.last().is_some_and(|newest| (revision, *last) < *newest)
            || revision <= self.newest
        {
            return fault(Guarantee::Ordered, format!("{text} after {}", self.newest));
        }
        if let Some(previous) = self.wrong_previous(event, heard) {
            let told = event.prev_kv.as_ref().map_or("nothing".to_owned(), words::key_value);
            let what = format!("{text}: it was {previous}, and {told} was told");
            return fault(Guarantee::PreviousValue, what);
        }
        let place = (revision, *place);
        self.told.insert(place);
        Ok(revision)
    }

    /// What a key was before, if something else is said.
    fn wrong_previous(&self, event: &Event, heard: &Heard) -> Option<String> {
        let kv = event.kv.as_ref()?;
        let before = self.store.at(&kv.key, kv.mod_revision - 1);
        let wanted = before.filter(|_| self.watcher.request.prev_kv);
        let may_lack = || {
            let may_be =
                |(revision, call): &(i64, Moment)| *revision >= kv.mod_revision && *call < heard.at;
            self.compactions.iter().any(may_be)
        };
        let is_right = match (&event.prev_kv, wanted) {
            (None, Some(_)) => may_lack(),
            (found, wanted) => found.as_ref() == wanted,
        };
        (!is_right).then(|| wanted.map_or("nothing".to_owned(), words::key_value))
    }

    /// The changes of a revision that are wanted, by their places.
    fn wanted(&self, revision: i64, at: Moment) -> impl Iterator<Item = (usize, &'a Change)> {
        let request = &self.watcher.request;
        let changes = self.store.changes(revision);
        // A compaction leaves of its own revision what a key was last.
        let may_lack = self.compactions.iter().any(|(to, call)| *to == revision && *call < at);
        let is_last = move |place: usize, change: &Change| {
            changes[place + 1..].iter().all(|later| later.kv.key != change.kv.key)
        };
        let asked = move |(place, change): &(usize, &Change)| {
            asks_for(request, change.is_delete, &change.kv.key)
                && (!may_lack || is_last(*place, change))
        };
        changes.iter().enumerate().filter(asked)
    }

    /// A change up to a revision that is wanted and was not told.
    fn missing(&mut self, up_to: i64, at: Moment) -> Option<String> {
        while self.complete < up_to {
            let next = self.complete + 1;
            for (place, change) in self.wanted(next, at) {
                if !self.told.contains(&(next, place)) {
                    let kind = if change.is_delete { "delete" } else { "put" };
                    return Some(format!("{kind} {}", words::key_value(&change.kv)));
                }
            }
            self.complete = next;
        }
        self.newest = self.newest.max(up_to);
        None
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
