//! The search for an order.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::entries::Entries;
use super::evidence::{Agreement, Evidence, makes_revision};
use super::{Limits, Order, Rule, Verdict};
use crate::fault::Fault;
use crate::history::{History, Input, Op, Output, Refusal};
use crate::model::{Effect, Outcome, Store, mixed};
use crate::words;

/// What has its place in an order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The request at this place in the history.
    Op(usize),
    /// The end of a lease by its time.
    Expiry(i64),
    /// A request on keys that are not looked at.
    Foreign,
}

/// What may come next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Choice {
    /// The answered request of this number.
    Answered(usize),
    /// The request of unknown outcome of this number.
    Unknown(usize),
    Expiry(i64),
    Foreign,
}

/// A choice that was made, and what it did.
#[derive(Clone, Copy, Debug)]
struct Made {
    choice: Choice,
    effect: Effect,
}

/// A point at which there was a choice.
#[derive(Debug)]
struct Fork {
    /// How much had been done.
    done: usize,
    /// What else may be tried, the best last.
    choices: Vec<Choice>,
}

struct Answered<'a> {
    index: usize,
    op: &'a Op,
    /// The answer without its headers.
    bare: Output,
    revision: Option<i64>,
}

/// What stood in the way at the point that was come to with the most requests placed.
#[derive(Debug, Default)]
struct Deepest {
    placed: usize,
    revision: i64,
    /// The writer of that revision.
    before: Option<Place>,
    reasons: Vec<String>,
}

/// Requests that are not looked at, because they are on other keys.
struct Others {
    /// Revisions that one of them says it made.
    made: BTreeSet<i64>,
    /// What those that are looked at show: of other keys they say nothing.
    shown: Evidence,
}

impl Others {
    fn new(history: &History, part: &[usize]) -> Others {
        let shown = Evidence::of(part.iter().map(|index| &history.ops[*index]));
        let part: HashSet<usize> = part.iter().copied().collect();
        let ops = history.ops.iter().enumerate().filter(|(index, _)| !part.contains(index));
        let writers = ops.filter(|(_, op)| op.end.is_some() && makes_revision(&op.output));
        Others { made: writers.filter_map(|(_, op)| op.output.revision()).collect(), shown }
    }

    fn may_make(&self, revision: i64) -> bool {
        self.shown.agrees(revision, &[]).is_some()
    }
}

struct Search<'a> {
    answered: Vec<Answered<'a>>,
    unknown: Vec<(usize, &'a Op)>,
    history: &'a History,
    evidence: Evidence,
    /// Revisions that an answered request says it made.
    made: BTreeSet<i64>,
    /// How many answered requests of a revision have no place yet.
    waiting: BTreeMap<i64, usize>,
    /// Those on other keys, if not all requests are looked at.
    others: Option<Others>,
    /// Watchers and members' own states are taken at their word.
    believes: bool,
    entries: Entries,
    store: Store,
    used: Vec<bool>,
    done: Vec<Made>,
    placed: usize,
    /// Of the requests that have a place.
    placed_hash: u128,
    tried: HashSet<u128>,
    steps: u64,
    deepest: Deepest,
}

/// Looks for an order of the requests at these places in the history, which are all there are.
///
/// Others are judged by the order that is found, so one that agrees with all that they showed is looked for first. Without
/// one they are wrong, if the requests have any order at all.
pub fn run_believing(history: &History, all: Vec<usize>, limits: &Limits) -> Verdict {
    let mut search = Search::new(history, all, false);
    search.believes = true;
    search.decide(limits)
}

/// Looks for an order of these requests, whatever others showed.
pub fn run(history: &History, all: Vec<usize>, limits: &Limits) -> Verdict {
    Search::new(history, all, false).decide(limits)
}

/// Looks for an order of some requests, beside others on other keys.
pub fn run_part(history: &History, part: Vec<usize>, limits: &Limits) -> Verdict {
    Search::new(history, part, true).decide(limits)
}

impl<'a> Search<'a> {
    fn new(history: &'a History, all: Vec<usize>, has_foreign: bool) -> Search<'a> {
        let others = has_foreign.then(|| Others::new(history, &all));
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        let mut waiting = BTreeMap::new();
        for index in all {
            let op = &history.ops[index];
            if op.end.is_none() {
                unknown.push((index, op));
                continue;
            }
            let revision = op.output.revision();
            if let Some(revision) = revision {
                *waiting.entry(revision).or_default() += 1;
            }
            answered.push(Answered { index, op, bare: op.output.bare(), revision });
        }
        unknown.sort_by_key(|(_, op)| op.call);
        let writers = answered.iter().filter(|answered| makes_revision(&answered.op.output));
        let ends = answered.iter().map(|answered| {
            let end = answered.op.end.unwrap_or(answered.op.call);
            (answered.op.call.place, end.place)
        });
        Search {
            made: writers.filter_map(|answered| answered.revision).collect(),
            entries: Entries::new(ends),
            evidence: Evidence::new(history),
            others,
            used: vec![false; unknown.len()],
            answered,
            unknown,
            history,
            waiting,
            believes: false,
            store: Store::default(),
            done: Vec::new(),
            placed: 0,
            placed_hash: 0,
            tried: HashSet::new(),
            steps: 0,
            deepest: Deepest::default(),
        }
    }

    fn decide(mut self, limits: &Limits) -> Verdict {
        let mut forks: Vec<Fork> = Vec::new();
        loop {
            self.place_all_that_changes_nothing();
            if self.is_complete() {
                return Verdict::Linearizable(Box::new(self.order()));
            }
            let choices = self.choices();
            if choices.is_empty() {
                self.note_how_deep();
            }
            let is_new = choices.len() < 2 || self.tried.insert(self.hash());
            let choices = if is_new { choices } else { Vec::new() };
            forks.push(Fork { done: self.done.len(), choices });
            if !self.choose(&mut forks) {
                return Verdict::Refused(self.refusal());
            }
            if self.steps > limits.steps_max {
                let (placed, of) = (self.deepest.placed.max(self.placed), self.answered.len());
                return Verdict::Undecided { steps: self.steps, placed, of };
            }
        }
    }

    fn is_complete(&self) -> bool {
        let is_all_shown = !self.believes || self.store.revision() >= self.evidence.last_shown();
        self.placed == self.answered.len() && is_all_shown
    }

    /// Makes the best choice that is left at the last fork that has any. Whether there was one.
    fn choose(&mut self, forks: &mut Vec<Fork>) -> bool {
        while let Some(fork) = forks.last_mut() {
            while self.done.len() > fork.done {
                self.take_back();
            }
            if let Some(choice) = fork.choices.pop() {
                let effect = self.effect(choice);
                self.make(Made { choice, effect });
                return true;
            }
            forks.pop();
        }
        false
    }

    /// Carries out what `choices` has found to be possible.
    fn effect(&mut self, choice: Choice) -> Effect {
        match choice {
            Choice::Answered(number) => self.store.execute(&self.answered[number].op.input).1,
            Choice::Unknown(number) => self.store.execute(&self.unknown[number].1.input).1,
            Choice::Expiry(lease) => self.store.expire(lease),
            Choice::Foreign => self.store.pass(),
        }
    }

    fn make(&mut self, made: Made) {
        match made.choice {
            Choice::Answered(number) => {
                self.entries.lift(number);
                self.placed += 1;
                if let Some(revision) = self.answered[number].revision {
                    *self.waiting.entry(revision).or_default() -= 1;
                }
                self.placed_hash ^= mixed(1, &number);
            }
            Choice::Unknown(number) => {
                self.used[number] = true;
                self.placed_hash ^= mixed(2, &number);
            }
            Choice::Expiry(_) | Choice::Foreign => {}
        }
        self.done.push(made);
    }

    fn take_back(&mut self) {
        let Some(made) = self.done.pop() else { return };
        match made.choice {
            Choice::Answered(number) => {
                self.entries.put_back(number);
                self.placed -= 1;
                if let Some(revision) = self.answered[number].revision {
                    *self.waiting.entry(revision).or_default() += 1;
                }
                self.placed_hash ^= mixed(1, &number);
            }
            Choice::Unknown(number) => {
                self.used[number] = false;
                self.placed_hash ^= mixed(2, &number);
            }
            Choice::Expiry(_) | Choice::Foreign => {}
        }
        self.store.take_back(made.effect);
    }

    fn hash(&self) -> u128 {
        mixed(self.store.hash(), &self.placed_hash)
    }

    /// Places every request that fits now and changes nothing: whatever else comes, it could have come here.
    fn place_all_that_changes_nothing(&mut self) {
        loop {
            let before = self.placed;
            for number in self.entries.next() {
                if self.fits(number) == Some(Effect::None) {
                    self.make(Made { choice: Choice::Answered(number), effect: Effect::None });
                }
            }
            if self.placed == before {
                return;
            }
        }
    }

    /// What an answered request does if it comes next; None: its answer would be wrong. Nothing is changed.
    fn fits(&mut self, number: usize) -> Option<Effect> {
        let Answered { op, bare, revision, .. } = &self.answered[number];
        let now = self.store.revision();
        if revision.is_some_and(|revision| revision != now && revision != now + 1) {
            return None;
        }
        self.steps += 1;
        if let Output::Rejected(refusal) = bare {
            return self.store.rejects(&op.input, refusal).then_some(Effect::None);
        }
        let (outcome, effect) = self.store.execute(&op.input);
        let is_right = matches!(&outcome, Outcome::Answer(answer) if answer.bare() == *bare)
            && *revision == Some(self.store.revision())
            && !(self.believes && effect == Effect::Revision && self.is_contradicted());
        self.store.take_back(effect);
        is_right.then_some(effect)
    }

    /// Whether somebody showed something else of the newest revision than it is.
    fn is_contradicted(&self) -> bool {
        let now = self.store.revision();
        self.evidence.agrees(now, self.store.changes(now)) == Some(Agreement::Doubtful)
    }

    /// What may come next, the best last.
    fn choices(&mut self) -> Vec<Choice> {
        let now = self.store.revision();
        let next = self.entries.next();
        let mut choices = Vec::new();
        if next.iter().any(|number| self.waits_for_compaction(*number)) {
            choices.extend(self.unknown_compactions());
        }
        let is_left_behind = self.waiting.get(&now).is_some_and(|count| *count > 0);
        if !is_left_behind && !self.made.contains(&(now + 1)) {
            choices.extend(self.guesses());
        }
        for number in next {
            let may_be = match self.fits(number) {
                Some(Effect::Revision) => !is_left_behind && self.may_make_next(number),
                Some(Effect::Compaction(_)) => true,
                _ => false,
            };
            if may_be {
                choices.push(Choice::Answered(number));
            }
        }
        choices
    }

    fn may_make_next(&self, number: usize) -> bool {
        let next = self.store.revision() + 1;
        !self.made.contains(&next) || makes_revision(&self.answered[number].op.output)
    }

    fn waits_for_compaction(&self, number: usize) -> bool {
        self.answered[number].bare == Output::Rejected(Refusal::Compacted)
    }

    /// The requests of unknown outcome that may be next.
    fn open(&self) -> Vec<usize> {
        let first_answer = self.entries.first_answer().unwrap_or(u64::MAX);
        let called = self.unknown.iter().take_while(|(_, op)| op.call.place < first_answer);
        let numbers = called.enumerate().map(|(number, _)| number);
        numbers.filter(|number| !self.used[*number]).collect()
    }

    fn unknown_compactions(&mut self) -> Vec<Choice> {
        let mut choices = Vec::new();
        for number in self.open() {
            let input = &self.unknown[number].1.input;
            if !matches!(input, Input::Compact { .. }) {
                continue;
            }
            self.steps += 1;
            let (_, effect) = self.store.execute(input);
            self.store.take_back(effect);
            if effect != Effect::None {
                choices.push(Choice::Unknown(number));
            }
        }
        choices
    }

    /// Who may have made the next revision without having been told so, the most likely last.
    fn guesses(&mut self) -> Vec<Choice> {
        let next = self.store.revision() + 1;
        if self.others.as_ref().is_some_and(|others| others.made.contains(&next)) {
            return vec![Choice::Foreign];
        }
        let open = self.open().into_iter();
        let unknown =
            open.filter(|number| !matches!(self.unknown[*number].1.input, Input::Compact { .. }));
        let expiries = self.store.leases().into_iter().map(Choice::Expiry);
        let all: Vec<Choice> = unknown.map(Choice::Unknown).chain(expiries).collect();
        let mut guesses: Vec<(Agreement, Choice)> = Vec::new();
        for choice in all {
            self.steps += 1;
            let effect = self.effect(choice);
            let mut agreement = self.evidence.agrees(next, self.store.changes(next));
            self.store.take_back(effect);
            if let Choice::Unknown(number) = choice
                && self.evidence.was_told_before(next, self.unknown[number].1.call)
            {
                // Whoever showed it is judged elsewhere, so that it is no proof.
                agreement = agreement.map(|_| Agreement::Doubtful);
            }
            if let (Effect::Revision, Some(agreement)) = (effect, agreement)
                && !(self.believes && agreement == Agreement::Doubtful)
            {
                guesses.push((agreement, choice));
            }
        }
        let last = self.waiting.last_key_value().map_or(1, |(revision, _)| *revision);
        if next <= last && self.others.as_ref().is_some_and(|others| others.may_make(next)) {
            // Without a witness it is as likely somebody else's.
            guesses.push((Agreement::Shown, Choice::Foreign));
        }
        guesses.sort_by_key(|(agreement, _)| std::cmp::Reverse(*agreement));
        guesses.into_iter().map(|(_, choice)| choice).collect()
    }

    fn note_how_deep(&mut self) {
        if self.placed < self.deepest.placed
            || !self.deepest.reasons.is_empty() && self.placed == self.deepest.placed
        {
            return;
        }
        let reasons = self.entries.next().into_iter().map(|number| self.reason(number)).collect();
        let maker = self.done.iter().rev().find(|made| made.effect == Effect::Revision);
        let before = maker.map(|made| self.place(made.choice));
        let (placed, revision) = (self.placed, self.store.revision());
        self.deepest = Deepest { placed, revision, before, reasons };
    }

    /// Why an answered request cannot come next.
    fn reason(&mut self, number: usize) -> String {
        let op = self.answered[number].op;
        let (outcome, effect) = self.store.execute(&op.input);
        let revision = self.store.revision();
        self.store.take_back(effect);
        let right = match outcome {
            Outcome::Answer(answer) => format!("{}, revision {revision}", words::output(&answer)),
            Outcome::Refused(refusals) => format!("rejected: {refusals:?}"),
        };
        format!("{op}\n      next would be right: {right}")
    }

    fn place(&self, choice: Choice) -> Place {
        match choice {
            Choice::Answered(number) => Place::Op(self.answered[number].index),
            Choice::Unknown(number) => Place::Op(self.unknown[number].0),
            Choice::Expiry(lease) => Place::Expiry(lease),
            Choice::Foreign => Place::Foreign,
        }
    }

    fn order(mut self) -> Order {
        self.go_on_to_what_was_shown();
        let places = self.done.iter().map(|made| self.place(made.choice)).collect();
        Order { places, steps: self.steps, store: self.store }
    }

    /// Requests and expiries without an answer that nobody needs, but that watchers or single members showed.
    fn go_on_to_what_was_shown(&mut self) {
        while self.evidence.last_shown() > self.store.revision() && self.others.is_none() {
            let Some(choice) = self.guesses().pop() else { return };
            let effect = self.effect(choice);
            self.make(Made { choice, effect });
        }
    }

    fn refusal(self) -> Fault<Rule> {
        let Deepest { placed, revision, before, reasons } = self.deepest;
        let all = self.answered.len();
        let what = format!(
            "{placed} of {all} requests have a place, up to revision {revision}; none of these can be next"
        );
        let before = match before {
            Some(Place::Op(index)) => format!("made {revision}: {}", self.history.ops[index]),
            Some(Place::Expiry(lease)) => format!("made {revision}: the end of lease {lease:x}"),
            Some(Place::Foreign) => format!("made {revision}: a request on other keys"),
            None => "nothing was written before".to_owned(),
        };
        Fault::new(Rule::SomeOrder, what).between([before]).between(reasons)
    }
}
