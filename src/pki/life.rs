//! Reads what a certificate says about itself: life, names, authority. Must not sign anything.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::{
    extensions::GeneralName,
    pem::{Pem, parse_x509_pem},
    prelude::X509Certificate,
};

use crate::{Error, Result, error::Context};

/// Time until this certificate ends; zero when it has ended.
pub fn remaining_life(certificate: &str) -> Result<Duration> {
    let pem = read(certificate)?;
    let until = parse(&pem)?.validity().not_after.timestamp();
    Ok(Duration::from_secs(
        u64::try_from(until - now()).unwrap_or(0),
    ))
}

/// True when two thirds of its life are over, or when it is not valid yet: whoever signed it had a clock ahead of this one.
pub fn due_for_renewal(certificate: &str) -> Result<bool> {
    due(certificate, now())
}

fn due(certificate: &str, now: i64) -> Result<bool> {
    let pem = read(certificate)?;
    let parsed = parse(&pem)?;
    let from = parsed.validity().not_before.timestamp();
    let until = parsed.validity().not_after.timestamp();
    Ok(is_due(from, until, now))
}

/// The same of the seconds between which it is valid.
pub fn is_due(from: i64, until: i64, now: i64) -> bool {
    now < from || now - from >= (until - from) / 3 * 2
}

/// DNS names and IP addresses that it is for, sorted.
pub fn names(certificate: &str) -> Result<Vec<String>> {
    let pem = read(certificate)?;
    let parsed = parse(&pem)?;
    let alternative = parsed
        .subject_alternative_name()
        .context(|| "the certificate's names cannot be read".to_owned())?;
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    names.sort();
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(sixteen).to_string())
}

/// The certificate is a CA's and belongs to this key.
pub(super) fn check_authority(certificate: &str, key: &KeyPair) -> Result<()> {
    let pem = read(certificate)?;
    let parsed = parse(&pem)?;
    if !parsed.is_ca() {
        return Err(Error::failed(
            "the certificate is not a certificate authority's",
        ));
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(Error::failed(
            "the certificate authority's key does not belong to its certificate",
        ));
    }
    Ok(())
}

fn read(certificate: &str) -> Result<Pem> {
    match parse_x509_pem(certificate.as_bytes()) {
        Ok((_, pem)) if pem.label == "CERTIFICATE" => Ok(pem),
        _ => Err(Error::failed("this is no certificate in PEM form")),
    }
}

fn parse(pem: &Pem) -> Result<X509Certificate<'_>> {
    pem.parse_x509()
        .context(|| "the certificate cannot be read".to_owned())
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    const DAY: i64 = 86_400;

    #[test]
    fn due_after_two_thirds() {
        let leaf = Authority::new("test")
            .unwrap()
            .serving(&["a.example".to_owned()])
            .unwrap();
        let now = now();
        for (days, expected) in [(0, false), (59, false), (61, true), (100, true)] {
            assert_eq!(
                due(&leaf.certificate, now + days * DAY).unwrap(),
                expected,
                "after {days} days"
            );
        }
        assert!(!due_for_renewal(&leaf.certificate).unwrap());
    }

    #[test]
    fn due_while_it_is_not_valid_yet() {
        let leaf = Authority::new("test")
            .unwrap()
            .serving(&["a.example".to_owned()])
            .unwrap();
        // The clock jumped ahead, the leaf was signed, the clock came back.
        for back in [600, DAY, 400 * DAY] {
            assert!(due(&leaf.certificate, now() - back).unwrap(), "{back} s");
        }
        assert!(!due(&leaf.certificate, now() - 200).unwrap(), "back-dated");
    }

    #[test]
    fn names_of_all_kinds() {
        let asked = ["mctl.giantswarm.svc", "127.0.0.1", "fd00::1"].map(str::to_owned);
        let leaf = Authority::new("test").unwrap().serving(&asked).unwrap();
        let mut expected = asked.to_vec();
        expected.sort();
        assert_eq!(names(&leaf.certificate).unwrap(), expected);
    }

    #[test]
    fn rubbish_is_refused() {
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(remaining_life(text).is_err(), "{text:?}");
            assert!(due_for_renewal(text).is_err(), "{text:?}");
        }
    }
}
