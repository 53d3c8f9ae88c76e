//! Which calls failed, and when: enough to say whether a failure has a cause that is allowed.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::round;

/// Failures that are listed one by one; all are counted.
const LISTED: usize = 1_000;

struct Failure {
    begin: Duration,
    end: Duration,
    error: String,
}

#[derive(Default)]
pub(crate) struct Failures {
    count: u64,
    listed: Vec<Failure>,
}

/// The time of day as seconds since 1970, so that it can be compared with what others did.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Failures {
    /// Takes down a call that began then and fails now.
    pub(crate) fn add(&mut self, begin: Instant, error: &anyhow::Error) {
        self.count += 1;
        if self.listed.len() < LISTED {
            let end = since_epoch();
            let begin = end.saturating_sub(begin.elapsed());
            self.listed.push(Failure { begin, end, error: format!("{error:#}") });
        }
    }

    pub(crate) fn merge(&mut self, mut other: Self) {
        self.count += other.count;
        self.listed.append(&mut other.listed);
        self.listed.sort_by_key(|failure| failure.end);
        self.listed.truncate(LISTED);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn first(&self) -> Option<&str> {
        self.listed.first().map(|failure| failure.error.as_str())
    }

    pub(crate) fn list(&self) -> Vec<Value> {
        let seconds = |time: Duration| round(time.as_secs_f64(), 6);
        let described = |failure: &Failure| json!({ "begin": seconds(failure.begin), "end": seconds(failure.end), "error": failure.error });
        self.listed.iter().map(described).collect()
    }
}
