//! All metrics of one member, and their page.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry as Names;

use crate::counter::Counter;
use crate::expose::{Labelled, Metric, Plain};
use crate::family::Family;
use crate::gauge::{FloatGauge, Gauge};
use crate::histogram::Histogram;

/// The end of a counter's name, which the page's format wants there.
const TOTAL: &str = "_total";

/// What a monitoring system is told a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It only grows, and its name ends in `_total`.
    Counter,
    /// It grows and shrinks.
    Gauge,
    /// Counts by upper bounds, a sum and a count.
    Histogram,
    /// It only grows, under a name that a counter may not have in this format, such as `etcd_server_health_success`.
    Unknown,
}

impl Kind {
    pub(crate) fn metric_type(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Unknown => MetricType::Unknown,
        }
    }
}

/// Metrics by their names.
///
/// - A name is registered once.
/// - The page is OpenMetrics 1.0 text. Names are shown as they were registered, whatever they end in.
#[derive(Default)]
pub struct Registry {
    names: BTreeMap<String, Kind>,
    shown: Names,
}

impl Registry {
    /// The type that [`Registry::render`]'s text is sent as.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// An empty one.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.plain(counter_kind(name), name, help, Counter::default())
    }

    /// Counters told apart by labels, at most `series_max` of them.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        series_max: usize,
    ) -> Family<Counter> {
        let family = Family::new(labels, series_max, Counter::default);
        self.labelled(counter_kind(name), name, help, family)
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.plain(Kind::Gauge, name, help, Gauge::default())
    }

    /// Gauges told apart by labels, at most `series_max` of them.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        series_max: usize,
    ) -> Family<Gauge> {
        self.labelled(Kind::Gauge, name, help, Family::new(labels, series_max, Gauge::default))
    }

    /// A number with a fraction, set from elsewhere: a gauge, or with `_total` at the end of its name a counter.
    pub fn float(&mut self, kind: Kind, name: &str, help: &str) -> FloatGauge {
        self.plain(kind, name, help, FloatGauge::default())
    }

    /// A histogram of durations without labels, its bounds in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.plain(Kind::Histogram, name, help, Histogram::new(bounds))
    }

    /// Histograms of durations told apart by labels, at most `series_max` of them, with the same bounds.
    pub fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &'static [&'static str],
        (bounds, series_max): (&[f64], usize),
    ) -> Family<Histogram> {
        let bounds = bounds.to_vec();
        let family = Family::new(labels, series_max, move || Histogram::new(&bounds));
        self.labelled(Kind::Histogram, name, help, family)
    }

    /// Every name that was registered, and what it is.
    pub fn names(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.names.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// Appends the page to `page`.
    pub fn render(&self, page: &mut String) {
        let rendered = text::encode(page, &self.shown);
        rendered.expect("writing to a string does not fail");
    }

    fn plain<M: Metric>(&mut self, kind: Kind, name: &str, help: &str, metric: M) -> M {
        let shown = self.take_name(kind, name).to_owned();
        self.shown.register(shown, help, Plain(kind, metric.clone()));
        metric
    }

    fn labelled<M: Metric>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        family: Family<M>,
    ) -> Family<M> {
        let shown = self.take_name(kind, name).to_owned();
        self.shown.register(shown, help, Labelled(kind, family.clone()));
        family
    }

    /// Notes a name and gives it without what the encoder appends.
    fn take_name<'a>(&mut self, kind: Kind, name: &'a str) -> &'a str {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(!name.is_empty() && name.bytes().all(is_name), "a metric's name: {name:?}");
        assert!(self.names.insert(name.to_owned(), kind).is_none(), "{name} is registered twice");
        match kind {
            Kind::Counter => name.strip_suffix(TOTAL).expect("a counter's name ends in _total"),
            _ => name,
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("names", &self.names.len()).finish_non_exhaustive()
    }
}

fn counter_kind(name: &str) -> Kind {
    if name.ends_with(TOTAL) { Kind::Counter } else { Kind::Unknown }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_shows_every_series_under_its_name() {
        let mut registry = Registry::new();
        let calls = registry.counters("calls_total", "Calls", &["method", "version"], 10);
        calls.with(&["b", "3.5"]).add(2);
        calls.with(&["a", "\"\\\n"]).increment();
        registry.counter("health_success", "Checks").increment();
        registry.gauge("keys_total", "Keys").set(-3);
        registry.float(Kind::Counter, "cpu_seconds_total", "Time").set(1.5);
        registry.histogram("took_seconds", "Took", &[0.5]).observe(Duration::from_secs(1));
        let mut page = String::new();
        registry.render(&mut page);
        let wanted = "\
# HELP calls Calls.
# TYPE calls counter
calls_total{method=\"a\",version=\"\\\"\\\\\\n\"} 1
calls_total{method=\"b\",version=\"3.5\"} 2
# HELP health_success Checks.
# TYPE health_success unknown
health_success 1
# HELP keys_total Keys.
# TYPE keys_total gauge
keys_total -3
# HELP cpu_seconds Time.
# TYPE cpu_seconds counter
cpu_seconds_total 1.5
# HELP took_seconds Took.
# TYPE took_seconds histogram
took_seconds_sum 1.0
took_seconds_count 1
took_seconds_bucket{le=\"0.5\"} 0
took_seconds_bucket{le=\"+Inf\"} 1
# EOF
";
        assert_eq!(page, wanted);
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn a_name_is_registered_once() {
        let mut registry = Registry::new();
        registry.gauge("a", "A");
        registry.counter("a", "A");
    }
}
