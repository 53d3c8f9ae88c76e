//! What is wrong with settings, all of it at once.

use std::error::Error;
use std::fmt;

use portico_process::with_causes;

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, with dots.
    pub key: String,
    /// What is wrong and what to do; carries no secret.
    pub what: String,
}

/// Everything that is wrong with the settings of a program, so that one correction suffices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a problem.
    pub fn add(&mut self, key: &str, what: impl fmt::Display) {
        self.0.push(Problem { key: key.to_owned(), what: what.to_string() });
    }

    /// Returns a value that must be there, or notes that it is not, and what it should be.
    pub fn need<T>(&mut self, key: &str, value: Option<T>, what: &str) -> Option<T> {
        if value.is_none() {
            self.add(key, format_args!("is not set: {what}"));
        }
        value
    }

    /// Returns what came out, or notes the error with everything that caused it.
    pub fn accept<T>(&mut self, key: &str, result: Result<T, impl Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(key, with_causes(&error));
                None
            }
        }
    }

    /// Returns the finished plan if there is no problem. A plan is missing exactly when something was noted.
    pub fn finish<T>(self, plan: Option<T>) -> Result<T, Self> {
        match plan {
            Some(plan) if self.0.is_empty() => Ok(plan),
            _ => Err(self),
        }
    }

    /// Returns the problems in the order in which they were found.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { key, what }) in self.0.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}setting `{key}`: {what}")?;
        }
        Ok(())
    }
}

impl Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_43_every_problem_is_told_with_its_key() {
        let mut problems = Problems::new();
        let nothing: Option<u8> =
            problems.need("public_origin", None, "the https origin that everybody uses");
        let error = std::io::Error::other("no such file");
        let neither: Option<u8> = problems.accept("keys.file", Err(error));
        let told = problems.finish(nothing.or(neither)).unwrap_err().to_string();
        assert_eq!(
            told,
            "setting `public_origin`: is not set: the https origin that everybody uses\n\
             setting `keys.file`: no such file"
        );
    }
}
