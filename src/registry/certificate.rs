//! The registry's serving certificate, replaceable while connections are served. Must not issue certificates.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Result, error::Context};

/// A certificate with its key; new connections use the newest.
pub struct ServingCertificate {
    current: RwLock<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
}

impl ServingCertificate {
    /// Reads a certificate (with intermediate ones after it) and its key from PEM.
    pub fn new(certificate: &str, key: &str) -> Result<Arc<Self>> {
        let provider = Arc::new(ring::default_provider());
        Ok(Arc::new(Self {
            current: RwLock::new(read(certificate, key, &provider)?),
            provider,
        }))
    }

    /// Uses another pair from the next connection on; a wrong one changes nothing.
    pub fn replace(&self, certificate: &str, key: &str) -> Result<()> {
        let new = read(certificate, key, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Server side of TLS 1.2 and 1.3 with this certificate. HTTP/1.1 only: downloads gain nothing from HTTP/2's windows.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .context(|| "cannot set up TLS".to_owned())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(certificate: &str, key: &str, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let what = || "the registry's certificate and key cannot be used".to_owned();
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context(what)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context(what)?;
    // Also sees that the two belong together.
    let pair = CertifiedKey::from_der(chain, key, provider).context(what)?;
    Ok(Arc::new(pair))
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate").finish_non_exhaustive()
    }
}
