//! The trust core of ersatz: what a policy is, and what it permits.
//!
//! Nothing here does I/O, reads a clock or awaits; the same question always has the same answer. A caller
//! asks in the order in which a connection unfolds:
//!
//! 1. [`Policy::resolves`]: may the sandbox know this name at all?
//! 2. [`Policy::opaque`], [`Policy::tls`], [`Policy::plaintext`]: may it connect, and how is it handled?
//! 3. [`InterceptPermit::request`]: may it send this request?
//! 4. [`RequestPermit::injections`]: which credentials may be put where in it?
//!
//! Each answer is a *permit*, whose fields are private: code that opens a connection or injects a secret takes
//! the permit as its argument and so cannot run without the decision. All names are parsed once, at the edge,
//! into [`Name`] and [`Authority`]; everything behind compares canonical values only. An empty list never
//! means "all", and whatever is ambiguous is refused.
#![forbid(unsafe_code)]

mod authority;
mod cidr;
mod compile;
mod credential;
mod index;
mod methods;
mod name;
mod paths;
mod pattern;
mod permit;
mod placement;
mod policy;
mod reason;
mod rule;
mod stub;

pub use authority::{Authority, AuthorityError, Host};
pub use cidr::{Cidr, CidrError};
pub use compile::PolicyError;
pub use credential::{Credential, CredentialName, CredentialNameError, Use};
pub use methods::{MethodError, Methods};
pub use name::{Name, NameError};
pub use paths::{PathPattern, PathPatternError, Paths};
pub use pattern::{HostPattern, PatternError};
pub use permit::{
    Denied, Grantor, InjectPermit, InterceptPermit, PassthroughPermit, PlaintextPermit,
    RequestPermit, TcpPermit, TcpTarget, Tls,
};
pub use placement::{BasicPart, HeaderName, Placement, PlacementError, Schemes};
pub use policy::Policy;
pub use reason::{Fault, Reason};
pub use rule::{Destination, HttpRule, Mode, Requests, Rule};
pub use stub::{Shape, ShapeError, Stub};
