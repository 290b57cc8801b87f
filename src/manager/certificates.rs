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

/// Looks at every Secret and issues what is due; returns what was issued and why. One that cannot be kept holds up none of
/// the others: the first failure is told at the end.
pub async fn keep(
    cluster: &Cluster,
    requests: &[CertificateRequest],
    authority: &Authority,
) -> (Vec<String>, Result<()>) {
    let mut issued = Vec::new();
    let mut failed: Option<(Error, usize)> = None;
    for request in requests {
        let id = format!("Secret {}/{}", request.namespace, request.secret);
        let work = tokio::time::timeout(LIMIT, keep_one(cluster, request, authority));
        let result = work.await.unwrap_or_else(|_| {
            Err(Error::failed(format!("cannot keep {id}"))
                .because(format!("no success within {} s", LIMIT.as_secs())))
        });
        match result {
            Ok(None) => {}
            Ok(Some(why)) => {
                tracing::info!(secret = %id, %why, "issued a certificate");
                issued.push(format!("{id}: {why}"));
            }
            Err(e) => {
                tracing::warn!(secret = %id, error = %e.line(), "cannot keep a certificate");
                failed = Some(failed.map_or((e, 0), |(first, n)| (first, n + 1)));
            }
        }
    }
    let result = match failed {
        None => Ok(()),
        Some((e, 0)) => Err(e),
        Some((e, more)) => Err(e.because(format!("and {more} more certificates failed"))),
    };
    (issued, result)
}

/// Issues one certificate if it is due; returns why.
async fn keep_one(
    cluster: &Cluster,
    request: &CertificateRequest,
    authority: &Authority,
) -> Result<Option<String>> {
    let namespace = Some(request.namespace.as_str());
    let live = cluster
        .get(&SECRET.gvk(), namespace, &request.secret)
        .await?;
    let Some(why) = due(request, live.as_ref(), &authority.certificate) else {
        return Ok(None);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::fake::{Answer, cluster};

    fn request(namespace: &str) -> CertificateRequest {
        CertificateRequest {
            namespace: namespace.into(),
            secret: "cert".into(),
            dns_names: vec!["a.svc".into()],
        }
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_kept_holds_up_none_of_the_others() {
        let (cluster, seen) = cluster(|method, path, body| match (method, path) {
            ("GET", p) if p.contains("/bad/") => Answer::refused(403, "Forbidden"),
            ("GET", _) => Answer::missing("secrets"),
            ("PATCH", _) => Answer::Ok(body),
            _ => Answer::refused(500, "InternalError"),
        });
        let authority = Authority::new("test").unwrap();
        let requests = ["bad", "good", "bad", "better"].map(request);
        let (issued, result) = keep(&cluster, &requests, &authority).await;
        assert_eq!(issued.len(), 2, "{issued:?}");
        let told = result.unwrap_err().line();
        assert!(
            told.contains("bad/cert") && told.contains("1 more"),
            "{told}"
        );
        assert_eq!(seen.of("PATCH").len(), 2);
    }

    #[tokio::test]
    async fn one_of_another_type_is_made_anew() {
        let opaque = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "cert", "namespace": "good", "uid": "u1"}});
        let (cluster, seen) = cluster(move |method, _, body| match method {
            "GET" => Answer::Ok(opaque.clone()),
            _ => Answer::Ok(body),
        });
        let authority = Authority::new("test").unwrap();
        let (issued, result) = keep(&cluster, &[request("good")], &authority).await;
        result.unwrap();
        assert_eq!(issued.len(), 1);
        let deleted = seen.of("DELETE");
        assert_eq!(deleted[0].1["preconditions"]["uid"], "u1");
        assert_eq!(seen.of("PATCH").len(), 1);
    }
}
