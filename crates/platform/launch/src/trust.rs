//! What a program believes about tokens, and who calls it.

use std::path::Path;

use portico_authn::{CallerLayer, DEFAULT_MAX_STALENESS, TrustFeed, TrustHandle, Verifier};
use portico_feed::DiskCopy;
use portico_oauth_types::{InvalidResource, ResourceUri};
use portico_sealing::Sealer;
use portico_transport::Link;
use url::Url;

use crate::program::Ground;

/// Follows the auth-server's trust from its last copy in `data_dir` on. The copy is sealed: who could change it could
/// make keys.
#[must_use]
pub fn follow_trust(auth_server: Link, data_dir: &Path, sealer: &Sealer, ground: &Ground) -> TrustHandle {
    let trust = TrustHandle::new();
    let feed = TrustFeed {
        link: auth_server,
        disk: Some(DiskCopy::Sealed(data_dir.join("trust.feed"), sealer.clone())),
        clock: ground.clock.clone(),
    };
    trust.follow(feed, &ground.tasks, &ground.readiness);
    trust.measure(&ground.metrics);
    trust
}

/// Makes the layer that takes tokens for the management plane of this origin.
pub fn callers(trust: &TrustHandle, origin: &Url, ground: &Ground) -> Result<CallerLayer, InvalidResource> {
    let verifier = Verifier::new(trust.clone(), ground.clock.clone(), DEFAULT_MAX_STALENESS);
    Ok(CallerLayer::new(verifier, ResourceUri::parse(&format!("{origin}api"))?))
}
