//! Servers, instances, endpoints, secrets, capabilities and audit.
