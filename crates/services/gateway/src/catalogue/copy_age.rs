use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_clock::SharedClock;
use portico_process::Tasks;
use prometheus_client::metrics::gauge::Gauge;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(15);
/// A copy is written every minute; one of this age cannot be written any more.
const TOO_OLD: i64 = 180;

/// Tells how old a copy on disk is: a disk that is full stops no call, but a restart would need the registry.
pub(crate) struct CopyAge {
    pub(crate) path: PathBuf,
    pub(crate) age: Gauge,
    pub(crate) clock: SharedClock,
}

impl CopyAge {
    pub(crate) fn spawn(self, tasks: &Tasks) {
        let token = tasks.shutdown_token();
        tasks.spawn::<_, Infallible>("watch-copy", async move {
            token.run_until_cancelled(self.run()).await;
            Ok(())
        });
    }

    async fn run(self) {
        let begun = self.clock.now();
        let mut every = tokio::time::interval(EVERY);
        let mut told = false;
        loop {
            every.tick().await;
            let age = self.look(begun).await;
            self.age.set(age);
            let too_old = age > TOO_OLD;
            if too_old && !told {
                tracing::warn!(path = %self.path.display(), age, "the copy of the catalogue is not written any more: see that its disk has room");
            }
            told = too_old;
        }
    }

    async fn look(&self, begun: DateTime<Utc>) -> i64 {
        let written = tokio::fs::metadata(&self.path).await.and_then(|file| file.modified());
        let written = written.map_or(begun, DateTime::<Utc>::from);
        (self.clock.now() - written).num_seconds().max(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_copy_ages_from_when_it_was_written_and_a_missing_one_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let begun = DateTime::from_timestamp(1_000, 0).unwrap();
        let clock = portico_clock::MockClock::at(begun + chrono::Duration::seconds(7));
        let age = CopyAge { path: path.clone(), age: Gauge::default(), clock: Arc::new(clock.clone()) };
        assert_eq!(age.look(begun).await, 7);
        std::fs::write(&path, b"x").unwrap();
        let written = DateTime::<Utc>::from(std::fs::metadata(&path).unwrap().modified().unwrap());
        clock.advance(written + chrono::Duration::milliseconds(90_500) - portico_clock::Clock::now(&clock));
        assert_eq!(age.look(begun).await, 90);
    }
}
