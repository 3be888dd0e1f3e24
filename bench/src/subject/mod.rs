//! What is measured.

pub(crate) mod bare;
pub(crate) mod relay;
