//! Why a connection is refused before any request.

use std::io;

use ersatz_policy::{Denied, Reason};
use thiserror::Error;
use tokio::time::error::Elapsed;

use crate::{detect::DetectError, tls::CaError, upstream::UpstreamError};

#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("policy denies it")]
    Policy(Reason),
    #[error("it cannot be told what it speaks")]
    Detect(#[from] DetectError),
    #[error("it says or does nothing in time")]
    Late(#[from] Elapsed),
    #[error("it names no server")]
    NoServerName,
    #[error("it speaks no protocol that is allowed here")]
    Protocol,
    #[error("it and the upstream speak no common version of HTTP")]
    NoCommonVersion,
    #[error("the TLS handshake with the sandbox failed")]
    Handshake(#[source] io::Error),
    #[error("it is not valid HTTP")]
    Malformed(#[source] hyper::Error),
    #[error("no certificate could be made")]
    Mint(#[from] CaError),
    #[error("the upstream cannot be reached")]
    Upstream(#[from] UpstreamError),
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Policy(denied.reason)
    }
}

impl Refused {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Policy(reason) => *reason,
            Self::Detect(error) => error.reason(),
            Self::Late(_) => Reason::Timeout,
            Self::NoServerName => Reason::NoServerName,
            Self::Protocol => Reason::ProtocolNotAllowed,
            Self::NoCommonVersion | Self::Handshake(_) => Reason::TlsHandshake,
            Self::Malformed(error) if error.is_parse_too_large() => Reason::RequestTooLarge,
            Self::Malformed(_) => Reason::RequestMalformed,
            Self::Mint(_) => Reason::Internal,
            Self::Upstream(error) => error.reason(),
            Self::Io(_) => Reason::UpstreamProtocol,
        }
    }
}
