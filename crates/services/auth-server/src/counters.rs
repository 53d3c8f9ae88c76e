//! What operators can watch.

use portico_telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;

use crate::rpc::Calls;

/// Counters of this service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) tokens_issued: Counter,
    pub(crate) sign_ins: Counter,
    pub(crate) sign_ins_refused: Counter,
    pub(crate) refresh_reuses: Counter,
    pub(crate) clients_registered: Counter,
    pub(crate) rows_rewrapped: Counter,
    pub(crate) calls: Calls,
}

impl Counters {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let counters = Self { calls: Calls::registered(metrics), ..Self::default() };
        for (name, help, counter) in [
            ("portico_auth_tokens_issued", "Access tokens issued", &counters.tokens_issued),
            ("portico_auth_sign_ins", "People who signed in with a password", &counters.sign_ins),
            ("portico_auth_sign_ins_refused", "Sign-ins that were refused", &counters.sign_ins_refused),
            (
                "portico_auth_refresh_reuses",
                "Refresh tokens used twice, families revoked",
                &counters.refresh_reuses,
            ),
            (
                "portico_auth_clients_registered",
                "Clients that registered themselves",
                &counters.clients_registered,
            ),
            (
                "portico_auth_rows_rewrapped",
                "Sealed rows wrapped with a newer key of the ring",
                &counters.rows_rewrapped,
            ),
        ] {
            metrics.register(name, help, counter.clone());
        }
        counters
    }
}
