//! The in-cluster manager: serves the platform and keeps the cluster as its document says. Must not use the bootstrap's engine.
//!
//! ```text
//! document, environment, CA ─watch─▶ inputs ─▶ rendering ─▶ registry (every replica)
//!                                                  │
//!                     lease ─▶ leader ─┬─ cluster: Cluster API objects
//!                                      ├─ seed: Flux and what it hangs on
//!                                      ├─ certificates of webhooks
//!                                      ├─ repair: drift ─▶ Flux looks at once
//!                                      └─ status, events
//! ```

pub mod alerts;
mod backoff;
mod certificates;
pub mod conditions;
mod document;
mod drift;
mod events;
mod inputs;
mod keeper;
pub mod kinds;
mod leader;
mod metrics;
mod publish;
mod relay;
mod rendering;
mod repair;
mod run;
mod server;
mod shared;
pub mod status;
mod stores;

pub use document::POOL_LABEL;
pub use run::{Options, run, run_with};
