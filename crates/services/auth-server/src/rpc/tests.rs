//! The gRPC services on a real database, called as the listener would call them.

mod accounts;
mod denials;
mod fixture;
mod grants;
mod limits;
mod record;
mod replicas;
mod roles;
mod sealing;
mod trust;
mod users;
