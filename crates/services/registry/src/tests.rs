//! The registry as its callers see it.

mod audit;
mod catalogue;
mod denials;
mod endpoints;
mod fixture;
mod instances;
mod limits;
mod observations;
mod replicas;
mod retention;
mod sealing;
mod secrets;
mod servers;
