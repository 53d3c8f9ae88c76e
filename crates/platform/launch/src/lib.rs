//! What every program does around its service.
//!
//! A program is a [`Program`]: its settings, the plan that they make once they are checked, and how its service starts.
//! [`main`] does the rest in the same order everywhere: arguments, settings, crypto, telemetry, signals, the admin
//! listener, the start, then waiting for a signal and draining. The other items are what services are put together
//! from: an [`Identity`] with its links, followed trust, an outbound client that never calls
//! Portico itself, listeners.

mod arguments;
mod coordination;
mod health;
mod identity;
mod listeners;
mod outbound;
mod places;
mod problems;
mod program;
mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trust;

pub use arguments::{Invocation, Verb, check, invocation, print_schema, report, schema_text};
pub use coordination::CoordinationPlan;
pub use identity::{Identity, Peer};
pub use listeners::{Front, internal, public};
pub use outbound::{OwnPlaces, outbound};
pub use places::{check_directory, check_origin, check_public_tls};
pub use problems::{Problem, Problems};
pub use program::{Failure, Frame, Ground, Program, Started, main, start};
pub use settings::{OutboundSettings, ProcessSettings};
pub use trust::{callers, follow_trust};
