//! The registry as its callers see it.

mod audit;
mod catalogue;
mod denials;
mod endpoints;
mod fixture;
mod instances;
mod observations;
mod secrets;
mod servers;
