//! The one metrics registry of a process.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

/// Content type of [`Metrics::render`] (`OpenMetrics` 1.0 §"Content-Type").
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Holds every metric of the process; clones share it.
///
/// Register handles once at start and keep them: counting then touches only an atomic.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registered>>);

#[derive(Default)]
struct Registered {
    names: HashSet<String>,
    /// Metrics that several parts of a process show, each under its own labels.
    gauges: Shared<Gauge>,
    counters: Shared<Counter>,
    registry: Registry,
}

type Label = (&'static str, &'static str);
type Shared<M> = HashMap<String, Family<Vec<Label>, M>>;

impl Metrics {
    /// Makes an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric, e.g. `portico_gateway_calls`; the encoder appends `_total` to counters.
    ///
    /// A name can be taken once: a second metric of that name would make the whole page unreadable, so it is left
    /// out and the mistake is logged.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.names.insert(name.to_owned()) {
            inner.registry.register(name, help, metric);
        } else {
            tracing::error!(metric.name = name, "metric is registered twice, the second one is not shown");
        }
    }

    /// Returns the gauge of one label of a metric that several parts of the process show together, e.g.
    /// `portico_feed_revision{feed="trust"}`.
    #[must_use]
    pub fn labelled_gauge(&self, name: &str, help: &str, label: Label) -> Gauge {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Registered { names, gauges, registry, .. } = &mut *inner;
        labelled(gauges, names, registry, (name, help)).get_or_create(&vec![label]).clone()
    }

    /// Returns the counter of some labels of a metric that several parts of the process show together, e.g.
    /// `portico_listener_refused_total{listener="public",reason="tls_handshake"}`.
    #[must_use]
    pub fn labelled_counter(&self, name: &str, help: &str, labels: &[Label]) -> Counter {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Registered { names, counters, registry, .. } = &mut *inner;
        labelled(counters, names, registry, (name, help)).get_or_create(&labels.to_vec()).clone()
    }

    /// Renders every metric as `OpenMetrics` text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::new();
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text::encode(&mut page, &inner.registry).is_err() {
            // Only a metric's own encoder can fail; half a page would read as valid.
            tracing::error!("metrics cannot be encoded");
            return "# EOF\n".to_owned();
        }
        page
    }
}

/// Returns the family of a name, which the first one to ask for it puts on the page.
fn labelled<'a, M>(
    shared: &'a mut Shared<M>,
    names: &mut HashSet<String>,
    registry: &mut Registry,
    (name, help): (&str, &str),
) -> &'a Family<Vec<Label>, M>
where
    M: Default,
    Family<Vec<Label>, M>: Metric + Clone,
{
    shared.entry(name.to_owned()).or_insert_with(|| {
        let family = Family::default();
        if names.insert(name.to_owned()) {
            registry.register(name, help, family.clone());
        } else {
            tracing::error!(metric.name = name, "metric is registered twice, the second one is not shown");
        }
        family
    })
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn metrics_render_as_openmetrics() {
        let metrics = Metrics::new();
        let calls: Counter = Counter::default();
        metrics.register("portico_test_calls", "Calls seen", calls.clone());
        calls.inc_by(3);
        let page = metrics.render();
        assert_eq!(
            page,
            "# HELP portico_test_calls Calls seen.\n# TYPE portico_test_calls counter\nportico_test_calls_total 3\n# EOF\n"
        );
    }

    #[test]
    fn a_labelled_gauge_is_shown_once_however_many_parts_of_a_process_set_it() {
        let metrics = Metrics::new();
        let gauge = |feed| metrics.labelled_gauge("portico_test_revision", "Revision", ("feed", feed));
        gauge("trust").set(7);
        gauge("catalogue").set(8);
        gauge("trust").inc();
        let page = metrics.render();
        assert_eq!(page.matches("# TYPE").count(), 1, "{page}");
        for line in
            [r#"portico_test_revision{feed="trust"} 8"#, r#"portico_test_revision{feed="catalogue"} 8"#]
        {
            assert!(page.contains(line), "{page}");
        }
    }

    #[test]
    fn a_labelled_counter_counts_for_each_set_of_labels() {
        let metrics = Metrics::new();
        let counter = |reason| {
            let labels = [("listener", "public"), ("reason", reason)];
            metrics.labelled_counter("portico_test_refused", "Refused", &labels)
        };
        counter("a").inc();
        counter("a").inc();
        counter("b").inc();
        let page = metrics.render();
        assert_eq!(page.matches("# TYPE").count(), 1, "{page}");
        for line in [r#"{listener="public",reason="a"} 2"#, r#"{listener="public",reason="b"} 1"#] {
            assert!(page.contains(&format!("portico_test_refused_total{line}")), "{page}");
        }
    }

    #[test]
    fn a_second_metric_of_the_same_name_is_left_out() {
        let metrics = Metrics::new();
        metrics.register("portico_test_size", "First", Gauge::<i64>::default());
        metrics.register("portico_test_size", "Second", Gauge::<i64>::default());
        assert_eq!(metrics.render().matches("# TYPE").count(), 1);
    }
}
