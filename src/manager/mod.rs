//! The in-cluster manager: serves the platform and keeps the cluster as its document says. Must not use the bootstrap's engine.
//!
//! ```text
//! document, environment, CA ─watch─▶ inputs ─▶ rendering ─▶ registry (every replica)
//!                                                  │
//!                     lease ─▶ leader ─┬─ cluster: Cluster API objects
//!                                      ├─ seed: Flux and what it hangs on
//!                                      ├─ certificates of webhooks
//!                                      ├─ what is in force, Alertmanager's token
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
#[cfg(test)]
mod fake;
pub mod in_force;
mod inputs;
mod keeper;
pub mod kinds;
mod leader;
mod leftovers;
mod metrics;
#[cfg(test)]
mod planted;
mod publish;
mod relay;
mod remember;
mod rendering;
mod repair;
mod run;
mod server;
mod shared;
pub mod status;
mod stores;
mod token;
mod told;

pub use document::POOL_LABEL;
pub use run::{Options, run, run_with};
