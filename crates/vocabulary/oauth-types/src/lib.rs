//! Wire types of OAuth 2.1 and OpenID Connect, and the rules that hold for them.
//!
//! Nothing here does I/O or keeps state. Every rule cites the section that it comes from.

mod authorization;
mod claims;
mod client_authentication;
mod error;
mod jwk;
mod metadata;
mod parameters;
mod pkce;
mod redirect_uri;
mod registration;
mod resource;
mod scope;
mod strict_uri;
mod token;

pub use authorization::{AuthorizationRequest, Prompt};
pub use claims::{AccessTokenClaims, Actor, Confirmation, IdTokenClaims, left_half_hash};
pub use client_authentication::{AuthMethod, ClientAuthentication};
pub use error::{OAuthError, OAuthErrorCode};
pub use jwk::{InvalidJwk, Jwk, JwkSet};
pub use metadata::{
    AuthorizationServerMetadata, PROTECTED_RESOURCE_WELL_KNOWN, ProtectedResourceMetadata, SERVER_WELL_KNOWN,
    ServerEndpoints, metadata_urls,
};
pub use parameters::Parameters;
pub use pkce::{CodeChallenge, CodeVerifier, InvalidPkce};
pub use redirect_uri::{InvalidRedirectUri, RedirectKind, RedirectUri};
pub use registration::{
    ApplicationType, ClientInformation, ClientMetadata, MAX_REDIRECT_URIS, MAX_REGISTRATION_BYTES,
    RegistrationRequest,
};
pub use resource::{InvalidResource, ResourceUri};
pub use scope::{InvalidScope, Scope, ScopeSet};
pub use strict_uri::InvalidUri;
pub use token::{GrantType, IntrospectionResponse, TokenRequest, TokenResponse};
