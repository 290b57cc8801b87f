//! Tests on a real kube-apiserver with etcd, in one binary: `cargo xtask test apiserver`. Needs no engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../support/apiserver.rs"]
mod server;

mod manager;
mod moving;

use mctl::environment::{Endpoint, Environment};

/// What a bootstrap with a registry of its own found out.
fn environment(ca_certificate: &str) -> Environment {
    Environment {
        ca_certificate: ca_certificate.to_owned(),
        mirror: "mctl-golem-registry:5000".into(),
        mctl_image: "mctl.giantswarm.io/mctl:0.1.0".into(),
        control_plane_endpoint: Some(Endpoint {
            host: "172.18.0.3".into(),
            port: 6443,
        }),
        engine_socket: "/var/run/docker.sock".into(),
        ..Environment::default()
    }
}
