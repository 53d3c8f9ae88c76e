//! How many connections each address has: one alone must not take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use super::forwarded::TrustedProxies;

/// Whoever has one address of an IPv6 network of this size usually has all of them: the rest is the interface identifier
/// (RFC 4291 §2.5.4).
const V6_NETWORK_BITS: u32 = 64;

/// Counts the open connections of each address.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    proxies: TrustedProxies,
    /// Only addresses that have a connection, so never more than the listener takes.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address, until it is gone.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Crowd,
    /// None for a trusted proxy: it does not count.
    from: Option<IpAddr>,
}

impl Crowd {
    pub(super) fn new(most: usize, proxies: TrustedProxies) -> Self {
        Self(Arc::new(Inner { most, proxies, counts: Mutex::default() }))
    }

    /// Takes a newcomer in, or none if its address has as many connections as it may.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Member> {
        if self.0.most == usize::MAX || self.0.proxies.has(ip) {
            return Some(Member { crowd: self.clone(), from: None });
        }
        let from = client_network(ip);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        if *count >= self.0.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Member { crowd: self.clone(), from: Some(from) })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = self.crowd.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
    }
}

/// Returns what stands for everybody who may be the same client: the address itself, of IPv6 its /64 network.
#[must_use]
pub fn client_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::MAX << (u128::BITS - V6_NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(most: usize) -> Crowd {
        Crowd::new(most, TrustedProxies::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]))
    }

    fn enter(crowd: &Crowd, ip: &str) -> Option<Member> {
        crowd.enter(ip.parse().unwrap())
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_others_have_theirs() {
        let crowd = crowd(2);
        let first = enter(&crowd, "192.0.2.1").unwrap();
        let _second = enter(&crowd, "::ffff:192.0.2.1").unwrap();
        assert!(enter(&crowd, "192.0.2.1").is_none());
        assert!(enter(&crowd, "192.0.2.2").is_some());
        drop(first);
        assert!(enter(&crowd, "192.0.2.1").is_some());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let crowd = crowd(1);
        let _held = enter(&crowd, "2001:db8:0:1::1").unwrap();
        assert!(enter(&crowd, "2001:db8:0:1:ffff:ffff:ffff:ffff").is_none());
        assert!(enter(&crowd, "2001:db8:0:2::1").is_some());
    }

    #[test]
    fn a_trusted_proxy_stands_for_all_its_clients() {
        let crowd = crowd(1);
        for proxy in ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
            let held: Vec<_> = (0..3).map(|_| enter(&crowd, proxy)).collect();
            assert!(held.iter().all(Option::is_some), "{proxy}");
        }
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let crowd = crowd(1);
        for n in 0..1000_u32 {
            drop(crowd.enter(IpAddr::V4((0xc000_0200 + n).into())));
            assert!(enter(&crowd, "2001:db8::1").is_some());
        }
        assert!(crowd.0.counts.lock().unwrap().is_empty());
    }
}
