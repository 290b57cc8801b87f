//! What mctl knows of Cluster API beyond plain objects: moving clusters between management clusters.
//!
//! ```text
//! inventory (lists) ─▶ plan (pure) ─▶ move_objects: pause ─▶ fence ─▶ copy ─▶ prove ─▶ COMMIT ─▶ remove ─▶ unpause
//!                                        └──────────────── journal: a killed move goes on from here ────────────┘
//! ```
//! Must not know which clusters mctl itself made.

pub mod compare;
pub mod export;
pub mod inventory;
pub mod journal;
pub mod marks;
pub mod move_objects;
pub mod object;
pub mod plan;
pub mod ready;

pub use ready::wait_ready;
