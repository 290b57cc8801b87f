//! Keeps the serving certificates of webhooks good. Must not decide who needs one.

use std::time::Duration;

use super::kinds::SECRET;
use crate::{
    Error, Result,
    pki::{Authority, CertificateRequest, due, issue},
    ports::kubernetes::{Cluster, objects::text},
};

/// Longest time for one Secret.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks at every Secret and issues what is due; returns what was issued and why.
pub async fn keep(
    cluster: &Cluster,
    requests: &[CertificateRequest],
    authority: &Authority,
) -> Result<Vec<String>> {
    let mut issued = Vec::new();
    for request in requests {
        let work = async {
            let namespace = Some(request.namespace.as_str());
            let live = cluster
                .get(&SECRET.gvk(), namespace, &request.secret)
                .await?;
            let Some(why) = due(request, live.as_ref(), &authority.certificate) else {
                return Ok::<_, Error>(None);
            };
            let wrong_type = live
                .as_ref()
                .filter(|s| text(s, "/type") != "kubernetes.io/tls");
            if let Some(old) = wrong_type {
                // The type of a Secret cannot be changed.
                cluster.delete(old, &()).await?;
            }
            cluster.apply(&issue(request, authority)?, &()).await?;
            Ok(Some(why))
        };
        let id = format!("Secret {}/{}", request.namespace, request.secret);
        let why = tokio::time::timeout(LIMIT, work).await.map_err(|_| {
            Error::failed(format!("cannot keep {id}"))
                .because(format!("no success within {} s", LIMIT.as_secs()))
        })??;
        if let Some(why) = why {
            tracing::info!(secret = %id, %why, "issued a certificate");
            issued.push(format!("{id}: {why}"));
        }
    }
    Ok(issued)
}
