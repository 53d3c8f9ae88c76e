//! Service accounts that a deployment begins with.

use chrono::Duration;
use portico_db::{Db, StoreError};
use portico_ids::{PrincipalId, ServiceAccountId};
use secrecy::{ExposeSecret as _, SecretString};

use super::{SeedError, SeedTools, done_or_there, role};
use crate::actor::Deed;
use crate::app::secret_hash;
use crate::domain::names::check_slug;
use crate::store::Stores;
use crate::store::change::Change;
use crate::store::roles::Role;
use crate::store::service_accounts::ServiceAccount;
use crate::trust::principal_revoked;

/// How long a token can live at most (S1-11).
const LONGEST_TOKEN: Duration = Duration::minutes(10);
/// Fewer characters than this do not hold 128 bits, however they were made (AS-23).
const SHORTEST_SECRET: usize = 22;
/// Nothing longer is sent in a header.
const LONGEST_SECRET: usize = 512;

/// A service account that the operator chose the credentials of.
#[derive(Debug, Clone)]
pub struct ServiceAccountSeed {
    pub name: String,
    /// The role that it holds everywhere.
    pub role: String,
    /// A UUID in lower case.
    pub client_id: String,
    /// Random, 22 to 512 visible ASCII characters.
    pub client_secret: SecretString,
}

/// What a service account signs in with.
#[derive(Debug)]
pub struct ServiceCredentials {
    pub client_id: String,
    /// To be handed over once: only its hash is stored.
    pub client_secret: SecretString,
}

/// Makes sure that a service account exists and holds a role everywhere, and gives it a new secret.
pub async fn ensure_service_account(
    db: &Db,
    tools: &SeedTools,
    (name, role_name): (&str, &str),
) -> Result<ServiceCredentials, SeedError> {
    check_slug(name)?;
    let stores = Stores::new(db);
    let role = role(&stores, role_name).await?;
    let client_secret = portico_ids::secret_token(&*tools.rng);
    let hash = secret_hash(client_secret.expose_secret());
    let id = if let Some(account) = stores.service_accounts.find(name).await? {
        tools.give_secret(&stores, &account, &hash).await?;
        account.id
    } else {
        let account = tools.account(ServiceAccountId::generate(&*tools.clock, &*tools.rng), name, hash);
        tools.create_account(&stores, &account).await?;
        account.id
    };
    tools.give_role(&stores, id, &role).await?;
    Ok(ServiceCredentials { client_id: id.to_string(), client_secret })
}

/// Makes a service account with these credentials that holds a role everywhere. Running it again, or two at once,
/// changes nothing, and neither undoes what was done since: a secret that was rotated stays, a role that was taken and
/// an account that was disabled or deleted do not come back. Only another secret than was last seeded replaces the one
/// that the account has, and ends the tokens that it got.
pub async fn seed_service_account(
    db: &Db,
    tools: &SeedTools,
    seed: ServiceAccountSeed,
) -> Result<(), SeedError> {
    check_slug(&seed.name)?;
    let id = seed
        .client_id
        .parse::<ServiceAccountId>()
        .map_err(|_| seed.refused("client_id is not a UUID as 8-4-4-4-12 lower-case hexadecimal digits"))?;
    let secret = seed.client_secret.expose_secret();
    let legible = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !legible || !(SHORTEST_SECRET..=LONGEST_SECRET).contains(&secret.len()) {
        return Err(seed.refused("client_secret needs 22 to 512 visible ASCII characters, made at random"));
    }
    let hash = secret_hash(secret);
    let stores = Stores::new(db);
    let role = role(&stores, &seed.role).await?;
    let last = stores.service_accounts.seeded(id).await?;
    let known = match (&last, stores.service_accounts.get(id).await?) {
        (Some(_), None) => {
            tracing::info!(account = seed.name, "a seeded service account was deleted and is not made again");
            return Ok(());
        }
        (_, known) => seed.checked(&stores, known).await?,
    };
    match (known, last) {
        (None, _) => match tools.create_seeded(&stores, &tools.account(id, &seed.name, hash), &role).await {
            // Somebody else seeded at the same time.
            Err(StoreError::AlreadyExists) if stores.service_accounts.seeded(id).await?.is_some() => {}
            done => done?,
        },
        (Some(known), None) => {
            if known.secret_hash != hash {
                tracing::warn!(
                    account = seed.name,
                    "the service account was there before and keeps its secret, which is not the one in the settings"
                );
            }
            stores.service_accounts.remember_seed(id, &hash).await?;
        }
        (Some(known), Some(last)) if last != hash => {
            let change = tools.rotation(&known);
            stores.service_accounts.seed_secret(id, (&last, &hash), &change).await?;
        }
        (Some(_), Some(_)) => {}
    }
    Ok(())
}

impl ServiceAccountSeed {
    /// Answers the account that has the id, if id and name mean the same one.
    async fn checked(
        &self,
        stores: &Stores,
        known: Option<ServiceAccount>,
    ) -> Result<Option<ServiceAccount>, SeedError> {
        match known {
            Some(account) if account.name == self.name => Ok(Some(account)),
            Some(_) => Err(self.refused("an account of another name has its client_id")),
            None => {
                match stores.service_accounts.find(&self.name).await? {
                    // Somebody else seeded at the same time.
                    Some(account) if account.id.to_string() == self.client_id => Ok(Some(account)),
                    Some(_) => Err(self
                        .refused("an account of this name has another client_id: use that, or another name")),
                    None => Ok(None),
                }
            }
        }
    }

    fn refused(&self, reason: &'static str) -> SeedError {
        SeedError::ServiceAccount { name: self.name.clone(), reason }
    }
}

impl SeedTools {
    fn account(&self, id: ServiceAccountId, name: &str, secret_hash: Vec<u8>) -> ServiceAccount {
        ServiceAccount {
            id,
            name: name.to_owned(),
            description: "Made by Portico itself".to_owned(),
            secret_hash,
            disabled: false,
            revision: 0,
            created_at: self.clock.now(),
        }
    }

    async fn create_account(&self, stores: &Stores, account: &ServiceAccount) -> Result<(), StoreError> {
        let principal = PrincipalId::ServiceAccount(account.id).to_string();
        let change = self.change(Deed::done("service_account.create", &principal, &account.name));
        stores.service_accounts.create(account, &change).await.map(drop)
    }

    async fn create_seeded(
        &self,
        stores: &Stores,
        account: &ServiceAccount,
        role: &Role,
    ) -> Result<(), StoreError> {
        let principal = PrincipalId::ServiceAccount(account.id).to_string();
        let created = self.change(Deed::done("service_account.create", &principal, &account.name));
        let granted = self.change(Deed::done("grant.create", &principal, &role.name));
        let grant = self.grant(&principal, role);
        stores.service_accounts.create_seeded(account, &grant, [&created, &granted]).await
    }

    /// What goes with another secret for an account: tokens that the old one got end.
    fn rotation(&self, account: &ServiceAccount) -> Change {
        let principal = PrincipalId::ServiceAccount(account.id).to_string();
        let writes = [principal_revoked(&principal, self.clock.now(), LONGEST_TOKEN)];
        self.change(Deed::done("service_account.rotate", &principal, &account.name)).publish(writes)
    }

    /// Replaces the secret of an account.
    async fn give_secret(
        &self,
        stores: &Stores,
        account: &ServiceAccount,
        hash: &[u8],
    ) -> Result<(), StoreError> {
        stores.service_accounts.set_secret(account.id, hash, &self.rotation(account)).await
    }

    async fn give_role(&self, stores: &Stores, id: ServiceAccountId, role: &Role) -> Result<(), SeedError> {
        let principal = PrincipalId::ServiceAccount(id).to_string();
        let change = self.change(Deed::done("grant.create", &principal, &role.name));
        done_or_there(stores.grants.create(&self.grant(&principal, role), &change).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portico_clock::MockClock;
    use portico_db::testing::databases;
    use portico_ids::SeededRng;

    use super::*;
    use crate::domain::builtin::ADMINISTRATOR;
    use crate::{AdministratorSeed, schema, seed};

    const ID: &str = "0190a5e0-7c3a-7cc0-8000-000000000001";

    fn tools() -> SeedTools {
        let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        SeedTools { clock: Arc::new(MockClock::at(now)), rng: Arc::new(SeededRng::new(5)) }
    }

    fn operator(secret: &str) -> ServiceAccountSeed {
        ServiceAccountSeed {
            name: "operator".into(),
            role: ADMINISTRATOR.into(),
            client_id: ID.into(),
            client_secret: SecretString::from(secret.to_owned()),
        }
    }

    async fn prepared(db: &Db, tools: &SeedTools) -> Stores {
        let password = Some(SecretString::from("a long enough password"));
        seed(db, tools, AdministratorSeed { username: "admin".into(), password }).await.unwrap();
        Stores::new(db)
    }

    #[tokio::test]
    async fn s0_22_seeding_a_service_account_again_or_twice_at_once_changes_nothing() {
        for (label, db, _guard) in databases(schema()).await {
            let tools = tools();
            let stores = prepared(&db, &tools).await;
            let secret = "first-secret-of-the-operator";
            let both = tokio::join!(
                seed_service_account(&db, &tools, operator(secret)),
                seed_service_account(&db, &tools, operator(secret)),
            );
            both.0.unwrap();
            both.1.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.id.to_string(), ID, "{label}");
            assert_eq!(account.secret_hash, secret_hash(secret), "{label}");
            let principal = format!("service-account:{ID}");
            assert_eq!(stores.grants.of(&principal).await.unwrap().len(), 1, "{label}");
            let revision = stores.trust.revision().await.unwrap();
            seed_service_account(&db, &tools, operator(secret)).await.unwrap();
            assert_eq!(stores.trust.revision().await.unwrap(), revision, "{label}: nothing was written");
            let next = "second-secret-of-the-operator";
            seed_service_account(&db, &tools, operator(next)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.secret_hash, secret_hash(next), "{label}");
            let revoked = stores.trust.get(&format!("revocation/principal/{principal}")).await.unwrap();
            assert!(revoked.is_some(), "{label}: tokens of the first secret end");
        }
    }

    #[tokio::test]
    async fn s0_22_seeding_again_does_not_undo_what_was_done_since() {
        for (label, db, _guard) in databases(schema()).await {
            let tools = tools();
            let stores = prepared(&db, &tools).await;
            let [secret, next, rotated] =
                ["first-secret-of-the-operator", "second-secret-of-the-operator", "secret-after-a-rotation"];
            seed_service_account(&db, &tools, operator(secret)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            tools.give_secret(&stores, &account, &secret_hash(rotated)).await.unwrap();
            let principal = format!("service-account:{ID}");
            let grant = stores.grants.of(&principal).await.unwrap().remove(0);
            let taken = tools.change(Deed::done("grant.delete", &principal, ADMINISTRATOR));
            stores.grants.delete(&grant, &taken).await.unwrap();

            seed_service_account(&db, &tools, operator(secret)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.secret_hash, secret_hash(rotated), "{label}: the rotated secret stays");
            assert!(stores.grants.of(&principal).await.unwrap().is_empty(), "{label}: the role stays taken");

            seed_service_account(&db, &tools, operator(next)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.secret_hash, secret_hash(next), "{label}: another seed takes effect");
            assert!(stores.grants.of(&principal).await.unwrap().is_empty(), "{label}: without the role");

            let deleted = tools.change(Deed::done("service_account.delete", &principal, "operator"));
            stores.service_accounts.delete(account.id, &deleted).await.unwrap();
            for seed in [next, secret] {
                seed_service_account(&db, &tools, operator(seed)).await.unwrap();
                assert!(stores.service_accounts.find("operator").await.unwrap().is_none(), "{label}");
            }
        }
    }

    #[tokio::test]
    async fn s0_22_an_account_from_before_seeds_were_remembered_keeps_its_secret() {
        for (label, db, _guard) in databases(schema()).await {
            let tools = tools();
            let stores = prepared(&db, &tools).await;
            let [there, seeded, next] = [
                "secret-that-the-account-has",
                "another-secret-in-the-settings",
                "secret-that-is-seeded-later",
            ];
            let account = tools.account(ID.parse().unwrap(), "operator", secret_hash(there));
            tools.create_account(&stores, &account).await.unwrap();
            seed_service_account(&db, &tools, operator(seeded)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.secret_hash, secret_hash(there), "{label}");
            seed_service_account(&db, &tools, operator(next)).await.unwrap();
            let account = stores.service_accounts.find("operator").await.unwrap().unwrap();
            assert_eq!(account.secret_hash, secret_hash(next), "{label}");
        }
    }

    #[tokio::test]
    async fn a_seed_that_contradicts_what_is_there_or_is_weak_is_refused_with_what_to_change() {
        for (label, db, _guard) in databases(schema()).await {
            let tools = tools();
            prepared(&db, &tools).await;
            let secret = "first-secret-of-the-operator";
            seed_service_account(&db, &tools, operator(secret)).await.unwrap();
            let refusals = [
                (ServiceAccountSeed { name: "other".into(), ..operator(secret) }, "another name"),
                (
                    ServiceAccountSeed { client_id: ID.replace("01", "02"), ..operator(secret) },
                    "another client_id",
                ),
                (ServiceAccountSeed { client_id: "operator".into(), ..operator(secret) }, "not a UUID"),
                (ServiceAccountSeed { role: "nothing".into(), ..operator(secret) }, "no role named nothing"),
                (operator("short"), "22 to 512"),
                (operator("with a space in it, which headers do not carry"), "22 to 512"),
            ];
            for (seed, reason) in refusals {
                let error = seed_service_account(&db, &tools, seed).await.unwrap_err().to_string();
                assert!(error.contains(reason), "{label}: {error}");
                assert!(!error.contains(secret), "{label}");
            }
        }
    }
}
