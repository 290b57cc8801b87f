//! The one document, a `ManagementCluster`: types, reading, validation, schema. Must not import other modules of mctl than `error`.

mod types;

pub use types::*;
