//! The kept kubeconfig of the new cluster: Cluster API renews the original before its client certificate ends, and the copy on
//! this host follows whenever the cluster is reached. Must not change anything but that copy.

use std::time::Duration;

use serde_json::Value;

use super::state::{MANAGEMENT, State};
use crate::{
    Result,
    catalog::yaml,
    ports::{
        files::Told,
        kubernetes::{Cluster, kinds::SECRET, names::ORGANIZATION, objects::secret_text},
    },
};

/// Longest time for a look; nobody waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// Takes over a renewed client certificate. Whatever stands in the way, the kept kubeconfig is as good as before.
pub async fn follow(state: &State, cluster: &Cluster) {
    let work = async {
        let Some(kept) = state.kubeconfig(MANAGEMENT)? else {
            return Ok(());
        };
        let name = format!("{}-kubeconfig", state.cluster);
        let secret = cluster
            .get(&SECRET.gvk(), Some(ORGANIZATION), &name)
            .await?;
        let current = secret.and_then(|s| secret_text(&s, "value"));
        match current.and_then(|c| renewed(&kept, &c)) {
            Some(new) => state.files().keep(&state.file(MANAGEMENT), new.as_bytes()),
            None => Ok(()),
        }
    };
    let result: Result<Result<()>, _> = tokio::time::timeout(LIMIT, work).await;
    match result {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!(error = %e.line(), "the kept kubeconfig is not looked after"),
        Err(_) => tracing::debug!("the kubeconfig was not read in time"),
    }
}

/// The kept text with the current client certificate and key, if these are others and of the same cluster. The address stays:
/// it may have been put right on this host.
fn renewed(kept: &str, current: &str) -> Option<String> {
    let read = |text: &str| -> Option<[String; 3]> {
        let value: Value = yaml::one(text.as_bytes()).ok()?;
        let at = |pointer: &str| value.pointer(pointer)?.as_str().map(str::to_owned);
        Some([
            at("/clusters/0/cluster/certificate-authority-data")?,
            at("/users/0/user/client-certificate-data")?,
            at("/users/0/user/client-key-data")?,
        ])
    };
    let (old, new) = (read(kept)?, read(current)?);
    let all_there = old.iter().chain(&new).all(|part| !part.is_empty());
    (all_there && old[0] == new[0] && old[1] != new[1])
        .then(|| kept.replace(&old[1], &new[1]).replace(&old[2], &new[2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str, ca: &str, certificate: &str, key: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: https://{server}:6443\n  name: golem\nusers:\n- name: golem-admin\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        )
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_the_address_stays() {
        let kept = config("10.0.0.9", "Q0E=", "T05F", "S0VZMQ==");
        let current = config("10.0.0.3", "Q0E=", "VFdP", "S0VZMg==");
        assert_eq!(
            renewed(&kept, &current).unwrap(),
            config("10.0.0.9", "Q0E=", "VFdP", "S0VZMg==")
        );
        assert_eq!(renewed(&kept, &kept), None);
    }

    #[test]
    fn another_cluster_or_rubbish_changes_nothing() {
        let kept = config("10.0.0.9", "Q0E=", "T05F", "S0VZMQ==");
        for current in [
            config("10.0.0.9", "T1RIRVI=", "VFdP", "S0VZMg=="),
            config("10.0.0.9", "Q0E=", "''", "''"),
            String::new(),
            "{".into(),
        ] {
            assert_eq!(renewed(&kept, &current), None, "{current}");
        }
    }
}
