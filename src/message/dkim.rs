//! DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, rsa-sha256 and ed25519-sha256, one per signer.
//!
//! All headers of a message are signed, and those a forger would add are signed once more than they occur,
//! so that adding one breaks the signature. Whatever a signature says of the campaign is written once;
//! a message costs two hashes and the key's operation. `b=` ends the header without a `;`, and is folded
//! only between base64 characters, which every verifier reads alike. No `l=`: it would leave the end open.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem::Finder;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::RenderError;
use crate::address::Domain;

/// Signed once more than they occur (RFC 6376 §8.15; RFC 8058 §4 for the List headers).
const OVERSIGNED: [&str; 10] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Content-Type",
];
/// Bits of an RSA modulus at least: receivers ignore less than 1024, and aws-lc-rs signs from here on.
const RSA_BITS_MIN: usize = 2048;
/// Characters of a signature on one line.
const SIGNATURE_LINE: usize = 72;
/// `bh=` of SHA-256 in base64.
const BODY_HASH_CHARACTERS: usize = 44;
const AFTER_BODY_HASH: &[u8] = b";\r\n\tb=";

/// Why a key cannot sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DkimError {
    #[error(
        "no private key found; give a PEM file with an RSA key (PKCS#8 or PKCS#1) or an Ed25519 key (PKCS#8)"
    )]
    NoKey,
    #[error("not an RSA or Ed25519 private key that can be used: {0}")]
    Key(String),
    #[error("the RSA key is too short; make one of 2048 bits")]
    TooShort,
    #[error("the selector {0:?} is not made of DNS labels")]
    Selector(String),
}

/// A private key that signs for a domain under a selector.
pub struct Signer {
    domain: Domain,
    selector: String,
    key: Key,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    /// Reads RSA (PKCS#8 or PKCS#1) or Ed25519 (PKCS#8) from PEM.
    ///
    /// # Errors
    /// No such key in `pem`, an RSA key under 2048 bits, a bad selector. The key itself is never in the text.
    pub fn from_pem(domain: Domain, selector: &str, pem: &str) -> Result<Self, DkimError> {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !selector.split('.').all(label) {
            return Err(DkimError::Selector(selector.to_owned()));
        }
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| DkimError::NoKey)?;
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()))?,
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(pair) => Key::Ed25519(Box::new(pair)),
                    Err(_) => rsa(RsaKeyPair::from_pkcs8(der))?,
                }
            }
            _ => return Err(DkimError::NoKey),
        };
        Ok(Self { domain, selector: selector.to_owned(), key })
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Where verifiers look the public key up: `selector._domainkey.domain`.
    pub fn name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The text of the TXT record that publishes the public key (RFC 6376 §3.6.1, RFC 8463 §4).
    pub fn public_record(&self) -> String {
        match &self.key {
            Key::Rsa(pair) => {
                let der = pair.public_key().as_der().expect("a public key has a DER form");
                format!("v=DKIM1; k=rsa; p={}", BASE64.encode(der.as_ref()))
            }
            Key::Ed25519(pair) => {
                format!("v=DKIM1; k=ed25519; p={}", BASE64.encode(pair.public_key().as_ref()))
            }
        }
    }

    /// Bits of the RSA modulus; `None` for Ed25519.
    pub fn rsa_bits(&self) -> Option<usize> {
        match &self.key {
            Key::Rsa(pair) => Some(pair.public_modulus_len() * 8),
            Key::Ed25519(_) => None,
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn signature_octets(&self) -> usize {
        match &self.key {
            Key::Rsa(pair) => pair.public_modulus_len(),
            Key::Ed25519(_) => 64,
        }
    }

    fn sign(&self, headers: &[u8], signature: &mut [u8]) -> Result<(), Unspecified> {
        match &self.key {
            Key::Rsa(pair) => pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), headers, signature),
            Key::Ed25519(pair) => {
                // RFC 8463 §3: the hash is what PureEdDSA signs.
                signature.copy_from_slice(pair.try_sign(digest(&SHA256, headers).as_ref())?.as_ref());
                Ok(())
            }
        }
    }
}

fn rsa(pair: Result<RsaKeyPair, KeyRejected>) -> Result<Key, DkimError> {
    match pair {
        Ok(pair) if pair.public_modulus_len() * 8 >= RSA_BITS_MIN => Ok(Key::Rsa(Box::new(pair))),
        Ok(_) => Err(DkimError::TooShort),
        Err(error) if error.to_string() == "TooSmall" => Err(DkimError::TooShort),
        Err(error) => Err(DkimError::Key(error.to_string())),
    }
}

/// The signers of a campaign with what they say in every message.
pub(super) struct Seals {
    seals: Vec<Seal>,
    double_blank: Finder<'static>,
    blank_at_end: Finder<'static>,
}

struct Seal {
    signer: Signer,
    /// From the header's name to `bh=`, and the same canonicalised.
    head: Vec<u8>,
    canonical_head: Vec<u8>,
    octets: usize,
}

/// Room for signing one message; reused.
#[derive(Default)]
pub(super) struct Room {
    headers: Vec<u8>,
    body: Vec<u8>,
    signature: Vec<u8>,
    base64: Vec<u8>,
}

impl Seals {
    /// `names` are the headers of every message in order; `time` is seconds since 1970 for `t=`.
    pub fn new(signers: Vec<Signer>, names: &[&str], time: u64) -> Self {
        let seals = signers.into_iter().map(|signer| Seal::new(signer, names, time)).collect();
        Self { seals, double_blank: Finder::new("  "), blank_at_end: Finder::new(" \r") }
    }

    /// Octets all signatures take together: what must be left free before the first header.
    pub fn octets(&self) -> usize {
        self.seals.iter().map(|seal| seal.octets).sum()
    }

    /// Signs the message in `out`, whose first `octets()` octets are free and whose text starts at `body`.
    ///
    /// # Errors
    /// When a key's operation fails, which a checked key's does not.
    pub fn sign(&self, body: usize, room: &mut Room, out: &mut [u8]) -> Result<(), RenderError> {
        if self.seals.is_empty() {
            return Ok(());
        }
        let mut at = self.octets();
        room.headers.clear();
        relaxed_headers(&out[at..body - 2], &mut room.headers);
        let signed = room.headers.len();
        let canonical = self.relaxed_body(&out[body..], &mut room.body);
        let mut body_hash = [0; BODY_HASH_CHARACTERS];
        BASE64
            .encode_slice(digest(&SHA256, canonical), &mut body_hash)
            .expect("32 octets make 44 characters");
        at = 0;
        for seal in &self.seals {
            room.headers.truncate(signed);
            let place = &mut out[at..at + seal.octets];
            seal.sign(&body_hash, room, place).map_err(|_| RenderError::Signing(seal.signer.name()))?;
            at += seal.octets;
        }
        Ok(())
    }

    /// The body with blanks reduced and empty lines at its end dropped (RFC 6376 §3.4.4).
    fn relaxed_body<'a>(&self, body: &'a [u8], room: &'a mut Vec<u8>) -> &'a [u8] {
        let find =
            |finder: &Finder<'_>, at: usize| finder.find(&body[at..]).map_or(body.len(), |found| at + found);
        let tab = |at: usize| memchr::memchr(b'\t', &body[at..]).map_or(body.len(), |found| at + found);
        let mut next = [find(&self.double_blank, 0), find(&self.blank_at_end, 0), tab(0)];
        if next == [body.len(); 3] && !body.ends_with(b" ") {
            return without_empty_lines(body);
        }
        room.clear();
        let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
        let mut at = 0;
        loop {
            let found = next[0].min(next[1]).min(next[2]);
            let mut blank = found;
            while blank > at && is_blank(body[blank - 1]) {
                blank -= 1;
            }
            room.extend_from_slice(&body[at..blank]);
            if found == body.len() {
                break;
            }
            at = found + body[found..].iter().take_while(|&&byte| is_blank(byte)).count();
            if !(body[at..].is_empty() || body[at..].starts_with(b"\r\n")) {
                room.push(b' ');
            }
            if next[0] < at {
                next[0] = find(&self.double_blank, at);
            }
            if next[1] < at {
                next[1] = find(&self.blank_at_end, at);
            }
            if next[2] < at {
                next[2] = tab(at);
            }
        }
        without_empty_lines(room)
    }
}

impl Seal {
    fn new(signer: Signer, names: &[&str], time: u64) -> Self {
        let mut head = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed;\r\n\td={};\r\n\ts={}; t={time};\r\n\th=",
            signer.algorithm(),
            signer.domain,
            signer.selector,
        );
        let mut column = 3;
        for (index, name) in names.iter().chain(&OVERSIGNED).enumerate() {
            if index > 0 {
                head.push(':');
                column += 1;
            }
            if column + name.len() > 74 {
                head.push_str("\r\n\t");
                column = 1;
            }
            head.push_str(name);
            column += name.len();
        }
        head.push_str(";\r\n\tbh=");
        let mut canonical_head = Vec::new();
        relaxed_headers(format!("{head}\r\n").as_bytes(), &mut canonical_head);
        canonical_head.truncate(canonical_head.len() - 2);
        let characters = signer.signature_octets().div_ceil(3) * 4;
        let folds = (characters - 1) / SIGNATURE_LINE;
        let octets = head.len() + BODY_HASH_CHARACTERS + AFTER_BODY_HASH.len() + characters + folds * 3 + 2;
        Self { signer, head: head.into_bytes(), canonical_head, octets }
    }

    /// Writes the whole header into `place`, which has exactly its size.
    fn sign(&self, body_hash: &[u8], room: &mut Room, place: &mut [u8]) -> Result<(), Unspecified> {
        room.headers.extend_from_slice(&self.canonical_head);
        room.headers.extend_from_slice(body_hash);
        room.headers.extend_from_slice(b"; b=");
        room.signature.resize(self.signer.signature_octets(), 0);
        self.signer.sign(&room.headers, &mut room.signature)?;
        room.base64.resize(room.signature.len().div_ceil(3) * 4, 0);
        BASE64.encode_slice(&room.signature, &mut room.base64).expect("sized for it");
        let mut rest = place;
        let mut put = |octets: &[u8]| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(octets.len());
            now.copy_from_slice(octets);
            rest = later;
        };
        put(&self.head);
        put(body_hash);
        put(AFTER_BODY_HASH);
        for (index, line) in room.base64.chunks(SIGNATURE_LINE).enumerate() {
            if index > 0 {
                put(b"\r\n\t");
            }
            put(line);
        }
        put(b"\r\n");
        debug_assert!(rest.is_empty());
        Ok(())
    }
}

fn without_empty_lines(body: &[u8]) -> &[u8] {
    let mut body = body;
    while body.ends_with(b"\r\n\r\n") {
        body = &body[..body.len() - 2];
    }
    if body == b"\r\n" { b"" } else { body }
}

/// Whole headers, each ending in CRLF: names in lower case, folds and blanks reduced (RFC 6376 §3.4.2).
fn relaxed_headers(mut headers: &[u8], out: &mut Vec<u8>) {
    while let Some(colon) = memchr::memchr(b':', headers) {
        out.extend(headers[..colon].iter().map(u8::to_ascii_lowercase));
        out.push(b':');
        let start = out.len();
        let mut blank = false;
        let mut at = colon + 1;
        loop {
            let line = memchr::memchr(b'\r', &headers[at..]).map_or(headers.len(), |end| at + end);
            for word in headers[at..line].split(|&byte| byte == b' ' || byte == b'\t') {
                if word.is_empty() {
                    blank = true;
                    continue;
                }
                if blank && out.len() > start {
                    out.push(b' ');
                }
                out.extend_from_slice(word);
                blank = true;
            }
            at = (line + 2).min(headers.len());
            if !headers[at..].starts_with(b" ") && !headers[at..].starts_with(b"\t") {
                break;
            }
        }
        out.extend_from_slice(b"\r\n");
        headers = &headers[at..];
    }
}
