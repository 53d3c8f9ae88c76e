//! Architecture, contract, end-to-end and conformance tests.

#[cfg(test)]
mod architecture;
