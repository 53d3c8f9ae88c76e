//! Boot order, readiness, tracked tasks and shutdown by stages.
//!
//! A binary calls [`boot`]; inside, every long-running future goes through [`Tasks`], every precondition of serving
//! through [`Readiness`], and [`run`] waits for a signal or a dead task and drains.

mod admin;
mod boot;
mod causes;
mod data_dir;
mod open_files;
mod readiness;
mod shutdown;
mod tasks;

pub use admin::admin_router;
pub use boot::{boot, boot_with, install_crypto_provider};
pub use causes::with_causes;
pub use data_dir::{DataDirError, DataDirLock};
pub use open_files::open_files;
pub use readiness::{CheckReport, Readiness, ReadinessCheck};
pub use shutdown::{DEFAULT_GRACE, Drain, Signals, run, run_with_drain};
pub use tasks::{Outcome, TaskFailure, Tasks};
