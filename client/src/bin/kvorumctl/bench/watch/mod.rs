//! `bench watch`: putters and watchers in one process.
//!
//! Every put carries a number in its value, and the time it was sent is kept; so each event says how long it took from the
//! put's sending to this watcher. At the end every watcher must have been told of every put that was answered, once, in
//! the order of revisions: what is not so is counted.
//!
//! | file | does |
//! |---|---|
//! | `ledger` | the puts: when sent, whether answered, whether seen |
//! | `watcher` | what each watcher was told, and what is wrong with it |
//! | `stream` | gRPC streams with many watchers each |
//! | `figures` | what is printed |

mod figures;
pub mod ledger;
mod stream;
mod watcher;

use std::cell::RefCell;
use std::io::{Write, stdout};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::keys::Values;
use super::load::{Load, Pace};
use super::plan::Plan;
use super::process::Meter;
use super::report::Format;
use super::work::Work;
use super::{connect, fill, run_phase};
use crate::failure::{BAD_CONNECTION, ERROR, Failure};
use crate::session::Session;
use figures::Figures;
use ledger::Ledger;
use stream::Stream;
use watcher::Tally;

/// How long all watchers together may be told of nothing before what is missing counts as missed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether all has been told.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Runs the benchmark and prints its report.
pub async fn run(
    plan: &Plan,
    session: &Session,
    meter: Meter,
    format: Format,
) -> Result<(), Failure> {
    let figures = measure(plan, session, meter, format).await?;
    let text = match format {
        Format::Text => figures.text(),
        Format::Json => figures.json() + "\n",
    };
    stdout().write_all(text.as_bytes())?;
    if figures.puts.succeeded() == 0 {
        return Err(Failure::new(ERROR, "no put succeeded"));
    }
    if !figures.is_faultless() {
        return Err(Failure::new(ERROR, "watchers were not told of every put, once and in order"));
    }
    Ok(())
}

/// Connects, watches, warms up, and measures.
async fn measure(
    plan: &Plan,
    session: &Session,
    mut meter: Meter,
    format: Format,
) -> Result<Figures, Failure> {
    let timeout = session.client.config().request_timeout;
    let lanes = connect(plan.connections, session).await?;
    if plan.fill {
        fill(plan, timeout, &lanes, format).await?;
    }
    let resident_bytes_before = meter.stop().server_resident_bytes();
    let ledger: Rc<RefCell<Ledger>> = Rc::default();
    let tally = Rc::new(RefCell::new(Tally::new(plan.watch.watchers, ledger.clone())));
    let began = Instant::now();
    let mut streams = open(plan, session, &tally).await?;
    let opened_in = began.elapsed();
    let load = || {
        let values = Values::new(plan.value_bytes, plan.seed);
        let work = Work::watched(plan.keys.clone(), values, plan.seed, ledger.clone());
        Load { work, clients: plan.clients, timeout, lanes: &lanes }
    };
    if !plan.warm_up.is_zero() {
        run_phase(load(), Pace::lasting(plan.warm_up, plan.rate), "warm up", format).await;
        wait_until_told(plan, &tally).await;
    }
    tally.borrow_mut().begin();
    meter.start().map_err(|error| Failure::new(ERROR, error))?;
    let started = Instant::now();
    let puts = run_phase(load(), Pace::of(plan), plan.kind.name(), format).await;
    let put_for = started.elapsed();
    wait_until_told(plan, &tally).await;
    let usage = meter.stop();
    streams.shutdown().await;
    let tally = tally.borrow();
    Ok(Figures {
        plan: plan.clone(),
        endpoints: session.endpoints.clone(),
        opened_in,
        put_for,
        told_for: tally.last_told().map_or(put_for, |last| last.duration_since(started)),
        faults: tally.faults(plan.watch.puts_are_watched),
        puts: Rc::into_inner(puts).expect("every client has ended").into_inner(),
        deliveries: tally.deliveries().clone(),
        usage,
        resident_bytes_before,
    })
}

/// Opens every stream and waits until all watchers are served.
async fn open(
    plan: &Plan,
    session: &Session,
    tally: &Rc<RefCell<Tally>>,
) -> Result<JoinSet<()>, Failure> {
    let mut streams = JoinSet::new();
    if plan.watch.watchers + plan.watch.idle_watchers == 0 {
        return Ok(streams);
    }
    let lanes = connect(plan.watch.connections, session).await?;
    let served = Rc::new(tokio::sync::Semaphore::new(0));
    for number in 0..plan.watch.streams {
        let lane = lanes[number % lanes.len()].clone();
        let stream = Stream::new(&plan.watch, number, lane, tally.clone());
        streams.spawn_local(stream.run(served.clone()));
    }
    let count = u32::try_from(plan.watch.streams).unwrap_or(u32::MAX);
    let limit = session.client.config().request_timeout + SILENCE_MAX * 12;
    match tokio::time::timeout(limit, served.acquire_many(count)).await {
        Ok(_) => Ok(streams),
        Err(_) => {
            let tally = tally.borrow();
            let error = tally.deliveries().any_error().unwrap_or("the server does not answer");
            Err(Failure::new(BAD_CONNECTION, format!("cannot watch: {error}")))
        }
    }
}

/// Waits until every watcher has been told of every put that was answered, or nothing more comes.
async fn wait_until_told(plan: &Plan, tally: &Rc<RefCell<Tally>>) {
    let began = Instant::now();
    while plan.watch.puts_are_watched && !tally.borrow().is_told_all() {
        let last = tally.borrow().last_told().unwrap_or(began).max(began);
        if last.elapsed() > SILENCE_MAX {
            return;
        }
        sleep(LOOK_INTERVAL).await;
    }
}
