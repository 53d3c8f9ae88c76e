//! Boot order, readiness, tracked tasks and two-stage shutdown.
//!
//! A binary calls [`boot`]; inside, every long-running future goes through [`Tasks`], every precondition of serving
//! through [`Readiness`], and [`run`] waits for a signal or a dead task and drains.

mod admin;
mod boot;
mod readiness;
mod shutdown;
mod tasks;

pub use admin::admin_router;
pub use boot::{boot, install_crypto_provider};
pub use readiness::{CheckReport, Readiness, ReadinessCheck};
pub use shutdown::{DEFAULT_GRACE, Signals, run, run_with_grace};
pub use tasks::{Outcome, TaskFailure, Tasks};
