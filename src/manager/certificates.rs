//! Serving certificates of webhooks: which are due, and the Secrets they become. Must not decide who needs one.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::core::DynamicObject;
use serde_json::json;

use super::{inputs::decode, kinds::SECRET};
use crate::{
    Error, Result,
    error::Context,
    pki::{self, Authority},
    ports::kubernetes::{Cluster, objects::text},
    render::CertificateRequest,
};

/// Longest time for one Secret.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a certificate has to be issued; `None` when the Secret is good.
pub fn due(
    request: &CertificateRequest,
    secret: Option<&DynamicObject>,
    authority: &str,
) -> Option<String> {
    let Some(secret) = secret else {
        return Some("it does not exist".into());
    };
    let (Some(certificate), Some(_)) = (decode(secret, "tls.crt"), decode(secret, "tls.key"))
    else {
        return Some("it holds no certificate with key".into());
    };
    // Several authorities may be listed while one follows another.
    if !decode(secret, "ca.crt").is_some_and(|ca| ca.contains(authority.trim())) {
        return Some("it holds another authority".into());
    }
    match pki::names(&certificate) {
        Err(e) => return Some(e.line()),
        Ok(names) => {
            if let Some(lacking) = request.dns_names.iter().find(|n| !names.contains(n)) {
                return Some(format!("the certificate is not for {lacking}"));
            }
        }
    }
    match pki::due_for_renewal(&certificate) {
        Err(e) => Some(e.line()),
        Ok(true) => Some("two thirds of its life are over".into()),
        Ok(false) => None,
    }
}

/// The Secret for a request, freshly signed.
pub fn issue(request: &CertificateRequest, authority: &Authority) -> Result<DynamicObject> {
    let leaf = authority.serving(&request.dns_names)?;
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": request.secret,
            "namespace": request.namespace,
            "labels": {"app.kubernetes.io/managed-by": "mctl"},
        },
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": STANDARD.encode(&leaf.certificate),
            "tls.key": STANDARD.encode(&leaf.key),
            "ca.crt": STANDARD.encode(&authority.certificate),
        },
    }))
    .context(|| {
        format!(
            "cannot form Secret {}/{}",
            request.namespace, request.secret
        )
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn request(names: &[&str]) -> CertificateRequest {
        CertificateRequest {
            namespace: "capi-system".into(),
            secret: "capi-webhook-service-cert".into(),
            dns_names: names.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn what_was_issued_is_good_until_something_differs() {
        let ca = Authority::new("mctl golem").unwrap();
        let one = request(&["capi-webhook-service.capi-system.svc"]);
        let secret = issue(&one, &ca).unwrap();
        assert_eq!(due(&one, Some(&secret), &ca.certificate), None);
        assert!(due(&one, None, &ca.certificate).is_some());
        let other = Authority::new("mctl other").unwrap();
        let why = due(&one, Some(&secret), &other.certificate).unwrap();
        assert!(why.contains("another authority"));
        let two = request(&["capi-webhook-service.capi-system.svc", "b.svc"]);
        assert!(
            due(&two, Some(&secret), &ca.certificate)
                .unwrap()
                .contains("b.svc")
        );
        let mut empty = secret.clone();
        empty.data["data"] = json!({});
        assert!(due(&one, Some(&empty), &ca.certificate).is_some());
    }
}
