//! New keys, as PKCS#8 in PEM. Where they are kept is for the caller to say.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// What a new key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Ed25519,
}

/// Makes a key. The text is a secret.
///
/// # Errors
/// The system gave no random numbers.
pub fn generate(kind: KeyKind) -> Result<String, Unspecified> {
    let size = match kind {
        KeyKind::Rsa2048 => KeySize::Rsa2048,
        KeyKind::Rsa3072 => KeySize::Rsa3072,
        KeyKind::Rsa4096 => KeySize::Rsa4096,
        // Version 1, which every program reads; version 2 has the public key besides.
        KeyKind::Ed25519 => return Ok(pem(Ed25519KeyPair::generate()?.to_pkcs8v1()?.as_ref())),
    };
    Ok(pem(AsDer::<Pkcs8V1Der<'_>>::as_der(&KeyPair::generate(size)?)?.as_ref()))
}

fn pem(der: &[u8]) -> String {
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for line in BASE64.encode(der).as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, Signer};
    use super::*;
    use crate::address::Domain;

    #[test]
    fn each_kind_of_key_is_read_back_as_what_it_is() {
        for (kind, algorithm, bits) in [
            (KeyKind::Rsa2048, Algorithm::Rsa, Some(2048)),
            (KeyKind::Rsa3072, Algorithm::Rsa, Some(3072)),
            (KeyKind::Ed25519, Algorithm::Ed25519, None),
        ] {
            let pem = generate(kind).unwrap();
            assert!(pem.lines().all(|line| line.len() <= 64), "{kind:?}");
            let signer = Signer::from_pem(Domain::parse("a.test").unwrap(), "s", &pem).unwrap();
            assert_eq!((signer.algorithm(), signer.rsa_bits()), (algorithm, bits), "{kind:?}");
        }
    }
}
