//! Every route and every RPC refuses whoever may not use it. The RPCs come from the descriptors and the routes from
//! the sources, so one that is added without a rule fails here. The public ones are listed by name.

use acceptance::api::Api;
use acceptance::deployment::Deployment;
use acceptance::http::Http;
use http::{HeaderMap, Method};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use tonic::Code;

/// Services that only other services may call.
const INTERNAL: [&str; 5] =
    ["CatalogueService", "SecretResolverService", "AuditSinkService", "ObservationService", "TrustService"];
/// RPCs that need no token: they tell that the server lives and what it speaks.
const PUBLIC_RPCS: [&str; 2] =
    ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];

/// Paths of all methods of our packages, with whether another service is the only caller.
fn methods() -> Vec<(String, bool)> {
    let mut methods = Vec::new();
    for set in [registry::FILE_DESCRIPTOR_SET, auth::FILE_DESCRIPTOR_SET] {
        for file in FileDescriptorSet::decode(set).unwrap().file {
            for service in file.service.iter().filter(|_| file.package().starts_with("portico.")) {
                let internal = INTERNAL.contains(&service.name());
                methods.extend(service.method.iter().map(|method| {
                    (format!("/{}.{}/{}", file.package(), service.name(), method.name()), internal)
                }));
            }
        }
    }
    methods
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_34_s2_35_every_rpc_refuses_nobody_the_wrong_audience_and_the_powerless() {
    let deployment = Deployment::start().await;
    let created = deployment.cli(&["--json", "service-account", "create", "robot"]).await;
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let account = (created["client_id"].as_str().unwrap(), created["client_secret"].as_str().unwrap());
    let scopes = "admin registry:read registry:write";
    let administrator = deployment.api().await;
    let powerless = async {
        for scope in [scopes, "registry:read registry:write", "registry:read"] {
            let answer = deployment.token_answer(account, &deployment.url("/api"), scope).await;
            if answer.status == 200 {
                return answer.json()["access_token"].as_str().unwrap().to_owned();
            }
        }
        panic!("no token for the management plane")
    };
    let grpc = &deployment.ready.grpc;
    let nobody = Api::connect(grpc, None).await;
    let wrong_audience = Api::connect(grpc, Some(&deployment.token("demo").await)).await;
    let powerless = Api::connect(grpc, Some(&powerless.await)).await;
    let methods = methods();
    assert!(methods.len() > 50, "{methods:?}");
    for (path, internal) in &methods {
        for (who, api) in [("nobody", &nobody), ("a token for MCP", &wrong_audience)] {
            let status = api.call_empty(path).await;
            assert_eq!(status.code(), Code::Unauthenticated, "{path} as {who}: {status:?}");
            assert!(!status.message().is_empty(), "{path}: {status:?}");
        }
        if *internal {
            let status = administrator.call_empty(path).await;
            assert_eq!(status.code(), Code::PermissionDenied, "{path} as administrator: {status:?}");
        }
        // The registry's lists answer with what the caller may see, which is nothing; what needs an argument there may
        // miss it first (its own tests give it one).
        let status = powerless.call_empty(path).await;
        let lists = path.contains("/List") && status.code() == Code::Ok;
        let unfound = matches!(status.code(), Code::InvalidArgument | Code::NotFound);
        let shows_nothing = path.starts_with("/portico.registry.") && (lists || unfound);
        assert!(shows_nothing || status.code() == Code::PermissionDenied, "{path} as robot: {status:?}");
    }
    for path in PUBLIC_RPCS {
        let status = nobody.call_empty(path).await;
        assert_ne!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
    }
    let unknown = nobody.call_empty("/portico.registry.v1.NoService/NoMethod").await;
    assert_eq!(unknown.code(), Code::Unimplemented, "{unknown:?}");
    deployment.stop().await;
}

/// How a route treats a caller who shows nothing.
#[derive(Debug, Clone, Copy)]
enum Door {
    /// Anybody may look: it holds nothing of anybody.
    Public,
    /// This status (303: to the sign-in page), without a token, a cookie or a form's secret.
    Denies(u16),
}
use Door::{Denies, Public};

/// Every HTTP route of the public listener.
const ROUTES: [(&str, Method, Door); 39] = [
    ("/mcp", Method::POST, Denies(401)),
    ("/mcp", Method::GET, Denies(401)),
    ("/mcp", Method::DELETE, Denies(401)),
    ("/mcp/", Method::POST, Denies(401)),
    ("/{name}/mcp", Method::POST, Denies(401)),
    ("/{name}/mcp", Method::GET, Denies(401)),
    ("/{name}/mcp", Method::DELETE, Denies(401)),
    ("/{name}/mcp/", Method::POST, Denies(401)),
    ("/.well-known/oauth-protected-resource/{*path}", Method::GET, Public),
    ("/.well-known/oauth-authorization-server", Method::GET, Public),
    ("/.well-known/openid-configuration", Method::GET, Public),
    ("/.well-known/oauth-authorization-server/issuer/{name}", Method::GET, Public),
    ("/.well-known/openid-configuration/issuer/{name}", Method::GET, Public),
    ("/issuer/{name}/.well-known/openid-configuration", Method::GET, Public),
    ("/.well-known/portico", Method::GET, Public),
    ("/oauth2/jwks", Method::GET, Public),
    ("/oauth2/register", Method::POST, Denies(400)),
    ("/oauth2/token", Method::POST, Denies(401)),
    ("/oauth2/par", Method::POST, Denies(401)),
    ("/oauth2/revoke", Method::POST, Denies(401)),
    ("/oauth2/introspect", Method::POST, Denies(401)),
    ("/oauth2/userinfo", Method::GET, Denies(401)),
    ("/oauth2/authorize", Method::GET, Denies(400)),
    ("/issuer/{name}/oauth2/jwks", Method::GET, Public),
    ("/issuer/{name}/oauth2/register", Method::POST, Denies(400)),
    ("/issuer/{name}/oauth2/token", Method::POST, Denies(401)),
    ("/issuer/{name}/oauth2/par", Method::POST, Denies(401)),
    ("/issuer/{name}/oauth2/introspect", Method::POST, Denies(401)),
    ("/issuer/{name}/oauth2/userinfo", Method::GET, Denies(401)),
    ("/issuer/{name}/oauth2/authorize", Method::GET, Denies(400)),
    ("/login", Method::GET, Public),
    ("/login", Method::POST, Denies(403)),
    ("/login/consent", Method::GET, Denies(400)),
    ("/login/consent", Method::POST, Denies(403)),
    ("/account", Method::GET, Denies(303)),
    ("/account/sign-out", Method::POST, Denies(303)),
    ("/account/sessions", Method::POST, Denies(303)),
    ("/account/applications", Method::POST, Denies(303)),
    ("/account/password", Method::POST, Denies(303)),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_denies_strangers_or_is_public_by_name() {
    let deployment = Deployment::start().await;
    let mut wrong = Vec::new();
    for (path, method, door) in &ROUTES {
        let url = deployment.url(&path.replace("{name}", "demo").replace("{*path}", "demo/mcp"));
        let mut headers = HeaderMap::new();
        if *method == Method::POST {
            headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        }
        let answer = Http::default().send(method.clone(), &url, &headers, "").await;
        let expected = match door {
            Public => 200,
            Denies(status) => *status,
        };
        if answer.status.as_u16() != expected {
            wrong.push(format!("{method} {path}: {} instead of {expected}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unknown = deployment.http.get(&deployment.url("/no/such/page")).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    deployment.stop().await;
}

#[test]
fn every_route_in_the_sources_is_in_the_table() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    for folder in
        ["crates/services/gateway/src", "crates/services/auth-server/src", "crates/services/registry/src"]
    {
        for route in routes(&root.join(folder)) {
            // The stylesheet and the icon are pictures of the pages.
            let picture = std::path::Path::new(&route).extension().is_some();
            if !picture && !ROUTES.iter().any(|(path, ..)| *path == route) {
                missing.push(route);
            }
        }
    }
    assert!(missing.is_empty(), "no denial test for {missing:?}: add the routes to ROUTES");
}

/// The literals that routes are made from.
fn routes(folder: &std::path::Path) -> Vec<String> {
    let mut routes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            routes.extend(self::routes(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (marker, prefix) in [(".route(\"", ""), ("under(\"", "/")] {
            for rest in text.split(marker).skip(1) {
                routes.push(format!("{prefix}{}", rest.split('"').next().unwrap()));
            }
        }
        for line in text.lines().map(str::trim) {
            if line.starts_with("\"/.well-known/") || line.starts_with("\"/issuer/") {
                routes.push(line.trim_matches(['"', ',']).to_owned());
            }
        }
    }
    routes
}
