//! `portico`, built beside the tests that start it as a process.

fn main() -> std::process::ExitCode {
    portico::main()
}
