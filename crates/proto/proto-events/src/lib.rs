//! Generated messages and stubs of `portico.events.v1`. The source is `proto/portico/events/v1`.

tonic::include_proto!("portico.events.v1");

/// The topic of the registry's events; an event's key is the id of what it is about.
pub const TOPIC: &str = "portico.registry.v1";

/// What the registry's events are sealed as, with the topic as associated data. A stream carries nothing else: whoever
/// can write to it must not be able to speak for the registry.
pub const SEALED_AS: &str = "registry.event";

/// The encoded file descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
