//! `portico dev`: every service in one process, on SQLite and in-process coordination.

mod demo;
mod platform;
mod settings;
mod state;
mod welcome;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use portico_clock::SystemClock;
use portico_ids::SystemRng;
use portico_process::{DEFAULT_GRACE, DataDirLock, Outcome, Readiness, Signals, Tasks};
use portico_sealing::KeyRing;
use portico_telemetry::Metrics;
use portico_transport::{BoundListener, HttpLimits};
use url::Url;

use self::platform::{Ground, Platform};
pub use self::settings::DevSettings;
use self::state::{DataDir, DevState};
pub use crate::connection::ready_file::ReadyFile;
use crate::output::Output;

/// How long the services may take to become ready.
const START_LIMIT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(10);

/// What `portico dev` takes on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address that agents, browsers and the command line reach (default 127.0.0.1:8080)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of health and metrics (default 127.0.0.1:8081)
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Where databases and keys live (default .portico)
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// A settings file (TOML): see `portico config schema`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Arguments {
    fn settings(self) -> Result<DevSettings> {
        let given =
            [("listen", self.listen), ("admin_listen", self.admin_listen), ("data_dir", self.data_dir)];
        let overrides = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Ok(DevSettings::load(self.config, overrides.collect())?)
    }
}

pub(crate) async fn run(arguments: Arguments, ready_file: Option<PathBuf>, output: Output) -> ExitCode {
    match serve(arguments, ready_file, output).await {
        Ok(code) => code,
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments, ready_file: Option<PathBuf>, output: Output) -> Result<ExitCode> {
    let settings = arguments.settings()?;
    let telemetry = portico_telemetry::init(&settings.telemetry, "portico")?;
    let signals = Signals::install().context("the process cannot listen to signals")?;
    output.note("starting Portico …");
    let ready_file = ready_file.or_else(|| settings.unusual_ready_file());
    // Only now is it sure that nobody else runs here: the ready file is not another one's.
    let claim = Claim::take(&settings)?;
    if let Some(path) = &ready_file {
        remove_stale(path)?;
    }
    let dev = Box::pin(Dev::start_with(claim, settings)).await?;
    telemetry.export_metrics(&dev.metrics);
    if let Some(path) = &ready_file {
        dev.ready.write(path)?;
    }
    welcome::print(&dev.ready, dev.first_start, ready_file.as_deref(), output);
    let code = portico_process::run(dev.tasks.clone(), signals).await;
    telemetry.shutdown();
    Ok(code)
}

/// What only one Portico can have.
#[derive(Debug)]
struct Claim {
    lock: DataDirLock,
    public: BoundListener,
    admin: BoundListener,
}

impl Claim {
    fn take(settings: &DevSettings) -> Result<Self> {
        let lock = DataDirLock::acquire(&settings.data_dir)?;
        let bind = |address, name, option| {
            let bound = BoundListener::bind(address).with_context(|| format!("{option} cannot be had"))?;
            Ok::<_, anyhow::Error>(bound.named(name))
        };
        let public = bind(settings.listen, "public", "--listen")?;
        let admin = bind(settings.admin_listen, "admin", "--admin-listen")?;
        Ok(Self { lock, public, admin })
    }
}

/// A running Portico: what `portico dev` is, and what tests start in their own process.
#[derive(Debug)]
pub struct Dev {
    ready: ReadyFile,
    first_start: bool,
    metrics: Metrics,
    tasks: Tasks,
    /// Held until the process ends: one Portico per data directory.
    _lock: DataDirLock,
}

impl Dev {
    /// Starts every service and answers when all of them are ready.
    ///
    /// # Errors
    /// A setting is unusable, a port is taken, or the data directory is in use or not writable.
    pub async fn start(settings: DevSettings) -> Result<Self> {
        Self::start_with(Claim::take(&settings)?, settings).await
    }

    async fn start_with(claim: Claim, settings: DevSettings) -> Result<Self> {
        let Claim { lock, public, admin } = claim;
        let data_dir = DataDir::new(&settings.data_dir);
        remove_stale(&data_dir.ready())?;
        let first_start = !data_dir.state().exists();
        let mut state = DevState::load_or_new(&data_dir, &SystemRng)?;
        let demo = if settings.demo { Some(demo::bind(&mut state)?) } else { None };
        let tasks = Tasks::new();
        let ground = Ground {
            origin: origin(&settings, &public)?,
            own_addresses: vec![public.local_addr(), admin.local_addr()],
            demo_address: demo.as_ref().map(BoundListener::local_addr),
            keys: key_ring(&data_dir)?,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            metrics: Metrics::new(),
            readiness: Readiness::new().draining_with(tasks.shutdown_token()),
            tasks: tasks.clone(),
        };
        ground.keys.watch(&tasks);
        // Before anything is seeded with it: a password that nobody can read any more would lock everybody out.
        state.save(&data_dir)?;
        let platform = Box::pin(Platform::build(&settings, &data_dir, &mut state, &ground)).await?;
        state.save(&data_dir)?;
        let (public_url, admin_url) = (ground.origin.clone(), url_of(&admin)?);
        platform.spawn_tasks(&tasks);
        if let Some(listener) = demo {
            listener.serve(platform.demo(), HttpLimits::default(), None, &tasks);
        }
        let health = portico_process::admin_router(
            ground.readiness.clone(),
            ground.metrics.clone(),
            ground.clock.clone(),
        );
        // Everybody on this machine has the same address.
        let limits = HttpLimits { max_connections_per_address: 0, ..HttpLimits::default() };
        admin.measured(&ground.metrics).serve(health, HttpLimits::default(), None, &tasks);
        public.measured(&ground.metrics).serve(platform.front(&ground)?, limits, None, &tasks);
        let dev = Self {
            ready: state.ready_file(public_url, admin_url),
            first_start,
            metrics: ground.metrics.clone(),
            tasks,
            _lock: lock,
        };
        dev.wait_until_ready(&ground.readiness).await?;
        if let Some(address) = ground.demo_address {
            demo::register(&dev.ready, &mut state, &data_dir, address).await?;
        }
        dev.ready.write(&data_dir.ready())?;
        Ok(dev)
    }

    /// Tells where it is and who may administer it.
    #[must_use]
    pub const fn ready(&self) -> &ReadyFile {
        &self.ready
    }

    /// Drains and stops every service.
    pub async fn stop(self) -> Outcome {
        self.tasks.trigger_shutdown();
        self.tasks.wait(DEFAULT_GRACE).await
    }

    async fn wait_until_ready(&self, readiness: &Readiness) -> Result<()> {
        let ready = async {
            while !readiness.is_ready() {
                tokio::time::sleep(READY_POLL).await;
            }
        };
        if tokio::time::timeout(START_LIMIT, ready).await.is_ok() {
            return Ok(());
        }
        self.tasks.abort();
        let waiting: Vec<String> = readiness
            .snapshot()
            .into_iter()
            .filter(|check| !check.ready)
            .map(|check| format!("{}: {}", check.name, check.reason.unwrap_or_default()))
            .collect();
        bail!("not ready after {} s: {}", START_LIMIT.as_secs(), waiting.join("; "))
    }
}

/// Removes the ready file of an earlier run: whoever waits for it must not find that one.
fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be replaced", path.display()))
        }
        _ => Ok(()),
    }
}

/// The origin that everybody uses: the setting, or the address that is listened on.
fn origin(settings: &DevSettings, public: &BoundListener) -> Result<Url> {
    match &settings.public_origin {
        Some(origin) => Ok(origin.clone()),
        None if public.local_addr().ip().is_loopback() => url_of(public),
        None => bail!(
            "listening on {}, which others can reach, needs public_origin: set it to the https origin that they use \
             (a proxy in front of Portico ends TLS), or listen on 127.0.0.1",
            public.local_addr()
        ),
    }
}

fn url_of(listener: &BoundListener) -> Result<Url> {
    Ok(Url::parse(&format!("http://{}", listener.local_addr()))?)
}

/// Reads the keys of the data directory; only `portico dev` makes its own.
fn key_ring(data_dir: &DataDir) -> Result<KeyRing> {
    let path = data_dir.keys();
    if path.exists() { Ok(KeyRing::load(&path)?) } else { Ok(KeyRing::generate_file(&path, &SystemRng)?) }
}
