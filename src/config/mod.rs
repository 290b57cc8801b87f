//! The one document, a `ManagementCluster`: types, reading, validation, schema. Must not import other modules of mctl than `error`.

mod check;
mod cidr;
mod emit;
mod forms;
mod hint;
mod load;
mod name;
mod problem;
mod scalar;
mod schema;
mod syntax;
mod template;
mod tree;
mod types;
mod validate;

pub use cidr::Cidr;
pub use emit::to_yaml;
pub use load::{decode, load, load_for};
pub use name::ClusterName;
pub use problem::{Path, Problem, Problems, Span};
pub use schema::{API_VERSION, KIND, crd, schema};
pub use template::template;
pub use tree::MAX_BYTES;
pub use types::*;
pub use validate::{KUBERNETES_MINORS, Known, validate};
