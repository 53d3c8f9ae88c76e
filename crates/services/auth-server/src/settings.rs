//! What an operator can set.

use std::path::PathBuf;

use chrono::Duration;
use portico_call_limits::{CallLimitSettings, InvalidCallLimits};
use portico_oauth_types::{RedirectKind, RedirectUri, ResourceUri};
use portico_settings::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A hundred years.
const MOST_DAYS: u32 = 36_500;

/// Settings of the authorization server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthServerSettings {
    /// Scheme, host and port under which everybody reaches this deployment, e.g. `https://portico.example`.
    pub public_origin: String,
    /// Where gRPC is reached; empty: at the public origin.
    pub grpc_origin: String,
    /// How long an access token lives; at most 600.
    pub access_token_seconds: u32,
    /// How long a used refresh token still gives the same successor; at most 60.
    pub refresh_grace_seconds: u32,
    /// Passwords that are hashed at once; each takes 19 MiB.
    pub password_hashes_at_once: u32,
    /// Failed and successful sign-ins per minute, for one account from one address (of IPv6: one /64).
    pub sign_ins_per_minute: u32,
    /// Days after which audit records are removed; 0 keeps them for ever.
    pub audit_retention_days: u32,
    /// What one principal may cost by gRPC.
    pub limits: CallLimitSettings,
    /// Dynamic client registration (RFC 7591).
    pub registration: RegistrationSettings,
    /// Clients whose id is the address of their metadata.
    pub client_documents: ClientDocumentSettings,
    /// Where the last catalogue is kept, so that a start does not need the registry.
    pub catalogue_file: Option<PathBuf>,
}

/// Who may register clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationSettings {
    /// Who may register.
    pub mode: RegistrationMode,
    /// The token that `mode = "token"` asks for (RFC 7591 §3).
    pub initial_access_token: Option<Secret>,
}

/// Which clients may show where their metadata is instead of registering (Client ID Metadata Documents).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientDocumentSettings {
    /// Whether such clients are accepted; it needs outbound https.
    pub enabled: bool,
    /// The only hosts whose clients are accepted, without ports; empty: every host.
    pub allowed_hosts: Vec<String>,
    /// Whether metadata may be read from private addresses that outbound requests may go to: for tests.
    pub allow_private: bool,
}

impl Default for ClientDocumentSettings {
    fn default() -> Self {
        Self { enabled: true, allowed_hosts: Vec::new(), allow_private: false }
    }
}

/// Who may register clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Everybody, within limits: what agents expect.
    #[default]
    Open,
    /// Who has the initial access token.
    Token,
    /// Nobody; administrators register clients.
    Closed,
}

impl Default for AuthServerSettings {
    fn default() -> Self {
        Self {
            public_origin: String::new(),
            grpc_origin: String::new(),
            access_token_seconds: 600,
            refresh_grace_seconds: 30,
            password_hashes_at_once: 2,
            sign_ins_per_minute: 10,
            audit_retention_days: 90,
            limits: CallLimitSettings::default(),
            registration: RegistrationSettings::default(),
            client_documents: ClientDocumentSettings::default(),
            catalogue_file: None,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    #[error(
        "public_origin is {0:?}: set it to scheme, host and port only, such as https://portico.example \
         (http only for 127.0.0.1, [::1] or localhost)"
    )]
    PublicOrigin(String),
    #[error("access_token_seconds is {0}: set 30 to 600")]
    AccessTokenSeconds(u32),
    #[error("refresh_grace_seconds is {0}: set 0 to 60")]
    RefreshGraceSeconds(u32),
    #[error("sign_ins_per_minute is 0: nobody could sign in, set at least 1")]
    SignInsPerMinute,
    #[error("audit_retention_days is {0}: set at most {MOST_DAYS}, or 0 to keep every record")]
    AuditRetention(u32),
    #[error(transparent)]
    Limits(#[from] InvalidCallLimits),
    #[error("registration.mode is token: set registration.initial_access_token, inline or from a file")]
    InitialAccessToken,
}

impl AuthServerSettings {
    pub fn check(&self) -> Result<(), InvalidSettings> {
        if !is_origin(&self.public_origin) {
            return Err(InvalidSettings::PublicOrigin(self.public_origin.clone()));
        }
        if !(30..=600).contains(&self.access_token_seconds) {
            return Err(InvalidSettings::AccessTokenSeconds(self.access_token_seconds));
        }
        if self.refresh_grace_seconds > 60 {
            return Err(InvalidSettings::RefreshGraceSeconds(self.refresh_grace_seconds));
        }
        if self.sign_ins_per_minute == 0 {
            return Err(InvalidSettings::SignInsPerMinute);
        }
        if self.audit_retention_days > MOST_DAYS {
            return Err(InvalidSettings::AuditRetention(self.audit_retention_days));
        }
        self.limits.check()?;
        if self.registration.mode == RegistrationMode::Token
            && self.registration.initial_access_token.is_none()
        {
            return Err(InvalidSettings::InitialAccessToken);
        }
        Ok(())
    }

    pub(crate) fn token_lifetime(&self) -> Duration {
        Duration::seconds(self.access_token_seconds.into())
    }

    /// `None`: for ever.
    pub(crate) fn audit_kept(&self) -> Option<Duration> {
        (self.audit_retention_days > 0).then(|| Duration::days(self.audit_retention_days.into()))
    }

    pub(crate) fn refresh_grace(&self) -> Duration {
        Duration::seconds(self.refresh_grace_seconds.into())
    }
}

/// An origin in its canonical spelling: the issuer is compared byte for byte (AS-02).
fn is_origin(text: &str) -> bool {
    let canonical = ResourceUri::parse(text).is_ok_and(|uri| uri.as_str() == text && uri.path().is_empty());
    let safe = RedirectUri::parse(text)
        .is_ok_and(|uri| matches!(uri.kind(), RedirectKind::Https | RedirectKind::Loopback));
    canonical && safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_origin(origin: &str) -> AuthServerSettings {
        AuthServerSettings { public_origin: origin.into(), ..AuthServerSettings::default() }
    }

    #[test]
    fn as_02_the_origin_has_one_spelling() {
        for good in ["https://portico.example", "https://portico.example:8443", "http://127.0.0.1:8080"] {
            with_origin(good).check().unwrap();
        }
        for bad in [
            "",
            "portico.example",
            "https://portico.example/",
            "https://Portico.example",
            "https://portico.example:443",
            "https://portico.example/x",
            "http://portico.example",
        ] {
            assert!(with_origin(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn s1_11_tokens_live_ten_minutes_at_most_and_grace_a_minute() {
        let base = with_origin("https://portico.example");
        assert!(AuthServerSettings { access_token_seconds: 601, ..base.clone() }.check().is_err());
        assert!(AuthServerSettings { refresh_grace_seconds: 61, ..base.clone() }.check().is_err());
        let mode = RegistrationSettings { mode: RegistrationMode::Token, initial_access_token: None };
        assert!(AuthServerSettings { registration: mode, ..base }.check().is_err());
    }

    #[test]
    fn limits_under_which_nobody_could_call_are_refused() {
        let limits = CallLimitSettings { principal_per_minute: 0, ..CallLimitSettings::default() };
        let settings = AuthServerSettings { limits, ..with_origin("https://portico.example") };
        let told = settings.check().unwrap_err();
        assert!(matches!(told, InvalidSettings::Limits(InvalidCallLimits::PerMinute)), "{told}");
    }
}
