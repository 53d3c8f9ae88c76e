use portico_ids::UserId;
use portico_oauth_types::RegistrationRequest;
use uuid::Uuid;

use super::*;
use crate::domain::client::{Registration, register};

const CALLBACK: &str = "https://client.example/callback";

fn client(uris: &[&str]) -> Client {
    let metadata = register(RegistrationRequest {
        redirect_uris: Some(uris.iter().map(|uri| (*uri).to_owned()).collect()),
        token_endpoint_auth_method: Some("none".into()),
        ..RegistrationRequest::default()
    })
    .unwrap();
    Client {
        client_id: "client".into(),
        metadata,
        secret_hash: None,
        registration: Registration::Dynamic,
        created_at: DateTime::UNIX_EPOCH,
        last_used_at: None,
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn pending(redirect_uri: &str, more: &str) -> Result<Pending, OAuthError> {
    let client = client(&[redirect_uri]);
    let query = format!(
        "response_type=code&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256{more}"
    );
    let issuer = Issuer::new("https://portico.example", None);
    let resources = Resources::new("https://portico.example");
    let context = Context { client: &client, issuer: &issuer, resources: &resources, now: at(0) };
    let redirect_uri = RedirectUri::parse(redirect_uri).unwrap();
    check(context, &redirect_uri, &Parameters::parse(query.as_bytes()).unwrap()).map(|(pending, ..)| pending)
}

fn consent(pending: &Pending) -> Consent {
    Consent {
        id: Uuid::nil(),
        user_id: UserId::from(Uuid::nil()),
        client_id: "client".into(),
        resource: pending.resource.clone(),
        scopes: pending.scopes,
        metadata_hash: client(&[CALLBACK]).metadata_hash(),
        granted_at: at(0),
    }
}

const HERE: Option<SignedIn> = Some(SignedIn { authenticated_at: DateTime::UNIX_EPOCH });

#[test]
fn first_login_then_consent_then_the_code() {
    let pending = pending(CALLBACK, "").unwrap();
    let client = client(&[CALLBACK]);
    assert_eq!(next_step(&pending, None, &client, None), Step::Login);
    assert_eq!(next_step(&pending, HERE, &client, None), Step::Consent);
    assert_eq!(next_step(&pending, HERE, &client, Some(&consent(&pending))), Step::Issue);
}

#[test]
fn as_15_a_consent_holds_for_its_resource_scopes_and_metadata() {
    let pending = pending(CALLBACK, "&scope=mcp+openid").unwrap();
    let client = client(&[CALLBACK]);
    let held = consent(&pending);
    for lacking in [
        Consent { resource: "https://portico.example/open/mcp".into(), ..held.clone() },
        Consent { scopes: portico_oauth_types::Scope::Mcp.into(), ..held.clone() },
        Consent { metadata_hash: vec![0; 32], ..held },
    ] {
        assert_eq!(next_step(&pending, HERE, &client, Some(&lacking)), Step::Consent);
    }
}

#[test]
fn as_12_any_program_can_receive_a_loopback_answer_so_a_person_is_always_asked() {
    let uri = "http://127.0.0.1/callback";
    let pending = pending(uri, "").unwrap();
    assert_eq!(next_step(&pending, HERE, &client(&[CALLBACK]), Some(&consent(&pending))), Step::Consent);
}

#[test]
fn an_old_login_does_not_do_when_a_new_one_is_asked_for() {
    let client = client(&[CALLBACK]);
    let signed_in = |seconds| Some(SignedIn { authenticated_at: at(seconds) });
    let aged = pending(CALLBACK, "&max_age=60").unwrap();
    assert_eq!(next_step(&aged, signed_in(-61), &client, None), Step::Login);
    assert_eq!(next_step(&aged, signed_in(-60), &client, None), Step::Consent);
    let again = pending(CALLBACK, "&prompt=login").unwrap();
    assert_eq!(next_step(&again, signed_in(-1), &client, None), Step::Login);
    assert_eq!(next_step(&again, signed_in(1), &client, None), Step::Consent);
    pending(CALLBACK, "&max_age=18446744073709551615").unwrap();
}

#[test]
fn as_11_one_registered_uri_may_be_left_out_and_of_several_none() {
    let none = Parameters::default();
    assert_eq!(redirect_uri(&client(&[CALLBACK]), &none).unwrap().as_str(), CALLBACK);
    assert!(redirect_uri(&client(&[CALLBACK, "https://client.example/other"]), &none).is_err());
}

#[test]
fn a_client_gets_no_scope_that_it_did_not_register_for() {
    let mut limited = client(&[CALLBACK]);
    limited.metadata.scope = Some(portico_oauth_types::Scope::Openid.into());
    let issuer = Issuer::new("https://portico.example", None);
    let resources = Resources::new("https://portico.example");
    let context = Context { client: &limited, issuer: &issuer, resources: &resources, now: at(0) };
    let query = "response_type=code&scope=mcp&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
                 &code_challenge_method=S256";
    let parameters = Parameters::parse(query.as_bytes()).unwrap();
    let error = check(context, &RedirectUri::parse(CALLBACK).unwrap(), &parameters).unwrap_err();
    assert_eq!(error.error, OAuthErrorCode::InvalidScope);
}
