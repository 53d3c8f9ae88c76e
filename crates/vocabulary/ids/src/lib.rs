//! Identifiers, names and randomness as parameters.
