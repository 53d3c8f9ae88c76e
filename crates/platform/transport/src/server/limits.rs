//! What one client may take of a listener.

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Limits of an HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpLimits {
    /// Connections at the same time, and never more than half of the files that the process may have open; more wait in
    /// the kernel's backlog.
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// Connections at the same time from one address (IPv6: from one /64 network), 0: as many as there are; more are
    /// closed at once. Those of `trusted_proxies` do not count: a proxy stands for all its clients.
    pub max_connections_per_address: usize,
    /// Seconds for the first request head of a connection, counted from its beginning.
    #[schemars(range(min = 1))]
    pub header_read_timeout_seconds: u64,
    /// Seconds for a whole request body, gRPC apart: its calls have deadlines of their own.
    #[schemars(range(min = 1))]
    pub body_read_timeout_seconds: u64,
    /// Seconds for which an HTTP/1 connection is kept until the head of its next request is there. Those of
    /// `trusted_proxies` are kept for two hours: the proxy ends them, so that no request meets the end of its connection.
    #[schemars(range(min = 1))]
    pub keep_alive_seconds: u64,
    /// Seconds for a TLS handshake.
    #[schemars(range(min = 1))]
    pub tls_handshake_timeout_seconds: u64,
    /// Bytes of a request head (request line and headers); at least 8192.
    #[schemars(range(min = 8192))]
    pub max_header_bytes: u32,
    /// Header fields of an HTTP/1 request.
    #[schemars(range(min = 1))]
    pub max_headers: usize,
    /// Requests in flight on one HTTP/2 connection.
    #[schemars(range(min = 1))]
    pub h2_max_concurrent_streams: u32,
    /// HTTP/2 streams that may be reset before they are answered; more end the connection.
    #[schemars(range(min = 1))]
    pub h2_max_reset_streams: usize,
    /// Seconds between HTTP/2 pings, and until an unanswered one ends the connection.
    #[schemars(range(min = 1))]
    pub h2_keep_alive_seconds: u64,
    /// Seconds after which a connection ends, in flight requests first; 0: never. Its peer proves anew who it is.
    pub max_connection_age_seconds: u64,
    /// Milliseconds at shutdown for which a kept HTTP/1 connection waits for the request that may be under way.
    pub drain_linger_ms: u64,
    /// Networks of the proxies in front, e.g. `10.0.0.0/8`. What they say in `X-Forwarded-For`, which they have to
    /// overwrite, tells the address of a client; from anybody else it is ignored.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
}

/// Longer than balancers keep a connection that is not used: Envoy an hour, an AWS load balancer at most 4000 s. One that
/// is gone without a word costs its connections no longer.
const PROXY_KEEP_ALIVE: Duration = Duration::from_hours(2);

/// Longer than anything that is served; what a clock counts from a longer time on overflows.
const LONGEST_SECONDS: u64 = 365 * 24 * 60 * 60;

fn seconds(setting: u64) -> Duration {
    Duration::from_secs(setting.clamp(1, LONGEST_SECONDS))
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1000,
            header_read_timeout_seconds: 30,
            body_read_timeout_seconds: 30,
            // Longer than ingress-nginx (60) and Traefik (90) keep theirs, for those whom nobody has named.
            keep_alive_seconds: 120,
            tls_handshake_timeout_seconds: 10,
            max_header_bytes: 64 * 1024,
            max_headers: 100,
            h2_max_concurrent_streams: 256,
            h2_max_reset_streams: 64,
            h2_keep_alive_seconds: 20,
            max_connection_age_seconds: 0,
            drain_linger_ms: 500,
            trusted_proxies: Vec::new(),
        }
    }
}

impl HttpLimits {
    /// Each connection is a file, and what is done for it needs others: to a server, to a store, to the disk.
    pub(crate) fn max_connections(&self, open_files: Option<u64>) -> usize {
        let files = open_files.and_then(|files| usize::try_from(files / 2).ok()).unwrap_or(usize::MAX);
        self.max_connections.min(files).clamp(1, Semaphore::MAX_PERMITS)
    }

    pub(crate) fn max_connections_per_address(&self) -> usize {
        if self.max_connections_per_address == 0 { usize::MAX } else { self.max_connections_per_address }
    }

    /// hyper refuses to work with less.
    pub(crate) fn max_header_bytes(&self) -> u32 {
        self.max_header_bytes.max(8192)
    }

    pub(crate) fn header_read_timeout(&self) -> Duration {
        seconds(self.header_read_timeout_seconds)
    }

    pub(crate) fn body_read_timeout(&self) -> Duration {
        seconds(self.body_read_timeout_seconds)
    }

    /// How long a kept connection waits for its next request.
    pub(crate) fn keep_alive(&self, of_a_proxy: bool) -> Duration {
        let seconds = seconds(self.keep_alive_seconds);
        if of_a_proxy { seconds.max(PROXY_KEEP_ALIVE) } else { seconds }
    }

    pub(crate) fn tls_handshake_timeout(&self) -> Duration {
        seconds(self.tls_handshake_timeout_seconds)
    }

    pub(crate) fn h2_keep_alive(&self) -> Duration {
        seconds(self.h2_keep_alive_seconds)
    }

    pub(crate) fn max_connection_age(&self) -> Option<Duration> {
        (self.max_connection_age_seconds > 0).then(|| seconds(self.max_connection_age_seconds))
    }

    pub(crate) fn drain_linger(&self) -> Duration {
        Duration::from_millis(self.drain_linger_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_files_for_what_is_done_for_them() {
        let limits = HttpLimits::default();
        assert_eq!(limits.max_connections(Some(1024)), 512);
        assert_eq!(limits.max_connections(Some(1 << 20)), 10_000);
        assert_eq!(limits.max_connections(None), 10_000);
        assert_eq!(limits.max_connections(Some(1)), 1);
    }
}
