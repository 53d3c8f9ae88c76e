//! What the auth-server keeps: one module per aggregate, each statement written once for both databases.

pub(crate) mod administrators;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod consents;
pub(crate) mod families;
pub(crate) mod grants;
pub(crate) mod idempotency;
pub(crate) mod keys;
pub(crate) mod roles;
pub(crate) mod row;
pub(crate) mod sealed;
pub(crate) mod service_accounts;
pub(crate) mod sessions;
pub(crate) mod sweep;
pub(crate) mod trust;
pub(crate) mod users;

#[cfg(test)]
mod tests;

use portico_db::Db;

/// Every store, over one database.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) audit: audit::AuditStore,
    pub(crate) clients: clients::ClientStore,
    pub(crate) codes: codes::CodeStore,
    pub(crate) consents: consents::ConsentStore,
    pub(crate) families: families::FamilyStore,
    pub(crate) grants: grants::GrantStore,
    pub(crate) idempotency: idempotency::IdempotencyStore,
    pub(crate) keys: keys::KeyStore,
    pub(crate) roles: roles::RoleStore,
    pub(crate) sealed: sealed::SealedStore,
    pub(crate) service_accounts: service_accounts::ServiceAccountStore,
    pub(crate) sessions: sessions::SessionStore,
    pub(crate) sweep: sweep::Sweeper,
    pub(crate) trust: trust::TrustStore,
    pub(crate) users: users::UserStore,
}

impl Stores {
    pub(crate) fn new(db: &Db) -> Self {
        Self {
            audit: audit::AuditStore::new(db.clone()),
            clients: clients::ClientStore::new(db.clone()),
            codes: codes::CodeStore::new(db.clone()),
            consents: consents::ConsentStore::new(db.clone()),
            families: families::FamilyStore::new(db.clone()),
            grants: grants::GrantStore::new(db.clone()),
            idempotency: idempotency::IdempotencyStore::new(db.clone()),
            keys: keys::KeyStore::new(db.clone()),
            roles: roles::RoleStore::new(db.clone()),
            sealed: sealed::SealedStore::new(db.clone()),
            service_accounts: service_accounts::ServiceAccountStore::new(db.clone()),
            sessions: sessions::SessionStore::new(db.clone()),
            sweep: sweep::Sweeper::new(db.clone()),
            trust: trust::TrustStore::new(db.clone()),
            users: users::UserStore::new(db.clone()),
        }
    }
}
