//! Which addresses may be called.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use url::{Host, Url};

use crate::address::{Class, classify, unwrapped};
use crate::refused::{AddressRefused, RefusalReason};
use crate::resolve::Resolve;
use crate::rule::AllowRule;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Ports of other protocols that a request could be made to speak (Fetch §2.9, port blocking).
const BLOCKED_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Decides about every address that a user can influence.
///
/// Public addresses are allowed. Private ones (loopback, RFC 1918, unique local) need a rule or `allow_private`.
/// Link-local, metadata, multicast, reserved and tunnel addresses and the deployment's own are always refused.
#[derive(Debug, Clone, Default)]
pub struct OutboundPolicy {
    /// Private networks and hosts that may be called.
    pub allow: Vec<AllowRule>,
    /// The deployment's own listeners and stores. An unspecified address stands for every address of this machine.
    pub deny_addrs: Vec<SocketAddr>,
    /// Names and ports of the deployment's own services and stores, which may come to stand for other addresses later.
    pub deny_hosts: Vec<(String, u16)>,
    /// Addresses that may be called although `deny_addrs` covers them, such as a demo server of the same process.
    pub exempt_addrs: Vec<SocketAddr>,
    /// Whether every private address may be called.
    pub allow_private: bool,
}

impl OutboundPolicy {
    /// What holds on a developer's machine: every private address may be called.
    #[must_use]
    pub fn dev() -> Self {
        Self { allow_private: true, ..Self::default() }
    }

    /// Parses what a user entered and checks it as [`Self::check_url`] does.
    pub fn parse_url(&self, text: &str) -> Result<Url, AddressRefused> {
        let malformed = |why: &str| {
            let message = format!("this is not a usable URL ({why}): write one like https://example.com/mcp");
            AddressRefused::new(RefusalReason::UrlMalformed, message)
        };
        // The URL standard drops or rewrites these silently; two readers would see two hosts.
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(malformed("it contains a space, a control character or a backslash"));
        }
        let url = Url::parse(text).map_err(|error| malformed(&error.to_string()))?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// Checks what a URL says by itself; a host name is not resolved.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressRefused> {
        check_scheme(url.scheme())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(userinfo());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        check_port(port)?;
        // The URL standard has already read octal, hexadecimal and decimal forms and IDN dots as an address.
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_addr(None, SocketAddr::new(ip.into(), port)),
            Some(Host::Ipv6(ip)) => self.check_addr(None, SocketAddr::new(ip.into(), port)),
            Some(Host::Domain(host)) if is_localhost(&canonical(host)) => {
                self.check_addr(Some(host), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
            }
            Some(Host::Domain(host)) => self.check_host(host, port),
            None => Err(AddressRefused::new(RefusalReason::UrlMalformed, "the URL names no host")),
        }
    }

    /// Checks a URL and every address that its host has now. What a host has later is checked at the dial.
    pub(crate) async fn check_url_resolved(
        &self,
        url: &Url,
        resolver: &dyn Resolve,
    ) -> Result<(), AddressRefused> {
        self.check_url(url)?;
        let Some(Host::Domain(host)) = url.host() else { return Ok(()) };
        let port = url.port_or_known_default().unwrap_or_default();
        match tokio::time::timeout(RESOLVE_TIMEOUT, self.vetted(host, port, resolver)).await {
            Ok(vetted) => vetted.map(drop),
            Err(_) => Err(not_resolved(host)),
        }
    }

    /// Resolves a host and returns its addresses if every one of them may be called.
    pub(crate) async fn vetted(
        &self,
        host: &str,
        port: u16,
        resolver: &dyn Resolve,
    ) -> Result<Vec<SocketAddr>, AddressRefused> {
        check_port(port)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port);
            self.check_addr(None, address)?;
            return Ok(vec![address]);
        }
        if ends_in_a_number(host) {
            let message =
                format!("{host} is a number, not a host name: write the address as 192.0.2.1 is written");
            return Err(AddressRefused::new(RefusalReason::HostAmbiguous, message));
        }
        self.check_host(host, port)?;
        let found = resolver.resolve(host, port).await.map_err(|error| {
            tracing::debug!(%error, "a host name does not resolve");
            not_resolved(host)
        })?;
        if found.is_empty() {
            return Err(not_resolved(host));
        }
        for address in &found {
            self.check_addr(Some(host), SocketAddr::new(address.ip(), port))?;
        }
        Ok(found)
    }

    fn check_host(&self, host: &str, port: u16) -> Result<(), AddressRefused> {
        let name = canonical(host);
        if self.deny_hosts.iter().any(|(own, own_port)| *own_port == port && canonical(own) == name) {
            return Err(own_address(host, port));
        }
        Ok(())
    }

    fn check_addr(&self, host: Option<&str>, address: SocketAddr) -> Result<(), AddressRefused> {
        let address = SocketAddr::new(unwrapped(address.ip()), address.port());
        let exempt = self.exempt_addrs.contains(&address);
        if !exempt && self.deny_addrs.iter().any(|own| is_own(*own, address)) {
            return Err(own_address(&subject(host, address.ip()), address.port()));
        }
        self.check_class(host, address.ip())
    }

    fn check_class(&self, host: Option<&str>, ip: IpAddr) -> Result<(), AddressRefused> {
        match classify(ip) {
            Class::Public => Ok(()),
            Class::Denied(kind) => {
                let message = format!("{} is {kind}, which is never called", leads_to(host, ip));
                Err(AddressRefused::new(RefusalReason::AddressDenied, message))
            }
            Class::Private(_) if self.allow_private || self.lists(host, unwrapped(ip)) => Ok(()),
            Class::Private(kind) => {
                let line =
                    host.map_or_else(|| AllowRule::Network(unwrapped(ip).into()).to_string(), canonical);
                let message = format!(
                    "{} is {kind}, which the policy does not list: an operator can permit it with \
                     outbound.allow = [\"{line}\"]",
                    leads_to(host, ip)
                );
                Err(AddressRefused::new(RefusalReason::AddressPrivate, message))
            }
        }
    }

    fn lists(&self, host: Option<&str>, ip: IpAddr) -> bool {
        let host = host.map(canonical);
        self.allow
            .iter()
            .any(|rule| rule.covers_ip(ip) || host.as_deref().is_some_and(|host| rule.covers_host(host)))
    }
}

fn own_address(subject: &str, port: u16) -> AddressRefused {
    let message = format!("{subject} port {port} belongs to Portico itself and is never called");
    AddressRefused::new(RefusalReason::AddressOwn, message)
}

pub(crate) fn check_scheme(scheme: &str) -> Result<(), AddressRefused> {
    if matches!(scheme, "http" | "https") {
        return Ok(());
    }
    let message = format!("the scheme {scheme} is not called: use https (or http)");
    Err(AddressRefused::new(RefusalReason::SchemeNotAllowed, message))
}

pub(crate) fn userinfo() -> AddressRefused {
    let message = "the URL carries a user name or a password: store it as a secret and refer to that";
    AddressRefused::new(RefusalReason::UserinfoNotAllowed, message)
}

fn check_port(port: u16) -> Result<(), AddressRefused> {
    if BLOCKED_PORTS.binary_search(&port).is_err() {
        return Ok(());
    }
    let message = format!("port {port} belongs to another protocol and is never called: use an HTTP port");
    Err(AddressRefused::new(RefusalReason::PortNotAllowed, message))
}

fn not_resolved(host: &str) -> AddressRefused {
    let message = format!("the host name {host} does not resolve: check its spelling and the DNS");
    AddressRefused::new(RefusalReason::HostNotResolved, message)
}

/// Names what the user entered; what a name resolves to inside the network stays there.
fn subject(host: Option<&str>, ip: IpAddr) -> String {
    host.map_or_else(|| ip.to_string(), str::to_owned)
}

fn leads_to(host: Option<&str>, ip: IpAddr) -> String {
    host.map_or_else(|| ip.to_string(), |host| format!("the address of {host}"))
}

fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// RFC 6761 §6.3: these names mean loopback, whatever a resolver says.
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// URL standard, "ends in a number": what a C library would read as an IPv4 address.
fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    hexadecimal || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_own(own: SocketAddr, target: SocketAddr) -> bool {
    if own.port() != target.port() {
        return false;
    }
    let (own, target) = (unwrapped(own.ip()), target.ip());
    let local = || target.is_loopback() || UdpSocket::bind((target, 0)).is_ok();
    own == target || (own.is_loopback() && target.is_loopback()) || (own.is_unspecified() && local())
}

#[cfg(test)]
mod tests;
