//! Endpoints of several servers, from the door to the members and back.

mod lists;
mod member;
mod replicas;
mod routes;
mod session_era;
mod stateless_era;

use axum::body::Body;
use http::{Method, Request};
use portico_proto_registry::Names;
use portico_proto_registry::catalogue_item::Value as ItemValue;
use serde_json::{Value, json};

use self::member::{Member, Setup};
use crate::UpstreamSettings;
use crate::catalogue::testing::{Item, endpoint, instance, server};
use crate::testing::{Bench, META, Read};

/// A bench whose endpoint `demo` has these members, named `one`, `two`, ….
struct Virtual {
    bench: Bench,
    members: Vec<Member>,
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

impl Virtual {
    async fn new(names: Names, setups: Vec<Setup>) -> Self {
        Self::with(names, setups, |_| {}).await
    }

    async fn with(names: Names, setups: Vec<Setup>, edit: impl FnOnce(&mut UpstreamSettings)) -> Self {
        let bench = Bench::with(|settings| {
            settings.upstream.list_timeout_ms = 10_000;
            edit(&mut settings.upstream);
        })
        .await;
        let mut members = Vec::new();
        for (setup, name) in setups.into_iter().zip(NAMES) {
            members.push(Member::start(&bench.tasks, name, setup).await);
        }
        let this = Self { bench, members };
        this.publish(names, |_| {});
        this
    }

    /// Publishes the members as `demo`, as `edit` changes the items.
    fn publish(&self, names: Names, edit: impl FnOnce(&mut Vec<Item>)) {
        let mut items = Vec::new();
        let mut all = Vec::new();
        for (n, member) in (1..).zip(&self.members) {
            items.push(server(n, NAMES[usize::from(n) - 1]));
            items.push(instance(n, n, &format!("http://{}/mcp", member.address)));
            all.push(n);
        }
        let mut demo = endpoint("demo", &all);
        if let Some(ItemValue::Endpoint(item)) = &mut demo.1.value {
            item.names = names.into();
        }
        items.push(demo);
        edit(&mut items);
        self.bench.catalogue(items);
    }

    /// The answer to a request within a session, as JSON.
    async fn ask(&self, session: &str, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.bench.in_session(session, &body.to_string()).await.json()
    }

    async fn open(&self) -> String {
        self.bench.initialize("2025-11-25").await
    }

    /// The answer to a request of the stateless era.
    async fn stateless(&self, method: &str, name: Option<&str>, params: Value) -> Read {
        self.bench.send(self.stateless_request(method, name, params)).await
    }

    fn stateless_request(&self, method: &str, name: Option<&str>, mut params: Value) -> Request<Body> {
        let meta: Value = serde_json::from_str(&format!("{{{META}}}")).unwrap();
        params["_meta"] = meta["_meta"].clone();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut request = self
            .bench
            .request(Method::POST)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        request.body(Body::from(body.to_string())).unwrap()
    }
}

/// Edits what the endpoint chooses of its member at `index`.
fn choose(items: &mut [Item], index: usize, edit: impl FnOnce(&mut portico_proto_registry::EndpointMember)) {
    for (_, item) in items {
        if let Some(ItemValue::Endpoint(endpoint)) = &mut item.value {
            edit(&mut endpoint.members[index]);
            return;
        }
    }
}

/// Makes a server's instance one that was seen to speak only these versions.
fn speaks(items: &mut [Item], n: u8, versions: &[&str]) {
    let id = crate::catalogue::testing::instance_id(n).to_string();
    for (_, item) in items {
        if let Some(ItemValue::Instance(instance)) = &mut item.value
            && instance.id == id
        {
            instance.protocol_versions = versions.iter().map(|version| (*version).to_owned()).collect();
        }
    }
}

/// Points a server's instance to an address where nothing listens.
fn kill(items: &mut [Item], n: u8) {
    let id = crate::catalogue::testing::instance_id(n).to_string();
    for (_, item) in items {
        if let Some(ItemValue::Instance(instance)) = &mut item.value
            && instance.id == id
        {
            instance.url = "http://127.0.0.1:32767/mcp".to_owned();
        }
    }
}

/// The names of a list.
fn names(answer: &Value, field: &str) -> Vec<String> {
    let all = answer["result"][field].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Member and reason of each warning.
fn warnings(answer: &Value) -> Vec<(String, String)> {
    let all = answer["result"]["_meta"]["portico/warnings"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|w| (w["member"].as_str().unwrap().to_owned(), w["reason"].as_str().unwrap().to_owned()))
        .collect()
}
