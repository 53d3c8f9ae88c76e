//! Whose request a proxy in front passes on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose word is taken.
#[derive(Debug, Clone)]
pub(super) struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Returns where a request comes from: the nearest address that is no proxy of ours. What stands before it is
    /// somebody's claim. A header that cannot be read says nothing.
    pub(super) fn client(&self, socket: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.has(socket.ip()) {
            return socket;
        }
        let mut nearest = socket;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            let Ok(text) = value.to_str() else { return socket };
            for entry in text.rsplit(',') {
                let Some(ip) = address(entry.trim()) else { return socket };
                nearest = SocketAddr::new(ip, 0);
                if !self.has(ip) {
                    return nearest;
                }
            }
        }
        nearest
    }

    /// Tells whether an address is one of theirs.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip.to_canonical()))
    }
}

/// Reads `192.0.2.1`, `2001:db8::1` and, as some balancers write, `[2001:db8::1]` and either with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(socket: &str, headers: &[&str]) -> String {
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let name = http::HeaderName::from_static(FORWARDED_FOR);
        let headers = headers.iter().map(|value| (name.clone(), value.parse().unwrap())).collect();
        proxies.client(socket.parse().unwrap(), &headers).ip().to_string()
    }

    #[test]
    fn what_a_trusted_proxy_says_is_where_a_request_comes_from() {
        assert_eq!(client("10.0.0.1:99", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("[::ffff:10.0.0.1]:99", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1:99", &["[2001:db8::1]:5000"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1:99", &["192.0.2.7:5000"]), "192.0.2.7");
    }

    #[test]
    fn only_the_nearest_address_that_is_no_proxy_counts() {
        assert_eq!(client("10.0.0.1:99", &["203.0.113.9, 192.0.2.7, 10.9.9.9"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1:99", &["203.0.113.9", "192.0.2.7", "fd00::1"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1:99", &["10.7.7.7, 10.9.9.9"]), "10.7.7.7");
    }

    #[test]
    fn nobody_else_can_choose_an_address() {
        assert_eq!(client("192.0.2.1:99", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1:99", &[]), "10.0.0.1");
        for bad in ["unknown", "", "203.0.113.9, _hidden", "203.0.113.9,"] {
            assert_eq!(client("10.0.0.1:99", &[bad]), "10.0.0.1", "{bad:?}");
        }
    }
}
