//! Architecture, contract, end-to-end and conformance tests, and the harness that the end-to-end scenarios stand on:
//! a running Portico, MCP servers that misbehave on request, agents of both eras, a browser, forged tokens.
#![expect(missing_docs, reason = "a harness: its users read its code")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a failure is a failed test"
)]

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod boundaries;
#[cfg(test)]
mod coverage;

pub mod api;
pub mod browser;
pub mod deployment;
pub mod forge;
pub mod http;
pub mod mcp;
pub mod oauth;
pub mod upstream;

use std::future::Future;
use std::time::Duration;

/// How long anything may take that has to happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Awaits with a deadline.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {limit:?}"))
}

/// Asks again and again until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(limit, what, asking).await
}
