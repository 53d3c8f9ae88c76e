//! What every request is served with.

use std::sync::Arc;
use std::time::Duration;

use portico_authn::Verifier;
use portico_coordination::Leases;
use portico_ids::SharedRng;
use portico_process::Tasks;

use crate::access::Access;
use crate::admission::OriginGuard;
use crate::call::Recorder;
use crate::catalogue::Catalogue;
use crate::handles::Handles;
use crate::load::Load;
use crate::relay::Readers;
use crate::replicas::Replicas;
use crate::session::Sessions;
use crate::settings::GatewaySettings;
use crate::stateless::ToolHeaders;
use crate::upstream::Upstream;
use crate::virtual_server::VirtualServers;

/// The parts of a gateway, made once by `Gateway::build`.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) settings: GatewaySettings,
    pub(crate) guard: OriginGuard,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) access: Access,
    pub(crate) upstream: Upstream,
    pub(crate) sessions: Sessions,
    pub(crate) replicas: Replicas,
    pub(crate) leases: Leases,
    pub(crate) load: Load,
    pub(crate) readers: Readers,
    pub(crate) handles: Handles,
    pub(crate) tool_headers: ToolHeaders,
    pub(crate) virtual_servers: VirtualServers,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) rng: SharedRng,
    pub(crate) tasks: Tasks,
}

impl Engine {
    /// A number for choices that need no secrecy.
    pub(crate) fn random(&self) -> u32 {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.requests.body_timeout_ms)
    }
}
