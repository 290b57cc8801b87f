//! Fast tests of the library from outside, in one binary to link once. Needs no cluster and no engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bundle;
mod bundle_fixture;
mod bundle_hostile;
mod catalog;
mod cluster;
mod config;
mod errors;
#[path = "../support/kubernetes/mod.rs"]
mod fake;
mod move_objects;
mod names;
mod output;
mod ownership;
mod pki;
mod platform;
mod platform_alerts;
mod platform_pods;
mod registry;
mod registry_artifact;
mod registry_tls;
mod render;
mod render_properties;
mod render_schema;
mod requests;
mod samples;
mod tied;
