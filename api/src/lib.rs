//! The resources that a user writes: `Credential`, `EgressPolicy` and `NodeConfig`.
//!
//! A text becomes a located [`tree`], the tree is decoded into a *spec* (a plain serde struct, one file a kind,
//! as the user sees it), and the spec is converted into what the trust core takes. Everything is strict: an
//! unknown field, an empty list, a field without a value is an error, with file, line, column, field and a
//! hint, and all errors of all files are reported at once. [`Resources`] is the way in.
#![forbid(unsafe_code)]

mod advice;
mod credential;
mod decode;
mod document;
mod egress_policy;
mod error;
mod lists;
mod node_config;
mod place;
mod resources;
mod source;
mod span;
mod tree;

pub use credential::{BasicPartSpec, CredentialSpec, PlacementSpec, StubSpec, UseSpec};
pub use document::Metadata;
pub use egress_policy::{EgressPolicySpec, HttpRuleSpec, ModeSpec, RuleSpec, SchemeSpec};
pub use error::{LoadError, LoadErrors};
pub use node_config::{
    AuditSpec, Limits, LimitsSpec, NodeConfig, NodeConfigSpec, RootsSpec, UpstreamSpec,
};
pub use place::{FieldPath, Mark, Place};
pub use resources::{GrantedCredential, Resources};
pub use source::{EnvSource, ExecSource, FileSource, Source, SourceSpec};
pub use span::Span;
