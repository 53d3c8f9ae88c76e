//! The gRPC services; written side by side with the OAuth endpoints by a second engineer: please leave rpc/* alone.
