//! Names and labels that say whose something is. Pure; must not ask anybody.

pub use crate::ports::docker::{CA_LABEL as CA, LABEL as CLUSTER, RUN_LABEL as RUN};

/// Label that kind, and Cluster API's Docker provider, put on a cluster's containers.
pub const KIND_CLUSTER: &str = "io.x-k8s.kind.cluster";
/// Their label for what a container is in the cluster.
pub const KIND_ROLE: &str = "io.x-k8s.kind.role";

/// Marks of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The run that made it; empty if it does not say.
    pub run: String,
    /// Digest of the CA certificate that it was made with; empty if it does not say.
    pub ca: String,
}

/// Digest of a CA certificate, as it stands in [`CA`].
pub fn ca_digest(certificate: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(certificate.trim().as_bytes()))
}

/// Name of the registry container. The engine gives a name away only once: whoever has it, owns the cluster's name there.
pub fn registry_name(cluster: &str) -> String {
    format!("mctl-{cluster}-registry")
}

/// Name of the temporary kind cluster of a run.
pub fn temporary_name(cluster: &str, run: &str) -> String {
    format!("mctl-{cluster}-{run}")
}

/// The run of a temporary kind cluster; `None` for a kind cluster that is none of this cluster.
pub fn run_of_temporary<'a>(cluster: &str, kind_cluster: &'a str) -> Option<&'a str> {
    let run = kind_cluster
        .strip_prefix("mctl-")?
        .strip_prefix(cluster)?
        .strip_prefix('-')?;
    is_run(run).then_some(run)
}

/// What a run may be called.
pub fn is_run(text: &str) -> bool {
    (1..=8).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_cluster_belongs_to_exactly_one_cluster() {
        assert_eq!(run_of_temporary("demo", "mctl-demo-68a1f"), Some("68a1f"));
        assert_eq!(
            run_of_temporary("demo", &temporary_name("demo", "0a")),
            Some("0a")
        );
        for other in [
            "mctl-demo-two-68a1f",
            "mctl-dem-68a1f",
            "mctl-demo",
            "mctl-demo-",
            "mctl-demo-registry",
            "mctl-demo-123456789",
            "demo",
        ] {
            assert_eq!(run_of_temporary("demo", other), None, "{other}");
        }
    }
}
