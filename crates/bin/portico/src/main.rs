//! The `portico` command: see the library of the same package.

fn main() -> std::process::ExitCode {
    portico::main()
}
