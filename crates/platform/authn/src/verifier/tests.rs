use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{Duration as Span, TimeZone as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portico_clock::{Clock as _, MockClock};
use portico_ids::PrincipalId;
use portico_oauth_types::{Scope, ScopeSet};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::TrustChange;
use crate::testing::{ISSUER, TestIssuer};

const MCP: &str = "https://portico.test/mcp";

struct World {
    clock: MockClock,
    issuer: TestIssuer,
    verifier: Verifier,
    user: PrincipalId,
}

impl World {
    fn new() -> Self {
        let clock = MockClock::at(Utc.timestamp_opt(1_800_000_000, 0).unwrap());
        let issuer = TestIssuer::new(Arc::new(clock.clone()));
        Self { verifier: issuer.verifier(), user: issuer.user(), clock, issuer }
    }

    fn token(&self) -> String {
        self.issuer.token(&self.user, MCP, Scope::Mcp.into())
    }

    fn claims(&self) -> Value {
        serde_json::to_value(self.issuer.claims(&self.user, MCP, Scope::Mcp.into())).unwrap()
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.issuer.jwk().kid()})
    }

    fn code(&self, token: &str) -> &'static str {
        match self.verifier.verify(token, MCP) {
            Ok(_) => "accepted",
            Err(rejected) => rejected.code,
        }
    }

    /// Signs the usual token with some header fields changed; null removes one.
    fn with_header(&self, fields: &Value) -> &'static str {
        let header = changed(self.header(), fields);
        self.code(&self.issuer.sign(&header.to_string(), &self.claims().to_string()))
    }

    fn with_claims(&self, fields: &Value) -> &'static str {
        let claims = changed(self.claims(), fields);
        self.code(&self.issuer.sign(&self.header().to_string(), &claims.to_string()))
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(Span::seconds(seconds));
        self.issuer.heartbeat();
    }
}

fn changed(mut object: Value, fields: &Value) -> Value {
    let members = object.as_object_mut().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    object
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[test]
fn a_token_of_the_issuer_names_its_principal() {
    let world = World::new();
    let mut claims = world.issuer.claims(&world.user, MCP, Scope::Mcp.into());
    claims.roles = vec!["r@weather".to_owned()];
    claims.grant_id = Some("g".to_owned());
    let principal = world.verifier.verify(&world.issuer.mint(&claims), MCP).unwrap();
    assert_eq!((&principal.id, principal.client_id.as_str()), (&world.user, "test-client"));
    assert_eq!((&principal.roles, &principal.grant_id), (&claims.roles, &claims.grant_id));
    assert_eq!(principal.issued_at, world.clock.now());
    assert!(principal.may(Scope::Mcp) && !principal.may(Scope::Admin));
}

#[test]
fn a_token_made_by_another_library_is_accepted() {
    let world = World::new();
    let key = EncodingKey::from_ec_der(&world.issuer.private_key());
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(world.issuer.jwk().kid().to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let token = jsonwebtoken::encode(&header, &world.claims(), &key).unwrap();
    assert_eq!(world.code(&token), "accepted");
}

#[test]
fn a16_rs_22_alg_none_is_refused() {
    let world = World::new();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = part(&changed(world.header(), &json!({"alg": alg})));
        let payload = part(&world.claims());
        for token in
            [format!("{header}.{payload}."), format!("{header}.{payload}.AA"), format!("{header}.{payload}")]
        {
            assert_ne!(world.code(&token), "accepted", "{alg} {token}");
        }
        assert_eq!(world.code(&format!("{header}.{payload}.")), "token_algorithm_refused", "{alg}");
    }
}

#[test]
fn a16_rs_22_hmac_with_the_public_key_is_refused() {
    let world = World::new();
    let jwk = world.issuer.jwk();
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(jwk.point()));
    let json = serde_json::to_vec(jwk).unwrap();
    for secret in [&jwk.point()[..], pem.as_bytes(), &json, jwk.kid().as_bytes(), b""] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header {
                typ: Some("at+jwt".to_owned()),
                kid: Some(jwk.kid().to_owned()),
                ..Header::new(algorithm)
            };
            let token =
                jsonwebtoken::encode(&header, &world.claims(), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(world.code(&token), "token_algorithm_refused");
        }
    }
}

#[test]
fn a16_rs_22_only_es256_is_an_algorithm_of_the_key() {
    let world = World::new();
    for alg in ["ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA", "es256", "ES256 ", "dir"] {
        assert_eq!(world.with_header(&json!({"alg": alg})), "token_algorithm_refused", "{alg}");
    }
    for alg in [json!(7), json!(["ES256"]), json!({}), json!(true)] {
        assert_eq!(world.with_header(&json!({"alg": alg})), "token_header_refused");
    }
    assert_eq!(world.with_header(&json!({"alg": null})), "token_header_refused");
}

#[test]
fn a16_rs_21_another_type_is_refused() {
    let world = World::new();
    for typ in
        ["JWT", "jwt", "at+jwt ", "id_token+jwt", "rt+jwt", "oauth-id-jag+jwt", "dpop+jwt", "text/at+jwt", ""]
    {
        assert_eq!(world.with_header(&json!({"typ": typ})), "token_type_wrong", "{typ}");
    }
    assert_eq!(world.with_header(&json!({"typ": null})), "token_type_wrong");
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert_eq!(world.with_header(&json!({"typ": typ})), "accepted", "{typ}");
    }
}

#[test]
fn a16_rs_22_a_token_cannot_bring_its_own_key_or_extensions() {
    let world = World::new();
    let own = serde_json::to_value(world.issuer.jwk()).unwrap();
    for fields in [
        json!({"jwk": own}),
        json!({"jku": "https://evil.example/jwks"}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": ["MIIB"]}),
        json!({"x5t": "AA"}),
        json!({"x5t#S256": "AA"}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"zip": "DEF"}),
        json!({"enc": "A256GCM"}),
        json!({"cty": "JWT"}),
        json!({"x": 1}),
    ] {
        assert_eq!(world.with_header(&fields), "token_header_refused", "{fields}");
    }
}

#[test]
fn a16_rs_23_the_name_of_a_key_is_only_a_name() {
    let world = World::new();
    let kid = world.issuer.jwk().kid().to_owned();
    for name in [
        String::new(),
        "../../../../dev/null".to_owned(),
        "/etc/passwd".to_owned(),
        "' OR '1'='1".to_owned(),
        "x'; DROP TABLE keys; --".to_owned(),
        "https://evil.example/key".to_owned(),
        "| id".to_owned(),
        format!("{kid}\u{0}"),
        format!("{kid} "),
        format!(" {kid}"),
        kid.to_lowercase(),
        "k".repeat(4000),
    ] {
        assert_eq!(world.with_header(&json!({"kid": name})), "token_key_unknown", "{name}");
    }
    assert_eq!(world.with_header(&json!({"kid": null})), "token_key_unknown");
    assert_eq!(world.with_header(&json!({"kid": 1})), "token_header_refused");
}

#[test]
fn a16_doubled_header_fields_and_claims_are_refused() {
    let world = World::new();
    let kid = world.issuer.jwk().kid();
    let header = format!(r#"{{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#);
    assert_eq!(world.code(&world.issuer.sign(&header, &world.claims().to_string())), "token_header_refused");
    let doubled = world.claims().to_string().replacen('{', r#"{"sub":"service:gateway","#, 1);
    assert_eq!(world.code(&world.issuer.sign(&world.header().to_string(), &doubled)), "token_claims_invalid");
}

#[test]
fn a16_rs_23_missing_and_mistyped_claims_are_refused() {
    let world = World::new();
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
        assert_eq!(world.with_claims(&json!({name: null})), "token_claims_invalid", "{name}");
    }
    let exp = world.clock.now().timestamp() + 600;
    for fields in [
        json!({"exp": exp.to_string()}),
        json!({"exp": "1"}),
        json!({"exp": 1.8e9}),
        json!({"exp": 1e300}),
        json!({"exp": [exp]}),
        json!({"exp": true}),
        json!({"exp": i64::MAX}),
        json!({"exp": u64::MAX}),
        json!({"iat": "1800000000"}),
        json!({"iat": i64::MIN}),
        json!({"nbf": "0"}),
        json!({"jti": ""}),
        json!({"jti": 5}),
        json!({"client_id": ""}),
        json!({"client_id": ["test-client"]}),
        json!({"sub": ""}),
        json!({"sub": "admin"}),
        json!({"sub": "user:' OR 1=1"}),
        json!({"scope": ["mcp", "admin"]}),
        json!({"scope": "mcp  admin"}),
        json!({"roles": "administrator"}),
        json!({"exp": exp - 600, "iat": exp - 600}),
    ] {
        assert_eq!(world.with_claims(&fields), "token_claims_invalid", "{fields}");
    }
    let header = world.header().to_string();
    for payload in ["", "null", "[]", "\"x\"", "{", "{}", "{}{}", "\u{feff}{}"] {
        assert_ne!(world.code(&world.issuer.sign(&header, payload)), "accepted", "{payload}");
    }
}

#[test]
fn a16_rs_20_another_audience_is_refused() {
    let world = World::new();
    for aud in [
        json!("https://portico.test/api"),
        json!("https://portico.test/mcp/"),
        json!("https://portico.test/MCP"),
        json!("https://portico.test"),
        json!("https://evil.example/mcp"),
        json!("http://portico.test/mcp"),
        json!(""),
    ] {
        assert_eq!(world.with_claims(&json!({"aud": aud})), "token_audience_wrong");
    }
    for aud in [json!([MCP]), json!([MCP, "https://evil.example"]), json!([]), json!({"aud": MCP})] {
        assert_eq!(world.with_claims(&json!({"aud": aud})), "token_claims_invalid");
    }
}

#[test]
fn a16_rs_23_another_issuer_is_refused() {
    let world = World::new();
    for iss in ["https://portico.test/", "https://PORTICO.test", "https://evil.example", "", "portico.test"] {
        assert_eq!(world.with_claims(&json!({"iss": iss})), "token_issuer_wrong", "{iss}");
    }
}

#[test]
fn a16_rs_23_times_are_checked_with_a_leeway_of_one_minute() {
    let world = World::new();
    let now = world.clock.now().timestamp();
    for (fields, code) in [
        (json!({"iat": now - 600, "exp": now}), "accepted"),
        (json!({"iat": now - 600, "exp": now - 59}), "accepted"),
        (json!({"iat": now - 600, "exp": now - 60}), "token_expired"),
        (json!({"iat": 1, "exp": 2}), "token_expired"),
        (json!({"iat": -2, "exp": -1}), "token_expired"),
        (json!({"nbf": now + 60}), "accepted"),
        (json!({"nbf": now + 61}), "clock_skew"),
        (json!({"nbf": i64::MAX}), "clock_skew"),
        (json!({"iat": now + 60}), "accepted"),
        (json!({"iat": now + 61}), "clock_skew"),
    ] {
        assert_eq!(world.with_claims(&fields), code, "{fields}");
    }
}

#[test]
fn rs_23_a_token_of_another_time_says_by_how_many_seconds() {
    let world = World::new();
    let issued_after = |seconds: i64| {
        let mut claims = world.issuer.claims(&world.issuer.user(), MCP, ScopeSet::EMPTY);
        claims.iat += seconds;
        claims.exp += seconds;
        world.verifier.verify(&world.issuer.mint(&claims), MCP)
    };
    for seconds in [-45, 45] {
        assert!(issued_after(seconds).is_ok(), "{seconds} s have no effect");
    }
    let refused = issued_after(118).unwrap_err();
    assert_eq!((refused.code, refused.skew_seconds, refused.unavailable), ("clock_skew", Some(118), false));
    let text = "the access token was issued 118 s in the future: check the clocks of gateway and auth-server";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn a16_a_signature_of_zeros_or_of_another_key_or_form_is_refused() {
    let world = World::new();
    let token = world.token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let with = |bytes: &[u8]| world.code(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)));
    let half_zero: Vec<u8> = good[..32].iter().copied().chain([0; 32]).collect();
    let swapped: Vec<u8> = good[32..].iter().chain(&good[..32]).copied().collect();
    let der: Vec<u8> = [&[0x30, 68, 2, 32], &good[..32], &[2, 32], &good[32..]].concat();
    for bytes in
        [&[0; 64][..], &[0xff; 64], &half_zero, &swapped, &der, &good[..63], &[&good[..], &[0]].concat(), &[]]
    {
        assert_eq!(with(bytes), "token_signature_invalid");
    }
    assert_eq!(world.code(&format!("{signed}.{}", STANDARD.encode(&good))), "token_signature_invalid");
    let other = TestIssuer::new(Arc::new(world.clock.clone()));
    let forged = other.sign(&world.header().to_string(), &world.claims().to_string());
    assert_eq!(world.code(&forged), "token_signature_invalid");
}

#[test]
fn a16_a_changed_payload_is_refused() {
    let world = World::new();
    let token = world.token();
    let parts: Vec<&str> = token.split('.').collect();
    let wider = part(&changed(world.claims(), &json!({"scope": "admin"})));
    assert_eq!(world.code(&format!("{}.{wider}.{}", parts[0], parts[2])), "token_signature_invalid");
}

#[test]
fn a16_other_forms_of_a_token_are_refused() {
    let world = World::new();
    let token = world.token();
    let parts: Vec<&str> = token.split('.').collect();
    let json = json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string();
    for other in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b".to_owned(),
        format!("{token}.x"),
        format!("{token}.."),
        format!(".{}.{}", parts[1], parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!(" {token}"),
        format!("{token}{}", "A".repeat(9000)),
        json,
    ] {
        assert_eq!(world.code(&other), "token_malformed", "{other:.80}");
    }
    assert_ne!(world.code(&format!("{token}\n")), "accepted");
}

#[test]
fn rs_40_a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    let world = World::new();
    for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({})] {
        assert_eq!(world.with_claims(&json!({"cnf": cnf})), "token_sender_constrained");
    }
}

#[test]
fn rs_27_revocations_reach_tokens_that_were_verified_before() {
    let revoke: [fn(&World, &AccessTokenClaims); 3] = [
        |world, claims| world.issuer.revoke_token(&claims.jti),
        |world, claims| world.issuer.revoke_grant(claims.grant_id.as_deref().unwrap()),
        |world, claims| world.issuer.revoke_principal(&claims.sub, world.clock.now() + Span::microseconds(1)),
    ];
    for revoke in revoke {
        let world = World::new();
        let mut claims = world.issuer.claims(&world.user, MCP, ScopeSet::EMPTY);
        claims.grant_id = Some("g".to_owned());
        let token = world.issuer.mint(&claims);
        let bystander = world.issuer.token(&world.issuer.user(), MCP, ScopeSet::EMPTY);
        let principal = world.verifier.verify(&token, MCP).unwrap();
        assert_eq!(world.code(&bystander), "accepted");
        revoke(&world, &claims);
        assert_eq!(world.code(&token), "token_revoked");
        assert_eq!(world.code(&token), "token_revoked", "also after the cache has forgotten it");
        assert_eq!(world.verifier.check_again(&principal), Err(TokenRejected::REVOKED));
        assert_eq!(world.code(&bystander), "accepted");
    }
}

#[test]
fn rs_26_a_revocation_is_told_after_the_token_has_expired_as_well() {
    let world = World::new();
    let token = world.token();
    let principal = world.verifier.verify(&token, MCP).unwrap();
    world.advance(700);
    assert_eq!(world.verifier.check_again(&principal), Err(TokenRejected::EXPIRED));
    world.issuer.revoke_principal(&world.user, world.clock.now());
    assert_eq!(world.verifier.check_again(&principal), Err(TokenRejected::REVOKED));
}

#[test]
fn rs_27_tokens_issued_after_the_moment_of_a_revocation_are_good() {
    let world = World::new();
    let old = world.token();
    world.advance(1);
    world.issuer.revoke_principal(&world.user, world.clock.now());
    assert_eq!((world.code(&old), world.code(&world.token())), ("token_revoked", "accepted"));
}

#[test]
fn rs_28_a_key_that_is_gone_no_longer_verifies_what_is_cached() {
    let world = World::new();
    let token = world.token();
    assert_eq!(world.code(&token), "accepted");
    world.issuer.retire_key();
    assert_eq!(world.code(&token), "token_key_unknown");
}

#[test]
fn rs_26_the_withdrawal_of_a_key_ends_streams_and_its_retirement_none_that_outlived_its_token() {
    let world = World::new();
    let principal = world.verifier.verify(&world.token(), MCP).unwrap();
    assert_eq!(world.verifier.check_again(&principal), Ok(()));
    world.issuer.retire_key();
    assert_eq!(world.verifier.check_again(&principal), Err(TokenRejected::KEY));
    world.advance(700);
    assert_eq!(world.verifier.check_again(&principal), Err(TokenRejected::EXPIRED));
}

#[test]
fn rs_23_a_change_of_the_issuer_reaches_what_is_cached() {
    let world = World::new();
    let token = world.token();
    assert_eq!(world.code(&token), "accepted");
    let renamed = portico_proto_auth::TrustIssuer { issuer: "https://other.test".to_owned() };
    let value = Some(portico_proto_auth::trust_item::Value::Issuer(renamed));
    let item = portico_proto_auth::TrustItem { key: "issuer".to_owned(), value };
    world
        .issuer
        .trust()
        .apply(TrustChange { items: vec![item], ..TrustChange::default() }, world.clock.now());
    assert_eq!(world.code(&token), "token_issuer_wrong");
}

#[test]
fn rs_28_ten_thousand_unknown_keys_ask_nobody_and_remember_nothing() {
    let world = World::new();
    let payload = part(&world.claims());
    for n in 0..10_000 {
        let header = part(&changed(world.header(), &json!({"kid": format!("k{n}")})));
        assert_eq!(world.code(&format!("{header}.{payload}.AAAA")), "token_key_unknown");
    }
    world.verifier.verified.run_pending_tasks();
    assert_eq!(world.verifier.verified.entry_count(), 0);
}

#[test]
fn a_cached_token_is_the_same_principal_and_ends_with_its_time() {
    let world = World::new();
    let token = world.token();
    let first = world.verifier.verify(&token, MCP).unwrap();
    let second = world.verifier.verify(&token, MCP).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    world.advance(659);
    assert_eq!(world.code(&token), "accepted");
    world.advance(1);
    assert_eq!(world.code(&token), "token_expired");
    assert_eq!(world.verifier.check_again(&first), Err(TokenRejected::EXPIRED));
}

#[test]
fn rs_20_a_cached_token_is_not_for_another_audience() {
    let world = World::new();
    let token = world.token();
    assert_eq!(world.code(&token), "accepted");
    let elsewhere = world.verifier.verify(&token, "https://portico.test/api");
    assert_eq!(elsewhere.err(), Some(TokenRejected::AUDIENCE));
    assert_eq!(world.code(&token), "accepted");
}

#[test]
fn rs_27_stale_trust_refuses_every_token_until_it_is_heard_of_again() {
    let world = World::new();
    let token = world.token();
    assert_eq!(world.code(&token), "accepted");
    world.clock.advance(Span::seconds(120));
    assert_eq!(world.code(&token), "accepted");
    world.clock.advance(Span::microseconds(1));
    assert_eq!(world.code(&token), "trust_stale");
    world.issuer.heartbeat();
    assert_eq!(world.code(&token), "accepted");
    let unheard = Verifier::new(TrustHandle::new(), Arc::new(world.clock.clone()), DEFAULT_MAX_STALENESS);
    assert_eq!(unheard.verify(&token, MCP).err(), Some(TokenRejected::TRUST_STALE));
}

#[test]
fn rs_22_a_key_of_another_kind_in_the_feed_is_left_out() {
    let world = World::new();
    let good = serde_json::to_value(world.issuer.jwk()).unwrap();
    let off_curve = changed(good.clone(), &json!({"y": good["x"]}));
    for (kid, jwk) in [
        ("rsa", json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"})),
        ("oct", json!({"kty": "oct", "k": "AAAA", "kid": "oct"})),
        ("renamed", good.clone()),
        ("off", changed(off_curve, &json!({"kid": "off"}))),
    ] {
        let key = portico_proto_auth::TrustKey { kid: kid.to_owned(), jwk: jwk.to_string() };
        let value = Some(portico_proto_auth::trust_item::Value::SigningKey(key));
        let item = portico_proto_auth::TrustItem { key: format!("key/{kid}"), value };
        let trust = world.issuer.trust();
        trust.apply(TrustChange { items: vec![item], ..TrustChange::default() }, world.clock.now());
        assert!(trust.load().key(kid).is_none(), "{kid}");
    }
    assert_eq!(world.issuer.trust().load().issuer(), Some(ISSUER));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a16_no_change_of_one_character_is_accepted(position in 0usize..1000, replacement in "[A-Za-z0-9_.-]") {
        let world = World::new();
        let mut token = world.token();
        let at = position % token.len();
        prop_assume!(token.as_bytes()[at] != replacement.as_bytes()[0]);
        token.replace_range(at..=at, &replacement);
        prop_assert_ne!(world.code(&token), "accepted");
    }

    #[test]
    fn rs_22_any_text_is_refused_without_a_panic(text in "\\PC{0,80}") {
        prop_assert_ne!(World::new().code(&text), "accepted");
    }
}
