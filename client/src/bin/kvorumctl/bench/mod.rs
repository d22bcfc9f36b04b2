//! `bench`: load, and what it costs.
//!
//! So many clients each send a request, wait for the answer, and send the next; all over so many connections, spread over
//! the endpoints. What is measured is the time from sending to the whole answer, and, for servers on this machine, the
//! processor time and memory they took. It drives any server of etcd's v3 API.
//!
//! The generator shares the machine with what it measures, so it must be cheap: one thread, HTTP/2 frames made by hand,
//! answers read but not decoded. Its own cost is printed beside the servers'.
//!
//! | file | does |
//! |---|---|
//! | `plan` | flags to a plan |
//! | `keys` | which key comes next, and what value |
//! | `work` | the request that comes next |
//! | `transport` | gRPC calls over h2 |
//! | `load` | clients, pace and end of a run |
//! | `keep_alive` | clients that renew leases, each on a stream of its own |
//! | `recorder` | latencies, errors, pauses |
//! | `process` | processor time and memory of a process |
//! | `report` | what is printed |
//! | `watch` | the same for watches: how soon and how well events arrive |

mod keep_alive;
mod keys;
mod load;
mod plan;
mod process;
mod recorder;
mod report;
mod transport;
mod watch;
mod work;

use std::io::{Write, stdout};
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use tokio::task::LocalSet;

use crate::failure::{BAD_CONNECTION, ERROR, Failure};
use crate::session::Session;
use load::{Load, Pace};
use plan::{Kind, Plan};
use process::Meter;
use recorder::Recorder;
use report::Report;
use transport::Lane;
use work::Work;

pub use plan::command;

/// Runs a benchmark and prints its report.
pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((kind, matches)) = matches.subcommand() else {
        return crate::commands::help(&["bench"]);
    };
    let plan = Plan::read(kind, matches)?;
    let session = Session::open(matches).await?;
    let format = report::Format::of(&session.printer)?;
    let meter = Meter::of(&plan.pids).map_err(|error| Failure::new(ERROR, error))?;
    if plan.kind == Kind::Watch {
        return LocalSet::new().run_until(watch::run(&plan, &session, meter, format)).await;
    }
    let report = LocalSet::new().run_until(measure(&plan, &session, meter, format)).await?;
    let text = match format {
        report::Format::Text => report.text(),
        report::Format::Json => report.json() + "\n",
    };
    stdout().write_all(text.as_bytes())?;
    if report.succeeded() == 0 {
        return Err(Failure::new(ERROR, "no operation succeeded"));
    }
    Ok(())
}

/// Connects, fills the key space if that is wanted, warms up, and measures.
async fn measure(
    plan: &Plan,
    session: &Session,
    mut meter: Meter,
    format: report::Format,
) -> Result<Report, Failure> {
    let lanes = connect(plan.connections, session).await?;
    let timeout = session.client.config().request_timeout;
    if plan.fill {
        fill(plan, timeout, &lanes, format).await?;
    }
    if plan.kind == Kind::KeepAlive {
        prepare(plan.granting(), "grant", plan, timeout, &lanes, format).await?;
        prepare(plan.attaching(), "put", plan, timeout, &lanes, format).await?;
    }
    let load = || Load { work: plan.work(), clients: plan.clients, timeout, lanes: &lanes };
    if !plan.warm_up.is_zero() {
        run_phase(load(), Pace::lasting(plan.warm_up, plan.rate), "warm up", format).await;
    }
    meter.start().map_err(|error| Failure::new(ERROR, error))?;
    let started = Instant::now();
    let recorder = run_phase(load(), Pace::of(plan), plan.kind.name(), format).await;
    let elapsed = started.elapsed();
    let usage = meter.stop();
    let recorder = Rc::into_inner(recorder).expect("every client has ended").into_inner();
    Ok(Report {
        plan: plan.clone(),
        endpoints: session.endpoints.clone(),
        elapsed,
        recorder,
        usage,
    })
}

/// Writes every key once.
async fn fill(
    plan: &Plan,
    timeout: Duration,
    lanes: &[Rc<Lane>],
    format: report::Format,
) -> Result<(), Failure> {
    prepare(plan.filling(), "fill", plan, timeout, lanes, format).await
}

/// Does what must be done before anything is measured: so much work.
async fn prepare(
    (work, operations): (Work, u64),
    name: &'static str,
    plan: &Plan,
    timeout: Duration,
    lanes: &[Rc<Lane>],
    format: report::Format,
) -> Result<(), Failure> {
    let load = Load { work, clients: plan.clients, timeout, lanes };
    let recorder = run_phase(load, Pace::counting(operations), name, format).await;
    match recorder.borrow().any_error() {
        Some(error) => Err(Failure::new(ERROR, format!("{name} before the run failed: {error}"))),
        None => Ok(()),
    }
}

async fn connect(connections: usize, session: &Session) -> Result<Vec<Rc<Lane>>, Failure> {
    let bad = |error: String| Failure::new(BAD_CONNECTION, error);
    let mut lanes = Vec::new();
    for index in 0..connections {
        let lane = Lane::new(&session.endpoints, session.client.token(), index).map_err(bad)?;
        lane.sender().await.map_err(bad)?;
        lanes.push(Rc::new(lane));
    }
    Ok(lanes)
}

/// Runs one phase to its end, with a progress bar on a terminal.
async fn run_phase(
    load: Load<'_>,
    pace: Pace,
    name: &'static str,
    format: report::Format,
) -> Rc<std::cell::RefCell<Recorder>> {
    let recorder = Rc::new(std::cell::RefCell::new(Recorder::new()));
    let pace = Rc::new(pace);
    let bar = report::progress(name, &pace, format);
    let shown = (bar.clone(), recorder.clone(), pace.clone());
    let ticker = tokio::task::spawn_local(async move {
        let (bar, recorder, pace) = shown;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            report::update(&bar, &recorder.borrow(), &pace);
        }
    });
    load.run(pace, recorder.clone()).await;
    ticker.abort();
    let _ = ticker.await;
    bar.finish_and_clear();
    recorder
}
