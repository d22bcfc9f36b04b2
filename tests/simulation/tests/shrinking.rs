//! A run that fails is made shorter: it still fails by the same rule, has less in it, and its command is the same run again.

use std::process::Command;
use std::time::Duration;

use kvorum_judges::verdict::Found;
use kvorum_simulation::faults::Kind;
use kvorum_simulation::run::{Outcome, Plan};
use kvorum_simulation::shrink::{Cut, Numbers, Shrunk, shrink};
use kvorum_simulation::workload::record::{Asked, History, Told};

/// A rule that real members break, if only something goes wrong around them.
const RULE: &str = "planted: every put is answered";

/// A judge who wants what no cluster can give.
fn judge(history: &History) -> Vec<Found> {
    let is_unknown_put =
        |(asked, told): (&Asked, &Told)| matches!(asked, Asked::Put(_)) && *told == Told::Unknown;
    let unknown = history.requests.iter().map(|request| (&request.asked, &request.told));
    let found = unknown.filter(|request| is_unknown_put(*request)).take(1);
    found.map(|(asked, _)| Found { rule: RULE.to_owned(), what: format!("{asked:?}") }).collect()
}

fn run(plan: &Plan) -> Outcome {
    plan.run_judged(judge)
}

/// The first seed that fails by the planted rule and by none before it, made shorter.
fn shrunk(runs_max: usize) -> (Plan, Shrunk) {
    for seed in 1.. {
        let plan = Plan::draw(seed);
        let outcome = run(&plan);
        if outcome.wrong.first().is_some_and(|found| found.rule == RULE) {
            let shrunk = shrink(&plan, &outcome, runs_max, run).expect("it failed");
            return (plan, shrunk);
        }
    }
    unreachable!("in some seed a put is not answered")
}

/// The cut that is in the text of one, as `kvorum-sim` reads it.
fn read(text: &str) -> Cut {
    let words: Vec<&str> = text.split(' ').collect();
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name).expect("an option");
        words[place + 1]
    };
    let numbers = |name| after(name).parse::<Numbers>().expect("numbers");
    Cut {
        faults: numbers("--faults").places(),
        time: Duration::from_millis(after("--millis").parse().expect("a number")),
        mix: numbers("--clients").mix().expect("each kind"),
    }
}

#[test]
fn a_shorter_run_still_fails_by_the_same_rule() {
    let (plan, shrunk) = shrunk(60);
    let Shrunk { plan: short, outcome, rule, runs } = &shrunk;
    assert_eq!(rule, RULE);
    assert!(outcome.wrong.iter().any(|found| found.rule == RULE), "{outcome}");
    assert!(*runs <= 60, "{runs} runs");
    let (kept, all) = (short.kept().len(), plan.kept().len());
    assert!(kept < all, "{kept} of {all} faults are left");
    assert!(short.cut.faults.is_subset(&plan.cut.faults));
    assert!(short.cut.time < plan.cut.time, "{:?} of {:?} are left", short.cut.time, plan.cut.time);
    let clients = |cut: &Cut| cut.mix.counts().iter().sum::<u64>();
    assert!(clients(&short.cut) < clients(&plan.cut), "{:?} are left", short.cut.mix);
    // Nobody loses an answer to a fast clock alone.
    let harmless = [Kind::ClockRate, Kind::ClockLeap, Kind::Defragmentation, Kind::Reset];
    let is_harmless = short.kept().iter().all(|(_, fault)| harmless.contains(&fault.kind));
    assert!(!is_harmless, "{:?} breaks no promise", short.kept());
    let again = run(short);
    assert_eq!((again.hash, &again.wrong), (outcome.hash, &outcome.wrong));
}

#[test]
fn the_command_of_a_shorter_run_is_the_same_run() {
    let (plan, shrunk) = shrunk(10);
    let cut = &shrunk.plan.cut;
    assert_ne!(*cut, plan.cut);
    assert_eq!(read(&cut.to_string()), *cut);
    let text = format!("--verbose --shrink 0 --seed {} {cut}", plan.seed);
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvorum-sim"));
    let output = program.args(text.split(' ')).output().expect("the program runs");
    let told = String::from_utf8(output.stdout).expect("text");
    // Nobody judges there as is done here: all is well.
    assert!(output.status.success(), "{told}");
    let hash = format!("hash {:016x}", shrunk.outcome.hash);
    assert!(told.contains(&hash), "{hash} is not in:\n{told}");
}

#[test]
fn there_is_a_bound_to_the_runs() {
    let (plan, shrunk) = shrunk(0);
    assert_eq!((shrunk.runs, &shrunk.plan.cut), (0, &plan.cut));
    let mut count = 0;
    let counted = |plan: &Plan| {
        count += 1;
        run(plan)
    };
    let failed = run(&plan);
    let shrunk = shrink(&plan, &failed, 7, counted).expect("it failed");
    assert_eq!(shrunk.runs, count);
    assert!(count <= 7, "{count} runs");
}

#[test]
fn what_did_not_fail_is_not_made_shorter() {
    let plan = Plan::draw(1);
    let outcome = Outcome { wrong: Vec::new(), ..run(&plan) };
    assert!(shrink(&plan, &outcome, 60, run).is_none());
}

#[test]
fn an_empty_list_has_a_name() {
    let mut cut = Plan::draw(1).cut;
    cut.faults.clear();
    assert!(cut.to_string().starts_with("--faults none "), "{cut}");
    assert_eq!(read(&cut.to_string()), cut);
    assert!("1,x".parse::<Numbers>().is_err());
    assert!("1,2".parse::<Numbers>().expect("numbers").mix().is_none());
}
