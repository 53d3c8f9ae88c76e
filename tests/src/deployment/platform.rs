//! A platform of separate services that somebody started before: `deploy/local/local.py up`. Scenarios take turns on it, and
//! each begins with what a new deployment has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use ::http::HeaderMap;
use ::http::header::{CONTENT_TYPE, HOST, HeaderValue};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use serde::Deserialize;

use super::Ready;
use crate::api::Api;
use crate::http::{Http, form};
use crate::{DEADLINE, eventually};

/// The server that a new deployment has.
const DEMO: &str = "demo";
const PAGE: i32 = 500;

/// What `local.py` remembers.
#[derive(Debug, Deserialize)]
struct State {
    ports: BTreeMap<String, u16>,
    binaries: PathBuf,
    passwords: BTreeMap<String, String>,
}

/// The shared platform, for the scenario whose turn it is.
#[derive(Debug)]
pub struct Platform {
    directory: PathBuf,
    state: State,
    /// Locked until the scenario ends.
    _turn: File,
}

impl Platform {
    /// Waits for its turn and clears away what earlier scenarios made.
    #[expect(clippy::disallowed_methods, reason = "a test's switch, read once")]
    pub async fn take_turn() -> Self {
        let directory = std::env::var("PORTICO_TEST_PLATFORM")
            .expect("PORTICO_TEST_PLATFORM: the directory of a platform, see deploy/local");
        let directory = PathBuf::from(directory);
        let turn = File::create(directory.join("turn")).expect("the directory of a platform");
        let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await.unwrap().unwrap();
        let state = std::fs::read(directory.join("state.json")).expect("the state of a platform");
        let state = serde_json::from_slice(&state).expect("the state of a platform");
        let platform = Self { directory, state, _turn: turn };
        platform.clear().await;
        platform
    }

    #[must_use]
    pub fn ready(&self) -> Vec<u8> {
        std::fs::read(self.directory.join("ready.json")).expect("a platform that is up")
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program of the platform.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.state.binaries.join(name)
    }

    #[must_use]
    pub fn port(&self, name: &str) -> u16 {
        self.state.ports[name]
    }

    /// Where each replica of a service listens in the named way, such as `admin`.
    #[must_use]
    pub fn replicas(&self, service: &str, listener: &str) -> Vec<String> {
        let of_service = |name: &str| {
            let (replica, kind) = name.split_once('.')?;
            let (its_service, _) = replica.rsplit_once('-')?;
            (its_service == service && kind == listener).then_some(())
        };
        let ports = self.state.ports.iter().filter(|(name, _)| of_service(name).is_some());
        ports.map(|(_, port)| format!("http://127.0.0.1:{port}")).collect()
    }

    /// The database of both services with one.
    #[must_use]
    pub fn database_url(&self) -> String {
        let (password, port) = (&self.state.passwords["postgres"], self.port("postgres"));
        let ca = self.directory.join("certs/ca.pem");
        let tls = format!("sslmode=verify-full&sslrootcert={}", ca.display());
        format!("postgres://portico:{password}@127.0.0.1:{port}/portico?{tls}")
    }

    /// Removes everything that a new deployment has not, and waits until no replica knows it any more.
    async fn clear(&self) {
        let ready: Ready = serde_json::from_slice(&self.ready()).expect("a ready file");
        let http = Http::default();
        let api = api(&http, &ready).await;
        let gone = clear_registry(&api).await;
        clear_auth_server(&api, &ready).await;
        let host = host(&ready.origin);
        for name in &gone {
            for gateway in self.replicas("gateway", "listen") {
                let url = format!("{gateway}/{name}/mcp");
                let forgotten = async || {
                    let answer = http.send(::http::Method::POST, &url, &host, "{}").await;
                    (answer.status == 404).then_some(())
                };
                eventually(DEADLINE, "a removed endpoint is gone", forgotten).await;
            }
            for server in self.replicas("auth-server", "listen") {
                let resource = format!("{}{name}/mcp", ready.origin);
                let forgotten = async || {
                    let answer = token_answer(&http, &server, &ready, (&resource, "mcp")).await;
                    (answer.status == 400).then_some(())
                };
                eventually(DEADLINE, "a removed endpoint has no tokens", forgotten).await;
            }
        }
    }
}

/// Headers that name the origin to a replica that is addressed directly.
pub(super) fn host(origin: &str) -> HeaderMap {
    let authority = origin.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(authority).unwrap());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// What one authorization server answers the service account of the deployment.
pub(super) async fn token_answer(
    http: &Http,
    server: &str,
    ready: &Ready,
    (resource, scope): (&str, &str),
) -> crate::http::Answer {
    let mut headers = host(&ready.origin);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &ready.client_id),
        ("client_secret", &ready.client_secret),
        ("resource", resource),
        ("scope", scope),
    ];
    let url = format!("{}/oauth2/token", server.trim_end_matches('/'));
    http.send(::http::Method::POST, &url, &headers, form(&fields)).await
}

async fn api(http: &Http, ready: &Ready) -> Api {
    let resource = format!("{}api", ready.origin);
    let scope = "admin registry:read registry:write";
    let answer = token_answer(http, &ready.origin, ready, (&resource, scope)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = answer.json()["access_token"].as_str().expect("an access token").to_owned();
    Api::connect(&ready.grpc, Some(&token)).await
}

/// Removes endpoints, servers and secrets; answers the names that were routed.
async fn clear_registry(api: &Api) -> BTreeSet<String> {
    let mut gone = BTreeSet::new();
    let list = registry::ListEndpointsRequest { page_size: PAGE, ..Default::default() };
    for endpoint in api.endpoints().list_endpoints(list).await.unwrap().into_inner().endpoints {
        if endpoint.name != DEMO {
            // The endpoint of a server goes with it.
            let delete =
                registry::DeleteEndpointRequest { id: endpoint.id, expected_revision: endpoint.revision };
            let _ = api.endpoints().delete_endpoint(delete).await;
            gone.insert(endpoint.name);
        }
    }
    let list = registry::ListServersRequest { page_size: PAGE, ..Default::default() };
    for server in api.servers().list_servers(list).await.unwrap().into_inner().servers {
        if server.name != DEMO {
            let delete = registry::DeleteServerRequest { id: server.id, expected_revision: server.revision };
            api.servers().delete_server(delete).await.expect("a server is deleted");
            gone.insert(server.name);
        }
    }
    let list = registry::ListSecretsRequest { page_size: PAGE, ..Default::default() };
    for secret in api.secrets().list_secrets(list).await.unwrap().into_inner().secrets {
        let delete = registry::DeleteSecretRequest { r#ref: secret.r#ref };
        api.secrets().delete_secret(delete).await.expect("a secret is deleted");
    }
    gone
}

/// Removes people and service accounts, and with them their grants.
async fn clear_auth_server(api: &Api, ready: &Ready) {
    let list = auth::ListUsersRequest { page_size: PAGE, ..Default::default() };
    for user in api.users().list_users(list).await.unwrap().into_inner().users {
        if user.username != ready.admin_username {
            let delete = auth::DeleteUserRequest { id: user.id };
            api.users().delete_user(delete).await.expect("a user is deleted");
        }
    }
    let list = auth::ListServiceAccountsRequest { page_size: PAGE, ..Default::default() };
    let accounts = api.accounts().list_service_accounts(list).await.unwrap().into_inner().service_accounts;
    for account in accounts {
        if account.client_id != ready.client_id {
            let delete = auth::DeleteServiceAccountRequest { id: account.id };
            api.accounts().delete_service_account(delete).await.expect("an account is deleted");
        }
    }
}
