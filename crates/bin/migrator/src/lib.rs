//! Waits for the database, migrates every service's schema, seeds what a new deployment begins with, and ends.
//!
//! Safe to run again, and by two at the same time: every step takes the database's own lock or changes nothing that is
//! there.

mod settings;

use anyhow::{Context as _, Result};
use portico_auth_server::{AdministratorSeed, SeedTools};
use portico_clock::SharedClock;
use portico_db::{Db, DbSettings, Schema, Wait, migrate, wait_for_database};
use portico_ids::SharedRng;

pub use settings::{AdministratorSettings, MigratorSettings, WaitSettings};

/// What a run works with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Tells when a row was made.
    pub clock: SharedClock,
    /// Makes ids and salts.
    pub rng: SharedRng,
}

/// Migrates and seeds. Whatever was done before stays as it is.
///
/// # Errors
/// A setting is missing, a database does not answer in time, or a schema is newer than this migrator.
pub async fn run(settings: &MigratorSettings, tools: &Tools) -> Result<()> {
    let password = settings.administrator.password.as_ref().context(
        "administrator.password is not set: give the first administrator's password, inline or as { file = \"…\" }",
    )?;
    let password = password.load().context("administrator.password cannot be read")?;
    let wait = settings.wait.to_wait();
    prepare(&settings.registry, portico_registry::schema(), &wait).await?;
    let auth = prepare(&settings.auth_server, portico_auth_server::schema(), &wait).await?;
    let administrator =
        AdministratorSeed { username: settings.administrator.username.clone(), password: Some(password) };
    let tools = SeedTools { clock: tools.clock.clone(), rng: tools.rng.clone() };
    let seeded = portico_auth_server::seed(&auth, &tools, administrator).await?;
    if let Some(administrator) = seeded.administrator {
        tracing::info!(username = administrator.username, "created the administrator");
    } else {
        tracing::info!("there is an administrator already");
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
