//! The way to an upstream: resolve the name ourselves, vet every address, dial, verify.
//!
//! The address that the sandbox dialled plays no part. A connection is handed out only after the
//! certificate was verified for the name that policy decided on, so that no byte of a request can
//! precede the check.

mod dial;
mod handshake;
mod pool;

use std::io;

use ersatz_policy::Reason;
use thiserror::Error;

pub(crate) use dial::Dialer;
pub(crate) use pool::{Answer, Dialing, Lease, Pool, Transport, Upstreams};

use crate::{resolve::ResolveError, vet::Forbidden};

/// Why there is no connection to an upstream, or why it failed.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    #[error("the name cannot be resolved")]
    Resolve(#[from] ResolveError),
    #[error("every address of the name is forbidden")]
    Forbidden(#[from] Forbidden),
    #[error("no address answers")]
    Unreachable(#[source] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the certificate is not valid for the name")]
    Certificate(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("it does not speak the protocol that the sandbox speaks")]
    Alpn,
    #[error("it switched protocols without being asked")]
    Unasked,
    #[error("it broke the protocol or the connection")]
    Http(#[from] hyper::Error),
}

impl UpstreamError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Resolve(_) => Reason::NameNotFound,
            Self::Forbidden(_) => Reason::AddressForbidden,
            Self::Unreachable(_) => Reason::UpstreamUnreachable,
            Self::Timeout => Reason::UpstreamTimeout,
            Self::Certificate(_) => Reason::UpstreamCertificate,
            Self::Handshake(_) | Self::Alpn | Self::Unasked | Self::Http(_) => {
                Reason::UpstreamProtocol
            }
        }
    }

    /// Sorts a failed handshake: a certificate that does not verify is not a protocol error.
    fn of_handshake(error: io::Error) -> Self {
        let is_certificate = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|tls| matches!(tls, rustls::Error::InvalidCertificate(_)));
        if is_certificate {
            Self::Certificate(error)
        } else {
            Self::Handshake(error)
        }
    }
}
