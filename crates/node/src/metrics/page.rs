//! A page of metrics that is being written, number by number.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The label set of a metric without labels.
type NoLabels = [(&'static str, &'static str); 0];

/// A number with its name and what it means. The format appends `_total` to a counter's name, and
/// a full stop to the meaning.
pub(super) type Number<'a> = (&'a str, &'a str, u64);

/// A page that is being written.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    pub(super) fn gauges(&mut self, numbers: &[Number<'_>]) -> fmt::Result {
        for (name, help, value) in numbers {
            let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }

    pub(super) fn counters(&mut self, numbers: &[Number<'_>]) -> fmt::Result {
        for (name, help, value) in numbers {
            let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(*value).encode(metric)?;
        }
        Ok(())
    }

    pub(super) fn float_gauges(&mut self, numbers: &[(&str, &str, f64)]) -> fmt::Result {
        for (name, help, value) in numbers {
            let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(*value).encode(metric)?;
        }
        Ok(())
    }

    pub(super) fn float_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// A gauge for each set of labels.
    pub(super) fn labelled_gauge<'l, const LABELS: usize>(
        &mut self,
        (name, help): (&str, &str),
        values: impl IntoIterator<Item = ([(&'l str, String); LABELS], f64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter for each set of labels.
    pub(super) fn labelled_counter<'l, const LABELS: usize>(
        &mut self,
        (name, help): (&str, &str),
        values: impl IntoIterator<Item = ([(&'l str, String); LABELS], u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, counts: &Histogram) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabels>(counts.sum, counts.count(), &counts.buckets, None)
    }

    /// A histogram for each value of a label.
    pub(super) fn labelled_histogram(
        &mut self,
        (name, help): (&str, &str),
        label: &str,
        values: impl IntoIterator<Item = (&'static str, Histogram)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (of, counts) in values {
            metric.encode_family(&[(label, of)])?.encode_histogram::<NoLabels>(
                counts.sum,
                counts.count(),
                &counts.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// Durations in seconds, counted by buckets that are not cumulative; the last has no bound.
pub(super) struct Histogram {
    pub(super) sum: f64,
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn count(&self) -> u64 {
        self.buckets.iter().map(|(_bound, count)| count).sum()
    }
}
