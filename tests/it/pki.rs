//! The certificate authority: what it refuses, what it hides, and that rustls accepts what it signs.

use std::{sync::Arc, time::Duration};

use mctl::pki::{Authority, remaining_life};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

fn verifier(authority: &Authority) -> Arc<WebPkiServerVerifier> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .unwrap()
}

#[test]
fn clients_accept_a_leaf_for_its_names_only() {
    let authority = Authority::new("mctl test").unwrap();
    let names = ["registry.example", "127.0.0.1", "::1"].map(str::to_owned);
    let leaf = authority.serving(&names).unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let verify = |verifier: &WebPkiServerVerifier, name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(&certificate, &[], &name, &[], UnixTime::now())
            .is_ok()
    };
    for name in &names {
        assert!(verify(&verifier(&authority), name), "{name}");
    }
    assert!(!verify(&verifier(&authority), "other.example"));
    let stranger = Authority::new("mctl test").unwrap();
    assert!(!verify(&verifier(&stranger), "registry.example"));
}

#[test]
fn an_authority_read_back_signs_as_before() {
    let first = Authority::new("mctl test").unwrap();
    let again = Authority::from_pem(&first.certificate, first.key()).unwrap();
    let leaf = again.serving(&["a.example".to_owned()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    verifier(&first)
        .verify_server_cert(&certificate, &[], &name, &[], UnixTime::now())
        .unwrap();
    let day = Duration::from_secs(86_400);
    let life = remaining_life(&leaf.certificate).unwrap();
    assert!(life > 89 * day && life <= 90 * day);
    assert!(remaining_life(&first.certificate).unwrap() > 3650 * day);
}

#[test]
fn mismatched_or_broken_pem_is_refused() {
    let one = Authority::new("one").unwrap();
    let two = Authority::new("two").unwrap();
    let leaf = one.serving(&["a.example".to_owned()]).unwrap();
    for (certificate, key, word) in [
        (one.certificate.as_str(), two.key(), "does not belong"),
        (leaf.certificate.as_str(), leaf.key.as_str(), "authority's"),
        ("rubbish", one.key(), "no certificate"),
        (one.certificate.as_str(), "rubbish", "cannot be read"),
    ] {
        let error = Authority::from_pem(certificate, key).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(one.serving(&[]).is_err());
    assert!(one.serving(&["ü.example".to_owned()]).is_err());
}

#[test]
fn keys_never_show() {
    let authority = Authority::new("mctl test").unwrap();
    let leaf = authority.serving(&["a.example".to_owned()]).unwrap();
    let shown = format!("{authority:?} {leaf:?}");
    assert!(shown.contains("BEGIN CERTIFICATE"));
    assert!(!shown.contains("PRIVATE"));
    for line in authority
        .key()
        .lines()
        .chain(leaf.key.lines())
        .filter(|l| !l.starts_with('-'))
    {
        assert!(!shown.contains(line));
    }
}
