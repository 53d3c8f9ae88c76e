use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use portico_authz::Resource;
use portico_ids::{EndpointName, InstanceId, ServerId};
use portico_mcp_types::Revision;
use portico_proto_registry::catalogue_item::Value;
use portico_proto_registry::{CatalogueEndpoint, CatalogueInstance, InstanceStatus, Names, Visibility};

use super::{Credential, RetryBudget, Traffic};

/// Longest prefix that a member's names get.
const MAX_ALIAS: usize = 20;

/// Everything that can be called, at one revision.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    endpoints: HashMap<String, Arc<Endpoint>>,
    servers: HashMap<ServerId, Arc<Server>>,
}

/// A published route.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    /// The audience of tokens for it: `{public_origin}/{name}/mcp`.
    pub(crate) audience: String,
    /// What authorization decides on.
    pub(crate) resource: Resource,
    /// Whether names get their member's prefix.
    pub(crate) prefixed: bool,
    pub(crate) members: Vec<Member>,
}

/// One server in an endpoint, and what is chosen of it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) server: ServerId,
    pub(crate) alias: String,
    /// Chosen names; `None` chooses all.
    pub(crate) tools: Option<HashSet<String>>,
    pub(crate) prompts: Option<HashSet<String>>,
    pub(crate) resources: Option<HashSet<String>>,
}

impl Endpoint {
    /// Whether the same is chosen of the same servers, and called the same.
    pub(crate) fn has_members_of(&self, other: &Self) -> bool {
        self.prefixed == other.prefixed && same_members(&self.members, &other.members)
    }
}

/// Whether the same is chosen of the same servers, under the same names.
pub(crate) fn same_members(before: &[Member], now: &[Member]) -> bool {
    let same = |a: &Member, b: &Member| {
        (a.server, &a.alias, &a.tools, &a.prompts, &a.resources)
            == (b.server, &b.alias, &b.tools, &b.prompts, &b.resources)
    };
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| same(a, b))
}

/// A server with the instances that can be called.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) instances: Vec<Arc<Instance>>,
    /// Shared by successive snapshots.
    pub(crate) retries: Arc<RetryBudget>,
}

/// A server made real at an address.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) server: ServerId,
    pub(crate) uri: Uri,
    /// The server's own name: some validate `Host`.
    pub(crate) host: HeaderValue,
    pub(crate) healthy: bool,
    pub(crate) eras: Eras,
    /// Until the answer must have begun; `None`: the gateway's own setting.
    pub(crate) answer_timeout: Option<Duration>,
    /// `Authorization` for this server; never an agent's.
    pub(crate) credential: Option<HeaderValue>,
    /// The owner says that no state is kept between calls.
    pub(crate) stateless: bool,
    /// How it fares with the calls of this gateway; shared by successive snapshots.
    pub(crate) traffic: Arc<Traffic>,
}

/// Which eras the worker has seen an instance speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Eras {
    pub(crate) session: bool,
    pub(crate) stateless: bool,
}

impl Eras {
    /// An instance that nobody has looked at may speak either.
    pub(crate) const UNKNOWN: Self = Self { session: true, stateless: true };

    fn of(versions: &[String]) -> Self {
        if versions.is_empty() {
            return Self::UNKNOWN;
        }
        let stateless = versions.iter().any(|version| Revision::names_stateless_era(version));
        let session =
            versions.iter().any(|version| Revision::parse(version).is_ok_and(|r| !r.is_stateless()));
        Self { session, stateless }
    }
}

impl Snapshot {
    pub(crate) fn build(
        origin: &str,
        items: &BTreeMap<String, Value>,
        credentials: &HashMap<InstanceId, Credential>,
        previous: Option<&Self>,
    ) -> Self {
        let before: HashMap<InstanceId, &Arc<Instance>> =
            previous.into_iter().flat_map(Self::instances).map(|instance| (instance.id, instance)).collect();
        let mut instances: HashMap<ServerId, Vec<Arc<Instance>>> = HashMap::new();
        let mut servers = HashMap::new();
        for value in items.values() {
            if let Value::Instance(item) = value
                && let Some(instance) = Instance::of(item, credentials, &before)
            {
                instances.entry(instance.server).or_default().push(Arc::new(instance));
            }
        }
        for value in items.values() {
            if let Value::Server(item) = value
                && let Ok(id) = item.id.parse::<ServerId>()
            {
                let before = previous.and_then(|snapshot| snapshot.server(id));
                let server = Server {
                    id,
                    name: item.name.clone(),
                    enabled: item.enabled,
                    instances: instances.remove(&id).unwrap_or_default(),
                    retries: before.map(|server| Arc::clone(&server.retries)).unwrap_or_default(),
                };
                servers.insert(id, Arc::new(server));
            }
        }
        let endpoints = items
            .values()
            .filter_map(|value| match value {
                Value::Endpoint(item) => Endpoint::of(origin, item, &servers).map(Arc::new),
                _ => None,
            })
            .map(|endpoint| (endpoint.name.clone(), endpoint))
            .collect();
        Self { endpoints, servers }
    }

    pub(crate) fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(name)
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    pub(crate) fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.servers.get(&id)
    }

    /// Instances that are passed over while others can take their calls.
    pub(crate) fn ejected(&self) -> usize {
        self.instances().filter(|instance| !instance.traffic.is_good()).count()
    }

    /// All instances that can be called.
    pub(super) fn callable(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.servers.values().filter(|server| server.enabled).flat_map(|server| &server.instances)
    }

    /// The same, and those that could be if their servers were enabled.
    fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.servers.values().flat_map(|server| &server.instances)
    }

    /// An instance that can be called.
    pub(crate) fn instance(&self, server: ServerId, id: InstanceId) -> Option<&Arc<Instance>> {
        let server = self.servers.get(&server).filter(|server| server.enabled)?;
        server.instances.iter().find(|instance| instance.id == id)
    }
}

impl Endpoint {
    fn of(origin: &str, item: &CatalogueEndpoint, servers: &HashMap<ServerId, Arc<Server>>) -> Option<Self> {
        let name = EndpointName::parse(&item.name).ok()?;
        let members = item
            .members
            .iter()
            .filter_map(|member| {
                let server = member.server_id.parse::<ServerId>().ok()?;
                let alias = match member.alias.as_str() {
                    "" => servers.get(&server).map(|server| cut(&server.name)).unwrap_or_default(),
                    alias => alias.to_owned(),
                };
                Some(Member {
                    server,
                    alias,
                    tools: chosen(&member.tools),
                    prompts: chosen(&member.prompts),
                    resources: chosen(&member.resources),
                })
            })
            .collect();
        let visibility = match item.visibility() {
            Visibility::Public => portico_authz::Visibility::Public,
            Visibility::Private | Visibility::Unspecified => portico_authz::Visibility::Private,
        };
        Some(Self {
            id: item.id.clone(),
            name: item.name.clone(),
            description: item.description.clone(),
            audience: format!("{origin}/{name}/mcp"),
            resource: Resource::Endpoint { name, visibility, owner: item.owner.parse().ok() },
            prefixed: item.names() == Names::Prefixed,
            members,
        })
    }

    /// The one server whose bytes pass through unchanged; `None` for a virtual server.
    pub(crate) fn single(&self) -> Option<&Member> {
        match self.members.as_slice() {
            [member] if !self.prefixed && member.takes_all() => Some(member),
            _ => None,
        }
    }
}

impl Member {
    /// Whether nothing of the server is left out.
    pub(crate) fn takes_all(&self) -> bool {
        self.tools.is_none() && self.prompts.is_none() && self.resources.is_none()
    }
}

impl Server {
    /// Whether some instance speaks an era that `wanted` accepts.
    pub(crate) fn speaks(&self, wanted: impl Fn(Eras) -> bool) -> bool {
        self.instances.iter().any(|instance| wanted(instance.eras))
    }
}

impl Instance {
    /// `None` while the instance cannot be called: its address is broken or its credential is not there yet.
    fn of(
        item: &CatalogueInstance,
        credentials: &HashMap<InstanceId, Credential>,
        before: &HashMap<InstanceId, &Arc<Self>>,
    ) -> Option<Self> {
        let id = item.id.parse::<InstanceId>().ok()?;
        let credential = match item.bearer_secret_ref.as_str() {
            "" => None,
            reference => Some(credentials.get(&id).filter(|c| c.reference == reference)?.authorization()?),
        };
        let uri: Uri = item.url.parse().ok()?;
        // What is known of it is known of its address.
        let same = before.get(&id).filter(|same| same.uri == uri && !same.traffic.departed().is_cancelled());
        let traffic = same.map(|same| Arc::clone(&same.traffic)).unwrap_or_default();
        let host = HeaderValue::from_str(uri.authority()?.as_str().rsplit('@').next()?).ok()?;
        Some(Self {
            id,
            server: item.server_id.parse().ok()?,
            uri,
            host,
            healthy: item.status() != InstanceStatus::Unhealthy,
            eras: Eras::of(&item.protocol_versions),
            answer_timeout: u64::try_from(item.timeout_ms)
                .ok()
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
            credential,
            stateless: item.stateless,
            traffic,
        })
    }
}

fn chosen(names: &[String]) -> Option<HashSet<String>> {
    (!names.is_empty()).then(|| names.iter().cloned().collect())
}

/// A server's name as a prefix; names are ASCII slugs.
fn cut(name: &str) -> String {
    name.chars().take(MAX_ALIAS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{endpoint, instance, server, snapshot};
    use super::*;

    #[test]
    fn a_single_server_endpoint_passes_bytes_through_and_a_filtered_one_does_not() {
        let snap =
            snapshot(vec![server(1, "one"), instance(1, 1, "http://127.0.0.1:9/mcp"), endpoint("one", &[1])]);
        let one = snap.endpoint("one").unwrap();
        assert!(one.single().is_some());
        assert_eq!(one.audience, "http://127.0.0.1:8080/one/mcp");
        let mut filtered = endpoint("some", &[1]);
        if let Some(Value::Endpoint(item)) = &mut filtered.1.value {
            item.members[0].tools = vec!["echo".to_owned()];
        }
        let snap = snapshot(vec![server(1, "one"), filtered]);
        assert!(snap.endpoint("some").unwrap().single().is_none());
        assert_eq!(snap.endpoint("some").unwrap().members[0].alias, "one");
    }

    #[test]
    fn an_instance_without_its_credential_is_not_routable() {
        let mut item = instance(1, 1, "http://127.0.0.1:9/mcp");
        if let Some(Value::Instance(instance)) = &mut item.1.value {
            instance.bearer_secret_ref = "team/key".to_owned();
        }
        let snap = snapshot(vec![server(1, "one"), item]);
        let only = snap.servers.values().next().unwrap();
        assert!(only.pick(|_| true, 7).is_none());
    }

    #[test]
    fn eras_follow_from_the_versions_seen() {
        let of = |versions: &[&str]| Eras::of(&versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Eras::UNKNOWN);
        assert_eq!(of(&["2025-11-25", "2025-06-18"]), Eras { session: true, stateless: false });
        assert_eq!(of(&["2026-07-28"]), Eras { session: false, stateless: true });
    }
}
