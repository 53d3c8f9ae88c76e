//! A server, one instance of it and its endpoint in one step.

use portico_authz::{Action, Resource};
use portico_proto_registry as proto;
use serde_json::Value;

use super::Service;
use super::access::Actor;
use super::change::Once;
use crate::convert;
use crate::domain::endpoint::{EndpointDetails, Member};
use crate::domain::instance::InstanceDetails;
use crate::domain::names::Names;
use crate::domain::server::ServerDraft;
use crate::errors::RegistryError;

/// What the instance that comes with a registration is called.
const INSTANCE: &str = "default";

impl Service {
    pub(crate) async fn register_server(
        &self,
        actor: &Actor,
        draft: ServerDraft,
        json_spec: Value,
        once: Option<Once>,
    ) -> Result<proto::RegisterServerResponse, RegistryError> {
        for action in [Action::ServerCreate, Action::InstanceCreate, Action::EndpointCreate] {
            self.require(actor, action, &Resource::Deployment)?;
        }
        let instance = InstanceDetails::parse(INSTANCE, String::new(), json_spec)?;
        let spec = self.vetted(&instance, &draft.details.env_schema).await?;
        let mut change = self.change(actor).await?;
        if let Some(answer) = change.earlier(once.as_ref()).await? {
            return Ok(answer);
        }
        let server = self.add_server(&mut change, actor, draft).await?;
        let instance = self.add_instance(&mut change, actor, (&server, instance, &spec)).await?;
        let details = EndpointDetails {
            description: server.details.description.clone(),
            visibility: server.details.visibility,
            names: Names::Plain,
            members: vec![Member::whole(server.id, &server.name)],
        };
        let endpoint = self.add_endpoint(&mut change, actor, server.name.clone(), details).await?;
        let answer = proto::RegisterServerResponse {
            server: Some(convert::server(server)),
            instance: Some(convert::instance(instance)),
            endpoint: Some(convert::endpoint(endpoint, &self.public_origin)),
        };
        change.keep(once.as_ref(), &answer).await?;
        change.commit().await?;
        Ok(answer)
    }
}
