//! A private key, read from PEM and ready to sign: RSA by PKCS#1 or PKCS#8, Ed25519 by PKCS#8.
//!
//! aws-lc-rs signs, with one exception. It loads no RSA key below 2048 bits, so those are signed with the
//! `rsa` crate, whose arithmetic does not take constant time (RUSTSEC-2023-0071). That is acceptable for
//! them: each signature is made with blinding, a random factor of its own, so how long it takes says nothing
//! of the message, which receivers know, together with the key; nothing is ever decrypted, so nobody can
//! choose what the key works on; and whoever could factor what such a key publishes needs no timing. They
//! are warned about, and meant to be replaced.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey, PrivateKeyInfo};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// Bits of an RSA modulus at least: receivers ignore what is signed with less (RFC 8301 §3.2).
pub const RSA_BITS_MIN: usize = 1024;
/// Bits of an RSA modulus that signers should have at least (RFC 8301 §3.2).
pub const RSA_BITS_ADVISED: usize = 2048;

/// Kinds of keys that DKIM does not know, by the object identifier in PKCS#8.
const OTHER_KINDS: [(&str, &str); 5] = [
    ("1.2.840.10045.2.1", "an elliptic-curve (ECDSA)"),
    ("1.2.840.113549.1.1.10", "an RSA-PSS"),
    ("1.2.840.10040.4.1", "a DSA"),
    ("1.3.101.110", "an X25519"),
    ("1.3.101.113", "an Ed448"),
];
const RSA: &str = "1.2.840.113549.1.1.1";
const ED25519: &str = "1.3.101.112";

/// Why a key cannot sign. Never holds any of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DkimError {
    #[error(
        "no private key is there; give a PEM file with an RSA key (PKCS#8 or PKCS#1) or an Ed25519 key (PKCS#8)"
    )]
    NoKey,
    #[error("this is the public key; the private one signs")]
    Public,
    #[error("this is a certificate, which holds no private key")]
    Certificate,
    #[error(
        "the key is encrypted, and nobody is there to type its password; write it out in plain with `openssl pkey -in KEY -out PLAIN` and give that file mode 0600"
    )]
    Encrypted,
    #[error(
        "this is a key of OpenSSH's own form; DKIM keys are PKCS#8 or PKCS#1, as `postroad dkim keygen` writes them"
    )]
    OpenSsh,
    #[error(
        "this is {0} key, which DKIM does not know; make an RSA or Ed25519 key with `postroad dkim keygen`"
    )]
    OtherKind(&'static str),
    #[error("the private key is damaged or is none that can be used: {0}")]
    Damaged(String),
    #[error(
        "the RSA key has {0} bits, and receivers ignore what is signed with fewer than {RSA_BITS_MIN}; make one of {RSA_BITS_ADVISED} with `postroad dkim keygen`"
    )]
    TooShort(usize),
    #[error("{0}")]
    Selector(String),
}

pub(super) enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    /// Below [`RSA_BITS_ADVISED`].
    ShortRsa(Box<RsaPrivateKey>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl PrivateKey {
    /// The first private key in `pem`.
    pub fn read(pem: &str) -> Result<Self, DkimError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| without_key(pem))?;
        match &der {
            PrivateKeyDer::Pkcs1(der) => {
                let der = der.secret_pkcs1_der();
                Self::rsa(RsaPrivateKey::from_pkcs1_der(der).map_err(damaged)?, || RsaKeyPair::from_der(der))
            }
            PrivateKeyDer::Pkcs8(der) => Self::pkcs8(der.secret_pkcs8_der()),
            _ => Err(DkimError::OtherKind(OTHER_KINDS[0].1)),
        }
    }

    fn pkcs8(der: &[u8]) -> Result<Self, DkimError> {
        let kind = PrivateKeyInfo::try_from(der).map_err(damaged)?.algorithm.oid.to_string();
        match kind.as_str() {
            RSA => Self::rsa(RsaPrivateKey::from_pkcs8_der(der).map_err(damaged)?, || {
                RsaKeyPair::from_pkcs8(der)
            }),
            ED25519 => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(damaged)?;
                Ok(Self::Ed25519(Box::new(pair)))
            }
            other => {
                let known = OTHER_KINDS.iter().find(|(identifier, _)| *identifier == other);
                Err(DkimError::OtherKind(known.map_or("an unknown kind of", |(_, name)| name)))
            }
        }
    }

    fn rsa<E: std::fmt::Display>(
        key: RsaPrivateKey,
        load: impl FnOnce() -> Result<RsaKeyPair, E>,
    ) -> Result<Self, DkimError> {
        match key.n().bits() {
            bits if bits < RSA_BITS_MIN => Err(DkimError::TooShort(bits)),
            bits if bits < RSA_BITS_ADVISED => Ok(Self::ShortRsa(Box::new(key))),
            _ => Ok(Self::Rsa(Box::new(load().map_err(damaged)?))),
        }
    }

    /// Bits of the RSA modulus; `None` for Ed25519.
    pub fn rsa_bits(&self) -> Option<usize> {
        match self {
            Self::Rsa(pair) => Some(pair.public_modulus_len() * 8),
            Self::ShortRsa(key) => Some(key.n().bits()),
            Self::Ed25519(_) => None,
        }
    }

    pub fn signature_octets(&self) -> usize {
        match self {
            Self::Rsa(pair) => pair.public_modulus_len(),
            Self::ShortRsa(key) => key.size(),
            Self::Ed25519(_) => 64,
        }
    }

    /// As records have it: SubjectPublicKeyInfo of RSA (RFC 6376 §3.6.1), the bare key of Ed25519 (RFC 8463
    /// §4), in base64.
    pub fn public_text(&self) -> String {
        match self {
            Self::Rsa(pair) => {
                BASE64.encode(pair.public_key().as_der().expect("a public key has a DER form").as_ref())
            }
            Self::ShortRsa(key) => {
                let der = key.to_public_key().to_public_key_der().expect("a public key has a DER form");
                BASE64.encode(der.as_bytes())
            }
            Self::Ed25519(pair) => BASE64.encode(pair.public_key().as_ref()),
        }
    }

    /// Signs the hash of `text` into `signature`, which has [`PrivateKey::signature_octets`].
    pub fn sign(&self, text: &[u8], signature: &mut [u8]) -> Result<(), Unspecified> {
        match self {
            Self::Rsa(pair) => return pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, signature),
            Self::ShortRsa(key) => {
                let hash = digest(&SHA256, text);
                let padding = Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
                let made = key.sign_with_rng(&mut OsRng, padding, hash.as_ref()).map_err(|_| Unspecified)?;
                signature.copy_from_slice(&made);
            }
            // RFC 8463 §3: the hash is what PureEdDSA signs.
            Self::Ed25519(pair) => {
                signature.copy_from_slice(pair.try_sign(digest(&SHA256, text).as_ref())?.as_ref());
            }
        }
        Ok(())
    }
}

fn damaged(error: impl std::fmt::Display) -> DkimError {
    DkimError::Damaged(error.to_string())
}

/// What a text is in which no private key was found.
fn without_key(pem: &str) -> DkimError {
    let has = |label: &str| pem.contains(&format!("-----BEGIN {label}-----"));
    if has("ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        DkimError::Encrypted
    } else if has("OPENSSH PRIVATE KEY") {
        DkimError::OpenSsh
    } else if has("DSA PRIVATE KEY") {
        DkimError::OtherKind("a DSA")
    } else if ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"].into_iter().any(has) {
        DkimError::Damaged("it is cut short or no PEM".to_owned())
    } else if has("PUBLIC KEY") || has("RSA PUBLIC KEY") {
        DkimError::Public
    } else if has("CERTIFICATE") {
        DkimError::Certificate
    } else {
        DkimError::NoKey
    }
}
