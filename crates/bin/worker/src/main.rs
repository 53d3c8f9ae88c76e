//! The `worker` image.

use std::process::ExitCode;

fn main() -> ExitCode {
    portico_launch::main::<worker::WorkerProgram>()
}
