use http::HeaderValue;
use portico_oauth_types::Scope;
use portico_transport::reason_of;

use super::*;

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
}

#[test]
fn one_bearer_token_is_read() {
    for value in ["Bearer abc.def.ghi", "bearer abc.def.ghi", "BEARER  abc.def.ghi"] {
        assert_eq!(bearer_token(&headers(&[value])), Ok("abc.def.ghi"));
    }
}

#[test]
fn rs_10_other_credentials_are_refused() {
    assert_eq!(bearer_token(&HeaderMap::new()), Err(TokenRejected::MISSING));
    for values in [
        &["Basic YTpi"][..],
        &["Bearer"],
        &["Bearer "],
        &["Bearer a b"],
        &["Bearer a,Bearer b"],
        &["DPoP a"],
        &["a.b.c"],
        &["Bearer a", "Bearer b"],
    ] {
        assert_eq!(bearer_token(&headers(values)), Err(TokenRejected::CREDENTIALS), "{values:?}");
    }
}

#[test]
fn rs_10_the_challenge_quotes_the_metadata_url_and_tells_an_error_only_of_a_token() {
    let resource = ResourceUri::parse("https://h/weather/mcp").unwrap();
    let url = "https://h/.well-known/oauth-protected-resource/weather/mcp";
    assert_eq!(
        challenge(&resource, Scope::Mcp.into(), TokenRejected::MISSING),
        format!("Bearer resource_metadata=\"{url}\", scope=\"mcp\"")
    );
    let expired = challenge(&resource, ScopeSet::EMPTY, TokenRejected::EXPIRED);
    assert!(expired.starts_with(&format!("Bearer resource_metadata=\"{url}\", error=\"invalid_token\", ")));
    assert_eq!(expired.matches('"').count(), 6);
}

#[test]
fn s2_34_a_request_that_no_layer_saw_is_refused() {
    let status = Caller::of(&tonic::Request::new(())).unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).as_deref()),
        (Code::Unauthenticated, Some("token_missing"))
    );
}
