//! Generated messages and stubs of `portico.auth.v1`. The source is `proto/portico/auth/v1`.

tonic::include_proto!("portico.auth.v1");

/// The encoded file descriptor set, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
