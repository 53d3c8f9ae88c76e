use proptest::prelude::*;

use super::*;

fn uri(text: &str) -> RedirectUri {
    RedirectUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn as_11_what_known_clients_register_is_accepted() {
    for (text, kind) in [
        ("https://claude.ai/api/mcp/auth_callback", RedirectKind::Https),
        ("https://claude.com/api/mcp/auth_callback", RedirectKind::Https),
        ("https://chatgpt.com/connector/oauth/abc-123", RedirectKind::Https),
        ("https://vscode.dev/redirect", RedirectKind::Https),
        ("https://insiders.vscode.dev/redirect", RedirectKind::Https),
        ("https://app.example:8443/cb?tenant=7", RedirectKind::Https),
        ("https://EXAMPLE.com/cb", RedirectKind::Https),
        ("https://example.com", RedirectKind::Https),
        ("http://127.0.0.1/", RedirectKind::Loopback),
        ("http://127.0.0.1:33418", RedirectKind::Loopback),
        ("http://[::1]:7777/cb", RedirectKind::Loopback),
        ("http://localhost/callback", RedirectKind::Loopback),
        ("http://localhost:6274/oauth/callback/debug", RedirectKind::Loopback),
        ("com.example.app:/oauth2redirect", RedirectKind::PrivateUse),
        ("com.example.app://callback", RedirectKind::PrivateUse),
        ("io.github.my-app:/cb", RedirectKind::PrivateUse),
        ("cursor://anysphere.cursor-mcp/oauth/callback", RedirectKind::PrivateUse),
    ] {
        assert_eq!(uri(text).kind(), kind, "{text}");
        assert_eq!(uri(text).as_str(), text);
    }
}

#[test]
fn as_11_as_12_the_corpus_of_bad_uris_is_refused() {
    use InvalidUri::{Character, DotSegment, Fragment, Host, NotAbsolute, TooLong, UserInfo, Wildcard};
    let long = format!("https://example.com/{}", "a".repeat(2048));
    for (text, reason) in [
        ("", NotAbsolute),
        ("/callback", NotAbsolute),
        ("//example.com/cb", NotAbsolute),
        ("1a://example.com/cb", NotAbsolute),
        ("https://example.com/cb#", Fragment),
        ("https://example.com/cb#token", Fragment),
        ("http://127.0.0.1:1/cb#x", Fragment),
        ("https://*.example.com/cb", Wildcard),
        ("https://example.com/*", Wildcard),
        ("http://127.0.0.1:*/cb", Wildcard),
        ("https://user@example.com/cb", UserInfo),
        ("https://user:pw@example.com/cb", UserInfo),
        ("https://@example.com/cb", UserInfo),
        ("http://127.0.0.1@evil.example/cb", UserInfo),
        ("https://example.com\\@evil.example/cb", Character),
        ("https:\\\\example.com/cb", Character),
        ("https://exam\tple.com/cb", Character),
        ("https://example.com/cb\n", Character),
        (" https://example.com/cb", Character),
        ("https://example.com/c b", Character),
        ("https://exämple.com/cb", Character),
        ("https://example.com/\u{202e}cb", Character),
        ("https://example.com/%zz", Character),
        ("https://example.com/%2", Character),
        ("https://example.com/<script>", Character),
        ("https://example.com/a/../cb", DotSegment),
        ("https://example.com/a/%2e%2E/cb", DotSegment),
        ("https://example.com/.%2e/cb", DotSegment),
        ("https://example.com/./cb", DotSegment),
        ("https://", Host),
        ("https:///cb", Host),
        ("https:example.com/cb", Host),
        ("https:/example.com/cb", Host),
        ("https://exam%70le.com/cb", Host),
        ("https://example.com./cb", Host),
        ("https://example.com:/cb", Host),
        ("https://example.com:99999/cb", Host),
        ("https://example.com:+80/cb", Host),
        ("http://2130706433/cb", Host),
        ("http://0x7f.1/cb", Host),
        ("http://127.1/cb", Host),
        ("http://[0:0:0:0:0:0:0:1]/cb", Host),
        ("http://[::1/cb", Host),
        (&long, TooLong),
    ] {
        assert_eq!(RedirectUri::parse(text), Err(InvalidRedirectUri::Uri(reason)), "{text:?}");
    }
}

#[test]
fn as_11_plain_http_reaches_only_this_machine() {
    for text in [
        "http://example.com/cb",
        "http://localhost.evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://127.0.0.2/cb",
        "http://0.0.0.0/cb",
        "http://[::]/cb",
        "http://[::ffff:7f00:1]/cb",
        "http://192.168.0.1/cb",
        "http://LOCALHOST/cb",
    ] {
        assert_eq!(RedirectUri::parse(text), Err(InvalidRedirectUri::PlainHttp), "{text}");
    }
}

#[test]
fn as_12_only_reversed_domains_are_private_use_schemes() {
    for text in [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "blob:https://example.com/x",
        "myapp://callback",
        "HTTPS://example.com/cb",
        "ftp://example.com/cb",
        "urn:ietf:wg:oauth:2.0:oob",
        "com.example.app:callback",
        "com..app:/cb",
        "com.:/cb",
        "c.example:/cb",
        "Com.Example:/cb",
        "cursor://anysphere.cursor-mcp/oauth/callback2",
        "cursor://anysphere.cursor-mcp/oauth/callback?x=1",
        "cursor://evil/oauth/callback",
    ] {
        assert_eq!(RedirectUri::parse(text), Err(InvalidRedirectUri::Scheme), "{text}");
    }
}

#[test]
fn as_11_as_33_a_loopback_uri_matches_at_any_port() {
    for (registered, requested) in [
        ("http://localhost/callback", "http://localhost:51234/callback"),
        ("http://127.0.0.1:33418/", "http://127.0.0.1:40000/"),
        ("http://127.0.0.1:33418", "http://127.0.0.1/"),
        ("http://[::1]/cb?x=1", "http://[::1]:9/cb?x=1"),
    ] {
        assert!(uri(registered).matches(&uri(requested)), "{registered} {requested}");
    }
}

#[test]
fn as_11_anything_else_must_be_the_same_string() {
    for (registered, requested) in [
        ("https://example.com/cb", "https://example.com:443/cb"),
        ("https://example.com/cb", "https://example.com:8443/cb"),
        ("https://example.com/cb", "https://example.com/cb/"),
        ("https://example.com/cb", "https://example.com/cb?x=1"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com/cb", "https://EXAMPLE.com/cb"),
        ("https://example.com/cb", "https://example.com.evil.example/cb"),
        ("http://127.0.0.1/cb", "http://localhost/cb"),
        ("http://127.0.0.1/cb", "http://[::1]/cb"),
        ("http://127.0.0.1/cb", "http://127.0.0.1/cb2"),
        ("http://127.0.0.1/cb", "http://127.0.0.1/cb?x"),
        ("http://127.0.0.1/cb", "https://127.0.0.1/cb"),
        ("com.example.app:/cb", "com.example.app:/cb2"),
    ] {
        assert!(!uri(registered).matches(&uri(requested)), "{registered} {requested}");
    }
}

#[test]
fn parameters_are_added_behind_a_registered_query() {
    let parameters = [("code", "a b&c"), ("iss", "https://h")];
    for (text, expected) in [
        ("https://h/cb", "https://h/cb?code=a+b%26c&iss=https%3A%2F%2Fh"),
        ("https://h/cb?t=7", "https://h/cb?t=7&code=a+b%26c&iss=https%3A%2F%2Fh"),
        ("https://h/cb?", "https://h/cb?code=a+b%26c&iss=https%3A%2F%2Fh"),
        ("com.a:/cb", "com.a:/cb?code=a+b%26c&iss=https%3A%2F%2Fh"),
    ] {
        assert_eq!(uri(text).with_parameters(&parameters), expected);
    }
}

#[test]
fn as_15_a_consent_page_can_name_the_receiver() {
    for (text, receiver) in [
        ("https://app.example:8443/cb", "app.example:8443"),
        ("http://localhost:1/cb", "localhost:1"),
        ("com.example.app:/cb", "com.example.app"),
        ("cursor://anysphere.cursor-mcp/oauth/callback", "cursor"),
    ] {
        assert_eq!(uri(text).receiver(), receiver);
    }
}

proptest! {
    #[test]
    fn an_accepted_uri_has_the_host_that_it_shows(text in "https?://[a-z0-9.@:/\\\\%\\[\\]*#?é-]{0,30}") {
        if let Ok(accepted) = RedirectUri::parse(&text) {
            let parsed = url::Url::parse(accepted.as_str()).unwrap();
            let shown = accepted.receiver().to_owned();
            prop_assert!(shown.to_ascii_lowercase().starts_with(parsed.host_str().unwrap()));
            prop_assert!(parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none());
            prop_assert!(accepted.matches(&accepted));
        }
    }

    #[test]
    fn matching_is_symmetric_and_ports_matter_only_on_loopback(one in 1u16.., two in 1u16..) {
        let at = |host: &str, port: u16| uri(&format!("{host}:{port}/cb"));
        for host in ["http://127.0.0.1", "http://[::1]", "http://localhost"] {
            prop_assert!(at(host, one).matches(&at(host, two)));
        }
        prop_assert_eq!(at("https://h", one).matches(&at("https://h", two)), one == two);
    }

    #[test]
    fn parsing_any_text_does_not_panic(text in "\\PC{0,60}") {
        let _ = RedirectUri::parse(&text);
    }

    #[test]
    fn no_scheme_without_a_dot_is_accepted(scheme in "[a-z][a-z0-9+-]{0,12}", rest in "[a-z/:.]{0,12}") {
        prop_assume!(scheme != "https" && scheme != "http");
        let text = format!("{scheme}:{rest}");
        prop_assert!(RedirectUri::parse(&text).is_err());
    }
}
