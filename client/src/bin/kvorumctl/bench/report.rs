//! What a run is reported as.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::load::Pace;
use super::plan::{Kind, Plan};
use super::process::Usage;
use super::recorder::{Latency, Recorder};
use crate::failure::{BAD_FEATURE, Failure};
use crate::go::json::{Object, array, string};
use crate::go::{duration, size};
use crate::output::Printer;

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    /// The format that --write-out asks for.
    pub fn of(printer: &Printer) -> Result<Format, Failure> {
        if printer.is_json() {
            return Ok(Format::Json);
        }
        if printer.is_simple() {
            return Ok(Format::Text);
        }
        Err(Failure::new(BAD_FEATURE, "bench writes simple or json only"))
    }
}

/// A run and what came of it.
pub struct Report {
    pub plan: Plan,
    pub endpoints: Vec<String>,
    /// From the first operation's start to the last one's end.
    pub elapsed: Duration,
    pub recorder: Recorder,
    pub usage: Usage,
}

impl Report {
    /// Operations that were answered.
    pub fn succeeded(&self) -> u64 {
        self.recorder.succeeded()
    }

    fn rate(&self) -> f64 {
        self.succeeded() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Microseconds of processor time an operation.
    fn micros_each(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.succeeded().max(1)) as f64
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let plan = &self.plan;
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            writeln!(out, "{name:<9}{text}").expect("a String takes it");
        };
        line(
            &format!("{} ", plan.kind.name()),
            format!(
                "{} operations in {}, {} clients, {} connections, {}",
                self.succeeded(),
                duration::format(rounded(self.elapsed, Duration::from_millis(1))),
                plan.clients,
                plan.connections,
                self.things_text(),
            ),
        );
        line("rate", format!("{:.1}/s", self.rate()));
        line("latency", latency_text(self.recorder.latency()));
        if self.recorder.latency_by_method().count() > 1 {
            for (name, latency) in self.recorder.latency_by_method() {
                line(&format!(" {name}"), latency_text(latency));
            }
        }
        line(
            "pause",
            format!("{} at most without an answer", millis(self.recorder.longest_pause())),
        );
        line("received", size::format(self.recorder.bytes_received()));
        line("errors", self.recorder.failed().to_string());
        for (error, count) in self.recorder.errors() {
            line("", format!("{count} x {error}"));
        }
        line(
            "client",
            format!("{:.1} us of processor time each", self.micros_each(self.usage.own)),
        );
        if !self.usage.servers.is_empty() {
            line("servers", self.servers_text());
        }
        out
    }

    /// What the operations were about.
    fn things_text(&self) -> String {
        let Plan { kind, keys, value_bytes, leases, .. } = &self.plan;
        match kind {
            Kind::Grant => format!("leases of {} s", leases.ttl),
            Kind::KeepAlive => format!(
                "{} leases of {} s with {} keys each",
                leases.count, leases.ttl, leases.keys_each
            ),
            _ => format!(
                "{} keys of {} B, values of {value_bytes} B",
                keys.count(),
                keys.key_bytes()
            ),
        }
    }

    fn servers_text(&self) -> String {
        let usage = &self.usage;
        let mut text = format!(
            "{:.1} us of processor time each, {} resident",
            self.micros_each(usage.server_cpu()),
            size::format(usage.server_resident_bytes()),
        );
        for server in &usage.servers {
            let cpu = match server.cpu {
                Some(cpu) => format!("{:.1} us", self.micros_each(cpu)),
                None => "ended".into(),
            };
            let resident = size::format(server.resident_bytes);
            write!(text, "\n{:9}pid {}: {cpu}, {resident}", "", server.pid)
                .expect("a String takes it");
        }
        text
    }

    /// One object for programs.
    pub fn json(&self) -> String {
        let (plan, recorder) = (&self.plan, &self.recorder);
        let by_method =
            recorder.latency_by_method().fold(Object::new(), |object, (name, latency)| {
                object.object(name, Some(latency_json(latency)))
            });
        let errors = recorder
            .errors()
            .iter()
            .fold(Object::new(), |object, (error, count)| object.number(error, *count));
        Object::new()
            .text("work", plan.kind.name())
            .list("endpoints", self.endpoints.iter().map(|endpoint| string(endpoint)))
            .always("clients", &plan.clients.to_string())
            .always("connections", &plan.connections.to_string())
            .always("key_bytes", &plan.keys.key_bytes().to_string())
            .always("value_bytes", &plan.value_bytes.to_string())
            .always("key_count", &plan.keys.count().to_string())
            .object("leases", self.leases_json())
            .always("seconds", &format!("{:.6}", self.elapsed.as_secs_f64()))
            .always("operations", &self.succeeded().to_string())
            .always("rate", &format!("{:.1}", self.rate()))
            .object("latency_us", Some(latency_json(recorder.latency())))
            .object("latency_us_by_operation", Some(by_method))
            .always(
                "longest_pause_ms",
                &format!("{:.3}", recorder.longest_pause().as_secs_f64() * 1e3),
            )
            .always("bytes_received", &recorder.bytes_received().to_string())
            .always("error_count", &recorder.failed().to_string())
            .object("errors", Some(errors))
            .object("client", Some(cpu_json(self.micros_each(self.usage.own), self.usage.own)))
            .object("servers", self.servers_json())
            .finish()
    }

    fn leases_json(&self) -> Option<Object> {
        let Plan { kind, leases, .. } = &self.plan;
        let ttl = || Object::new().always("ttl", &leases.ttl.to_string());
        match kind {
            Kind::Grant => Some(ttl()),
            Kind::KeepAlive => Some(
                ttl()
                    .always("count", &leases.count.to_string())
                    .always("keys_each", &leases.keys_each.to_string()),
            ),
            _ => None,
        }
    }

    fn servers_json(&self) -> Option<Object> {
        let usage = &self.usage;
        if usage.servers.is_empty() {
            return None;
        }
        let processes = usage.servers.iter().map(|server| {
            let cpu = server.cpu.unwrap_or_default();
            cpu_json(self.micros_each(cpu), cpu)
                .always("pid", &server.pid.to_string())
                .always("ended", &server.cpu.is_none().to_string())
                .always("resident_bytes", &server.resident_bytes.to_string())
                .always("resident_bytes_max", &server.resident_bytes_max.to_string())
                .finish()
        });
        let total = usage.server_cpu();
        Some(
            cpu_json(self.micros_each(total), total)
                .always("resident_bytes", &usage.server_resident_bytes().to_string())
                .always("processes", &array(processes)),
        )
    }
}

fn cpu_json(micros_each: f64, cpu: Duration) -> Object {
    Object::new()
        .always("cpu_us_per_operation", &format!("{micros_each:.2}"))
        .always("cpu_seconds", &format!("{:.2}", cpu.as_secs_f64()))
}

pub(super) fn latency_text(latency: Latency) -> String {
    let Latency { p50, p90, p99, p99_9, max, .. } = latency;
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        millis(p50),
        millis(p90),
        millis(p99),
        millis(p99_9),
        millis(max)
    )
}

pub(super) fn latency_json(latency: Latency) -> Object {
    let micros = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1e6);
    Object::new()
        .always("mean", &micros(latency.mean))
        .always("p50", &micros(latency.p50))
        .always("p90", &micros(latency.p90))
        .always("p99", &micros(latency.p99))
        .always("p99.9", &micros(latency.p99_9))
        .always("max", &micros(latency.max))
}

pub(super) fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}

pub(super) fn rounded(duration: Duration, unit: Duration) -> Duration {
    let units = duration.as_nanos() / unit.as_nanos();
    Duration::from_nanos(u64::try_from(units * unit.as_nanos()).unwrap_or(u64::MAX))
}

/// A progress bar on the terminal; nothing where standard error is none, or programs read along.
pub fn progress(name: &'static str, pace: &Pace, format: Format) -> ProgressBar {
    if format == Format::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:>8} [{bar:40}] {percent:>3}%  {msg}")
        .expect("the template is sound")
        .progress_chars("=> ");
    ProgressBar::new(pace.progress(0).1).with_style(style).with_prefix(name)
}

/// Moves the bar to where the run is.
pub fn update(bar: &ProgressBar, recorder: &Recorder, pace: &Pace) {
    if bar.is_hidden() {
        return;
    }
    let (succeeded, failed) = (recorder.succeeded(), recorder.failed());
    bar.set_position(pace.progress(succeeded + failed).0);
    let rate = succeeded as f64 / bar.elapsed().as_secs_f64().max(0.001);
    let p99 = millis(recorder.latency().p99);
    bar.set_message(format!("{rate:.0}/s  p99 {p99}  errors {failed}"));
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
