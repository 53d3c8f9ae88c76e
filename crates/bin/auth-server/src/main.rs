//! The `auth-server` image.

use std::process::ExitCode;

fn main() -> ExitCode {
    portico_launch::main::<auth_server::AuthServerProgram>()
}
