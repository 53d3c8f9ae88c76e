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

/// Makes sure that a service account with these credentials exists and holds a role everywhere. Running it again, or
/// two at once, changes nothing; another secret replaces the one before and ends the tokens that it got.
///
/// An account that somebody has disabled stays disabled.
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
    let account = tools.account(id, &seed.name, hash.clone());
    let known = match seed.known(&stores, id).await? {
        Some(known) => known,
        None => match tools.create_account(&stores, &account).await {
            Ok(()) => account,
            // Somebody else seeded at the same time.
            Err(StoreError::AlreadyExists) => seed.known(&stores, id).await?.ok_or(StoreError::NotFound)?,
            Err(error) => return Err(error.into()),
        },
    };
    if known.secret_hash != hash {
        tools.give_secret(&stores, &known, &hash).await?;
    }
    tools.give_role(&stores, id, &role).await
}

impl ServiceAccountSeed {
    /// Finds the account, if id and name mean the same one.
    async fn known(
        &self,
        stores: &Stores,
        id: ServiceAccountId,
    ) -> Result<Option<ServiceAccount>, SeedError> {
        match stores.service_accounts.get(id).await? {
            Some(account) if account.name == self.name => Ok(Some(account)),
            Some(_) => Err(self.refused("an account of another name has its client_id")),
            None if stores.service_accounts.find(&self.name).await?.is_some() => {
                Err(self.refused("an account of this name has another client_id: use that, or another name"))
            }
            None => Ok(None),
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

    /// Replaces the secret of an account; tokens that the old one got end.
    async fn give_secret(
        &self,
        stores: &Stores,
        account: &ServiceAccount,
        hash: &[u8],
    ) -> Result<(), StoreError> {
        let principal = PrincipalId::ServiceAccount(account.id).to_string();
        let writes = [principal_revoked(&principal, self.clock.now(), LONGEST_TOKEN)];
        let deed = Deed::done("service_account.rotate", &principal, &account.name);
        stores.service_accounts.set_secret(account.id, hash, &self.change(deed).publish(writes)).await
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
