//! Where the databases and the key ring are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use portico_db::{Db, DbSettings, Schema};
use portico_sealing::KeyRing;
use secrecy::{ExposeSecret as _, SecretString};

/// A service that has a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    AuthServer,
    Registry,
}

impl Service {
    pub(crate) const ALL: [Self; 2] = [Self::AuthServer, Self::Registry];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AuthServer => "auth-server",
            Self::Registry => "registry",
        }
    }

    pub(crate) fn schema(self) -> &'static Schema {
        match self {
            Self::AuthServer => portico_auth_server::schema(),
            Self::Registry => portico_registry::schema(),
        }
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|service| service.name() == text);
        found.ok_or_else(|| anyhow!("there is no database of `{text}`: auth-server and registry have one"))
    }
}

/// The database of one service, as it is named on the command line.
#[derive(Clone)]
pub(crate) struct NamedDatabase {
    service: Service,
    url: SecretString,
}

impl fmt::Debug for NamedDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedDatabase").field("service", &self.service).finish_non_exhaustive()
    }
}

impl FromStr for NamedDatabase {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (service, url) = text.split_once('=').context("expected SERVICE=URL or SERVICE=@FILE")?;
        let url = match url.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?,
            None => url.to_owned(),
        };
        Ok(Self { service: service.parse()?, url: url.trim().to_owned().into() })
    }
}

/// Which Portico is meant.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// The data directory of a `portico dev`
    #[arg(
        long,
        value_name = "DIRECTORY",
        conflicts_with = "databases",
        required_unless_present = "databases"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// The database of one service, auth-server or registry; @FILE holds the URL, which no process list shows then
    #[arg(long = "database", value_name = "SERVICE=URL|SERVICE=@FILE", requires = "keys")]
    pub(crate) databases: Vec<NamedDatabase>,
    /// The key ring's file; without it, the one of the data directory
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
}

impl PlaceArguments {
    pub(crate) fn places(self) -> Result<Places> {
        let Self { data_dir, databases, keys } = self;
        if let Some(data_dir) = data_dir {
            let keys = keys.unwrap_or_else(|| data_dir.join(RING));
            return Ok(Places { databases: Databases::DataDir(data_dir), keys });
        }
        let url = |service: Service| {
            let mut named = databases.iter().filter(|named| named.service == service);
            match (named.next(), named.next()) {
                (Some(named), None) => Ok(named.url.clone()),
                (Some(_), Some(_)) => bail!("--database {}=… is there twice", service.name()),
                (None, _) => {
                    bail!("--database {}=URL is missing: a backup is of all services", service.name())
                }
            }
        };
        let databases = Databases::Urls([url(Service::AuthServer)?, url(Service::Registry)?]);
        Ok(Places { databases, keys: keys.context("--keys FILE is missing")? })
    }
}

/// The name of the key ring in a data directory.
const RING: &str = "keys.json";

/// The databases and the key ring of one deployment.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) databases: Databases,
    pub(crate) keys: PathBuf,
}

#[derive(Debug)]
pub(crate) enum Databases {
    /// One SQLite file for each service.
    DataDir(PathBuf),
    /// In the order of [`Service::ALL`].
    Urls([SecretString; 2]),
}

/// One service's database.
#[derive(Debug)]
pub(crate) enum Location {
    Sqlite(PathBuf),
    Postgres(SecretString),
}

impl Places {
    pub(crate) fn ring(&self) -> Result<KeyRing> {
        Ok(KeyRing::load(&self.keys)?)
    }

    /// Answers the data directory, if there is one.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        match &self.databases {
            Databases::DataDir(data_dir) => Some(data_dir),
            Databases::Urls(_) => None,
        }
    }

    /// Answers where `portico dev` keeps who administers it.
    pub(crate) fn state_file(&self) -> Option<PathBuf> {
        self.data_dir().map(|data_dir| data_dir.join("dev.json"))
    }

    /// Answers where a data directory's key ring has to be.
    pub(crate) fn ring_in_data_dir(&self) -> Option<PathBuf> {
        self.data_dir().map(|data_dir| data_dir.join(RING))
    }

    pub(crate) fn location(&self, service: Service) -> Location {
        let url = match &self.databases {
            Databases::DataDir(data_dir) => {
                return Location::Sqlite(data_dir.join(format!("{}.db", service.schema().name)));
            }
            Databases::Urls([auth_server, registry]) => match service {
                Service::AuthServer => auth_server,
                Service::Registry => registry,
            },
        };
        match url.expose_secret().strip_prefix("sqlite:") {
            Some(path) => Location::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
            None => Location::Postgres(url.clone()),
        }
    }

    /// Opens a database that has to be there.
    pub(crate) async fn open_existing(&self, service: Service) -> Result<Db> {
        let location = self.location(service);
        if let Location::Sqlite(path) = &location
            && !path.exists()
        {
            bail!("there is no database of the {} at {}", service.name(), path.display());
        }
        location
            .open(service.schema())
            .await
            .with_context(|| format!("the database of the {} cannot be opened", service.name()))
    }
}

impl Location {
    pub(crate) async fn open(&self, schema: &Schema) -> Result<Db> {
        // A table may take longer to copy than any statement of a service.
        let settings =
            DbSettings { max_connections: 2, statement_timeout_seconds: 0, ..DbSettings::default() };
        let url = match self {
            Self::Sqlite(path) => SecretString::from(format!("sqlite://{}", path.display())),
            Self::Postgres(url) => url.clone(),
        };
        Ok(Db::connect(&url, &settings, schema).await?)
    }
}
