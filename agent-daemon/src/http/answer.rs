//! What a sandbox reads when it is refused: typed, so that an agent can act on it.

use std::sync::Arc;

use bytes::Bytes;
use ersatz_policy::{Denied, Reason};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tracing::debug;

use super::{Exchange, Reply, authority::AuthorityError};
use crate::{inject::InjectError, upstream::UpstreamError};

static REASON: HeaderName = HeaderName::from_static("x-ersatz-reason");

/// Why a request gets no answer of its upstream.
pub(super) enum Refusal {
    Denied(Denied),
    Authority(AuthorityError),
    Inject(InjectError),
    Upstream(UpstreamError),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

impl From<InjectError> for Refusal {
    fn from(error: InjectError) -> Self {
        Self::Inject(error)
    }
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl Refusal {
    fn reason(&self) -> Reason {
        match self {
            Self::Denied(denied) => denied.reason,
            Self::Authority(error) => error.reason(),
            Self::Inject(error) => error.reason(),
            Self::Upstream(error) => error.reason(),
        }
    }

    /// The answer: status, `x-ersatz-reason`, and the same with a hint as JSON.
    pub(super) fn answer(
        self,
        policy: &str,
        host: &str,
        exchange: Arc<Exchange>,
    ) -> Response<Reply> {
        let reason = self.reason();
        if let Self::Upstream(error) = &self {
            debug!(error = error as &dyn std::error::Error, "upstream failed");
        }
        let body = json!({"error": {
            "reason": reason.as_str(),
            "host": host,
            "policy": policy,
            "hint": reason.hint(),
        }});
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN);
        exchange.refused(reason);
        exchange.answered(status, None);
        let mut response = Response::new(Reply::own(Bytes::from(body.to_string()), exchange));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(REASON.clone(), HeaderValue::from_static(reason.as_str()));
        response
    }
}
