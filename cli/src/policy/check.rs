//! What the policies of some files grant, at a glance.

use std::collections::BTreeSet;
use std::fmt::Write;

use ersatz_api::{
    BasicPartSpec, CredentialSpec, EgressPolicySpec, HttpRuleSpec, LoadErrors, ModeSpec,
    PlacementSpec, Resources, RuleSpec, SchemeSpec,
};
use serde::Serialize;

use super::paint::Paint;

/// All policies, and what is odd without being wrong.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) policies: Vec<PolicySummary>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct PolicySummary {
    name: String,
    credentials: Vec<CredentialSummary>,
    allow: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CredentialSummary {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    uses: Vec<Line>,
}

/// Destinations, and what may be done there.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    to: String,
    what: String,
}

impl Summary {
    pub(super) fn of(resources: &Resources) -> Self {
        let specs = resources
            .policy_names()
            .filter_map(|name| Some((name, resources.policy_spec(name)?)));
        let specs: Vec<_> = specs.collect();
        let policies = specs
            .iter()
            .map(|(name, spec)| PolicySummary::of(name, spec, resources))
            .collect();
        let granted: BTreeSet<&str> = specs
            .iter()
            .flat_map(|(_, spec)| &spec.credentials)
            .map(String::as_str)
            .collect();
        let ungranted = resources
            .credential_names()
            .filter(|name| !granted.contains(name));
        let mut notes: Vec<_> = ungranted
            .map(|name| format!("no policy grants the credential {name}"))
            .collect();
        for name in &granted {
            notes.extend(
                resources
                    .credential_spec(name)
                    .into_iter()
                    .flat_map(|credential| oddities(name, credential)),
            );
        }
        Self { policies, notes }
    }

    pub(super) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, paint);
        text
    }

    fn write(&self, text: &mut String, paint: Paint) -> std::fmt::Result {
        for policy in &self.policies {
            writeln!(
                text,
                "{} {}",
                paint.strong("policy"),
                paint.strong(&policy.name)
            )?;
            for credential in &policy.credentials {
                let env = credential
                    .env
                    .as_ref()
                    .map(|env| format!(" as {env}"))
                    .unwrap_or_default();
                writeln!(text, "  credential {}{env}, to", credential.name)?;
                write_lines(text, &credential.uses)?;
            }
            if !policy.allow.is_empty() {
                writeln!(text, "  allowed")?;
                write_lines(text, &policy.allow)?;
            }
            writeln!(text, "  {}", paint.faint("all else is denied"))?;
        }
        for note in &self.notes {
            writeln!(text, "note: {note}")?;
        }
        writeln!(text, "{}", paint.good("no errors"))
    }
}

fn oddities(name: &str, credential: &CredentialSpec) -> Vec<String> {
    let mut notes = Vec::new();
    if credential.stub.env.is_none() {
        notes.push(format!(
            "the stub of {name} has no variable (`stub.env`), so the sandbox does not get to see it"
        ));
    }
    let hosts = credential.uses.iter().flat_map(|usage| &usage.hosts);
    for host in hosts.filter(|host| host.starts_with('*')) {
        notes.push(format!(
            "{name} goes to every host that {host} matches: be sure that nobody else can get one"
        ));
    }
    notes
}

fn write_lines(text: &mut String, lines: &[Line]) -> std::fmt::Result {
    let width = lines
        .iter()
        .map(|line| line.to.len())
        .max()
        .unwrap_or_default()
        .min(WIDEST);
    lines
        .iter()
        .try_for_each(|line| writeln!(text, "    {:width$}  {}", line.to, line.what))
}

pub(super) fn render_errors(errors: &LoadErrors, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_errors(&mut text, errors, paint);
    text
}

fn write_errors(text: &mut String, errors: &LoadErrors, paint: Paint) -> std::fmt::Result {
    for error in errors.iter() {
        let place = paint.strong(&error.place.to_string());
        let field = if error.field.as_str().is_empty() {
            String::new()
        } else {
            format!("{}: ", error.field)
        };
        writeln!(text, "{place}: {field}{}", paint.bad(&error.message))?;
        if let Some(hint) = &error.hint {
            writeln!(text, "    hint: {hint}")?;
        }
    }
    let count = errors.iter().count();
    writeln!(
        text,
        "{count} {}",
        if count == 1 { "error" } else { "errors" }
    )
}

impl PolicySummary {
    fn of(name: &str, spec: &EgressPolicySpec, resources: &Resources) -> Self {
        let credentials = spec.credentials.iter();
        let credentials = credentials.filter_map(|name| {
            Some(CredentialSummary::of(
                name,
                resources.credential_spec(name)?,
            ))
        });
        let allow = spec.allow.iter().map(Line::of_rule);
        Self {
            name: name.to_owned(),
            credentials: credentials.collect(),
            allow: allow.collect(),
        }
    }
}

impl CredentialSummary {
    fn of(name: &str, spec: &CredentialSpec) -> Self {
        let uses = spec.uses.iter().map(|usage| {
            let placements: Vec<_> = usage.placements.iter().map(placement).collect();
            let http = HttpRuleSpec {
                methods: usage.methods.clone(),
                paths: usage.paths.clone(),
            };
            let limits = if http == HttpRuleSpec::default() {
                String::new()
            } else {
                format!(", {}", requests(&http))
            };
            Line {
                to: destinations(&usage.hosts, usage.ports.as_deref()),
                what: placements.join(", ") + &limits,
            }
        });
        Self {
            name: name.to_owned(),
            env: spec.stub.env.clone(),
            uses: uses.collect(),
        }
    }
}

impl Line {
    fn of_rule(rule: &RuleSpec) -> Self {
        let hosts = rule
            .hosts
            .as_deref()
            .or(rule.cidrs.as_deref())
            .unwrap_or_default();
        let what = match (rule.mode.unwrap_or_default(), &rule.http) {
            (ModeSpec::Passthrough, _) => "TLS, passed through undecrypted".to_owned(),
            (ModeSpec::Tcp, _) => "any TCP".to_owned(),
            (ModeSpec::Intercept, None) => "any request".to_owned(),
            (ModeSpec::Intercept, Some(list)) => {
                list.iter().map(requests).collect::<Vec<_>>().join(", or ")
            }
        };
        let plain = if rule.scheme == Some(SchemeSpec::Http) {
            " over plain HTTP, without credentials"
        } else {
            ""
        };
        Self {
            to: destinations(hosts, rule.ports.as_deref()),
            what: what + plain,
        }
    }
}

fn destinations(hosts: &[String], ports: Option<&[u16]>) -> String {
    let ports = ports
        .map(|ports| format!(" port {}", join(ports)))
        .unwrap_or_default();
    hosts.join(", ") + &ports
}

fn requests(rule: &HttpRuleSpec) -> String {
    let methods = rule
        .methods
        .as_ref()
        .map_or_else(|| "any method".to_owned(), |methods| methods.join("|"));
    let paths = rule
        .paths
        .as_ref()
        .map_or_else(|| "any path".to_owned(), |paths| paths.join(" "));
    format!("{methods} {paths}")
}

fn placement(spec: &PlacementSpec) -> String {
    let basic = spec.basic.map(|part| match part {
        BasicPartSpec::User => "the user of Basic".to_owned(),
        BasicPartSpec::Password => "the password of Basic".to_owned(),
    });
    basic
        .or_else(|| {
            spec.header
                .as_ref()
                .map(|name| format!("header {}", name.to_lowercase()))
        })
        .unwrap_or_default()
}

fn join(ports: &[u16]) -> String {
    ports
        .iter()
        .map(u16::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Columns are aligned up to this width.
const WIDEST: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_each_policy_grants() {
        let resources = Resources::parse(
            "design.yaml",
            include_str!("../../../api/testdata/design.yaml"),
        )
        .unwrap();
        let text = Summary::of(&resources).render(Paint::never());
        let expected = "\
policy coding-agents
  credential github as GITHUB_TOKEN, to
    api.github.com  header authorization
    github.com      the password of Basic
  credential anthropic as ANTHROPIC_API_KEY, to
    api.anthropic.com  header x-api-key, header authorization
  allowed
    packages.example.com, *.cdn.example.com  TLS, passed through undecrypted
    api.github.com                           GET /repos/acme/**
    db.example.com port 5432                 any TCP
    10.20.0.0/16 port 9092                   any TCP
  all else is denied
no errors
";
        assert_eq!(text, expected);
    }

    #[test]
    fn notes_what_is_odd() {
        let text = "apiVersion: ersatz.dev/v1alpha1\nkind: Credential\nmetadata: {name: c}\nspec:\n  from: {env: {name: A}}\n  use: [{hosts: [a.com], in: [{basic: user}]}]\n";
        let alone = Resources::parse("f.yaml", text).unwrap();
        assert_eq!(
            Summary::of(&alone).notes,
            ["no policy grants the credential c"]
        );
        let policy = "---\napiVersion: ersatz.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec: {credentials: [c]}\n";
        let granted = Resources::parse("f.yaml", &format!("{text}{policy}")).unwrap();
        assert!(Summary::of(&granted).notes[0].contains("has no variable"));
        let wild = text.replace("a.com", "'*.a.com'");
        let wild = Resources::parse("f.yaml", &format!("{wild}{policy}")).unwrap();
        assert!(Summary::of(&wild).notes[1].contains("every host that *.a.com matches"));
    }

    #[test]
    fn errors_stand_one_a_line_with_their_hints() {
        let errors = Resources::parse(
            "f.yaml",
            "apiVersion: ersatz.dev/v1alpha1\nkind: Credentail\n",
        )
        .unwrap_err();
        let text = render_errors(&errors, Paint::never());
        let expected = "f.yaml:2:7: kind: \"Credentail\" is not a kind of resource\n    hint: did you mean `Credential`?\n1 error\n";
        assert_eq!(text, expected);
    }
}
