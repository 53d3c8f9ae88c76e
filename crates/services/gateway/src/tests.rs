//! The gateway from its door to a server and back.

mod departed;
mod documentation;
mod door;
mod instances;
mod limits;
mod outage;
mod registry;
mod replicas;
mod session_era;
mod stateless;
mod streams;
mod tasks;
mod traces;
mod upstream;
