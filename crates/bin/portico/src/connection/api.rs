//! The gRPC clients of the management plane.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use super::patience::Patient;
use super::signing::{ApiToken, Signing};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A channel that signs each call, and waits its turn.
pub(crate) type Signed = Patient<Signing<Channel>>;

/// The management plane of one Portico.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    channel: Signed,
}

impl Api {
    pub(super) async fn connect(url: &Url, token: ApiToken) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.as_str().to_owned())
            .with_context(|| format!("{url} is no gRPC address"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .user_agent(concat!("portico/", env!("CARGO_PKG_VERSION")))?;
        let connector = super::http::tls_connector();
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("{url} does not answer: is Portico running there?"))?;
        Ok(Self { channel: Patient::new(Signing::new(channel, Arc::new(token))) })
    }

    pub(crate) fn servers(&self) -> registry::server_service_client::ServerServiceClient<Signed> {
        registry::server_service_client::ServerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn instances(&self) -> registry::instance_service_client::InstanceServiceClient<Signed> {
        registry::instance_service_client::InstanceServiceClient::new(self.channel.clone())
    }

    pub(crate) fn endpoints(&self) -> registry::endpoint_service_client::EndpointServiceClient<Signed> {
        registry::endpoint_service_client::EndpointServiceClient::new(self.channel.clone())
    }

    pub(crate) fn secrets(&self) -> registry::secret_service_client::SecretServiceClient<Signed> {
        registry::secret_service_client::SecretServiceClient::new(self.channel.clone())
    }

    pub(crate) fn registry_audit(&self) -> registry::audit_service_client::AuditServiceClient<Signed> {
        registry::audit_service_client::AuditServiceClient::new(self.channel.clone())
    }

    pub(crate) fn registry_sealing(&self) -> registry::sealing_service_client::SealingServiceClient<Signed> {
        registry::sealing_service_client::SealingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn auth_sealing(&self) -> auth::sealing_service_client::SealingServiceClient<Signed> {
        auth::sealing_service_client::SealingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn signing_keys(&self) -> auth::signing_key_service_client::SigningKeyServiceClient<Signed> {
        auth::signing_key_service_client::SigningKeyServiceClient::new(self.channel.clone())
    }

    pub(crate) fn auth_audit(&self) -> auth::audit_service_client::AuditServiceClient<Signed> {
        auth::audit_service_client::AuditServiceClient::new(self.channel.clone())
    }

    pub(crate) fn users(&self) -> auth::user_service_client::UserServiceClient<Signed> {
        auth::user_service_client::UserServiceClient::new(self.channel.clone())
    }

    pub(crate) fn roles(&self) -> auth::role_service_client::RoleServiceClient<Signed> {
        auth::role_service_client::RoleServiceClient::new(self.channel.clone())
    }

    pub(crate) fn grants(&self) -> auth::grant_service_client::GrantServiceClient<Signed> {
        auth::grant_service_client::GrantServiceClient::new(self.channel.clone())
    }

    pub(crate) fn service_accounts(
        &self,
    ) -> auth::service_account_service_client::ServiceAccountServiceClient<Signed> {
        auth::service_account_service_client::ServiceAccountServiceClient::new(self.channel.clone())
    }
}
