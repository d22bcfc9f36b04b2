//! A run that fails is made shorter while it still fails by the same rule.
//!
//! The seed stays, and with it the world; what is left out is time at the end, faults, and clients. Whatever is left out
//! changes who has his turn when, so that a failure may be gone that has nothing to do with it: each step is a run, and what
//! no longer fails is put back. No run is tried twice, and there is a bound to how many are tried.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::run::{Outcome, Plan};
use crate::workload::Mix;

/// How often the time is halved.
const TIME_STEPS: u32 = 6;

/// What of a seed's plan is run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cut {
    /// The faults, by their places in the plan.
    pub faults: BTreeSet<usize>,
    /// How long clients go on, and faults come.
    pub time: Duration,
    /// The clients.
    pub mix: Mix,
}

/// What `kvorum-sim` is told to run a cut of a seed: `--seed 7 --faults 2,5 --millis 3100 --clients 1,0,0,2,0,0,0`.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { faults, time, mix } = self;
        write!(f, "--faults {} --millis {}", list(faults.iter()), time.as_millis())?;
        write!(f, " --clients {}", list(mix.counts().iter()))
    }
}

fn list<T: fmt::Display>(all: impl Iterator<Item = T>) -> String {
    let words: Vec<String> = all.map(|one| one.to_string()).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(",") }
}

/// A list of numbers on a command line; `none` is an empty one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers(pub Vec<u64>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Numbers, String> {
        if text == "none" {
            return Ok(Numbers::default());
        }
        let number = |word: &str| word.parse().map_err(|_| format!("{word} is no number"));
        text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
    }
}

impl Numbers {
    /// As the places of faults.
    pub fn places(&self) -> BTreeSet<usize> {
        self.0.iter().filter_map(|place| usize::try_from(*place).ok()).collect()
    }

    /// As the numbers of clients. None: there are not as many as there are kinds.
    pub fn mix(&self) -> Option<Mix> {
        self.0.as_slice().try_into().ok().map(Mix::of_counts)
    }
}

/// A run that was made shorter.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left.
    pub plan: Plan,
    /// How it ended.
    pub outcome: Outcome,
    /// The rule by which it fails, as the whole run does.
    pub rule: String,
    /// How many runs it took.
    pub runs: usize,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shrunk { plan, outcome, rule, runs } = self;
        let kept = plan.kept();
        writeln!(f, "{outcome}")?;
        writeln!(f, "what is left after {runs} runs, and still fails ({rule}):")?;
        for (at, fault) in &kept {
            writeln!(f, "{:>12.6} {} ({:x})", at.as_secs_f64(), fault.kind.name(), fault.seed)?;
        }
        let (count, time) = (plan.faults.len(), plan.profile.time);
        let (left, all) = (plan.cut.mix, plan.mix);
        writeln!(f, "{} of {count} faults, {:?} of {time:?}", kept.len(), plan.cut.time)?;
        writeln!(f, "{left:?} of {all:?}")
    }
}

/// Makes a run shorter that failed, in at most `runs_max` runs. None: it did not fail.
pub fn shrink(
    plan: &Plan,
    failed: &Outcome,
    runs_max: usize,
    run: impl FnMut(&Plan) -> Outcome,
) -> Option<Shrunk> {
    let rule = failed.wrong.first()?.rule.clone();
    let best = Shrunk { plan: plan.clone(), outcome: failed.clone(), rule, runs: 0 };
    let mut search = Search { best, runs_max, run, tried: Vec::new() };
    loop {
        let before = search.best.plan.cut.clone();
        search.shorten();
        search.thin_out();
        search.send_home();
        if search.best.plan.cut == before || search.best.runs >= runs_max {
            return Some(search.best);
        }
    }
}

struct Search<F> {
    best: Shrunk,
    runs_max: usize,
    run: F,
    /// What no longer failed.
    tried: Vec<Cut>,
}

impl<F: FnMut(&Plan) -> Outcome> Search<F> {
    /// Whether a cut still fails; then it is the best one.
    fn fails(&mut self, cut: Cut) -> bool {
        let best = &mut self.best;
        if best.runs >= self.runs_max || cut == best.plan.cut || self.tried.contains(&cut) {
            return false;
        }
        let plan = Plan { cut, ..best.plan.clone() };
        best.runs += 1;
        let outcome = (self.run)(&plan);
        if outcome.wrong.iter().any(|found| found.rule == best.rule) {
            (best.plan, best.outcome) = (plan, outcome);
            return true;
        }
        self.tried.push(plan.cut);
        false
    }

    /// Ends it earlier.
    fn shorten(&mut self) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut least = 0;
        for _ in 0..TIME_STEPS {
            let time = least + (millis(self.best.plan.cut.time) - least) / 2;
            let mut cut = Cut { time: Duration::from_millis(time), ..self.best.plan.cut.clone() };
            let in_time = Plan { cut: cut.clone(), ..self.best.plan.clone() }.kept().len();
            cut.faults = cut.faults.into_iter().take(in_time).collect();
            if !self.fails(cut) {
                least = time;
            }
        }
    }

    /// Leaves faults out: half of them at once, then a quarter, and one by one in the end.
    fn thin_out(&mut self) {
        let mut size = self.best.plan.cut.faults.len().div_ceil(2);
        while size > 0 {
            let all: Vec<usize> = self.best.plan.cut.faults.iter().copied().collect();
            // From the end: what is late depends on what was before it.
            for some in all.rchunks(size) {
                let mut cut = self.best.plan.cut.clone();
                cut.faults.retain(|place| !some.contains(place));
                self.fails(cut);
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Leaves clients out: all of a kind, or all but one.
    fn send_home(&mut self) {
        for kind in 0..self.best.plan.cut.mix.counts().len() {
            for left in [0, 1] {
                let mut cut = self.best.plan.cut.clone();
                let mut counts = cut.mix.counts();
                if counts.get(kind).is_none_or(|count| *count <= left) {
                    break;
                }
                counts[kind] = left;
                cut.mix = Mix::of_counts(counts);
                if self.fails(cut) {
                    break;
                }
            }
        }
    }
}
