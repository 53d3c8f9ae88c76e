//! End-to-end scenarios against a running Portico: what people, agents and attackers see.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod denials;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod expect;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod management_limits;
#[cfg(test)]
mod newcomer;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod people;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod separate;
#[cfg(test)]
mod session_era;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod stateless_era;
#[cfg(test)]
mod upstream_faults;
#[cfg(test)]
mod virtual_servers;
