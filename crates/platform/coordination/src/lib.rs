//! What replicas share beside the database.
