use std::{convert::Infallible, io};

use tokio::sync::oneshot;

use super::*;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn shutdown_waits_for_tasks_to_drain() {
    let tasks = Tasks::new();
    let token = tasks.shutdown_token();
    let (drained, seen) = oneshot::channel();
    tasks.spawn("listener", async move {
        token.cancelled().await;
        tokio::task::yield_now().await;
        drained.send(()).unwrap();
        Ok::<_, Infallible>(())
    });
    assert_eq!(tasks.running(), ["listener"]);
    tasks.trigger_shutdown();
    assert_eq!(tasks.wait(GRACE).await, Outcome::default());
    seen.await.unwrap();
    assert!(tasks.running().is_empty());
}

#[tokio::test]
async fn a_task_that_fails_ends_the_process_with_1() {
    let tasks = Tasks::new();
    tasks.spawn("relay", async { Err(io::Error::other("connection refused")) });
    let token = tasks.shutdown_token();
    tasks.spawn("listener", async move {
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
    let outcome = tasks.wait(GRACE).await;
    let what = "failed: connection refused".to_owned();
    assert_eq!(outcome.failure, Some(TaskFailure { name: "relay", what }));
    assert_eq!(format!("{:?}", outcome.exit_code()), format!("{:?}", ExitCode::FAILURE));
}

#[tokio::test]
async fn a_task_that_panics_ends_the_process_with_1() {
    let tasks = Tasks::new();
    tasks.spawn("relay", async {
        assert!(tokio::runtime::Handle::try_current().is_err(), "boom");
        Ok::<_, Infallible>(())
    });
    let outcome = tasks.wait(GRACE).await;
    assert_eq!(outcome.failure.unwrap().to_string(), "task relay panicked: boom");
}

#[tokio::test]
async fn a_task_that_ends_before_shutdown_ends_the_process_with_1() {
    let tasks = Tasks::new();
    tasks.spawn("relay", async { Ok::<_, Infallible>(()) });
    let outcome = tasks.wait(GRACE).await;
    assert_eq!(outcome.failure.unwrap().to_string(), "task relay ended before shutdown");
}

#[tokio::test]
async fn a_short_task_may_end_or_panic_alone() {
    let tasks = Tasks::new();
    let (ended, seen) = oneshot::channel::<()>();
    tasks.spawn_short("connection", async move {
        let _ended = ended;
        assert!(tokio::runtime::Handle::try_current().is_err(), "boom");
    });
    assert!(seen.await.is_err());
    assert!(!tasks.shutdown_token().is_cancelled());
    tasks.trigger_shutdown();
    assert!(tasks.wait(GRACE).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_outlives_the_grace_is_dropped_and_named() {
    let tasks = Tasks::new();
    tasks.spawn("stuck", std::future::pending::<Result<(), Infallible>>());
    tasks.trigger_shutdown();
    let outcome = tasks.wait(GRACE).await;
    assert_eq!(outcome, Outcome { failure: None, aborted: vec!["stuck"] });
    assert!(tasks.running().is_empty());
}
