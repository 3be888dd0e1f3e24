//! What every connection needs of the node: the sandboxes, and where to record.

use std::sync::Arc;

use ersatz_api::Limits;
use tokio::sync::Semaphore;

use crate::{audit::Audit, metrics::Metrics, sandboxes::Sandboxes};

/// Shared by all workers for as long as the daemon runs.
pub(crate) struct Node {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// One for each connection that may be open, of all sandboxes together.
    pub(crate) places: Arc<Semaphore>,
}
