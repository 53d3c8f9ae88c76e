use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::HeaderValue;
use portico_ids::InstanceId;
use portico_process::Tasks;
use portico_proto_registry::ResolveSecretsRequest;
use portico_proto_registry::catalogue_item::Value;
use portico_proto_registry::secret_resolver_service_client::SecretResolverServiceClient;
use portico_sealing::{Aad, Sealer};
use portico_transport::{with_deadline, within};
use prometheus_client::metrics::counter::Counter;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::Catalogue;
use portico_transport::Link;

/// Longest that the registry may take to resolve secrets.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait before asking again for what could not be resolved.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether the copy on disk is to be sealed with another key.
const LOOK: Duration = Duration::from_mins(1);
/// Secrets that are asked for at the same time.
const AT_ONCE: usize = 16;
/// Where the copy on disk is sealed to.
const PLACE: Aad<'static> = Aad { table: "gateway.credentials", row: "all", field: "bearer", version: 1 };

/// The bearer credential of one instance; never an agent's.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) reference: String,
    pub(crate) version: i64,
    pub(crate) value: SecretString,
}

impl Credential {
    /// The header that the instance gets; `None` if the secret cannot be one.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.value.expose_secret())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// A credential that the catalogue names and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    instance: InstanceId,
    reference: String,
    version: i64,
}

pub(super) fn wanted(
    items: &BTreeMap<String, Value>,
    known: &HashMap<InstanceId, Credential>,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for value in items.values() {
        let Value::Instance(item) = value else { continue };
        let Ok(instance) = item.id.parse::<InstanceId>() else { continue };
        let (reference, version) = (item.bearer_secret_ref.clone(), item.secret_version);
        let there = known.get(&instance).is_some_and(|c| c.reference == reference && c.version >= version);
        if !reference.is_empty() && !there {
            wanted.push(Wanted { instance, reference, version });
        }
    }
    wanted
}

/// Fetches credentials whenever the catalogue names new ones, and keeps a sealed copy beside it.
pub(crate) struct Resolver {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) link: Link,
    pub(crate) sealer: Sealer,
    pub(crate) path: PathBuf,
    /// Counts copies that could not be written.
    pub(crate) failures: Counter,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    instance: InstanceId,
    reference: String,
    version: i64,
    value: String,
}

impl Resolver {
    pub(crate) fn spawn(self, tasks: &Tasks) {
        let token = tasks.shutdown_token();
        tasks.spawn::<_, Infallible>("resolve-credentials", async move {
            token.run_until_cancelled(self.run()).await;
            Ok(())
        });
    }

    async fn run(self) {
        let mut changes = self.catalogue.changes.subscribe();
        let mut missing = HashSet::new();
        // The key that the copy on disk is sealed with: one that is pruned opens it no longer. A copy that was opened is sealed
        // anew once; one that was not is left alone until there is something to put in its place.
        let mut sealed_with = if self.load().await { None } else { Some(self.sealer.ring().sealing_key()) };
        loop {
            // Before the first snapshot nothing is known to be gone.
            let gone = *changes.borrow_and_update() > 0 && self.catalogue.retain_credentials();
            let wanted = self.catalogue.missing_credentials();
            let (complete, new) = self.resolve(wanted, &mut missing).await;
            let key = self.sealer.ring().sealing_key();
            if new || gone || sealed_with.as_ref() != Some(&key) {
                sealed_with = self.save().await.then_some(key);
            }
            // Either the catalogue changes, or the registry and the disk are tried again.
            let pause = if complete && sealed_with.is_some() { LOOK } else { RETRY };
            if let Ok(Err(_)) = tokio::time::timeout(pause, changes.changed()).await {
                return;
            }
        }
    }

    /// Whether everything that was wanted is there now, and whether any of it is new. Secrets that do not exist are told of once.
    async fn resolve(&self, wanted: Vec<Wanted>, missing: &mut HashSet<Wanted>) -> (bool, bool) {
        missing.retain(|known| wanted.contains(known));
        let mut asked = Vec::with_capacity(wanted.len());
        for want in wanted {
            asked.push(async {
                let answer = self.resolve_one(&want).await;
                (want, answer)
            });
        }
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut complete = true;
        let mut resolved = Vec::new();
        while let Some((want, answer)) = answers.next().await {
            match answer {
                Ok(Some(credential)) => resolved.push((want.instance, credential)),
                Ok(None) => {
                    complete = false;
                    if missing.insert(want.clone()) {
                        tracing::warn!(
                            instance.id = %want.instance,
                            secret.reference = want.reference,
                            "the secret of an instance does not exist: set it, until then the instance is not called"
                        );
                    }
                }
                Err(status) => {
                    complete = false;
                    tracing::warn!(instance.id = %want.instance, error = %status, "the registry cannot resolve a secret just now");
                }
            }
        }
        let new = !resolved.is_empty();
        if new {
            self.catalogue.apply_credentials(resolved);
        }
        (complete, new)
    }

    async fn resolve_one(&self, want: &Wanted) -> Result<Option<Credential>, tonic::Status> {
        let request = ResolveSecretsRequest {
            refs: vec![want.reference.clone()],
            purpose: format!("instance/{}", want.instance),
            // The catalogue came from the registry itself.
            spec_revision: 0,
        };
        let mut client = SecretResolverServiceClient::new(self.link.clone());
        let answer = within(DEADLINE, client.resolve_secrets(with_deadline(DEADLINE, request))).await?;
        let secret = answer.secrets.into_iter().find(|secret| secret.r#ref == want.reference);
        Ok(secret.and_then(|secret| {
            let value = String::from_utf8(secret.value).ok()?;
            Some(Credential {
                reference: want.reference.clone(),
                version: secret.version.max(want.version),
                value: SecretString::from(value.trim_end_matches(['\r', '\n'])),
            })
        }))
    }

    /// Takes the copy on disk, so that a start without the registry works; tells whether there was one.
    async fn load(&self) -> bool {
        let Ok(sealed) = tokio::fs::read(&self.path).await else { return false };
        let Ok(open) = self.sealer.open(&PLACE, &sealed) else {
            tracing::warn!(path = %self.path.display(), "the copy of credentials cannot be opened and is fetched anew");
            return false;
        };
        let Ok(stored) = serde_json::from_slice::<Vec<Stored>>(open.expose_secret()) else { return false };
        let known = stored.into_iter().map(|s| {
            (
                s.instance,
                Credential { reference: s.reference, version: s.version, value: SecretString::from(s.value) },
            )
        });
        self.catalogue.apply_credentials(known.collect());
        true
    }

    /// Whether the copy on disk is up to date; nothing that is served depends on it.
    async fn save(&self) -> bool {
        let stored: Vec<Stored> = self
            .catalogue
            .credentials()
            .into_iter()
            .map(|(instance, c)| Stored {
                instance,
                reference: c.reference,
                version: c.version,
                value: c.value.expose_secret().to_owned(),
            })
            .collect();
        let Ok(json) = serde_json::to_vec(&stored).map(zeroize::Zeroizing::new) else {
            return true;
        };
        let sealed = self.sealer.seal(&PLACE, &json);
        let written = write_whole(&self.path, &sealed).await;
        if let Err(error) = &written {
            self.failures.inc();
            tracing::warn!(path = %self.path.display(), error = %error, "the copy of credentials cannot be written");
        }
        written.is_ok()
    }
}

/// Replaces a file of the owner's in one step: a reader sees the old or the new one.
async fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    tokio::fs::rename(&beside, path).await
}

#[cfg(test)]
mod tests {
    use portico_sealing::KeyRing;
    use portico_transport::{Exchange, PeerIdentity};

    use super::super::testing::{ORIGIN, endpoint, instance, instance_id, server, server_id};
    use super::*;

    fn catalogue() -> Catalogue {
        let mut item = instance(1, 1, "http://127.0.0.1:9/mcp");
        if let Some(Value::Instance(instance)) = &mut item.1.value {
            instance.bearer_secret_ref = "team/key".to_owned();
            instance.secret_version = 2;
        }
        let catalogue = Catalogue::new(ORIGIN);
        catalogue.apply(true, vec![server(1, "one"), item, endpoint("one", &[1])], &[]);
        catalogue
    }

    fn credential(version: i64) -> Credential {
        Credential { reference: "team/key".into(), version, value: SecretString::from("s3cret") }
    }

    #[test]
    fn an_instance_becomes_routable_with_its_credential_and_stays_while_it_is_rotated() {
        let catalogue = catalogue();
        assert_eq!(catalogue.missing_credentials()[0].reference, "team/key");
        assert!(catalogue.snapshot().instance(server_id(1), instance_id(1)).is_none());
        catalogue.apply_credentials(vec![(instance_id(1), credential(1))]);
        let snapshot = catalogue.snapshot();
        let routable = snapshot.instance(server_id(1), instance_id(1)).unwrap();
        assert_eq!(routable.credential.as_ref().unwrap(), "Bearer s3cret");
        assert!(!format!("{routable:?}").contains("s3cret"));
        assert_eq!(catalogue.missing_credentials().len(), 1, "version 2 is still to be fetched");
        catalogue.apply_credentials(vec![(instance_id(1), credential(2))]);
        assert!(catalogue.missing_credentials().is_empty());
    }

    #[test]
    fn credentials_of_deleted_instances_are_forgotten() {
        let catalogue = catalogue();
        catalogue.apply_credentials(vec![(instance_id(1), credential(2))]);
        catalogue.apply(false, Vec::new(), &[format!("instance/{}", instance_id(1))]);
        catalogue.retain_credentials();
        assert!(catalogue.credentials().is_empty());
    }

    /// A resolver whose registry is away, and the catalogue that it serves.
    fn resolver(dir: &Path) -> Resolver {
        let keys = dir.join("keys");
        let rng: portico_ids::SharedRng = Arc::new(portico_ids::SeededRng::new(1));
        if !keys.exists() {
            KeyRing::generate_file(&keys, &*rng).unwrap();
        }
        Resolver {
            catalogue: Arc::new(catalogue()),
            link: Exchange::new().link("registry", PeerIdentity::new("gateway")),
            sealer: Sealer::new(&KeyRing::load(&keys).unwrap(), rng),
            path: dir.join("credentials.sealed"),
            failures: Counter::default(),
        }
    }

    async fn run(resolver: Resolver) {
        let _ = tokio::time::timeout(LOOK * 2, resolver.run()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_copy_of_credentials_is_sealed_anew_before_its_key_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let (path, random) = (dir.path().join("keys"), portico_ids::SeededRng::new(2));
        let before = resolver(dir.path());
        before.catalogue.apply_credentials(vec![(instance_id(1), credential(2))]);
        before.save().await;
        let ring = before.sealer.ring().clone();
        let old = ring.sealing_key();
        let rotate = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let new = KeyRing::stage_file(&path, &random).unwrap();
            KeyRing::promote_file(&path, &new, chrono::DateTime::UNIX_EPOCH).unwrap();
            assert!(ring.reload().unwrap());
        };
        tokio::join!(run(before), rotate);
        KeyRing::prune_file(&path, &old).unwrap();
        let after = resolver(dir.path());
        assert!(after.load().await, "a start without the registry works");
        assert!(after.catalogue.snapshot().instance(server_id(1), instance_id(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_gone_from_the_copy_on_disk_too() {
        let dir = tempfile::tempdir().unwrap();
        let before = resolver(dir.path());
        before.catalogue.apply_credentials(vec![(instance_id(1), credential(2))]);
        before.save().await;
        before.catalogue.apply(false, Vec::new(), &[format!("instance/{}", instance_id(1))]);
        run(before).await;
        let after = resolver(dir.path());
        assert!(after.load().await);
        assert!(after.catalogue.credentials().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_cannot_be_opened_is_not_written_over_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = resolver(dir.path());
        let path = resolver.path.clone();
        std::fs::write(&path, b"sealed with a key that is not there just now").unwrap();
        run(resolver).await;
        assert!(std::fs::read(&path).unwrap().starts_with(b"sealed with"));
    }
}
