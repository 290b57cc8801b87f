//! Builds OCI artifacts (platform, charts) as bytes. Pure and deterministic: equal input, equal digest.
