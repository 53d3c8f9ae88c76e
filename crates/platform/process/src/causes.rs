//! Errors as an operator reads them.

use std::error::Error;

/// Renders an error with everything that caused it, each once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let told = |text, source| Some(Box::new(Told { text, source }));
        let refused = told("no such host", None);
        let dial = told("no connection: no such host", refused);
        let error = Told { text: "the feed failed", source: dial };
        assert_eq!(with_causes(&error), "the feed failed: no connection: no such host");
    }
}
