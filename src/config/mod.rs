//! The one document, a `ManagementCluster`: types, reading, validation, schema. Must not import other modules of mctl than `error`.

mod check;
mod cidr;
mod forms;
mod hint;
mod load;
mod problem;
mod scalar;
mod schema;
mod syntax;
mod tree;
mod types;
mod validate;

pub use load::{load, load_for};
pub use problem::{Path, Problem, Problems, Span};
pub use schema::{API_VERSION, KIND, crd, schema};
pub use types::*;
pub use validate::{KUBERNETES_MINORS, validate};
