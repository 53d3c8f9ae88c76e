//! What kind of address an IP address is, whatever it is wrapped in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Reachable by everybody.
    Public,
    /// Loopback, RFC 1918 or unique local: permitted when the policy lists it.
    Private(&'static str),
    /// Never dialled.
    Denied(&'static str),
}

/// Takes an IPv4 address out of the IPv6 forms that the system dials as IPv4 or that a translator unwraps.
pub(crate) fn unwrapped(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    match v6.segments() {
        // RFC 4291 §2.5.5.2 (IPv4-mapped) and RFC 6052 §2.1 (NAT64, well-known prefix).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(embedded(high, low))
        }
        _ => ip,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

/// Classifies an address by what it leads to.
pub(crate) fn classify(ip: IpAddr) -> Class {
    match unwrapped(ip) {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// Follows the IANA special-purpose registry (RFC 6890).
fn classify_v4(ip: Ipv4Addr) -> Class {
    match ip.octets() {
        [127, ..] => Class::Private("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private("a private address (RFC 1918)"),
        [0, ..] => Class::Denied("an unspecified address"),
        [169, 254, ..] => Class::Denied("a link-local or metadata address"),
        // Azure's wire server; it answers from a public-looking address.
        [168, 63, 129, 16] => Class::Denied("a metadata address"),
        [100, 64..=127, ..] => Class::Denied("a carrier-grade NAT address (RFC 6598)"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] => {
            Class::Denied("a special-purpose address (RFC 6890)")
        }
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Class::Denied("a documentation address (RFC 5737)")
        }
        [224..=239, ..] => Class::Denied("a multicast address"),
        [255, 255, 255, 255] => Class::Denied("the broadcast address"),
        [240..=255, ..] => Class::Denied("a reserved address"),
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Private("a loopback address"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Denied("an unspecified address"),
        // Metadata services of AWS and Google inside the unique local range.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => Class::Denied("a metadata address"),
        [0xfc00..=0xfdff, ..] => Class::Private("a unique local address (RFC 4193)"),
        [0xfe80..=0xfebf, ..] => Class::Denied("a link-local address"),
        [0xfec0..=0xfeff, ..] => Class::Denied("a site-local address (RFC 3879)"),
        [0xff00..=0xffff, ..] => Class::Denied("a multicast address"),
        // 6to4, Teredo with the other protocol assignments, ISATAP: tunnels that hide an IPv4 address.
        [0x2002, ..] => Class::Denied("a 6to4 address (RFC 7526)"),
        [0x2001, 0, ..] => Class::Denied("a Teredo address (RFC 4380)"),
        [0x2001, 0x0001..=0x01ff, ..] => Class::Denied("a special-purpose address (RFC 6890)"),
        [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => Class::Denied("an ISATAP address (RFC 5214)"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Class::Denied("a documentation address (RFC 9637)")
        }
        // Global unicast is 2000::/3 (RFC 4291 §2.4); everything else is reserved, IPv4-compatible, local NAT64 …
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Denied("a reserved address"),
    }
}

#[cfg(test)]
mod tests;
