//! Listeners, TLS, peer identity, links between services, server assembly.
