//! The client for addresses that users give, which never calls Portico itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portico_outbound::{BuildError, OutboundClient, OutboundPolicy};
use portico_settings::Secret;
use secrecy::ExposeSecret as _;
use url::{Host, Url};

use crate::identity::Peer;
use crate::settings::OutboundSettings;

/// How long the start waits for one name; whoever resolves later is known by name only.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// Where the deployment itself is, as far as this program knows.
#[derive(Debug, Clone, Default)]
pub struct OwnPlaces {
    sockets: Vec<SocketAddr>,
    hosts: Vec<(String, u16)>,
    /// Names behind whose addresses there may be others as well, such as those of a shared ingress.
    fronts: Vec<(String, u16)>,
}

impl OwnPlaces {
    /// Adds the listeners of this process.
    #[must_use]
    pub fn listeners(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.sockets.extend(addresses);
        self
    }

    /// Adds a service that this program calls.
    #[must_use]
    pub fn peer(mut self, peer: &Peer) -> Self {
        for (host, port) in peer.hosts() {
            self.add(host, port);
        }
        self
    }

    /// Adds where everybody reaches the deployment: a server that is Portico itself would call itself without end.
    #[must_use]
    pub fn origin(mut self, origin: &Url) -> Self {
        let port = origin.port_or_known_default().unwrap_or_default();
        match origin.host() {
            Some(Host::Domain(name)) => self.fronts.push((name.to_owned(), port)),
            Some(Host::Ipv4(ip)) => self.sockets.push(SocketAddr::new(ip.into(), port)),
            Some(Host::Ipv6(ip)) => self.sockets.push(SocketAddr::new(ip.into(), port)),
            None => {}
        }
        self
    }

    /// Adds the store of a URL. One that cannot be read is somebody else's problem to tell.
    #[must_use]
    pub fn store(mut self, url: Option<&Secret>, default_port: u16) -> Self {
        let url =
            url.and_then(|url| url.load().ok()).and_then(|url| Url::parse(url.expose_secret().trim()).ok());
        if let Some(url) = url
            && let Some(host) = url.host()
        {
            let port = url.port().unwrap_or(default_port);
            match host {
                Host::Domain(name) => self.add(name, port),
                Host::Ipv4(ip) => self.sockets.push(SocketAddr::new(ip.into(), port)),
                Host::Ipv6(ip) => self.sockets.push(SocketAddr::new(ip.into(), port)),
            }
        }
        self
    }

    fn add(&mut self, host: &str, port: u16) {
        match host.parse::<IpAddr>() {
            Ok(ip) => self.sockets.push(SocketAddr::new(ip, port)),
            Err(_) => self.hosts.push((host.to_owned(), port)),
        }
    }

    /// Adds the addresses that the names have now, so that their addresses are refused as well.
    async fn resolve(&mut self) {
        for (host, port) in &self.hosts {
            let look_up = tokio::net::lookup_host((host.as_str(), *port));
            if let Ok(Ok(addresses)) = tokio::time::timeout(RESOLVE_LIMIT, look_up).await {
                self.sockets.extend(addresses);
            } else {
                tracing::info!(host = host.as_str(), "a name of this deployment does not resolve yet");
            }
        }
    }
}

/// Makes the client; addresses of the deployment itself are refused whatever the settings allow.
pub async fn outbound(settings: &OutboundSettings, mut own: OwnPlaces) -> Result<OutboundClient, BuildError> {
    own.resolve().await;
    let policy = OutboundPolicy {
        allow: settings.allow.clone(),
        allow_private: settings.allow_private,
        deny_addrs: own.sockets,
        deny_hosts: [own.hosts, own.fronts].concat(),
        exempt_addrs: Vec::new(),
    };
    OutboundClient::new(policy, &settings.limits)
}

#[cfg(test)]
mod tests {
    use portico_outbound::RefusalReason;

    use super::*;
    use crate::problems::Problems;

    #[tokio::test]
    async fn a8_the_deployments_own_addresses_are_refused_though_private_ones_are_allowed() {
        let peer =
            Peer::check(&mut Problems::new(), "peers.registry", Some("192.0.2.7:9443"), "registry").unwrap();
        let url = Secret::inline("postgres://u:p@10.1.2.3/portico".to_owned().into());
        let redis = Secret::inline("rediss://u:p@localhost:7000/0".to_owned().into());
        let own = OwnPlaces::default()
            .listeners(["127.0.0.1:9090".parse().unwrap()])
            .peer(&peer)
            .store(Some(&url), 5432)
            .store(Some(&redis), 6379)
            .origin(&"https://portico.example".parse().unwrap())
            .origin(&"http://127.0.0.1:8080".parse().unwrap());
        let settings = OutboundSettings { allow_private: true, ..OutboundSettings::default() };
        let client = outbound(&settings, own).await.unwrap();
        for own in [
            "http://127.0.0.1:9090",
            "http://192.0.2.7:9443",
            "http://10.1.2.3:5432",
            "http://127.0.0.1:7000",
        ] {
            let refused = client.policy().parse_url(own).unwrap_err();
            assert_eq!(refused.reason, RefusalReason::AddressOwn, "{own}");
        }
        for own in ["https://portico.example/mcp", "http://localhost:8080/demo/mcp"] {
            let refused = client.policy().parse_url(own).unwrap_err();
            assert_eq!(refused.reason, RefusalReason::AddressOwn, "{own}");
        }
        assert!(client.policy().parse_url("http://10.1.2.3:8080").is_ok());
    }
}
