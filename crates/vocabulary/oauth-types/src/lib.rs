//! OAuth 2.1 and OpenID Connect wire types.
