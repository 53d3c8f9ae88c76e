//! Waits for the database, migrates every service's schema, seeds what a new deployment begins with, and ends.
//!
//! Safe to run again, and by two at the same time: every step takes the database's own lock or changes nothing that is
//! there.

mod settings;

use anyhow::{Context as _, Result};
use portico_auth_server::{AdministratorSeed, SeedTools, ServiceAccountSeed};
use portico_clock::SharedClock;
use portico_db::{Db, DbSettings, Schema, Wait, migrate, wait_for_database};
use portico_ids::SharedRng;
use portico_launch::Problems;
use portico_launch_database::check_database;

pub use settings::{AdministratorSettings, MigratorSettings, ServiceAccountSettings, WaitSettings};

/// What a run works with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Tells when a row was made.
    pub clock: SharedClock,
    /// Makes ids and salts.
    pub rng: SharedRng,
}

/// The settings, checked, with the secrets that they name.
#[derive(Debug)]
pub struct Plan {
    auth_server: DbSettings,
    registry: DbSettings,
    administrator: AdministratorSeed,
    service_account: Option<ServiceAccountSeed>,
    wait: Wait,
}

impl Plan {
    /// Checks everything that can be checked without a database.
    ///
    /// # Errors
    /// Something is missing or unusable; all of it is told.
    pub fn new(settings: &MigratorSettings) -> Result<Self, Problems> {
        const PASSWORD: &str = "administrator.password";
        let mut problems = Problems::new();
        let p = &mut problems;
        let what = "give the first administrator's password, inline or as { file = \"…\" }";
        let password = p
            .need(PASSWORD, settings.administrator.password.as_ref(), what)
            .and_then(|password| p.accept(PASSWORD, password.load()));
        let registry = check_database(p, "registry.url", settings.registry.clone());
        let auth_server = check_database(p, "auth_server.url", settings.auth_server.clone());
        let service_account = service_account(p, &settings.service_account);
        let plan = || {
            Some(Self {
                auth_server: auth_server?,
                registry: registry?,
                administrator: AdministratorSeed {
                    username: settings.administrator.username.clone(),
                    password: Some(password?),
                },
                service_account,
                wait: settings.wait.to_wait(),
            })
        };
        let plan = plan();
        problems.finish(plan)
    }
}

/// Reads the section; half of an account is a mistake.
fn service_account(p: &mut Problems, settings: &ServiceAccountSettings) -> Option<ServiceAccountSeed> {
    const SECRET: &str = "service_account.client_secret";
    if settings.client_id.is_none() && settings.client_secret.is_none() {
        return None;
    }
    let id = p.need("service_account.client_id", settings.client_id.clone(), "a secret alone is of no use");
    let secret = p
        .need(SECRET, settings.client_secret.as_ref(), "an id alone is of no use")
        .and_then(|secret| p.accept(SECRET, secret.load()));
    Some(ServiceAccountSeed {
        name: settings.name.clone(),
        role: settings.role.clone(),
        client_id: id?,
        client_secret: secret?,
    })
}

/// Migrates and seeds. Whatever was done before stays as it is.
///
/// # Errors
/// A setting is missing, a database does not answer in time, or a schema is newer than this migrator.
pub async fn run(settings: &MigratorSettings, tools: &Tools) -> Result<()> {
    let plan = Plan::new(settings)?;
    prepare(&plan.registry, portico_registry::schema(), &plan.wait).await?;
    let auth = prepare(&plan.auth_server, portico_auth_server::schema(), &plan.wait).await?;
    let tools = SeedTools { clock: tools.clock.clone(), rng: tools.rng.clone() };
    let seeded = portico_auth_server::seed(&auth, &tools, plan.administrator).await?;
    if let Some(administrator) = seeded.administrator {
        tracing::info!(username = administrator.username, "created the administrator");
    } else {
        tracing::info!("there is an administrator already");
    }
    if let Some(account) = plan.service_account {
        let name = account.name.clone();
        portico_auth_server::seed_service_account(&auth, &tools, account).await?;
        tracing::info!(name, "the service account is there");
    }
    auth.close().await;
    Ok(())
}

/// Waits for one service's database and brings its schema up to date.
async fn prepare(settings: &DbSettings, schema: &Schema, wait: &Wait) -> Result<Db> {
    let name = schema.name;
    tracing::info!(schema = name, "waiting for the database");
    let db = wait_for_database(settings, schema, wait)
        .await
        .with_context(|| format!("the database of {name} cannot be used"))?;
    let migrated =
        migrate(&db, schema).await.with_context(|| format!("the schema of {name} cannot be migrated"))?;
    tracing::info!(schema = name, ?migrated, "the schema is up to date");
    Ok(db)
}

#[cfg(test)]
mod tests;
