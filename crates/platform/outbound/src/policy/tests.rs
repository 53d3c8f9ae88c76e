use std::io;

use super::*;
use crate::resolve::Resolving;

#[derive(Debug)]
struct Says(Vec<&'static str>);

impl Resolve for Says {
    fn resolve(&self, _: &str, port: u16) -> Resolving {
        let found = self.0.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect::<Vec<_>>();
        Box::pin(
            async move { if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) } },
        )
    }
}

fn reason(policy: &OutboundPolicy, url: &str) -> Option<RefusalReason> {
    policy.parse_url(url).err().map(|refused| refused.reason)
}

fn listing(rules: &[&str]) -> OutboundPolicy {
    OutboundPolicy {
        allow: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        ..OutboundPolicy::default()
    }
}

#[test]
fn a8_every_spelling_of_loopback_is_private() {
    let policy = OutboundPolicy::default();
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.0.0.1./",
        "http://127。0。0。1/",
        "http://127．0．0．1/",
        "http://①②⑦.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:7f00:0001]/",
        "http://[64:ff9b::7f00:1]/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
    ] {
        assert_eq!(reason(&policy, url), Some(RefusalReason::AddressPrivate), "{url}");
        assert_eq!(reason(&OutboundPolicy::dev(), url), None, "{url} in dev");
    }
}

#[test]
fn a8_every_spelling_of_a_denied_address_is_denied_even_in_dev_and_when_listed() {
    let listed = listing(&["0.0.0.0/0", "::/0"]);
    for policy in [&OutboundPolicy::default(), &OutboundPolicy::dev(), &listed] {
        for url in [
            "http://0/",
            "http://0.0.0.0/",
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[fec0::1]/",
            "http://[ff02::1]/",
            "http://[::]/",
            "http://[::127.0.0.1]/",
            "http://100.64.0.1/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ] {
            assert_eq!(reason(policy, url), Some(RefusalReason::AddressDenied), "{url}");
        }
    }
}

#[test]
fn a8_userinfo_schemes_ports_and_malformed_urls_are_refused() {
    let policy = OutboundPolicy::dev();
    for (url, expected) in [
        ("https://user@example.com/", RefusalReason::UserinfoNotAllowed),
        ("https://user:secret@example.com/", RefusalReason::UserinfoNotAllowed),
        ("https://example.com@127.0.0.1/", RefusalReason::UserinfoNotAllowed),
        ("https://:x@example.com/", RefusalReason::UserinfoNotAllowed),
        ("file:///etc/passwd", RefusalReason::SchemeNotAllowed),
        ("gopher://127.0.0.1:6379/_x", RefusalReason::SchemeNotAllowed),
        ("ftp://example.com/", RefusalReason::SchemeNotAllowed),
        ("unix:/run/docker.sock", RefusalReason::SchemeNotAllowed),
        ("http://example.com:22/", RefusalReason::PortNotAllowed),
        ("http://example.com:25/", RefusalReason::PortNotAllowed),
        ("http://example.com:0/", RefusalReason::PortNotAllowed),
        ("example.com/mcp", RefusalReason::UrlMalformed),
        ("http://exa mple.com/", RefusalReason::UrlMalformed),
        ("http://example.com\\@127.0.0.1/", RefusalReason::UrlMalformed),
        ("http://127.0.0.1\t.example.com/", RefusalReason::UrlMalformed),
        ("http://1.2.3.4.5/", RefusalReason::UrlMalformed),
        ("http://256.0.0.1/", RefusalReason::UrlMalformed),
        ("http://[fe80::1%25eth0]/", RefusalReason::UrlMalformed),
        ("http://", RefusalReason::UrlMalformed),
    ] {
        assert_eq!(reason(&policy, url), Some(expected), "{url}");
    }
}

#[test]
fn a8_a_private_address_needs_a_rule_and_the_message_says_which() {
    let refused = OutboundPolicy::default().parse_url("http://10.1.2.3:9000/mcp").unwrap_err();
    assert_eq!(
        refused.message,
        "10.1.2.3 is a private address (RFC 1918), which the policy does not list: an operator can permit it with \
         outbound.allow = [\"10.1.2.3/32\"]"
    );
    assert_eq!(reason(&listing(&["10.1.2.3/32"]), "http://10.1.2.3:9000/mcp"), None);
    assert_eq!(reason(&listing(&["10.1.2.3/32"]), "http://[::ffff:10.1.2.3]/mcp"), None);
    assert!(reason(&listing(&["10.1.2.3/32"]), "http://10.1.2.4/mcp").is_some());
}

#[tokio::test]
async fn a8_a_host_rule_permits_private_addresses_of_that_host_only() {
    let policy = listing(&["corp.example"]);
    let private = Says(vec!["10.0.0.9"]);
    let check = async |url: &str, resolver: &Says| {
        let url = policy.parse_url(url).unwrap();
        policy.check_url_resolved(&url, resolver).await.map_err(|refused| (refused.reason, refused.message))
    };
    assert_eq!(check("https://mcp.corp.example/", &private).await, Ok(()));
    assert_eq!(check("https://MCP.Corp.Example./", &private).await, Ok(()));
    let (reason, message) = check("https://mcp.other.example/", &private).await.unwrap_err();
    assert_eq!(reason, RefusalReason::AddressPrivate);
    // It names the line to add, and not what the name means inside the network.
    assert!(message.ends_with("outbound.allow = [\"mcp.other.example\"]"), "{message}");
    assert!(!message.contains("10.0.0.9"));
    let metadata = Says(vec!["169.254.169.254"]);
    assert_eq!(
        check("https://mcp.corp.example/", &metadata).await.unwrap_err().0,
        RefusalReason::AddressDenied
    );
}

#[tokio::test]
async fn a8_one_bad_address_among_good_ones_refuses_the_host() {
    let policy = OutboundPolicy::default();
    let url = policy.parse_url("https://mixed.example/").unwrap();
    let mixed = Says(vec!["1.1.1.1", "127.0.0.1"]);
    let refused = policy.check_url_resolved(&url, &mixed).await.unwrap_err();
    assert_eq!(refused.reason, RefusalReason::AddressPrivate);
    let refused = policy.check_url_resolved(&url, &Says(vec![])).await.unwrap_err();
    assert_eq!(refused.reason, RefusalReason::HostNotResolved);
}

#[tokio::test]
async fn a8_a_number_that_is_not_written_as_an_address_is_not_resolved() {
    let policy = OutboundPolicy::dev();
    for host in ["0177.0.0.1", "2130706433", "0x7f.1", "0X7F000001", "127.1", "1.1.1.1."] {
        let refused = policy.vetted(host, 80, &Says(vec!["1.1.1.1"])).await.unwrap_err();
        assert_eq!(refused.reason, RefusalReason::HostAmbiguous, "{host}");
    }
}

#[test]
fn a8_own_addresses_are_refused_in_every_spelling_except_exempt_ones() {
    let policy = OutboundPolicy {
        deny_addrs: vec!["127.0.0.1:8080".parse().unwrap(), "0.0.0.0:9090".parse().unwrap()],
        exempt_addrs: vec!["127.0.0.1:8085".parse().unwrap()],
        ..OutboundPolicy::dev()
    };
    for url in [
        "http://127.0.0.1:8080/",
        "http://127.0.0.2:8080/",
        "http://localhost:8080/",
        "http://[::1]:8080/",
        "http://[::ffff:127.0.0.1]:8080/",
        "http://127.0.0.1:9090/",
        "http://[::1]:9090/",
    ] {
        assert_eq!(reason(&policy, url), Some(RefusalReason::AddressOwn), "{url}");
    }
    assert_eq!(reason(&policy, "http://127.0.0.1:8081/"), None);
    assert_eq!(reason(&policy, "http://10.255.255.254:9090/"), None);
    assert_eq!(reason(&policy, "http://127.0.0.1:8085/"), None);

    let everything = OutboundPolicy { deny_addrs: vec!["127.0.0.1:8085".parse().unwrap()], ..policy };
    assert_eq!(reason(&everything, "http://127.0.0.1:8085/"), None);
}

#[tokio::test]
async fn a8_own_hosts_are_refused_by_name_whatever_they_resolve_to() {
    let policy = OutboundPolicy { deny_hosts: vec![("registry".to_owned(), 9443)], ..OutboundPolicy::dev() };
    for url in ["http://registry:9443/", "https://Registry.:9443/"] {
        assert_eq!(reason(&policy, url), Some(RefusalReason::AddressOwn), "{url}");
    }
    assert_eq!(reason(&policy, "http://registry:8080/"), None);
    let refused = policy.vetted("registry", 9443, &Says(vec!["10.0.0.9"])).await.unwrap_err();
    assert_eq!(refused.reason, RefusalReason::AddressOwn);
}

#[test]
fn blocked_ports_are_sorted() {
    assert!(BLOCKED_PORTS.is_sorted());
}
