//! When a serving certificate in a file has to be issued anew. Must not issue it.

use x509_parser::{extensions::ParsedExtension, pem::parse_x509_pem, prelude::X509Certificate};

use super::{due_for_renewal, names};

/// Why a certificate for a name has to be issued anew by an authority (PEM); `None` when it is good.
pub fn serving_due(certificate: &str, name: &str, authority: &str) -> Option<String> {
    match names(certificate) {
        Err(e) => return Some(e.line()),
        Ok(all) if !all.iter().any(|n| n == name) => {
            return Some(format!("the certificate is not for {name}"));
        }
        Ok(_) => {}
    }
    // Authorities of one cluster have one name: their keys tell them apart.
    let signer = with(certificate, |c| identifier(c, true));
    let own = with(authority, |c| identifier(c, false));
    if signer.is_none() || signer != own {
        return Some("another authority signed it".into());
    }
    match due_for_renewal(certificate) {
        Err(e) => Some(e.line()),
        Ok(true) => Some("two thirds of its life are over".into()),
        Ok(false) => None,
    }
}

fn with<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> Option<T>) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    look(&pem.parse_x509().ok()?)
}

/// Identifier of the key that signed a certificate, or of its own.
fn identifier(certificate: &X509Certificate<'_>, of_signer: bool) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(a) if of_signer => {
                a.key_identifier.as_ref().map(|k| k.0.to_vec())
            }
            ParsedExtension::SubjectKeyIdentifier(k) if !of_signer => Some(k.0.to_vec()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    #[test]
    fn issuer_and_name_count() {
        let (one, two) = (Authority::new("a").unwrap(), Authority::new("a").unwrap());
        let leaf = one.serving_for_life(&["r".to_owned()]).unwrap().certificate;
        assert_eq!(serving_due(&leaf, "r", &one.certificate), None);
        let why = |name: &str, authority: &str| serving_due(&leaf, name, authority).unwrap();
        assert!(why("s", &one.certificate).contains("not for s"));
        assert!(why("r", &two.certificate).contains("another authority"));
        assert!(why("r", "rubbish").contains("another authority"));
        assert!(serving_due("rubbish", "r", &one.certificate).is_some());
    }
}
