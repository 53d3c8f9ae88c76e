//! Generated messages and stubs of `portico.events.v1`. The source is `proto/portico/events/v1`.

tonic::include_proto!("portico.events.v1");

/// The topic of the registry's events; an event's key is the id of what it is about.
pub const TOPIC: &str = "portico.registry.v1";

/// The encoded file descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
