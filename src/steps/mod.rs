//! The steps of a bootstrap, one file per stage. Steps talk through `ports` only and keep what they find in [`state::State`].

pub mod state;
