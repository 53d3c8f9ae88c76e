use portico_mcp_types::WARNINGS;
use serde_json::{Value, json};

use crate::catalogue::Member;
use crate::refusal::Refusal;

/// Most names that one warning tells.
const MAX_NAMES: usize = 20;

/// What an answer lacks, and why: an element of `_meta["portico/warnings"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Warning {
    /// Alias of the member that it is about.
    member: String,
    /// A stable code; refusals give theirs.
    reason: &'static str,
    message: String,
    names: Vec<String>,
}

impl Warning {
    /// The member could not take part.
    pub(super) fn left_out(member: &Member, refusal: &Refusal) -> Self {
        Self {
            member: member.alias.clone(),
            reason: refusal.reason.as_str(),
            message: refusal.message().to_owned(),
            names: Vec::new(),
        }
    }

    /// Names or URIs of the member that an earlier member has already.
    pub(super) fn collision(member: &Member, names: Vec<String>) -> Self {
        let message = "another member comes first with the same names; these are not reachable here";
        Self { member: member.alias.clone(), reason: "name_collision", message: message.to_owned(), names }
    }

    /// The member listed more than Portico takes.
    pub(super) fn cut_short(member: &Member) -> Self {
        let message = "the member lists more than Portico takes; the rest is left out";
        Self {
            member: member.alias.clone(),
            reason: "list_too_long",
            message: message.to_owned(),
            names: Vec::new(),
        }
    }

    fn to_json(&self) -> Value {
        let mut json = json!({"member": self.member, "reason": self.reason, "message": self.message});
        if !self.names.is_empty() {
            json["names"] = self.names.iter().take(MAX_NAMES).cloned().collect();
        }
        json
    }
}

/// The member of `_meta` that tells warnings, as JSON text; `None` if there are none.
pub(super) fn meta_member(warnings: &[Warning]) -> Option<String> {
    if warnings.is_empty() {
        return None;
    }
    let all: Vec<Value> = warnings.iter().map(Warning::to_json).collect();
    Some(format!("\"{WARNINGS}\":{}", Value::from(all)))
}
