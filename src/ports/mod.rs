//! The outside world as small seams: processes, container engine, Kubernetes API, files. Nothing here may know about plans or steps.

pub mod clock;
pub mod docker;
pub mod files;
pub mod json_lines;
pub mod kubernetes;
pub mod process;
