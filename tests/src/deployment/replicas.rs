//! What a scenario asks of each replica, without the balancer. In one process there is one of each.

use ::http::Method;

use super::{Deployment, Platform, Running, platform};
use crate::mcp::Caller;

impl Deployment {
    /// The platform, where it is one.
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        match &self.running {
            Running::Platform(platform) => Some(platform),
            Running::InProcess(_) | Running::Child(_) => None,
        }
    }

    /// Where each replica of a service is reached without the balancer; in one process, the origin.
    #[must_use]
    pub fn replicas(&self, service: &str) -> Vec<String> {
        match self.platform() {
            Some(platform) => platform.replicas(service, "listen"),
            None => vec![self.url("")],
        }
    }

    /// An agent at one replica of the gateway, with no token yet.
    #[must_use]
    pub fn caller_at(&self, gateway: &str, endpoint: &str) -> Caller {
        let path = if endpoint == "mcp" { "/mcp".to_owned() } else { format!("/{endpoint}/mcp") };
        let mut caller = Caller::new(self.http.clone(), format!("{gateway}{path}"), "");
        caller.headers.extend(platform::host(&self.ready.origin));
        caller
    }

    /// The keys that one authorization server publishes.
    pub async fn jwks_at(&self, server: &str) -> serde_json::Value {
        let headers = platform::host(&self.ready.origin);
        let url = format!("{server}/oauth2/jwks");
        self.http.send(Method::GET, &url, &headers, "").await.json()
    }

    /// Addresses of Portico itself, which no registered server may have.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<String> {
        let Some(platform) = self.platform() else {
            return vec![self.ready.admin.clone(), self.ready.origin.clone()];
        };
        let known = ["postgres", "redis", "auth-server-1.internal", "auth-server-2.internal"];
        let stores = known.map(|name| format!("http://127.0.0.1:{}/mcp", platform.port(name)));
        [self.ready.origin.clone()].into_iter().chain(stores).collect()
    }

    /// The metrics of every gateway.
    pub async fn gateway_metrics(&self) -> String {
        let pages = match self.platform() {
            Some(platform) => platform.replicas("gateway", "admin"),
            None => vec![self.admin_url("")],
        };
        let mut all = String::new();
        for page in pages {
            all += &self.http.get(&format!("{page}/metrics")).await.text();
        }
        all
    }
}
