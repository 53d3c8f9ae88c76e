//! Wall-clock time as a parameter.
