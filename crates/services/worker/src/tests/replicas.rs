//! Two workers on one event stream: what one address after the other is tried with is never called, so no socket is
//! opened and time stands still.

use std::time::Duration;

use portico_process::Tasks;
use portico_proto_events::TOPIC;
use portico_telemetry::Metrics;
use serde_json::{Value, json};

use super::document::{row, updated};
use super::fixture::{Fixture, metric};
use crate::WorkerSettings;

const INSTANCES: u32 = 40;

struct Two {
    tasks: [Tasks; 2],
    metrics: [Metrics; 2],
}

impl Two {
    fn start(fixture: &Fixture) -> Self {
        let two = Self { tasks: [Tasks::new(), Tasks::new()], metrics: [Metrics::new(), Metrics::new()] };
        for (number, (tasks, metrics)) in (1..).zip(two.tasks.iter().zip(&two.metrics)) {
            fixture.start_as(number, WorkerSettings::default(), (tasks, metrics));
        }
        two
    }

    fn watched(&self) -> [u64; 2] {
        let watched = |metrics| {
            ["pending", "healthy", "unhealthy"]
                .map(|status| metric(metrics, &format!("portico_worker_instances{{status=\"{status}\"}}")))
                .iter()
                .sum()
        };
        [watched(&self.metrics[0]), watched(&self.metrics[1])]
    }

    fn sum(&self, name: &str) -> u64 {
        self.metrics.iter().map(|metrics| metric(metrics, name)).sum()
    }

    async fn stop(&self, n: usize) {
        self.tasks[n].trigger_shutdown();
        let outcome = self.tasks[n].wait(Duration::from_secs(10)).await;
        assert!(outcome.is_clean() && outcome.aborted.is_empty(), "{outcome:?}");
    }
}

fn unreachable() -> Value {
    json!({"type": "url", "endpoint": "http://169.254.169.254/mcp"})
}

#[tokio::test(start_paused = true)]
async fn s2_29_s2_30_two_workers_share_the_instances_and_report_on_each_once() {
    let fixture = Fixture::new().patient();
    for n in 1..=INSTANCES {
        fixture.add(&row(n, i64::from(n), &unreachable()));
    }
    let two = Two::start(&fixture);
    let all = |state: &super::fixture::State| (1..=INSTANCES).all(|n| state.is_unhealthy(n));
    fixture.until("all were looked at", all).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let [one, other] = two.watched();
    assert!(one > 0 && other > 0 && one + other == u64::from(INSTANCES), "{one} and {other}");
    fixture.registry.with(|state| {
        assert_eq!(state.reports.len(), INSTANCES as usize, "each once, by one of them");
    });
    two.stop(0).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(two.watched()[1], u64::from(INSTANCES), "the other one has all");
    two.stop(1).await;
}

#[tokio::test(start_paused = true)]
async fn s4_01_s4_24_an_event_reaches_the_worker_that_watches_its_instance_whoever_gets_it() {
    let fixture = Fixture::new().patient();
    let two = Two::start(&fixture);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for n in 1..=INSTANCES {
        // Known to the registry, but no list is read in time: only the event tells.
        let row = row(n, i64::from(n), &unreachable());
        fixture.add(&row);
        fixture.publish(updated(&row)).await;
    }
    let all = |state: &super::fixture::State| (1..=INSTANCES).all(|n| state.is_unhealthy(n));
    fixture.until("all were looked at", all).await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    assert!(two.sum(r#"portico_worker_events_total{outcome="passed_on"}"#) > 0);
    assert_eq!(two.watched().iter().sum::<u64>(), u64::from(INSTANCES));
    fixture.registry.with(|state| {
        let looked_at: Vec<_> = state.reports.iter().map(|report| &report.instance_id).collect();
        assert_eq!(looked_at.len(), INSTANCES as usize, "each once: {looked_at:?}");
    });
    assert!(fixture.events.dead_letters(TOPIC, "worker").await.unwrap().is_empty());
    for n in 0..2 {
        two.stop(n).await;
    }
}
