//! Generates the messages and stubs without protoc, and the descriptor set that gRPC reflection serves.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../../proto");
    let descriptors = protox::compile(
        [
            "../../../proto/portico/registry/v1/registry.proto",
            "../../../proto/portico/registry/v1/internal.proto",
            "../../../proto/portico/registry/v1/sealing.proto",
        ],
        ["../../../proto"],
    )?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
