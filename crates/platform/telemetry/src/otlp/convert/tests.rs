use chrono::TimeDelta;
use prometheus_client::metrics::{
    counter::Counter, family::Family as Labelled, gauge::Gauge, histogram::Histogram,
};

use super::*;
use crate::Metrics;

fn exported(metrics: &Metrics) -> BTreeMap<String, metric::Data> {
    let started = DateTime::UNIX_EPOCH + TimeDelta::seconds(10);
    let now = started + TimeDelta::seconds(5);
    let mut request = request(&metrics.render(), &Resource::default(), started, now);
    let scopes = request.resource_metrics.remove(0).scope_metrics.remove(0);
    scopes.metrics.into_iter().map(|metric| (metric.name, metric.data.unwrap())).collect()
}

fn value(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        _ => panic!("not a double"),
    }
}

#[test]
fn a_counter_becomes_a_cumulative_monotonic_sum() {
    let metrics = Metrics::new();
    let calls: Labelled<Vec<(String, String)>, Counter> = Labelled::default();
    metrics.register("portico_test_calls", "Calls", calls.clone());
    calls.get_or_create(&vec![("tool".to_owned(), "a\"b\\c\nd,e=}".to_owned())]).inc_by(7);
    let metric::Data::Sum(sum) = exported(&metrics).remove("portico_test_calls").unwrap() else {
        panic!("not a sum")
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality, i32::from(AggregationTemporality::Cumulative));
    assert!((value(&sum.data_points[0]) - 7.0).abs() < f64::EPSILON);
    assert_eq!(sum.data_points[0].start_time_unix_nano, 10_000_000_000);
    assert_eq!(sum.data_points[0].time_unix_nano, 15_000_000_000);
    assert_eq!(sum.data_points[0].attributes, [text_attribute("tool", "a\"b\\c\nd,e=}")]);
}

#[test]
fn a_gauge_keeps_its_value() {
    let metrics = Metrics::new();
    let sessions: Gauge = Gauge::default();
    metrics.register("portico_test_sessions", "Sessions", sessions.clone());
    sessions.set(-3);
    let metric::Data::Gauge(gauge) = exported(&metrics).remove("portico_test_sessions").unwrap() else {
        panic!("not a gauge")
    };
    assert!((value(&gauge.data_points[0]) + 3.0).abs() < f64::EPSILON);
}

#[test]
fn a_histogram_keeps_bounds_counts_and_sum() {
    let metrics = Metrics::new();
    let seconds = Histogram::new([0.1, 1.0]);
    metrics.register("portico_test_seconds", "Seconds", seconds.clone());
    for observed in [0.05, 0.5, 0.5, 7.0] {
        seconds.observe(observed);
    }
    let metric::Data::Histogram(histogram) = exported(&metrics).remove("portico_test_seconds").unwrap()
    else {
        panic!("not a histogram")
    };
    let point = &histogram.data_points[0];
    assert_eq!(point.explicit_bounds, [0.1, 1.0]);
    assert_eq!(point.bucket_counts, [1, 2, 1]);
    assert_eq!(point.count, 4);
    assert!((point.sum.unwrap() - 8.05).abs() < 1e-9);
}
