//! mctl turns one document, a `ManagementCluster`, into a running, self-managed management cluster and keeps it so.
//!
//! ```text
//! document ─▶ plan ─▶ steps (engine) ─▶ events ─▶ journal
//!     │         ▲                          └────▶ view ─▶ bars │ lines │ json
//!     └▶ render ┘  (catalog + environment → Kubernetes objects; also used by the manager)
//! ```
//! `config`, `catalog`, `render` and `plan` are pure; `ports` are the edges; `manager` shares the pure parts, not the engine.

pub mod bundle;
pub mod catalog;
pub mod cli;
pub mod cluster_api;
pub mod config;
pub mod engine;
pub mod env;
pub mod environment;
pub mod error;
pub mod launchpad;
pub mod manager;
pub mod ownership;
pub mod pki;
pub mod plan;
pub mod ports;
pub mod preflight;
pub mod prepare;
pub mod registry;
pub mod render;
pub mod report;
pub mod session;
pub mod steps;
pub mod telemetry;
pub mod verify;

pub use error::{Error, Kind, Result};

/// Version of this executable, without a leading `v`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Group of mctl's own API types and host part of its own artifacts' names.
pub const GROUP: &str = "mctl.giantswarm.io";
/// Field manager of everything that mctl applies.
pub const FIELD_MANAGER: &str = "mctl";
