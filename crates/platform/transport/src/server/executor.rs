//! Where HTTP/2 streams run.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs the tasks that hyper makes for HTTP/2 streams so that a drain waits for them and an abort ends them.
#[derive(Debug, Clone)]
pub(super) struct TrackedExecutor {
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl TrackedExecutor {
    pub(super) fn new(tracker: TaskTracker, abort: CancellationToken) -> Self {
        Self { tracker, abort }
    }
}

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let abort = self.abort.clone();
        self.tracker.spawn(async move { abort.run_until_cancelled(future).await });
    }
}
