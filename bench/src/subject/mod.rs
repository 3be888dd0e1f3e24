//! What is measured.

pub mod bare;
pub mod relay;
