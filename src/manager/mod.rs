//! The in-cluster manager: serves the platform and keeps the cluster as its document says. Must not use the bootstrap's engine.

pub mod alerts;
pub mod conditions;
pub mod drift;
pub mod kinds;
pub mod lease;
pub mod objects;
pub mod status;
