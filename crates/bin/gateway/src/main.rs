//! The `gateway` image.

use std::process::ExitCode;

fn main() -> ExitCode {
    portico_launch::main::<gateway::GatewayProgram>()
}
