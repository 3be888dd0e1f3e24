//! What all kinds have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::decode::{Decoded, decode, suggestion};
use crate::error::{LoadError, Problem, Problems};
use crate::place::{FieldPath, Marks, Place};
use crate::tree::{Node, Value};

/// A resource as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

/// A resource's name, and what tools attach to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A kind of resource: its spec, and what it is converted into.
pub(crate) trait Spec: DeserializeOwned {
    type Compiled;

    /// Converts the spec, or adds what is wrong with it. Relative paths in it are relative to `base`.
    fn compile(&self, name: &str, base: &Path, problems: &mut Problems) -> Option<Self::Compiled>;
}

/// A resource with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loaded<S> {
    pub(crate) metadata: Metadata,
    pub(crate) spec: S,
    file: String,
    /// The directory that relative paths in the resource start from.
    base: PathBuf,
    marks: Marks,
}

impl<S: Spec> Loaded<S> {
    /// Decodes and checks a document of this kind.
    pub(crate) fn decode(document: Node, file: &str, base: &Path) -> Result<Self, Vec<LoadError>> {
        let marks = Marks::of(&document);
        let mut decoded: Decoded<Document<S>> = decode(document);
        if let Some(Document { metadata, spec, .. }) = &decoded.value {
            let mut problems = Problems::default();
            problems.take(
                &name_path(),
                ersatz_policy::CredentialName::parse(&metadata.name),
            );
            spec.compile(&metadata.name, base, &mut problems);
            decoded.add(problems);
        }
        let Decoded {
            value, problems, ..
        } = decoded;
        match value {
            Some(Document { metadata, spec, .. }) if problems.is_empty() => Ok(Self {
                metadata,
                spec,
                file: file.to_owned(),
                base: base.to_owned(),
                marks,
            }),
            _ => Err(problems
                .into_iter()
                .map(|problem| located(problem, file, &marks))
                .collect()),
        }
    }

    pub(crate) fn compile(&self) -> Result<S::Compiled, Vec<LoadError>> {
        let mut problems = Problems::default();
        let compiled = self
            .spec
            .compile(&self.metadata.name, &self.base, &mut problems);
        let problems = problems.into_vec();
        match compiled {
            Some(compiled) if problems.is_empty() => Ok(compiled),
            _ => Err(problems
                .into_iter()
                .map(|problem| located(problem, &self.file, &self.marks))
                .collect()),
        }
    }
}

impl<S> Loaded<S> {
    pub(crate) fn place(&self, field: &FieldPath) -> Place {
        Place {
            file: self.file.clone(),
            mark: self.marks.find(field),
        }
    }

    pub(crate) fn error(
        &self,
        field: FieldPath,
        message: String,
        hint: Option<String>,
    ) -> LoadError {
        LoadError {
            place: self.place(&field),
            field,
            message,
            hint,
        }
    }
}

pub(crate) fn located(problem: Problem, file: &str, marks: &Marks) -> LoadError {
    let Problem {
        field,
        message,
        hint,
        ..
    } = problem;
    LoadError {
        place: Place {
            file: file.to_owned(),
            mark: marks.find(&field),
        },
        field,
        message,
        hint,
    }
}

pub(crate) fn name_path() -> FieldPath {
    FieldPath::root().field("metadata").field("name")
}

pub(crate) fn spec_path() -> FieldPath {
    FieldPath::root().field("spec")
}

/// The kind that a document says it is of, once its version is known to be ours.
pub(crate) fn kind_of(document: &Node) -> Result<&'static str, Problem> {
    let root = FieldPath::root();
    if !matches!(document.value, Value::Map(_)) {
        let hint = Some(format!("begin it with `apiVersion: {API_VERSION}`"));
        return Err(Problem::new(
            root,
            "the document is not a resource".to_owned(),
            hint,
        ));
    }
    let text = |name: &str, hint: String| {
        let problem =
            |message: &str| Problem::new(root.field(name), message.to_owned(), Some(hint));
        match document.entry(name) {
            Some(node) => node.text().ok_or_else(|| problem("a text is needed")),
            None => Err(problem("the field is missing")),
        }
    };
    let version = text("apiVersion", format!("write `apiVersion: {API_VERSION}`"))?;
    if version != API_VERSION {
        let hint = Some(format!("write `apiVersion: {API_VERSION}`"));
        return Err(Problem::new(
            root.field("apiVersion"),
            format!("{version:?} is not known"),
            hint,
        ));
    }
    let kind = text("kind", format!("one of {}", KINDS.join(", ")))?;
    KINDS
        .iter()
        .find(|known| **known == kind)
        .copied()
        .ok_or_else(|| {
            let message = format!("{kind:?} is not a kind of resource");
            Problem::new(root.field("kind"), message, suggestion(kind, KINDS))
        })
}

pub(crate) const API_VERSION: &str = "ersatz.dev/v1alpha1";
pub(crate) const KINDS: &[&str] = &["Credential", "EgressPolicy", "NodeConfig"];
