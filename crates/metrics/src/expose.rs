//! Metrics as text.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::counter::Counter;
use crate::family::Family;
use crate::gauge::{FloatGauge, Gauge};
use crate::histogram::Histogram;
use crate::registry::Kind;

/// What a registry can show.
pub trait Metric: Clone + fmt::Debug + Send + Sync + 'static {
    /// Writes the value or values of one series.
    fn expose(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result;
}

impl Metric for Counter {
    fn expose(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&self.total(), None),
            _ => encoder.encode_gauge(&self.total()),
        }
    }
}

impl Metric for Gauge {
    fn expose(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        debug_assert_eq!(kind, Kind::Gauge);
        encoder.encode_gauge(&self.value())
    }
}

impl Metric for FloatGauge {
    fn expose(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&self.value(), None),
            _ => encoder.encode_gauge(&self.value()),
        }
    }
}

impl Metric for Histogram {
    fn expose(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        debug_assert_eq!(kind, Kind::Histogram);
        let buckets = self.buckets();
        // From the same reading as the buckets, so that the two agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), count, &buckets, None)
    }
}

/// A metric without labels, under its kind.
#[derive(Debug)]
pub(crate) struct Plain<M>(pub(crate) Kind, pub(crate) M);

impl<M: Metric> EncodeMetric for Plain<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.1.expose(self.0, &mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

/// A family, under its kind.
#[derive(Debug)]
pub(crate) struct Labelled<M: Metric>(pub(crate) Kind, pub(crate) Family<M>);

impl<M: Metric> EncodeMetric for Labelled<M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let labels = self.1.labels();
        self.1.table().for_each(labels.len(), |values, metric| {
            let pairs: Vec<(&str, &str)> =
                labels.iter().copied().zip(values.iter().copied()).collect();
            metric.expose(self.0, &mut encoder.encode_family(&pairs)?)
        })
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}
