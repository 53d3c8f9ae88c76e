//! How often somebody may try.

use std::time::Duration;

use http::HeaderValue;
use portico_clock::SharedClock;
use portico_coordination::{Limit, LimitKey, RateLimiter};
use portico_transport::client_network;

/// Registrations from one address: one a second, five at once (AS-30).
const REGISTER: Limit = Limit { per_minute: 60, burst: 5 };
/// Registrations from everywhere together.
const REGISTER_ALL: Limit = Limit { per_minute: 600, burst: 100 };
/// Pushed requests from one address: many people may share it.
const PUSH: Limit = Limit { per_minute: 300, burst: 60 };
/// Pushed requests from everywhere together: what the table of them holds.
const PUSH_ALL: Limit = Limit { per_minute: 6000, burst: 1000 };
/// Documents of clients that are read because of one address, failures included (AS-32).
const DOCUMENT: Limit = Limit { per_minute: 60, burst: 20 };
/// Documents that are read because of everybody together.
const DOCUMENT_ALL: Limit = Limit { per_minute: 600, burst: 100 };
/// Sign-ins to one account from everywhere are this many times those from one address.
const ACCOUNT_FACTOR: u32 = 10;
/// Sign-ins from one address to all accounts, likewise: many people may share it, but whoever tries one password on every
/// account is slowed down, and does not keep all turns of the password hashes busy.
const ADDRESS_FACTOR: u32 = 20;

/// Too often; it says when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limited {
    retry_after: Duration,
}

impl Limited {
    /// Something that may be tried again after a time.
    pub(crate) const fn after(retry_after: Duration) -> Self {
        Self { retry_after }
    }

    /// The header `Retry-After`: whole seconds, at least one (RFC 9110 §10.2.3).
    pub(crate) fn retry_after(self) -> HeaderValue {
        HeaderValue::from(self.retry_after.as_secs() + 1)
    }
}

/// The limits of this service.
#[derive(Debug)]
pub(crate) struct Limits {
    limiter: RateLimiter,
    clock: SharedClock,
    sign_ins: u32,
}

impl Limits {
    pub(crate) fn new(limiter: RateLimiter, clock: SharedClock, sign_ins_per_minute: u32) -> Self {
        Self { limiter, clock, sign_ins: sign_ins_per_minute }
    }

    fn take(&self, scope: &str, subject: &str, limit: Limit) -> Result<(), Limited> {
        self.limiter
            .try_acquire(&LimitKey::new(scope, subject), limit, self.clock.now())
            .map_err(|limited| Limited { retry_after: limited.retry_after })
    }

    /// One attempt to sign in to an account from an address (AS-43); accounts that do not exist count alike. What one
    /// address may do to an account and to all of them comes first, so that it cannot use up what others may.
    pub(crate) fn sign_in(&self, username: &str, address: &str) -> Result<(), Limited> {
        let one = Limit { per_minute: self.sign_ins, burst: self.sign_ins };
        let many = |factor| {
            let per_minute = self.sign_ins.saturating_mul(factor);
            Limit { per_minute, burst: per_minute }
        };
        let network = network(address);
        self.take("auth.sign_in", &format!("{username} {network}"), one)?;
        self.take("auth.sign_in_address", &network, many(ADDRESS_FACTOR))?;
        self.take("auth.sign_in_account", username, many(ACCOUNT_FACTOR))
    }

    /// The same in a browser, or a session, that the person has signed in with before: strangers cannot use this up.
    pub(crate) fn sign_in_again(&self, username: &str, known: &str) -> Result<(), Limited> {
        let one = Limit { per_minute: self.sign_ins, burst: self.sign_ins };
        self.take("auth.sign_in_again", &format!("{username} {known}"), one)
    }

    /// One registration from an address.
    pub(crate) fn register(&self, address: &str) -> Result<(), Limited> {
        self.take("auth.register", &network(address), REGISTER)?;
        self.take("auth.register_all", "", REGISTER_ALL)
    }

    /// One reading of a client's document for an address.
    pub(crate) fn document(&self, address: &str) -> Result<(), Limited> {
        self.take("auth.document", &network(address), DOCUMENT)?;
        self.take("auth.document_all", "", DOCUMENT_ALL)
    }

    /// One pushed authorization request from an address.
    pub(crate) fn push(&self, address: &str) -> Result<(), Limited> {
        self.take("auth.push", &network(address), PUSH)?;
        self.take("auth.push_all", "", PUSH_ALL)
    }
}

/// What counts as one address.
fn network(address: &str) -> String {
    address.parse().map_or_else(|_| address.to_owned(), |ip| client_network(ip).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_43_whoever_has_an_ipv6_network_has_one_address() {
        assert_eq!(network("2001:db8:1:2:aaaa::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
        assert_eq!(network(""), "");
    }
}
