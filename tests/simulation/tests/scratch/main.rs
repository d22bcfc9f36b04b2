mod truth;
use kvorum_simulation::run::Plan;

#[test]
fn scratch() {
    let of = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    if let Ok(name) = std::env::var("MUTANT") {
        #[cfg(feature = "mutants")]
        kvorum_types::mutants::choose(&name);
    }
    let (from, count) = (of("FROM", 1), of("N", 1));
    for seed in from..from + count {
        let begun = std::time::Instant::now();
        let plan = Plan::draw(seed);
        let run = std::panic::catch_unwind(|| plan.run_judged(truth::judge));
        let Ok(outcome) = run else {
            println!("RESULT seed {seed} PANICKED");
            return;
        };
        println!(
            "RESULT seed {seed} hash {:016x} requests {} events {} time {:?} wall {:?} wrong {} {:?}",
            outcome.hash,
            outcome.requests,
            outcome.events,
            outcome.time,
            begun.elapsed(),
            outcome.wrong.len(),
            outcome.faults
        );
        for wrong in outcome.wrong.iter().take(of("SHOW", 2) as usize) {
            println!("WRONG {}", wrong.chars().take(of("WIDTH", 300) as usize).collect::<String>());
        }
        if std::env::var("TRACE").is_ok() {
            for event in &outcome.last_events {
                println!("{event}");
            }
        }
        if !outcome.wrong.is_empty() && of("STOP", 1) == 1 {
            return;
        }
    }
}
