//! A key that signs for a domain under a selector, and what of it is public.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;

use super::private::{DkimError, PrivateKey, RSA_BITS_ADVISED};
use crate::address::Domain;
use crate::config::dkim::{record_name, selector_mistake};

/// How a signature is made; the hash is SHA-256 in both (RFC 8301 §3.1, RFC 8463 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Rsa,
    Ed25519,
}

impl Algorithm {
    /// In `a=` of a signature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// In `k=` of a record.
    fn key_type(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// A private key that signs for a domain under a selector; clones share the key.
#[derive(Clone)]
pub struct Signer {
    domain: Domain,
    selector: String,
    key: Arc<PrivateKey>,
}

impl Signer {
    /// Reads the first private key in `pem`: RSA (PKCS#8 or PKCS#1) or Ed25519 (PKCS#8), not encrypted.
    ///
    /// # Errors
    /// No such key in `pem`, an RSA key under 1024 bits, a bad selector. The key itself is never in the text.
    pub fn from_pem(domain: Domain, selector: &str, pem: &str) -> Result<Self, DkimError> {
        if let Some(what) = selector_mistake(selector, &domain) {
            return Err(DkimError::Selector(what));
        }
        Ok(Self { domain, selector: selector.to_owned(), key: Arc::new(PrivateKey::read(pem)?) })
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Where verifiers look the public key up: `selector._domainkey.domain`.
    pub fn name(&self) -> String {
        record_name(&self.selector, &self.domain)
    }

    /// The text of the TXT record that publishes the public key (RFC 6376 §3.6.1, RFC 8463 §4).
    pub fn public_record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.algorithm().key_type(), self.key.public_text())
    }

    /// Bits of the RSA modulus; `None` for Ed25519.
    pub fn rsa_bits(&self) -> Option<usize> {
        self.key.rsa_bits()
    }

    pub fn algorithm(&self) -> Algorithm {
        match *self.key {
            PrivateKey::Rsa(_) | PrivateKey::ShortRsa(_) => Algorithm::Rsa,
            PrivateKey::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// What is wrong with the key though it signs: an RSA modulus that receivers may soon not take.
    pub fn weakness(&self) -> Option<String> {
        let bits = self.rsa_bits().filter(|bits| *bits < RSA_BITS_ADVISED)?;
        Some(format!(
            "the DKIM key {} has only {bits} bits: replace it by one of {RSA_BITS_ADVISED} (`postroad dkim \
             keygen`, under another selector)",
            self.name()
        ))
    }

    pub(super) fn signature_octets(&self) -> usize {
        self.key.signature_octets()
    }

    pub(super) fn sign(&self, headers: &[u8], signature: &mut [u8]) -> Result<(), Unspecified> {
        self.key.sign(headers, signature)
    }
}
