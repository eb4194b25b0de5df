//! How metrics are written: OpenMetrics by the client library, Prometheus' text 0.0.4 made from that.

use std::collections::HashMap;
use std::fmt;

use axum::http::{HeaderMap, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::{Family, Kind, Samples, Snapshot};
use crate::histogram::Buckets;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// Prometheus' text format, 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the collector likes best: text, unless it likes OpenMetrics better.
    pub(in super::super) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accepted.flat_map(|it| it.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|it| it.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
            let weight = weight.ok().filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0);
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" | "text/*" => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The media type.
    pub(in super::super) const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All `families` as they are in `snapshot`.
pub(super) fn render(families: &'static [Family], snapshot: &Snapshot, format: Format) -> String {
    let mut registry = Registry::default();
    let samples = families.iter().map(|it| (*it, (it.read)(snapshot))).collect();
    registry.register_collector(Box::new(Taken { samples }));
    let mut open = String::with_capacity(32 << 10);
    if let Err(error) = text::encode(&mut open, &registry) {
        // It writes to memory, and every number can be written.
        tracing::error!(%error, "the metrics cannot be written");
    }
    match format {
        Format::OpenMetrics => open,
        Format::Text => to_text(&open),
    }
}

/// Samples that were taken, as the library asks for them.
#[derive(Debug)]
struct Taken {
    samples: Vec<(Family, Samples)>,
}

impl Collector for Taken {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (family, samples) in &self.samples {
            write(&mut encoder, family, samples)?;
        }
        Ok(())
    }
}

fn write(encoder: &mut DescriptorEncoder<'_>, family: &Family, samples: &Samples) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let unit = family.unit.map(|it| Unit::Other(it.to_owned()));
    let mut metric = encoder.encode_descriptor(family.stem, family.help, unit.as_ref(), kind)?;
    match samples {
        Samples::Numbers(numbers) => numbers.iter().try_for_each(|(labels, value)| {
            let labels = named(family, labels);
            match family.kind {
                Kind::Info => metric.encode_info(&labels),
                kind if labels.is_empty() => number(&mut metric, kind, *value),
                kind => number(&mut metric.encode_family(&labels)?, kind, *value),
            }
        }),
        Samples::Histograms(histograms) => histograms.iter().try_for_each(|(labels, buckets)| {
            let labels = named(family, labels);
            if labels.is_empty() {
                return histogram(&mut metric, buckets);
            }
            histogram(&mut metric.encode_family(&labels)?, buckets)
        }),
    }
}

fn number(metric: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> fmt::Result {
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        Kind::Gauge | Kind::Histogram | Kind::Info => metric.encode_gauge(&value),
    }
}

fn histogram(metric: &mut MetricEncoder<'_>, it: &Buckets) -> fmt::Result {
    let none: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
    metric.encode_histogram(it.sum, it.count(), &buckets(it), none)
}

/// Each bucket with its bound; the library takes the largest number for infinity.
fn buckets(it: &Buckets) -> Vec<(f64, u64)> {
    it.bounds.iter().copied().chain([f64::MAX]).zip(it.counts.iter().copied()).collect()
}

/// The labels with their names. The library writes them as they are; both formats escape the same three
/// characters.
fn named(family: &Family, labels: &[String]) -> Vec<(&'static str, String)> {
    let escape = |it: &String| it.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    family.labels.iter().copied().zip(labels.iter().map(escape)).collect()
}

/// OpenMetrics as text 0.0.4: there a family is called as its samples are, knows no unit, no `info` and no end.
fn to_text(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some(help) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
