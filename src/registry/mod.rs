//! A read-only OCI registry over TLS: mctl's own artifacts and, with a bundle, every image. Must not know about clusters.

pub mod artifact;
pub mod own_image;
