//! What a run of watchers is reported as.

use std::fmt::Write;
use std::time::Duration;

use super::watcher::Faults;
use crate::bench::plan::Plan;
use crate::bench::process::Usage;
use crate::bench::recorder::Recorder;
use crate::bench::report::{latency_json, latency_text, millis, rounded};
use crate::go::json::{Object, array, string};
use crate::go::{duration, size};

/// A run and what came of it.
pub struct Figures {
    pub plan: Plan,
    pub endpoints: Vec<String>,
    /// How long it took until all watchers were served.
    pub opened_in: Duration,
    /// From the first put to the last one's answer.
    pub put_for: Duration,
    /// From the first put until the last watcher was told.
    pub told_for: Duration,
    pub faults: Faults,
    pub puts: Recorder,
    pub deliveries: Recorder,
    pub usage: Usage,
    /// The servers' memory before anyone watched.
    pub resident_bytes_before: u64,
}

impl Figures {
    /// Whether every watcher was told everything as it should be.
    pub fn is_faultless(&self) -> bool {
        self.faults == Faults::default()
    }

    fn events(&self) -> u64 {
        self.deliveries.succeeded()
    }

    fn errors(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.puts.errors().iter().chain(self.deliveries.errors())
    }

    fn error_count(&self) -> u64 {
        self.puts.failed() + self.deliveries.failed()
    }

    /// Bytes that the servers' memory grew by, from before the watchers came to the end.
    fn resident_growth(&self) -> i128 {
        i128::from(self.usage.server_resident_bytes()) - i128::from(self.resident_bytes_before)
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let (plan, watch) = (&self.plan, &self.plan.watch);
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            writeln!(out, "{name:<9}{text}").expect("a String takes it");
        };
        line(
            "watch",
            format!(
                "{} events in {}, {} watchers, {} idle watchers, {} streams, {} connections",
                self.events(),
                shown(self.told_for),
                watch.watchers,
                watch.idle_watchers,
                watch.streams,
                watch.connections,
            ),
        );
        line("rate", format!("{:.1} events/s", per_second(self.events(), self.told_for)));
        line("delivery", latency_text(self.deliveries.latency()));
        line(
            "faults",
            format!(
                "{} missed, {} duplicated, {} out of order",
                self.faults.missed, self.faults.duplicated, self.faults.out_of_order
            ),
        );
        line(
            "puts",
            format!(
                "{} in {}, {:.1}/s, {} clients, {} connections, values of {} B",
                self.puts.succeeded(),
                shown(self.put_for),
                per_second(self.puts.succeeded(), self.put_for),
                plan.clients,
                plan.connections,
                plan.value_bytes,
            ),
        );
        line("latency", latency_text(self.puts.latency()));
        line("opened", format!("all watchers in {}", millis(self.opened_in)));
        line("received", size::format(self.deliveries.bytes_received()));
        line("errors", self.error_count().to_string());
        for (error, count) in self.errors() {
            line("", format!("{count} x {error}"));
        }
        line("client", self.cost_text(self.usage.own));
        if !self.usage.servers.is_empty() {
            line("servers", self.servers_text());
        }
        out
    }

    fn cost_text(&self, cpu: Duration) -> String {
        let put = format!("{:.1} us a put", micros_each(cpu, self.puts.succeeded()));
        match self.events() {
            0 => put,
            events => {
                format!("{:.2} us of processor time an event, {put}", micros_each(cpu, events))
            }
        }
    }

    fn servers_text(&self) -> String {
        let usage = &self.usage;
        let growth = self.resident_growth();
        let mut text = format!(
            "{}, {} resident, {} {} than before",
            self.cost_text(usage.server_cpu()),
            size::format(usage.server_resident_bytes()),
            size::format(u64::try_from(growth.unsigned_abs()).unwrap_or(u64::MAX)),
            if growth < 0 { "less" } else { "more" },
        );
        for server in &usage.servers {
            let cpu = match server.cpu {
                Some(cpu) => self.cost_text(cpu),
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
        let (plan, watch) = (&self.plan, &self.plan.watch);
        let errors = self
            .errors()
            .fold(Object::new(), |object, (error, count)| object.number(error, *count));
        let seconds = |duration: Duration| format!("{:.6}", duration.as_secs_f64());
        Object::new()
            .text("work", plan.kind.name())
            .list("endpoints", self.endpoints.iter().map(|endpoint| string(endpoint)))
            .always("watchers", &watch.watchers.to_string())
            .always("idle_watchers", &watch.idle_watchers.to_string())
            .always("streams", &watch.streams.to_string())
            .always("watch_connections", &watch.connections.to_string())
            .always("clients", &plan.clients.to_string())
            .always("connections", &plan.connections.to_string())
            .always("value_bytes", &plan.value_bytes.to_string())
            .always("seconds", &seconds(self.told_for))
            .always("events", &self.events().to_string())
            .always("rate", &format!("{:.1}", per_second(self.events(), self.told_for)))
            .object("delivery_us", Some(latency_json(self.deliveries.latency())))
            .always("missed", &self.faults.missed.to_string())
            .always("duplicated", &self.faults.duplicated.to_string())
            .always("out_of_order", &self.faults.out_of_order.to_string())
            .always("put_seconds", &seconds(self.put_for))
            .always("puts", &self.puts.succeeded().to_string())
            .always("put_rate", &format!("{:.1}", per_second(self.puts.succeeded(), self.put_for)))
            .object("put_latency_us", Some(latency_json(self.puts.latency())))
            .always("opened_ms", &format!("{:.3}", self.opened_in.as_secs_f64() * 1e3))
            .always("bytes_received", &self.deliveries.bytes_received().to_string())
            .always("error_count", &self.error_count().to_string())
            .object("errors", Some(errors))
            .object("client", Some(self.cost_json(self.usage.own)))
            .object("servers", self.servers_json())
            .finish()
    }

    fn cost_json(&self, cpu: Duration) -> Object {
        let each = |count| format!("{:.3}", micros_each(cpu, count));
        Object::new()
            .always("cpu_us_per_event", &each(self.events()))
            .always("cpu_us_per_put", &each(self.puts.succeeded()))
            .always("cpu_seconds", &format!("{:.2}", cpu.as_secs_f64()))
    }

    fn servers_json(&self) -> Option<Object> {
        let usage = &self.usage;
        if usage.servers.is_empty() {
            return None;
        }
        let processes = usage.servers.iter().map(|server| {
            self.cost_json(server.cpu.unwrap_or_default())
                .always("pid", &server.pid.to_string())
                .always("ended", &server.cpu.is_none().to_string())
                .always("resident_bytes", &server.resident_bytes.to_string())
                .always("resident_bytes_max", &server.resident_bytes_max.to_string())
                .finish()
        });
        Some(
            self.cost_json(usage.server_cpu())
                .always("resident_bytes", &usage.server_resident_bytes().to_string())
                .always("resident_bytes_before", &self.resident_bytes_before.to_string())
                .always("processes", &array(processes)),
        )
    }
}

fn shown(duration: Duration) -> String {
    duration::format(rounded(duration, Duration::from_millis(1)))
}

fn per_second(count: u64, duration: Duration) -> f64 {
    count as f64 / duration.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn micros_each(cpu: Duration, count: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / count.max(1) as f64
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
