//! Layered settings: defaults, file, environment, command line.
