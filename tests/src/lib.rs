//! Architecture, contract, end-to-end and conformance tests.
