//! Where in the files something stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tree::{Node, Value};

/// A line and a column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    pub line: u32,
    pub column: u32,
}

/// A file and the mark in it, if it is about one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    #[serde(flatten)]
    pub mark: Option<Mark>,
}

/// A path to a field, as in `spec.use[0].hosts[1]`. Empty for the document itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FieldPath(String);

/// The mark of each field of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks(BTreeMap<FieldPath, Mark>);

impl Mark {
    pub(crate) fn of(location: serde_saphyr::Location) -> Self {
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        Self {
            line: number(location.line()),
            column: number(location.column()),
        }
    }
}

impl FieldPath {
    pub(crate) fn root() -> Self {
        Self::default()
    }

    pub(crate) fn field(&self, name: &str) -> Self {
        Self(if self.0.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.0)
        })
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the field is the other one or lies within it.
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        let rest = self.0.strip_prefix(&outer.0);
        outer.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The field that holds this one, and whether it is a list.
    pub(crate) fn parent(&self) -> Option<(Self, bool)> {
        let at = self.0.rfind(['.', '['])?;
        let (parent, rest) = self.0.split_at_checked(at)?;
        Some((Self(parent.to_owned()), rest.starts_with('[')))
    }
}

impl Marks {
    /// A scalar is where its value is, a list or map where its key is.
    pub(crate) fn of(document: &Node) -> Self {
        let mut marks = BTreeMap::new();
        collect(document, FieldPath::root(), document.mark, &mut marks);
        Self(marks)
    }

    /// The mark of a field, or of the nearest field around it.
    pub(crate) fn find(&self, path: &FieldPath) -> Option<Mark> {
        if let Some(mark) = self.0.get(path) {
            return Some(*mark);
        }
        let outer = path
            .parent()
            .map_or_else(FieldPath::root, |(parent, _)| parent);
        if path.is_root() {
            None
        } else {
            self.find(&outer)
        }
    }
}

fn collect(node: &Node, path: FieldPath, mark: Mark, marks: &mut BTreeMap<FieldPath, Mark>) {
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, path.item(index), item.mark, marks);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                let nested = matches!(value.value, Value::List(_) | Value::Map(_));
                collect(
                    value,
                    path.field(&key.name),
                    if nested { key.mark } else { value.mark },
                    marks,
                );
            }
        }
        _ => {}
    }
    marks.insert(path, mark);
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As compilers write it: `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            Some(Mark { line, column }) => write!(f, "{}:{line}:{column}", self.file),
            None => f.write_str(&self.file),
        }
    }
}
