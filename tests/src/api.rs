//! The gRPC clients of the management plane.

use portico_proto_auth as auth;
use portico_proto_registry as registry;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::{DEADLINE, within};

pub type Signed = InterceptedService<Channel, Bearer>;

/// Puts an access token on each call, if there is one.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

#[derive(Debug, Clone)]
pub struct Api {
    channel: Signed,
}

impl Api {
    /// Connects; without a token the caller is nobody.
    pub async fn connect(url: &str, token: Option<&str>) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned()).unwrap().timeout(DEADLINE);
        let channel = within(DEADLINE, "gRPC", endpoint.connect()).await.expect("the gRPC address answers");
        let header = token.map(|token| format!("Bearer {token}").parse().unwrap());
        Self { channel: InterceptedService::new(channel, Bearer(header)) }
    }

    #[must_use]
    pub fn servers(&self) -> registry::server_service_client::ServerServiceClient<Signed> {
        registry::server_service_client::ServerServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn instances(&self) -> registry::instance_service_client::InstanceServiceClient<Signed> {
        registry::instance_service_client::InstanceServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn endpoints(&self) -> registry::endpoint_service_client::EndpointServiceClient<Signed> {
        registry::endpoint_service_client::EndpointServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn discovery(&self) -> registry::discovery_service_client::DiscoveryServiceClient<Signed> {
        registry::discovery_service_client::DiscoveryServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn secrets(&self) -> registry::secret_service_client::SecretServiceClient<Signed> {
        registry::secret_service_client::SecretServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn audit(&self) -> registry::audit_service_client::AuditServiceClient<Signed> {
        registry::audit_service_client::AuditServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn auth_audit(&self) -> auth::audit_service_client::AuditServiceClient<Signed> {
        auth::audit_service_client::AuditServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn users(&self) -> auth::user_service_client::UserServiceClient<Signed> {
        auth::user_service_client::UserServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn grants(&self) -> auth::grant_service_client::GrantServiceClient<Signed> {
        auth::grant_service_client::GrantServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn accounts(&self) -> auth::service_account_service_client::ServiceAccountServiceClient<Signed> {
        auth::service_account_service_client::ServiceAccountServiceClient::new(self.channel.clone())
    }

    #[must_use]
    pub fn keys(&self) -> auth::signing_key_service_client::SigningKeyServiceClient<Signed> {
        auth::signing_key_service_client::SigningKeyServiceClient::new(self.channel.clone())
    }

    /// Calls any method with an empty message; only the status is of interest.
    pub async fn call_empty(&self, path: &str) -> Status {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        if let Err(error) = client.ready().await {
            return Status::unavailable(error.to_string());
        }
        let path = path.parse().expect("a path");
        match client.server_streaming(Request::new(()), path, Empty).await {
            Ok(mut answer) => match answer.get_mut().message().await {
                Ok(_) => Status::ok("answered"),
                Err(status) => status,
            },
            Err(status) => status,
        }
    }
}

/// Writes an empty message and skips what comes back.
#[derive(Debug, Clone, Copy)]
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(buffer, bytes::Buf::remaining(buffer));
        Ok(Some(()))
    }
}
