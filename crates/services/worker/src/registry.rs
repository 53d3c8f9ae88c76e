//! What the worker asks of the registry, each with a deadline.

use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_ids::ServerId;
use portico_mcp_types::Revision;
use portico_proto_registry as proto;
use portico_proto_registry::observation_service_client::ObservationServiceClient;
use portico_proto_registry::secret_resolver_service_client::SecretResolverServiceClient;
use portico_transport::{Link, with_deadline, within};
use prost_types::Timestamp;
use secrecy::SecretString;
use tonic::{Code, Status};

use crate::health::Status as HealthStatus;
use crate::metrics::WorkerMetrics;
use crate::settings::WorkerSettings;
use crate::spec::{InvalidSpec, Spec};

const DEADLINE: Duration = Duration::from_secs(10);
/// A whole server's definitions are written at once.
const CAPABILITIES_DEADLINE: Duration = Duration::from_secs(30);
/// Instances per page of a resync; documents have at most 64 KiB.
const PAGE_SIZE: i32 = 100;
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why the registry did not take or give something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryFault {
    /// The subject does not exist any more.
    #[error("the registry does not know it any more")]
    Gone,
    /// The same again would be refused again.
    #[error("the registry refuses it")]
    Refused(#[source] Status),
    /// Worth another try: it is down, starting, or does not know this service yet.
    #[error("the registry does not take calls")]
    Unavailable(#[source] Status),
}

impl From<Status> for RegistryFault {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound => Self::Gone,
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => Self::Refused(status),
            _ => Self::Unavailable(status),
        }
    }
}

/// A probe's outcome, for the registry.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) status: &'a HealthStatus,
    /// What is wrong with the lists of an instance that is healthy.
    pub(crate) trouble: Option<&'a str>,
    pub(crate) versions: &'a [Revision],
    pub(crate) checked_at: DateTime<Utc>,
}

/// The registry, as the worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct RegistryClient {
    link: Link,
    metrics: WorkerMetrics,
}

impl RegistryClient {
    pub(crate) fn new(link: Link, metrics: WorkerMetrics) -> Self {
        Self { link, metrics }
    }

    /// Reads every instance; a page that cannot be had fails the whole, or what is on it would seem deleted.
    pub(crate) async fn specs(
        &self,
        settings: &WorkerSettings,
    ) -> Result<Vec<Result<Spec, InvalidSpec>>, RegistryFault> {
        let mut client =
            ObservationServiceClient::new(self.link.clone()).max_decoding_message_size(PAGE_BYTES);
        let mut specs = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListInstanceSpecsRequest { page_size: PAGE_SIZE, page_token };
            let call = client.list_instance_specs(with_deadline(DEADLINE, request));
            let page = self.counted("list_instance_specs", within(DEADLINE, call).await)?;
            specs.extend(page.specs.into_iter().map(|row| Spec::of_row(row, settings)));
            if page.next_page_token.is_empty() {
                return Ok(specs);
            }
            page_token = page.next_page_token;
        }
    }

    pub(crate) async fn report(&self, report: &Report<'_>) -> Result<(), RegistryFault> {
        let (status, reason) = match report.status {
            HealthStatus::Healthy => (proto::InstanceStatus::Healthy, report.trouble.unwrap_or_default()),
            HealthStatus::Unhealthy(reason) => (proto::InstanceStatus::Unhealthy, reason.as_str()),
        };
        let request = proto::ReportInstanceRequest {
            instance_id: report.spec.instance.to_string(),
            status: status.into(),
            reason: reason.to_owned(),
            protocol_versions: report.versions.iter().map(|version| version.as_str().to_owned()).collect(),
            checked_at: Some(Timestamp {
                seconds: report.checked_at.timestamp(),
                nanos: i32::try_from(report.checked_at.timestamp_subsec_nanos()).unwrap_or(0),
            }),
            spec_revision: report.spec.revision,
        };
        let mut client = ObservationServiceClient::new(self.link.clone());
        let call = client.report_instance(with_deadline(DEADLINE, request));
        self.counted("report_instance", within(DEADLINE, call).await).map(drop)
    }

    pub(crate) async fn report_capabilities(
        &self,
        server: ServerId,
        capabilities: Vec<proto::Capability>,
    ) -> Result<(), RegistryFault> {
        let request = proto::ReportCapabilitiesRequest { server_id: server.to_string(), capabilities };
        let mut client = ObservationServiceClient::new(self.link.clone());
        let call = client.report_capabilities(with_deadline(CAPABILITIES_DEADLINE, request));
        self.counted("report_capabilities", within(CAPABILITIES_DEADLINE, call).await).map(drop)
    }

    /// Fetches the value of an instance's own secret, as long as this spec is its newest; `None` if it does not exist.
    pub(crate) async fn secret(
        &self,
        spec: &Spec,
        reference: &str,
    ) -> Result<Option<SecretString>, RegistryFault> {
        let request = proto::ResolveSecretsRequest {
            refs: vec![reference.to_owned()],
            purpose: format!("instance/{}", spec.instance),
            spec_revision: spec.revision,
        };
        let mut client = SecretResolverServiceClient::new(self.link.clone());
        let call = client.resolve_secrets(with_deadline(DEADLINE, request));
        let answer = self.counted("resolve_secrets", within(DEADLINE, call).await)?;
        let secret = answer.secrets.into_iter().find(|secret| secret.r#ref == reference);
        // A value that is no text fails as a credential that cannot be sent, not as one that is missing.
        Ok(secret.map(|secret| {
            let value = String::from_utf8(secret.value).unwrap_or_else(|_| "\0".to_owned());
            SecretString::from(value.trim_end_matches(['\r', '\n']))
        }))
    }

    fn counted<T>(&self, method: &'static str, answer: Result<T, Status>) -> Result<T, RegistryFault> {
        self.metrics.call(method, if answer.is_ok() { "ok" } else { "failed" });
        answer.map_err(RegistryFault::from)
    }
}
