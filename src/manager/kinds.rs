//! Kinds and names that the manager works on. Must not do anything.

pub use crate::ports::kubernetes::{kinds::*, names::*};
