//! The `registry` image.

use std::process::ExitCode;

fn main() -> ExitCode {
    portico_launch::main::<registry::RegistryProgram>()
}
