//! The answer to a question: the daemon's decisions, one after the other, with the rules that made them.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

use ersatz_api::{Place, Resources};
use ersatz_policy::{
    Authority, Denied, Grantor, InterceptPermit, Name, Placement, Policy, Reason, RequestPermit,
    TcpPermit, Tls,
};
use serde::Serialize;

use super::ask::{Question, Scheme, socket_address};
use super::paint::Paint;

/// What would happen, and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    policy: String,
    subject: String,
    verdict: Verdict,
    /// How the connection is handled, once it is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    handling: Option<Handling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// What decided: the rule that allows, or all that name the host and do not.
    decided_by: Vec<Decider>,
    credentials: Vec<Injection>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allowed,
    Denied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Handling {
    Intercept,
    Plaintext,
    Passthrough,
    Tcp,
}

/// A rule, or a use of a credential, and where it is written.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Decider {
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

/// A credential that would be put into the request, if its stub stands there.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Injection {
    credential: String,
    placement: String,
    /// What may stand before it; `null` stands for the bare value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schemes: Vec<Option<String>>,
}

/// Asks the policy.
pub(super) fn explain(resources: &Resources, policy: &Policy, question: &Question) -> Explanation {
    let case = Case { resources, policy };
    match question {
        Question::Resolve(name) => case.resolve(name),
        Question::Connect(authority) => case.connect(authority),
        Question::Request {
            method,
            scheme,
            authority,
            path,
        } => case.request(method, *scheme, authority, path),
    }
}

struct Case<'a> {
    resources: &'a Resources,
    policy: &'a Policy,
}

impl Case<'_> {
    fn resolve(&self, name: &Name) -> Explanation {
        let subject = format!("the name {name}");
        if !self.policy.resolves(name) {
            return self.denied(
                subject,
                &self.policy.denied(Reason::HostNotAllowed, name),
                &[],
            );
        }
        let grantors = self.policy.naming(name);
        let note =
            "the sandbox gets an address of its own for the name; no server is asked".to_owned();
        Explanation {
            notes: vec![note],
            ..self.allowed(subject, None, &grantors)
        }
    }

    fn connect(&self, authority: &Authority) -> Explanation {
        let subject = format!("a connection to {}", with_port(authority));
        let Some(name) = authority.name() else {
            return self.connect_to_address(subject, authority);
        };
        if let Some(permit) = self.opaque(name, authority.port()) {
            return self.allowed(subject, Some(Handling::Tcp), &[permit.grantor().clone()]);
        }
        match self.policy.tls(name, authority.port()) {
            Ok(Tls::Intercept(permit)) => {
                self.to_be_judged(subject, Handling::Intercept, permit.grantors())
            }
            Ok(Tls::Passthrough(permit)) => self.allowed(
                subject,
                Some(Handling::Passthrough),
                &[permit.grantor().clone()],
            ),
            Err(denied) => match self.policy.plaintext(name, authority.port()) {
                Ok(permit) => self.to_be_judged(subject, Handling::Plaintext, permit.grantors()),
                Err(_) => self.denied(subject, &denied, &self.policy.naming(name)),
            },
        }
    }

    fn to_be_judged<'a>(
        &self,
        subject: String,
        handling: Handling,
        by: impl Iterator<Item = &'a Grantor>,
    ) -> Explanation {
        let grantors: Vec<_> = by.cloned().collect();
        let note = "each request is judged by itself: ask with --request".to_owned();
        Explanation {
            notes: vec![note],
            ..self.allowed(subject, Some(handling), &grantors)
        }
    }

    fn connect_to_address(&self, subject: String, authority: &Authority) -> Explanation {
        let address = socket_address(authority);
        let permit = address.and_then(|address| self.policy.opaque(None, address));
        if let Some(permit) = permit {
            return self.allowed(subject, Some(Handling::Tcp), &[permit.grantor().clone()]);
        }
        let holding = address
            .map(|address| self.policy.holding(address.ip()))
            .unwrap_or_default();
        self.denied(subject, &self.address_not_allowed(authority), &holding)
    }

    fn request(
        &self,
        method: &str,
        scheme: Scheme,
        authority: &Authority,
        path: &str,
    ) -> Explanation {
        let url = match scheme {
            Scheme::Https => format!("https://{authority}{path}"),
            Scheme::Http if authority.port() == 80 => format!("http://{}{path}", authority.host()),
            Scheme::Http => format!("http://{}{path}", with_port(authority)),
        };
        let subject = format!("{method} {url}");
        let Some(name) = authority.name() else {
            return self.connect_to_address(subject, authority);
        };
        if let Some(permit) = self.opaque(name, authority.port()) {
            return self.undecrypted(subject, Handling::Tcp, permit.grantor());
        }
        match scheme {
            Scheme::Https => match self.policy.tls(name, authority.port()) {
                Ok(Tls::Intercept(permit)) => self.intercepted(subject, &permit, method, path),
                Ok(Tls::Passthrough(permit)) => {
                    self.undecrypted(subject, Handling::Passthrough, permit.grantor())
                }
                Err(denied) => self.denied(subject, &denied, &self.policy.naming(name)),
            },
            Scheme::Http => match self.policy.plaintext(name, authority.port()) {
                Ok(permit) => self.judged(
                    subject,
                    Handling::Plaintext,
                    name,
                    permit.request(method, path),
                ),
                Err(denied) => self.denied(subject, &denied, &self.policy.naming(name)),
            },
        }
    }

    fn intercepted(
        &self,
        subject: String,
        permit: &InterceptPermit,
        method: &str,
        path: &str,
    ) -> Explanation {
        let Some(name) = permit.authority().name() else {
            return self.denied(subject, &self.address_not_allowed(permit.authority()), &[]);
        };
        let mut explanation = self.judged(
            subject,
            Handling::Intercept,
            name,
            permit.request(method, path),
        );
        for credential in self.policy.credentials() {
            let put_in = explanation
                .credentials
                .iter()
                .any(|injection| injection.credential == credential.name.as_str());
            if explanation.allowed() && permit.binds(&credential.name) && !put_in {
                let note = format!(
                    "credential {} is for this host, but not for this method and path",
                    credential.name
                );
                explanation.notes.push(note);
            }
        }
        explanation
    }

    fn judged(
        &self,
        subject: String,
        handling: Handling,
        name: &Name,
        result: Result<RequestPermit<'_>, Denied>,
    ) -> Explanation {
        match result {
            Ok(permit) => {
                let credentials = permit.injections().map(|inject| Injection {
                    credential: inject.credential().to_string(),
                    placement: inject.placement().to_string(),
                    schemes: schemes(inject.placement()),
                });
                let credentials = credentials.collect();
                Explanation {
                    credentials,
                    ..self.allowed(subject, Some(handling), &[permit.grantor().clone()])
                }
            }
            Err(denied) => self.denied(subject, &denied, &self.policy.naming(name)),
        }
    }

    fn undecrypted(&self, subject: String, handling: Handling, grantor: &Grantor) -> Explanation {
        let note =
            "nothing is decrypted: the request is not seen, and no credential is put in".to_owned();
        Explanation {
            notes: vec![note],
            ..self.allowed(subject, Some(handling), std::slice::from_ref(grantor))
        }
    }

    /// Opaque TCP by name. The address does not matter: the sandbox gets one that stands for the name.
    fn opaque(&self, name: &Name, port: u16) -> Option<TcpPermit> {
        self.policy
            .opaque(Some(name), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
    }

    fn address_not_allowed(&self, authority: &Authority) -> Denied {
        Denied {
            reason: Reason::AddressNotAllowed,
            policy: self.policy.name().into(),
            host: Some(authority.host().clone()),
        }
    }

    fn allowed(
        &self,
        subject: String,
        handling: Option<Handling>,
        grantors: &[Grantor],
    ) -> Explanation {
        let decided_by = grantors
            .iter()
            .map(|grantor| self.decider(grantor))
            .collect();
        self.explanation(subject, Verdict::Allowed, handling, decided_by)
    }

    fn denied(&self, subject: String, denied: &Denied, grantors: &[Grantor]) -> Explanation {
        let decided_by = grantors
            .iter()
            .map(|grantor| self.decider(grantor))
            .collect();
        let explanation = self.explanation(subject, Verdict::Denied, None, decided_by);
        Explanation {
            reason: Some(denied.reason.as_str()),
            hint: Some(denied.reason.hint()),
            ..explanation
        }
    }

    fn explanation(
        &self,
        subject: String,
        verdict: Verdict,
        handling: Option<Handling>,
        decided_by: Vec<Decider>,
    ) -> Explanation {
        Explanation {
            policy: self.policy.name().to_owned(),
            subject,
            verdict,
            handling,
            reason: None,
            hint: None,
            decided_by,
            credentials: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn decider(&self, grantor: &Grantor) -> Decider {
        Decider {
            rule: grantor.to_string(),
            place: self.resources.place_of(self.policy.name(), grantor),
        }
    }
}

fn with_port(authority: &Authority) -> String {
    format!("{}:{}", authority.host(), authority.port())
}

fn schemes(placement: &Placement) -> Vec<Option<String>> {
    let Placement::Header { schemes, .. } = placement else {
        return Vec::new();
    };
    let named = schemes.named().map(|scheme| Some(scheme.to_owned()));
    named.chain(schemes.bare().then_some(None)).collect()
}

impl Explanation {
    pub(super) fn allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    pub(super) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, paint);
        text
    }

    fn write(&self, text: &mut String, paint: Paint) -> std::fmt::Result {
        let verdict = match (self.verdict, self.handling) {
            (Verdict::Allowed, Some(handling)) => {
                format!("{}: {}", paint.good("allowed"), handling.describe())
            }
            (Verdict::Allowed, None) => paint.good("allowed"),
            (Verdict::Denied, _) => format!(
                "{}: {}",
                paint.bad("denied"),
                self.reason.unwrap_or_default()
            ),
        };
        writeln!(text, "{}\n{verdict}", paint.strong(&self.subject))?;
        if let Some(hint) = self.hint {
            writeln!(text, "  hint: {hint}")?;
        }
        let by = if self.allowed() {
            "by"
        } else {
            "names the host:"
        };
        for Decider { rule, place } in &self.decided_by {
            let place = place
                .as_ref()
                .map(|place| paint.faint(&format!("  {place}")))
                .unwrap_or_default();
            writeln!(text, "  {by} {rule}{place}")?;
        }
        if self.decided_by.is_empty() && !self.allowed() {
            writeln!(text, "  nothing in the policy {:?} names it", self.policy)?;
        }
        for injection in &self.credentials {
            writeln!(text, "  puts in {}", injection.describe())?;
        }
        self.notes
            .iter()
            .try_for_each(|note| writeln!(text, "  {note}"))
    }
}

impl Handling {
    fn describe(self) -> &'static str {
        match self {
            Self::Intercept => "decrypted and judged",
            Self::Plaintext => "in plaintext, judged, without credentials",
            Self::Passthrough => "passed through undecrypted",
            Self::Tcp => "as opaque TCP",
        }
    }
}

impl Injection {
    fn describe(&self) -> String {
        let schemes: Vec<_> = self
            .schemes
            .iter()
            .map(|scheme| scheme.as_deref().unwrap_or("the value alone"))
            .collect();
        let behind = if schemes.is_empty() {
            String::new()
        } else {
            format!(" ({})", schemes.join(", "))
        };
        format!(
            "credential {} at {}{behind}",
            self.credential, self.placement
        )
    }
}

#[cfg(test)]
mod tests;
