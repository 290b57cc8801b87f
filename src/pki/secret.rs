//! Serving certificates as Secrets that workloads mount: how they look and when one is due. Must not talk to a cluster.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::core::DynamicObject;
use serde_json::json;

use super::{Authority, due_for_renewal, names};
use crate::{Result, error::Context, ports::kubernetes::objects::secret_text};

/// A serving certificate that a workload mounts as a Secret of type kubernetes.io/tls (with `ca.crt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// DNS names of the certificate.
    pub dns_names: Vec<String>,
}

/// Why a certificate has to be issued; `None` when the Secret is good.
pub fn due(
    request: &CertificateRequest,
    secret: Option<&DynamicObject>,
    authority: &str,
) -> Option<String> {
    let Some(secret) = secret else {
        return Some("it does not exist".into());
    };
    let (Some(certificate), Some(_)) = (
        secret_text(secret, "tls.crt"),
        secret_text(secret, "tls.key"),
    ) else {
        return Some("it holds no certificate with key".into());
    };
    // Several authorities may be listed while one follows another.
    if !secret_text(secret, "ca.crt").is_some_and(|ca| ca.contains(authority.trim())) {
        return Some("it holds another authority".into());
    }
    match names(&certificate) {
        Err(e) => return Some(e.line()),
        Ok(names) => {
            if let Some(lacking) = request.dns_names.iter().find(|n| !names.contains(n)) {
                return Some(format!("the certificate is not for {lacking}"));
            }
        }
    }
    match due_for_renewal(&certificate) {
        Err(e) => Some(e.line()),
        Ok(true) => Some("two thirds of its life are over, or it is not valid yet".into()),
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
