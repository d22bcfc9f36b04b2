//! One function a guarantee. Each looks at a whole run and knows nothing of the others, so that a fault is found by the
//! guarantee that it breaks, whatever else it breaks.

use std::collections::{BTreeMap, BTreeSet};

use kvorum_proto::api::mvccpb::Event;
use kvorum_proto::api::mvccpb::event::EventType;

use super::history::{Change, History, asks_for};
use super::record::{Run, Step, Told, Watch, revision_of};

/// What clients may rely on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Guarantee {
    Ordered,
    Unique,
    Atomic,
    Reliable,
    Resumable,
    Bookmarkable,
    PreviousValue,
    IsCreate,
    Filtered,
    /// What is told has happened.
    True,
    /// Responses are what this protocol allows.
    WellFormed,
}

/// A guarantee that was broken, and how.
#[derive(Clone, Debug)]
pub struct Violation {
    pub guarantee: Guarantee,
    /// Who was told, and by which member.
    pub place: String,
    pub what: String,
}

/// How a guarantee was broken, if it was.
type Verdict = Result<(), String>;

/// Everything that one client was told and should not have been, or the other way round.
pub fn check(history: &History, watch: &Watch) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut asked = None;
    let mut told_up_to = 0;
    for (number, run) in watch.runs.iter().enumerate() {
        let place = format!("{}, run {number} at member {}", watch.name, run.member);
        let report = |(guarantee, what)| Violation { guarantee, place: place.clone(), what };
        let steps = match run.steps() {
            Ok(steps) => steps,
            Err(what) => {
                violations.push(report((Guarantee::WellFormed, what)));
                return violations;
            }
        };
        let view = View { history, run, steps };
        violations.extend(view.broken(asked).into_iter().map(report));
        asked = view.next_start().or(asked);
        told_up_to = view.told_up_to().unwrap_or(told_up_to);
    }
    if told_up_to < watch.up_to {
        let what = format!("told up to {told_up_to}, waited for {}", watch.up_to);
        let place = watch.name.clone();
        violations.push(Violation { guarantee: Guarantee::Reliable, place, what });
    }
    violations
}

/// A run beside the history.
struct View<'a> {
    history: &'a History,
    run: &'a Run,
    steps: Vec<Step>,
}

impl View<'_> {
    /// The guarantees that do not hold. `asked` is where the run had to begin, for all but the first.
    fn broken(&self, asked: Option<i64>) -> Vec<(Guarantee, String)> {
        let verdicts = [
            (Guarantee::Ordered, self.ordered()),
            (Guarantee::Unique, self.unique()),
            (Guarantee::Atomic, self.atomic()),
            (Guarantee::Reliable, self.reliable()),
            (Guarantee::Resumable, self.resumable(asked)),
            (Guarantee::Bookmarkable, self.bookmarkable()),
            (Guarantee::PreviousValue, self.previous_value()),
            (Guarantee::IsCreate, self.is_create()),
            (Guarantee::Filtered, self.filtered()),
            (Guarantee::True, self.is_true()),
            (Guarantee::WellFormed, self.rightly_cancelled()),
        ];
        let broken = verdicts.into_iter();
        broken.filter_map(|(guarantee, verdict)| Some((guarantee, verdict.err()?))).collect()
    }

    fn ordered(&self) -> Verdict {
        let mut last = (0, 0);
        for event in self.events() {
            let revision = revision_of(event);
            let place = self.change_of(event).map_or(0, |(place, _)| place);
            if (revision, place) < last {
                return Err(format!("{} after change {last:?}", text(event)));
            }
            last = (revision, place);
        }
        Ok(())
    }

    fn unique(&self) -> Verdict {
        let mut seen = BTreeSet::new();
        for event in self.events() {
            if !seen.insert((revision_of(event), key_of(event))) {
                return Err(format!("{} again", text(event)));
            }
        }
        Ok(())
    }

    fn atomic(&self) -> Verdict {
        let first = self.events().map(revision_of).min().unwrap_or_default();
        let wanted: BTreeMap<i64, usize> = self.history.wanted(&self.run.request, first).collect();
        let mut done = BTreeSet::new();
        for told in self.told() {
            let mut parts: BTreeMap<i64, BTreeSet<&[u8]>> = BTreeMap::new();
            for event in &told.events {
                parts.entry(revision_of(event)).or_default().insert(key_of(event));
            }
            for (revision, keys) in parts {
                let wanted = wanted.get(&revision).copied().unwrap_or_default();
                if keys.len() < wanted {
                    return Err(format!("{} of {wanted} changes of {revision}", keys.len()));
                }
                if !done.insert(revision) {
                    return Err(format!("{revision} in two responses"));
                }
            }
        }
        Ok(())
    }

    fn reliable(&self) -> Verdict {
        let told: BTreeSet<i64> = self.events().map(revision_of).collect();
        let (Some(first), Some(last)) = (told.first(), told.last()) else { return Ok(()) };
        let start = self.first_wanted().unwrap_or_default().max(*first);
        let mut wanted = self.history.wanted(&self.run.request, start);
        match wanted.find(|(revision, _)| revision < last && !told.contains(revision)) {
            Some((revision, _)) => Err(format!("{revision} is missing before {last}")),
            None => Ok(()),
        }
    }

    fn resumable(&self, asked: Option<i64>) -> Verdict {
        let begun = self.run.request.start_revision;
        if asked.is_some_and(|asked| asked != begun) {
            return Err(format!("goes on from {begun} instead of {asked:?}"));
        }
        let Some(first_wanted) = self.first_wanted() else { return Ok(()) };
        let Some(first) = self.events().map(revision_of).min() else { return Ok(()) };
        if first < first_wanted {
            return Err(format!("{first} is told, wanted from {first_wanted} on"));
        }
        match self.history.wanted(&self.run.request, first_wanted).next() {
            Some((wanted, _)) if wanted < first => {
                Err(format!("begins with {first} instead of {wanted}"))
            }
            _ => Ok(()),
        }
    }

    fn bookmarkable(&self) -> Verdict {
        let Some(start) = self.first_wanted() else { return Ok(()) };
        let mut wanted = self.history.wanted(&self.run.request, start).peekable();
        let mut told = BTreeSet::new();
        let mut newest = 0;
        for step in &self.steps {
            match step {
                Step::Events(response) => {
                    told.extend(response.events.iter().map(revision_of));
                    newest = told.last().copied().unwrap_or_default().max(newest);
                    if response.revision < newest {
                        return Err(format!("{newest} is told as of {}", response.revision));
                    }
                }
                Step::Progress { revision } => {
                    // Before the start nothing is known, so none may be told.
                    let least = newest.max(self.run.request.start_revision);
                    if *revision < least {
                        return Err(format!("progress {revision} after {least}"));
                    }
                    while let Some((wanted, _)) = wanted.next_if(|(wanted, _)| wanted <= revision) {
                        if !told.contains(&wanted) {
                            return Err(format!("progress {revision} before {wanted}"));
                        }
                    }
                    newest = *revision;
                }
                Step::Created { .. } | Step::Compacted { .. } => {}
            }
        }
        Ok(())
    }

    fn previous_value(&self) -> Verdict {
        for told in self.told() {
            for event in &told.events {
                let Some((_, change)) = self.change_of(event) else { continue };
                let wanted = change.previous.as_ref().filter(|_| self.run.request.prev_kv);
                let may_lack = self.history.may_lack_previous(revision_of(event), told.at);
                let is_right = match (&event.prev_kv, wanted) {
                    (None, Some(_)) => may_lack,
                    (found, wanted) => found.as_ref() == wanted,
                };
                if !is_right {
                    return Err(format!("{} was {:?}", text(event), event.prev_kv));
                }
            }
        }
        Ok(())
    }

    fn is_create(&self) -> Verdict {
        for event in self.events() {
            let (Some((_, change)), Some(kv)) = (self.change_of(event), &event.kv) else {
                continue;
            };
            let found = (kv.create_revision, kv.version);
            let wanted = (change.kv.create_revision, change.kv.version);
            if found != wanted {
                let what = format!("(created, version) {found:?}, not {wanted:?}");
                return Err(format!("{}: {what}", text(event)));
            }
        }
        Ok(())
    }

    fn filtered(&self) -> Verdict {
        let asked = |event: &&Event| asks_for(&self.run.request, event.r#type(), key_of(event));
        match self.events().find(|event| !asked(event)) {
            Some(event) => Err(text(event)),
            None => Ok(()),
        }
    }

    fn is_true(&self) -> Verdict {
        for event in self.events() {
            let found = event.kv.as_ref().map(|kv| (event.r#type(), &kv.value, kv.lease));
            let change = self.change_of(event).map(|(_, change)| change);
            let wanted = change.map(|change| (change.kind, &change.kv.value, change.kv.lease));
            if found.is_none() || found != wanted {
                return Err(format!("{} is not what happened: {change:?}", text(event)));
            }
        }
        Ok(())
    }

    /// A watcher is cancelled as compacted only by a compaction that took what it still had to be told.
    fn rightly_cancelled(&self) -> Verdict {
        let Some(Step::Compacted { at, compact_revision }) = self.steps.last() else {
            let is_cancelled = |step: &&Step| matches!(step, Step::Compacted { .. });
            return match self.steps.iter().find(is_cancelled) {
                Some(step) => Err(format!("told more after {step:?}")),
                None => Ok(()),
            };
        };
        let next = self.told_up_to().unwrap_or_default() + 1;
        let may_be = self.history.may_be_compacted_to(*compact_revision, *at);
        if !may_be || next >= *compact_revision {
            return Err(format!("cancelled at {compact_revision} with {next} still to be told"));
        }
        Ok(())
    }

    /// The first revision that may be told; none as long as the watcher was not created.
    fn first_wanted(&self) -> Option<i64> {
        let Some(Step::Created { revision }) = self.steps.first() else { return None };
        match self.run.request.start_revision {
            0 => Some(revision + 1),
            start => Some(start),
        }
    }

    /// Up to where the client has been told everything.
    fn told_up_to(&self) -> Option<i64> {
        let mut told = self.first_wanted()? - 1;
        for step in &self.steps {
            let revision = match step {
                Step::Events(response) => response.events.iter().map(revision_of).max(),
                Step::Progress { revision } => Some(*revision),
                Step::Created { .. } | Step::Compacted { .. } => None,
            };
            told = told.max(revision.unwrap_or_default());
        }
        Some(told)
    }

    /// Where the client must go on.
    fn next_start(&self) -> Option<i64> {
        match self.steps.last() {
            Some(Step::Compacted { compact_revision, .. }) => Some(*compact_revision),
            _ => Some(self.told_up_to()? + 1),
        }
    }

    fn told(&self) -> impl Iterator<Item = &Told> {
        self.steps.iter().filter_map(|step| match step {
            Step::Events(told) => Some(told),
            _ => None,
        })
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.told().flat_map(|told| &told.events)
    }

    fn change_of(&self, event: &Event) -> Option<(usize, &Change)> {
        self.history.change(revision_of(event), key_of(event))
    }
}

fn key_of(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(b"", |kv| &kv.key)
}

fn text(event: &Event) -> String {
    let kind = match event.r#type() {
        EventType::Put => "put",
        EventType::Delete => "delete",
    };
    let key = String::from_utf8_lossy(key_of(event));
    format!("{kind} {key} @{}", revision_of(event))
}
