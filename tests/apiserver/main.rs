//! Tests on a real kube-apiserver with etcd, in one binary: `cargo xtask test apiserver`. Needs no engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/apiserver.rs"]
mod server;

mod manager;
mod moving;
