//! `EgressPolicy`: what a sandbox may reach. All else is denied.

use std::path::Path;

use ersatz_policy::{
    Cidr, CredentialName, Destination, HostPattern, HttpRule, Mode, Requests, Rule,
};
use serde::{Deserialize, Serialize};

use crate::credential::{methods, paths};
use crate::document::{Spec, spec_path};
use crate::error::Problems;
use crate::lists::{items, ports, refuse_empty};
use crate::place::FieldPath;

/// The `spec` of an `EgressPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPolicySpec {
    /// The credentials that are granted. A granted credential allows its own hosts, intercepted.
    #[serde(default)]
    pub credentials: Vec<String>,
    /// What is allowed beside. Empty: nothing.
    #[serde(default)]
    pub allow: Vec<RuleSpec>,
}

/// One entry of `allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// Blocks of addresses, for `mode: tcp` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidrs: Option<Vec<String>>,
    /// 443 unless given, 80 for `scheme: http`; always needed for `mode: tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// `intercept` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeSpec>,
    /// `https` unless given. Over `http`, no credential is ever put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<SchemeSpec>,
    /// The requests that are allowed; any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<HttpRuleSpec>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeSpec {
    #[default]
    Intercept,
    Passthrough,
    Tcp,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemeSpec {
    #[default]
    Https,
    Http,
}

/// Methods and paths that are allowed together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRuleSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
}

/// What a policy grants; the credentials still by name.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) credentials: Vec<CredentialName>,
    pub(crate) rules: Vec<Rule>,
}

impl Spec for EgressPolicySpec {
    type Compiled = Grants;

    fn compile(&self, _name: &str, _base: &Path, problems: &mut Problems) -> Option<Grants> {
        let at = spec_path();
        let mut credentials = Vec::new();
        for (index, name) in self.credentials.iter().enumerate() {
            let at = at.field("credentials").item(index);
            let Some(name) = problems.take(&at, CredentialName::parse(name)) else {
                continue;
            };
            if credentials.contains(&name) {
                problems.add(
                    at,
                    format!("{name} is granted twice"),
                    Some("remove one of the two".to_owned()),
                );
            }
            credentials.push(name);
        }
        let rules = self.allow.iter().enumerate();
        let rules = rules
            .filter_map(|(index, rule)| rule.compile(&at.field("allow").item(index), problems))
            .collect();
        Some(Grants { credentials, rules })
    }
}

impl RuleSpec {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> Option<Rule> {
        let to = self.destination(at, problems);
        let ports = self.ports(at, problems);
        let mode = self.mode(at, problems);
        Some(Rule {
            to: to?,
            ports,
            mode,
        })
    }

    fn destination(&self, at: &FieldPath, problems: &mut Problems) -> Option<Destination> {
        match (&self.hosts, &self.cidrs) {
            (Some(hosts), None) => Some(Destination::Hosts(items(
                hosts,
                &at.field("hosts"),
                problems,
                |host| HostPattern::parse(host),
            ))),
            (None, Some(cidrs)) => {
                if self.mode.unwrap_or_default() != ModeSpec::Tcp {
                    let hint = Some("add `mode: tcp`, or name hosts".to_owned());
                    problems.add_joint(
                        at.field("cidrs"),
                        "addresses are for `mode: tcp` only; all else is judged by name",
                        hint,
                    );
                }
                Some(Destination::Cidrs(items(
                    cidrs,
                    &at.field("cidrs"),
                    problems,
                    |cidr| Cidr::parse(cidr),
                )))
            }
            _ => {
                problems.add(
                    at.clone(),
                    "exactly one of `hosts` and `cidrs` is needed",
                    None,
                );
                None
            }
        }
    }

    fn ports(&self, at: &FieldPath, problems: &mut Problems) -> Vec<u16> {
        match (
            &self.ports,
            self.mode.unwrap_or_default(),
            self.scheme.unwrap_or_default(),
        ) {
            (Some(list), ..) => ports(list, &at.field("ports"), problems),
            (None, ModeSpec::Tcp, _) => {
                problems.add_joint(
                    at.field("ports"),
                    "`mode: tcp` needs its ports",
                    Some("add `ports: [5432]`".to_owned()),
                );
                Vec::new()
            }
            (None, _, SchemeSpec::Https) => vec![443],
            (None, _, SchemeSpec::Http) => vec![80],
        }
    }

    fn mode(&self, at: &FieldPath, problems: &mut Problems) -> Mode {
        let mode = self.mode.unwrap_or_default();
        if mode != ModeSpec::Intercept {
            for (field, present) in [
                ("http", self.http.is_some()),
                ("scheme", self.scheme.is_some()),
            ] {
                if present {
                    let hint = Some(format!("remove `{field}`, or leave `mode` out"));
                    problems.add_joint(
                        at.field(field),
                        "requests cannot be judged where nothing is decrypted",
                        hint,
                    );
                }
            }
        }
        match (mode, self.scheme.unwrap_or_default()) {
            (ModeSpec::Passthrough, _) => Mode::Passthrough,
            (ModeSpec::Tcp, _) => Mode::Tcp,
            (ModeSpec::Intercept, SchemeSpec::Https) => {
                Mode::Intercept(self.requests(at, problems))
            }
            (ModeSpec::Intercept, SchemeSpec::Http) => Mode::Plaintext(self.requests(at, problems)),
        }
    }

    fn requests(&self, at: &FieldPath, problems: &mut Problems) -> Requests {
        let Some(list) = &self.http else {
            return Requests::Any;
        };
        let at = at.field("http");
        refuse_empty(list, &at, problems);
        let rules = list.iter().enumerate();
        Requests::Listed(
            rules
                .map(|(index, rule)| rule.compile(&at.item(index), problems))
                .collect(),
        )
    }
}

impl HttpRuleSpec {
    fn compile(&self, at: &FieldPath, problems: &mut Problems) -> HttpRule {
        if self.methods.is_none() && self.paths.is_none() {
            let hint = Some("to allow any request, leave `http` out".to_owned());
            problems.add(at.clone(), "`methods` or `paths` is needed", hint);
        }
        let methods = methods(self.methods.as_deref(), at, problems);
        HttpRule {
            methods,
            paths: paths(self.paths.as_deref(), at, problems),
        }
    }
}
