//! What is wrong with resources, each error with its place.

use std::fmt;

use serde::Serialize;

use crate::place::{FieldPath, Place};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadError {
    #[serde(flatten)]
    pub place: Place,
    pub field: FieldPath,
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Everything that is wrong, in the order of the files. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LoadErrors(Vec<LoadError>);

/// What is wrong with one field of a document, before its place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) field: FieldPath,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Whether the fields beside this one are a part of the problem.
    pub(crate) joint: bool,
}

/// Collects the problems of a document while it is converted.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl LoadErrors {
    /// `Ok` when there is no error.
    pub(crate) fn check(errors: Vec<LoadError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self::new(errors))
        }
    }

    pub(crate) fn new(mut errors: Vec<LoadError>) -> Self {
        errors.sort_by(|left, right| left.place.cmp(&right.place));
        errors.dedup();
        Self(errors)
    }

    pub fn iter(&self) -> impl Iterator<Item = &LoadError> {
        self.0.iter()
    }
}

impl LoadError {
    pub(crate) fn of_file(file: &str, message: String) -> Self {
        let place = Place {
            file: file.to_owned(),
            mark: None,
        };
        Self {
            place,
            field: FieldPath::root(),
            message,
            hint: None,
        }
    }
}

impl Problems {
    pub(crate) fn add(
        &mut self,
        field: FieldPath,
        message: impl fmt::Display,
        hint: Option<String>,
    ) {
        self.0.push(Problem::new(field, message.to_string(), hint));
    }

    /// Adds a problem of a field together with those beside it.
    pub(crate) fn add_joint(&mut self, field: FieldPath, message: &str, hint: Option<String>) {
        self.0.push(Problem {
            joint: true,
            ..Problem::new(field, message.to_owned(), hint)
        });
    }

    /// Takes the value out of a result, or notes the error at the field.
    pub(crate) fn take<T, E: fmt::Display + Advice>(
        &mut self,
        field: &FieldPath,
        result: Result<T, E>,
    ) -> Option<T> {
        result
            .map_err(|error| self.add(field.clone(), &error, error.advice()))
            .ok()
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Problem {
    pub(crate) fn new(field: FieldPath, message: String, hint: Option<String>) -> Self {
        Self {
            field,
            message,
            hint,
            joint: false,
        }
    }
}

/// An error that knows what to write instead.
pub(crate) trait Advice {
    fn advice(&self) -> Option<String> {
        None
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.field.is_root() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// One line for each error, and one below it for its hint.
impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
            if let Some(hint) = &error.hint {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
impl std::error::Error for LoadErrors {}
