mod behaviour;
pub(crate) mod document;
mod fixture;
mod forgery;
mod listing;
mod protocol;
mod replicas;
mod timing;
mod upstream;
