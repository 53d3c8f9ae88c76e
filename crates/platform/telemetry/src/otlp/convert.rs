//! From the registry's `OpenMetrics` text to an OTLP request.
//!
//! The registry's own encoder is the only public way to read `prometheus-client` handles, so the text is the
//! interface; it is written by this process and read back here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
    },
    resource::v1::Resource,
};

type Labels = BTreeMap<String, String>;

/// One metric family as the text shows it.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    unit: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// Start and end of the period that cumulative values cover, in nanoseconds.
#[derive(Clone, Copy)]
struct Period {
    start: u64,
    end: u64,
}

/// Converts the resource of the trace exporter.
pub(super) fn resource(resource: &opentelemetry_sdk::Resource) -> Resource {
    let attributes =
        resource.iter().map(|(key, value)| text_attribute(key.as_str(), &value.as_str())).collect();
    Resource { attributes, ..Resource::default() }
}

/// Makes one cumulative export of everything on the page.
pub(super) fn request(
    page: &str,
    resource: &Resource,
    started: DateTime<Utc>,
    now: DateTime<Utc>,
) -> ExportMetricsServiceRequest {
    let period = Period { start: nanoseconds(started), end: nanoseconds(now) };
    let scope = InstrumentationScope {
        name: "portico".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families(page).into_iter().map(|family| metric(family, period)).collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() }],
            schema_url: String::new(),
        }],
    }
}

fn families(page: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut parts = comment.splitn(3, ' ');
            let (Some(field), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            if families.last().is_none_or(|family| family.name != name) {
                families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            let Some(family) = families.last_mut() else { continue };
            match field {
                "TYPE" => text.clone_into(&mut family.kind),
                "HELP" => text.clone_into(&mut family.help),
                "UNIT" => text.clone_into(&mut family.unit),
                _ => {}
            }
        } else if let (Some(family), Some(sample)) = (families.last_mut(), sample(line)) {
            family.samples.push(sample);
        }
    }
    families
}

/// Reads `name{key="value",…} number`; a timestamp or an exemplar behind the number is not read.
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    let mut rest = rest;
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Reads up to the closing quote and undoes the escapes (`OpenMetrics` 1.0 §"Escaping").
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            plain => value.push(plain),
        }
    }
    None
}

fn metric(family: Family, period: Period) -> Metric {
    let temporality = AggregationTemporality::Cumulative.into();
    let data = match family.kind.as_str() {
        "counter" => metric::Data::Sum(Sum {
            data_points: numbers(&family, "_total", period),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        "histogram" => metric::Data::Histogram(Histogram {
            data_points: histograms(&family, period),
            aggregation_temporality: temporality,
        }),
        // OTLP has no info type: a gauge that is always 1 is how its own bridges show it.
        "info" => metric::Data::Gauge(Gauge { data_points: numbers(&family, "_info", period) }),
        _ => metric::Data::Gauge(Gauge { data_points: numbers(&family, "", period) }),
    };
    Metric {
        name: family.name,
        description: family.help,
        unit: family.unit,
        data: Some(data),
        ..Metric::default()
    }
}

fn numbers(family: &Family, suffix: &str, period: Period) -> Vec<NumberDataPoint> {
    let wanted = |sample: &&Sample| sample.name.strip_prefix(&family.name) == Some(suffix);
    let samples = family.samples.iter().filter(wanted);
    let point = |sample: &Sample| NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: period.start,
        time_unix_nano: period.end,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    };
    samples.map(point).collect()
}

/// What the lines of one label set say about a histogram.
#[derive(Default)]
struct Buckets {
    cumulative: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

fn histograms(family: &Family, period: Period) -> Vec<HistogramDataPoint> {
    let mut series: BTreeMap<Labels, Buckets> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let buckets = series.entry(labels).or_default();
        match sample.name.strip_prefix(&family.name) {
            Some("_bucket") => {
                // "+Inf" reads as infinity.
                if let Some(bound) = bound.and_then(|text| text.parse().ok()) {
                    buckets.cumulative.push((bound, whole(sample.value)));
                }
            }
            Some("_sum") => buckets.sum = sample.value,
            Some("_count") => buckets.count = whole(sample.value),
            _ => {}
        }
    }
    series.into_iter().map(|(labels, buckets)| histogram(&labels, &buckets, period)).collect()
}

fn histogram(labels: &Labels, buckets: &Buckets, period: Period) -> HistogramDataPoint {
    let mut bounds = Vec::with_capacity(buckets.cumulative.len());
    let mut counts = Vec::with_capacity(buckets.cumulative.len() + 1);
    let mut below = 0;
    for &(bound, upto) in &buckets.cumulative {
        counts.push(upto.saturating_sub(below));
        below = upto;
        if bound.is_finite() {
            bounds.push(bound);
        }
    }
    HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: period.start,
        time_unix_nano: period.end,
        count: buckets.count,
        sum: Some(buckets.sum),
        bucket_counts: counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| text_attribute(key, value)).collect()
}

fn text_attribute(key: &str, value: &str) -> KeyValue {
    let value = any_value::Value::StringValue(value.to_owned());
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Counts are written as whole numbers; the text says nothing of their type.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole and not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

fn nanoseconds(time: DateTime<Utc>) -> u64 {
    time.timestamp_nanos_opt().and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
