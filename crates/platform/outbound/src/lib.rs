//! The HTTP client for addresses that a user can influence.
