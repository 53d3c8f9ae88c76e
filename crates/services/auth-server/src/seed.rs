//! What a new deployment begins with: built-in roles, the command line's client, one administrator.

mod service_accounts;

use portico_clock::SharedClock;
use portico_db::{Db, StoreError};
use portico_ids::{GrantId, PrincipalId, SharedRng, UserId};
use portico_oauth_types::RegistrationRequest;
use secrecy::SecretString;

use crate::actor::{Actor, Deed};
use crate::domain::builtin::{ADMINISTRATOR, ROLES};
use crate::domain::client::{self, CLI_CLIENT_ID, Client, Registration};
use crate::domain::entitlement::EVERYWHERE;
use crate::domain::names::{InvalidName, Username};
use crate::passwords::{self, PasswordError};
use crate::store::Stores;
use crate::store::change::Change;
use crate::store::grants::Grant;
use crate::store::roles::Role;
use crate::store::users::NewUser;
use crate::trust::role_item;

pub use service_accounts::{
    ServiceAccountSeed, ServiceCredentials, ensure_service_account, seed_service_account,
};

/// What seeding works with.
#[derive(Debug, Clone)]
pub struct SeedTools {
    pub clock: SharedClock,
    pub rng: SharedRng,
}

/// The first administrator.
#[derive(Debug, Clone)]
pub struct AdministratorSeed {
    pub username: String,
    /// Without one a password is made.
    pub password: Option<SecretString>,
}

/// What seeding has done.
#[derive(Debug)]
pub struct Seeded {
    /// The administrator, if this run created one.
    pub administrator: Option<SeededAdministrator>,
}

/// A new administrator.
#[derive(Debug)]
pub struct SeededAdministrator {
    pub username: String,
    /// To be shown once: it is stored nowhere. `None` if it was given.
    pub generated_password: Option<SecretString>,
}

/// Why seeding failed.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("the auth-server's database cannot be seeded")]
    Store(#[from] StoreError),
    #[error("the administrator's user name or a service account's name is refused: {0}")]
    Name(String),
    #[error("the administrator's password is refused: {0}")]
    Password(String),
    #[error("there is no role named {0}")]
    Role(String),
    #[error("the service account {name} cannot be seeded: {reason}")]
    ServiceAccount { name: String, reason: &'static str },
    #[error("a built-in client is refused: {0}")]
    Client(String),
    #[error("user {0} exists but nobody is an administrator: seed an administrator of another name")]
    UserExists(String),
}

impl From<InvalidName> for SeedError {
    fn from(error: InvalidName) -> Self {
        Self::Name(error.to_string())
    }
}

impl From<PasswordError> for SeedError {
    fn from(error: PasswordError) -> Self {
        Self::Password(error.to_string())
    }
}

/// Seeds a migrated database. Safe to run again, and by two at once.
pub async fn seed(db: &Db, tools: &SeedTools, administrator: AdministratorSeed) -> Result<Seeded, SeedError> {
    let stores = Stores::new(db);
    for builtin in ROLES {
        let role = Role {
            id: builtin.id(),
            name: builtin.name.to_owned(),
            description: builtin.description.to_owned(),
            policies: String::new(),
            permissions: builtin.permissions.iter().map(|one| (*one).to_owned()).collect(),
            builtin: true,
            revision: 0,
        };
        if stores.roles.get(role.id).await?.is_none() {
            let deed = Deed::done("role.create", builtin.name, builtin.name);
            done_or_there(stores.roles.create(&role, &tools.change(deed).publish([role_item(&role)])).await)?;
        }
    }
    ensure_cli_client(db, tools).await?;
    Ok(Seeded { administrator: first_administrator(&stores, tools, administrator).await? })
}

async fn first_administrator(
    stores: &Stores,
    tools: &SeedTools,
    seed: AdministratorSeed,
) -> Result<Option<SeededAdministrator>, SeedError> {
    let role = role(stores, ADMINISTRATOR).await?;
    if !stores.grants.holders(role.id).await?.is_empty() {
        return Ok(None);
    }
    let username = Username::parse(&seed.username)?;
    let (password, generated_password) = if let Some(password) = seed.password {
        (password, None)
    } else {
        let made = passwords::generate(&*tools.rng);
        (made.clone(), Some(made))
    };
    let user = NewUser {
        id: UserId::generate(&*tools.clock, &*tools.rng),
        username: username.as_str().to_owned(),
        display_name: "Administrator".to_owned(),
        email: String::new(),
        password_hash: passwords::hash_now(&*tools.rng, &password)?,
    };
    let principal = PrincipalId::User(user.id).to_string();
    let grant = tools.grant(&principal, &role);
    let change = tools.change(Deed::done("user.create", &principal, &user.username));
    match stores.users.create_first_administrator(&user, &grant, &change).await {
        Ok(true) => Ok(Some(SeededAdministrator { username: user.username, generated_password })),
        // Somebody else seeded at the same time.
        Ok(false) => Ok(None),
        Err(StoreError::AlreadyExists) => Err(SeedError::UserExists(user.username)),
        Err(error) => Err(error.into()),
    }
}

/// Makes sure that the command line can sign people in: a public client on a loopback port, named `portico-cli`.
pub async fn ensure_cli_client(db: &Db, tools: &SeedTools) -> Result<(), SeedError> {
    let stores = Stores::new(db);
    if stores.clients.get(CLI_CLIENT_ID).await?.is_some() {
        return Ok(());
    }
    let uris = ["http://127.0.0.1/callback", "http://[::1]/callback", "http://localhost/callback"];
    let metadata = client::register(RegistrationRequest {
        client_name: Some("Portico command line".to_owned()),
        redirect_uris: Some(uris.map(str::to_owned).to_vec()),
        token_endpoint_auth_method: Some("none".to_owned()),
        grant_types: Some(vec!["authorization_code".to_owned(), "refresh_token".to_owned()]),
        ..RegistrationRequest::default()
    })
    .map_err(|error| SeedError::Client(error.to_string()))?;
    let client = Client {
        client_id: CLI_CLIENT_ID.to_owned(),
        metadata,
        secret_hash: None,
        registration: Registration::Builtin,
        created_at: tools.clock.now(),
        last_used_at: None,
    };
    let change = tools.change(Deed::done("client.create", CLI_CLIENT_ID, client.name()));
    done_or_there(stores.clients.create(&client, &change).await)
}

async fn role(stores: &Stores, name: &str) -> Result<Role, SeedError> {
    stores.roles.find(name).await?.ok_or_else(|| SeedError::Role(name.to_owned()))
}

/// What is there already was done before, or by somebody else at the same time.
fn done_or_there<T>(result: Result<T, StoreError>) -> Result<(), SeedError> {
    match result {
        Ok(_) | Err(StoreError::AlreadyExists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl SeedTools {
    fn change(&self, deed: Deed<'_>) -> Change {
        Change::new(Actor::service().entry(&*self.clock, &*self.rng, deed))
    }

    fn grant(&self, principal: &str, role: &Role) -> Grant {
        Grant {
            id: GrantId::generate(&*self.clock, &*self.rng),
            principal: principal.to_owned(),
            role_id: role.id,
            role_name: role.name.clone(),
            endpoint: EVERYWHERE.to_owned(),
            endpoint_id: None,
            created_at: self.clock.now(),
        }
    }
}
