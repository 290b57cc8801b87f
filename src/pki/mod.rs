//! The management cluster's own certificate authority and the short-lived leaves it signs. Must not store anything.

mod life;
mod secret;
mod serving;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use zeroize::Zeroizing;

use crate::{Error, Result, error::Context};

pub use life::{due_for_renewal, is_due, names, remaining_life};
pub use secret::{CertificateRequest, due, issue};
pub use serving::serving_due;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of new machines are often a little behind.
const BACK_DATED: Duration = Duration::from_secs(5 * 60);
const CA_LIFE: Duration = Duration::from_secs(3652 * DAY.as_secs());
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());

/// A certificate authority: certificate and private key as PEM. Debug never shows the key.
#[derive(Clone)]
pub struct Authority {
    /// CA certificate (PEM), valid ten years.
    pub certificate: String,
    key: Zeroizing<String>,
}

/// A leaf certificate with its key, as PEM. Debug never shows the key.
#[derive(Clone)]
pub struct Leaf {
    /// Certificate (PEM).
    pub certificate: String,
    /// Private key (PKCS #8 PEM).
    pub key: String,
}

impl Authority {
    /// Makes a new CA, ECDSA P-256.
    pub fn new(common_name: &str) -> Result<Self> {
        let what = || format!("cannot make the certificate authority {common_name:?}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context(what)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, CA_LIFE);
        let certificate = params.self_signed(&key).context(what)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Reads a CA back from PEM; the key must be the certificate's and the certificate a CA's.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let what = || "the certificate authority cannot be read".to_owned();
        let pair = KeyPair::from_pem(key).context(what)?;
        life::check_authority(certificate, &pair)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: Zeroizing::new(key.to_owned()),
        })
    }

    /// Private key (PEM), to be stored with mode 0600 or in a Secret.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Signs a serving certificate for these DNS names and IP addresses, valid 90 days, back-dated 5 minutes.
    pub fn serving(&self, names: &[String]) -> Result<Leaf> {
        self.sign(names, LEAF_LIFE)
    }

    /// Signs a serving certificate that lasts as long as the CA, for a server where nothing could renew it.
    pub fn serving_for_life(&self, names: &[String]) -> Result<Leaf> {
        self.sign(names, remaining_life(&self.certificate)?)
    }

    fn sign(&self, names: &[String], life: Duration) -> Result<Leaf> {
        let Some(first) = names.first() else {
            return Err(Error::failed(
                "a serving certificate needs at least one name",
            ));
        };
        let what = || format!("cannot sign a certificate for {}", names.join(", "));
        let issuer = KeyPair::from_pem(&self.key)
            .and_then(|key| Issuer::from_ca_cert_pem(&self.certificate, key))
            .context(what)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context(what)?;
        let mut params = CertificateParams::new(names.to_vec()).context(what)?;
        // A common name holds 64 characters; clients look at the alternative names alone.
        params.distinguished_name = common(first.get(..64).unwrap_or(first));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, life);
        let certificate = params.signed_by(&key, &issuer).context(what)?;
        Ok(Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn common(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACK_DATED).into();
    params.not_after = (now + life).into();
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
