//! What one principal may cost the management plane: calls, and records of what it may not do.

mod call_limit;
mod denials;
mod settings;

pub use call_limit::{CallLimit, LimitedService};
pub use denials::{Denial, DenialLog, Denials};
pub use settings::{CallLimitSettings, InvalidCallLimits};
