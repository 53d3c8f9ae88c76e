//! From an error to what a person reads: what is wrong, why, and what to do.

use serde::Serialize;
use tonic::{Code, Status};

/// An error as the command line shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// What is wrong.
    pub(crate) message: String,
    /// Stable code, where the service gave one.
    pub(crate) reason: Option<String>,
    /// Why, from the outermost cause inwards.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
}

/// Describes an error for people.
pub(crate) fn describe(error: &anyhow::Error) -> Failure {
    if let Some(status) = error.downcast_ref::<Status>() {
        let reason = portico_transport::reason_of(status);
        let message = match &reason {
            Some(reason) => format!("{} ({reason})", status.message()),
            None if status.message().is_empty() => status.code().description().to_owned(),
            None => status.message().to_owned(),
        };
        return Failure { message, reason, causes: Vec::new(), hint: hint(status).map(ToOwned::to_owned) };
    }
    let causes = error.chain().skip(1).map(ToString::to_string).collect();
    Failure { message: error.to_string(), reason: None, causes, hint: None }
}

fn hint(status: &Status) -> Option<&'static str> {
    match status.code() {
        Code::Unavailable => Some("is Portico running? `portico dev` starts one here"),
        Code::Unauthenticated => {
            Some("`portico login ORIGIN`, or point --ready-file at a running `portico dev`")
        }
        Code::PermissionDenied => Some("ask an administrator: `portico grant PRINCIPAL ROLE ENDPOINT`"),
        Code::ResourceExhausted if portico_transport::retry_after_of(status).is_some() => {
            Some("nothing was done; for more calls raise `limits.principal_per_minute` of the service")
        }
        Code::Aborted => Some("somebody else changed it: read it again and repeat the change"),
        _ => None,
    }
}
