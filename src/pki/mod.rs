//! The management cluster's own certificate authority and the short-lived leaves it signs. Must not store anything.

use crate::{Error, Result};

/// A certificate authority: certificate and private key as PEM. Debug never shows the key.
#[derive(Clone)]
pub struct Authority {
    /// CA certificate (PEM), valid ten years.
    pub certificate: String,
    key: String,
}

/// A leaf certificate with its key, as PEM.
#[derive(Clone)]
pub struct Leaf {
    /// Certificate (PEM).
    pub certificate: String,
    /// Private key (PKCS #8 PEM).
    pub key: String,
}

impl Authority {
    /// Makes a new CA, ECDSA P-256.
    pub fn new(_common_name: &str) -> Result<Self> {
        Err(Error::failed("not written"))
    }

    /// Reads a CA back from PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
        })
    }

    /// Private key (PEM), to be stored with mode 0600 or in a Secret.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Signs a serving certificate for these DNS names and IP addresses, valid 90 days, back-dated 5 minutes.
    pub fn serving(&self, _names: &[String]) -> Result<Leaf> {
        Err(Error::failed("not written"))
    }
}
