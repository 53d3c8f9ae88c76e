//! The authorization server: users, clients, tokens, roles, grants, signing keys.
