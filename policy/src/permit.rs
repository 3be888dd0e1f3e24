//! Permits: the proofs of a decision.
//!
//! Only this crate can make one, so what takes a permit cannot run without the policy having been asked. A
//! permit is for one authority; it says what may be done and, for the audit and for `explain`, who granted it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::index::{Grant, GrantKind};
use crate::paths::RequestPath;
use crate::{Authority, CredentialName, Host, HttpRule, Placement, Reason, Requests};

/// Who allows something: the rule or the use of a credential, by its position in the resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grantor {
    /// `spec.allow[…]` of the policy.
    Rule(usize),
    /// `spec.use[…]` of the credential.
    Use {
        credential: CredentialName,
        index: usize,
    },
}

/// A refusal, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    pub reason: Reason,
    /// The name of the policy that refused.
    pub policy: Arc<str>,
    pub host: Option<Host>,
}

/// How a TLS connection is handled.
#[derive(Debug, Clone)]
pub enum Tls {
    Intercept(InterceptPermit),
    Passthrough(PassthroughPermit),
}

/// TLS to this authority may be terminated and its requests judged. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InterceptPermit(Arc<Site>);

/// Plain HTTP to this authority may be spoken, each request judged. No credential ever comes of it.
#[derive(Debug, Clone)]
pub struct PlaintextPermit(Arc<Site>);

/// TLS to this authority may pass undecrypted.
#[derive(Debug, Clone)]
pub struct PassthroughPermit {
    authority: Authority,
    grantor: Grantor,
}

/// TCP to this target may pass untouched.
#[derive(Debug, Clone)]
pub struct TcpPermit {
    target: TcpTarget,
    grantor: Grantor,
}

/// Where opaque TCP goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpTarget {
    /// To a name, which the daemon resolves.
    Name(Authority),
    /// To an address out of a rule's `cidrs`.
    Address(SocketAddr),
}

/// One request may be forwarded.
#[derive(Debug)]
pub struct RequestPermit<'a> {
    site: &'a Site,
    grantor: &'a Grantor,
    uses: SmallVec<[&'a Grant; 4]>,
}

/// One credential may be put into one placement of one request to one authority.
#[derive(Debug)]
pub struct InjectPermit<'a> {
    site: &'a Site,
    grant: &'a Grant,
    credential: &'a CredentialName,
    placement: &'a Placement,
}

/// What is granted for one authority.
#[derive(Debug)]
struct Site {
    authority: Authority,
    policy: Arc<str>,
    /// All of one handling, the most specific first.
    grants: SmallVec<[Arc<Grant>; 4]>,
}

impl InterceptPermit {
    pub(crate) fn new(
        authority: Authority,
        policy: Arc<str>,
        grants: SmallVec<[Arc<Grant>; 4]>,
    ) -> Self {
        Self(Arc::new(Site {
            authority,
            policy,
            grants,
        }))
    }

    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Everything that allows the connection, the most specific first.
    pub fn grantors(&self) -> impl Iterator<Item = &Grantor> {
        self.0.grants.iter().map(|grant| &grant.grantor)
    }

    pub fn policy(&self) -> &Arc<str> {
        &self.0.policy
    }

    /// Judges a request by its method and its path, percent-encoded as it was sent and without the query.
    pub fn request(&self, method: &str, path: &str) -> Result<RequestPermit<'_>, Denied> {
        self.0.request(method, path)
    }

    /// Whether some use of the credential names this authority, for some request at least.
    pub fn binds(&self, credential: &CredentialName) -> bool {
        self.0
            .grants
            .iter()
            .any(|grant| matches!(&grant.kind, GrantKind::Use(name, _) if name == credential))
    }
}

impl PlaintextPermit {
    pub(crate) fn new(
        authority: Authority,
        policy: Arc<str>,
        grants: SmallVec<[Arc<Grant>; 4]>,
    ) -> Self {
        Self(Arc::new(Site {
            authority,
            policy,
            grants,
        }))
    }

    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Everything that allows the connection, the most specific first.
    pub fn grantors(&self) -> impl Iterator<Item = &Grantor> {
        self.0.grants.iter().map(|grant| &grant.grantor)
    }

    pub fn policy(&self) -> &Arc<str> {
        &self.0.policy
    }

    /// As [`InterceptPermit::request`]; its injections are none.
    pub fn request(&self, method: &str, path: &str) -> Result<RequestPermit<'_>, Denied> {
        self.0.request(method, path)
    }
}

impl PassthroughPermit {
    pub(crate) fn new(authority: Authority, grantor: Grantor) -> Self {
        Self { authority, grantor }
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn grantor(&self) -> &Grantor {
        &self.grantor
    }
}

impl TcpPermit {
    pub(crate) fn new(target: TcpTarget, grantor: Grantor) -> Self {
        Self { target, grantor }
    }

    pub fn target(&self) -> &TcpTarget {
        &self.target
    }

    pub fn grantor(&self) -> &Grantor {
        &self.grantor
    }
}

impl Site {
    fn request(&self, method: &str, path: &str) -> Result<RequestPermit<'_>, Denied> {
        let path = RequestPath::parse(path);
        // A use that names neither methods nor paths says where the credential may go; it does not widen what
        // the policy's own `http` rules for the host admit.
        let ruled = self.grants.iter().any(|grant| grant.lists_requests());
        let mut grantor = None;
        let mut uses: SmallVec<[&Grant; 4]> = SmallVec::new();
        for grant in self
            .grants
            .iter()
            .filter(|grant| grant.admits(method, &path))
        {
            if !(ruled && grant.is_open_use()) {
                grantor.get_or_insert(&grant.grantor);
            }
            // Two patterns of one use may both name the host.
            if matches!(grant.kind, GrantKind::Use(..))
                && !uses
                    .iter()
                    .any(|known| std::ptr::eq(*known, Arc::as_ptr(grant)))
            {
                uses.push(grant);
            }
        }
        match grantor {
            Some(grantor) => Ok(RequestPermit {
                site: self,
                grantor,
                uses,
            }),
            None => Err(self.denied(method, &path)),
        }
    }

    fn denied(&self, method: &str, path: &RequestPath<'_>) -> Denied {
        let ruled = self.grants.iter().any(|grant| grant.lists_requests());
        let mut judges = self
            .grants
            .iter()
            .filter(|grant| !(ruled && grant.is_open_use()));
        let reason = if !judges.any(|grant| grant.admits_method(method)) {
            Reason::MethodNotAllowed
        } else if path.is_ambiguous() {
            Reason::PathAmbiguous
        } else {
            Reason::PathNotAllowed
        };
        Denied {
            reason,
            policy: Arc::clone(&self.policy),
            host: Some(self.authority.host().clone()),
        }
    }
}

impl Grant {
    /// A rule with a list of requests.
    fn lists_requests(&self) -> bool {
        matches!(self.kind, GrantKind::Intercept(Requests::Listed(_)))
    }

    /// A use of a credential that limits neither methods nor paths.
    fn is_open_use(&self) -> bool {
        matches!(&self.kind, GrantKind::Use(_, usage) if usage.methods.is_any() && usage.paths.is_any())
    }

    fn admits(&self, method: &str, path: &RequestPath<'_>) -> bool {
        match &self.kind {
            GrantKind::Intercept(requests) | GrantKind::Plaintext(requests) => {
                requests.admit_method(method, |rule| rule.paths.admits(path))
            }
            GrantKind::Use(_, usage) => usage.methods.admits(method) && usage.paths.admits(path),
            GrantKind::Passthrough | GrantKind::Tcp => false,
        }
    }

    fn admits_method(&self, method: &str) -> bool {
        match &self.kind {
            GrantKind::Intercept(requests) | GrantKind::Plaintext(requests) => {
                requests.admit_method(method, |_| true)
            }
            GrantKind::Use(_, usage) => usage.methods.admits(method),
            GrantKind::Passthrough | GrantKind::Tcp => false,
        }
    }
}

impl Requests {
    fn admit_method(&self, method: &str, and: impl Fn(&HttpRule) -> bool) -> bool {
        match self {
            Self::Any => crate::Methods::any().admits(method),
            Self::Listed(rules) => rules
                .iter()
                .any(|rule| rule.methods.admits(method) && and(rule)),
        }
    }
}

impl<'a> RequestPermit<'a> {
    pub fn authority(&self) -> &'a Authority {
        &self.site.authority
    }

    /// The most specific grant that admits the request.
    pub fn grantor(&self) -> &'a Grantor {
        self.grantor
    }

    /// Every credential and placement that may be filled in this request: those of the uses whose methods and
    /// paths admit it.
    pub fn injections(&self) -> impl Iterator<Item = InjectPermit<'a>> {
        let site = self.site;
        self.uses
            .iter()
            .filter_map(|grant| match &grant.kind {
                GrantKind::Use(credential, usage) => Some((*grant, credential, usage)),
                _ => None,
            })
            .flat_map(move |(grant, credential, usage)| {
                usage.placements.iter().map(move |placement| InjectPermit {
                    site,
                    grant,
                    credential,
                    placement,
                })
            })
    }
}

impl<'a> InjectPermit<'a> {
    pub fn credential(&self) -> &'a CredentialName {
        self.credential
    }

    pub fn placement(&self) -> &'a Placement {
        self.placement
    }

    pub fn authority(&self) -> &'a Authority {
        &self.site.authority
    }

    pub fn grantor(&self) -> &'a Grantor {
        &self.grant.grantor
    }
}

/// As a field path: `allow[1]`, `github use[0]`.
impl fmt::Display for Grantor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(index) => write!(f, "allow[{index}]"),
            Self::Use { credential, index } => write!(f, "credential {credential} use[{index}]"),
        }
    }
}
