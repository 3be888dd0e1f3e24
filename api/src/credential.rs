//! `Credential`: what a sandbox holds in its place, where the real value comes from and where it may go.

use std::path::Path;

use ersatz_policy::{
    BasicPart, Credential, CredentialName, HeaderName, HostPattern, Methods, PathPattern, Paths,
    Placement, PlacementError, Schemes, Shape, Use,
};
use serde::{Deserialize, Serialize};

use crate::document::{Spec, spec_path};
use crate::error::Problems;
use crate::lists::{items, ports, refuse_empty};
use crate::place::FieldPath;
use crate::source::{NOT_A_VARIABLE, Source, SourceSpec, is_variable};

/// The `spec` of a `Credential`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSpec {
    pub from: SourceSpec,
    #[serde(default)]
    pub stub: StubSpec,
    #[serde(rename = "use")]
    pub uses: Vec<UseSpec>,
}

/// What the sandbox sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StubSpec {
    /// The environment variable that holds the stub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// What it looks like: literals, classes and counts. `ersatz_[A-Za-z0-9]{32}` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
}

/// One set of places where the real value may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseSpec {
    pub hosts: Vec<String>,
    /// 443 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// Any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    #[serde(rename = "in")]
    pub placements: Vec<PlacementSpec>,
}

/// A placement: a header, or a part of Basic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The schemes that may stand before the value. Bearer and token for `authorization` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Vec<String>>,
    /// Whether the value may stand alone. Only in headers other than `authorization` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicPartSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasicPartSpec {
    User,
    Password,
}

impl Spec for CredentialSpec {
    type Compiled = (Credential, Source);

    fn compile(&self, name: &str, base: &Path, problems: &mut Problems) -> Option<Self::Compiled> {
        let at = spec_path();
        let source = self.from.compile(base, &at.field("from"), problems);
        let stub_env = self.stub.variable(&at.field("stub"), problems);
        let shape = self.stub.shape(&at.field("stub"), problems);
        refuse_empty(&self.uses, &at.field("use"), problems);
        let uses = self.uses.iter().enumerate();
        let uses = uses
            .map(|(index, usage)| usage.compile(&at.field("use").item(index), problems))
            .collect();
        let name = CredentialName::parse(name).ok()?;
        Some((
            Credential {
                name,
                stub_env,
                shape: shape?,
                uses,
            },
            source?,
        ))
    }
}

impl StubSpec {
    fn variable(&self, at: &FieldPath, problems: &mut Problems) -> Option<String> {
        let name = self.env.as_ref()?;
        let at = at.field("env");
        if !is_variable(name) {
            problems.add(at, NOT_A_VARIABLE, None);
        } else if RESERVED.contains(&name.as_str()) || name.starts_with("LD_") {
            problems.add(
                at,
                format!("a stub in {name} would break the command that runs in the sandbox"),
                None,
            );
        }
        Some(name.clone())
    }

    fn shape(&self, at: &FieldPath, problems: &mut Problems) -> Option<Shape> {
        match &self.shape {
            Some(text) => problems.take(&at.field("shape"), Shape::parse(text)),
            None => Some(Shape::default()),
        }
    }
}

impl UseSpec {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Use {
        Use {
            hosts: items(&self.hosts, &at.field("hosts"), problems, |host| {
                HostPattern::parse(host)
            }),
            ports: self.ports.as_ref().map_or_else(
                || vec![443],
                |list| ports(list, &at.field("ports"), problems),
            ),
            methods: methods(self.methods.as_deref(), at, problems),
            paths: paths(self.paths.as_deref(), at, problems),
            placements: self.placements(&at.field("in"), problems),
        }
    }

    fn placements(&self, at: &FieldPath, problems: &mut Problems) -> Vec<Placement> {
        refuse_empty(&self.placements, at, problems);
        let placements = self.placements.iter().enumerate();
        placements
            .filter_map(|(index, placement)| placement.compile(&at.item(index), problems))
            .collect()
    }
}

impl PlacementSpec {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Option<Placement> {
        match (&self.header, self.basic) {
            (Some(name), None) => {
                let name = problems.take(&at.field("header"), HeaderName::parse(name))?;
                let schemes = problems.take(&at.field("scheme"), self.schemes(&name))?;
                Some(Placement::Header { name, schemes })
            }
            (None, Some(part)) => {
                if self.scheme.is_some() || self.bare.is_some() {
                    problems.add(
                        at.clone(),
                        "`scheme` and `bare` are for headers; Basic has neither",
                        None,
                    );
                }
                Some(Placement::Basic(match part {
                    BasicPartSpec::User => BasicPart::User,
                    BasicPartSpec::Password => BasicPart::Password,
                }))
            }
            _ => {
                let hint = Some(
                    "write {header: authorization}, {header: x-api-key} or {basic: password}"
                        .to_owned(),
                );
                problems.add(
                    at.clone(),
                    "exactly one of `header` and `basic` is needed",
                    hint,
                );
                None
            }
        }
    }

    fn schemes(&self, header: &HeaderName) -> Result<Schemes, PlacementError> {
        match (&self.scheme, self.bare) {
            (None, None) => Ok(Schemes::default_for(header)),
            (Some(named), bare) if named.is_empty() => {
                Schemes::listed(named, false).and(Schemes::listed(named, bare.unwrap_or(false)))
            }
            (Some(named), bare) => Schemes::listed(named, bare.unwrap_or(false)),
            (None, Some(true)) => Schemes::listed::<&str>(&[], true),
            (None, Some(false)) => {
                let default: Vec<_> = Schemes::default_for(header)
                    .named()
                    .map(str::to_owned)
                    .collect();
                Schemes::listed(&default, false)
            }
        }
    }
}

pub(crate) fn methods(list: Option<&[String]>, at: &FieldPath, problems: &mut Problems) -> Methods {
    let listed = list.map_or_else(|| Ok(Methods::any()), Methods::listed);
    problems
        .take(&at.field("methods"), listed)
        .unwrap_or_else(Methods::any)
}

pub(crate) fn paths(list: Option<&[String]>, at: &FieldPath, problems: &mut Problems) -> Paths {
    let Some(list) = list else {
        return Paths::any();
    };
    let patterns = items(list, &at.field("paths"), problems, |path| {
        PathPattern::parse(path)
    });
    // When nothing is left of the list, a problem has been noted, and the result is not used.
    Paths::listed(patterns).unwrap_or_else(|_| Paths::any())
}

/// What a command needs to be what it is.
const RESERVED: &[&str] = &[
    "HOME", "IFS", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TMPDIR", "USER",
];
