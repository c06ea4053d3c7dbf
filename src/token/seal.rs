//! One key: seals and opens tokens, signs return paths.
//!
//! Its three keys (to authenticate, to mask, for return paths) are drawn from one secret by HMAC with a
//! label each, and made ready once: a token costs two HMACs of a block each and allocates nothing.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::{Claim, Kind, RunToken, TokenError};
use crate::envelope::RecipientId;

/// Octets of a secret.
pub(super) const SECRET: usize = 32;
/// Octets of the authenticator: 128 bits.
const TAG: usize = 16;
/// Kind, run, recipient, link: the same length for all kinds, so that none shows.
const PAYLOAD: usize = 1 + 8 + 8 + 2;
const OCTETS: usize = 1 + TAG + PAYLOAD;
/// Characters of a token.
pub const CHARACTERS: usize = OCTETS / 3 * 4;

/// A key of the ring, ready to be used.
#[derive(Clone)]
pub struct Key {
    id: u8,
    authentic: hmac::Key,
    mask: hmac::Key,
    bounce: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    pub fn new(id: u8, secret: &[u8; SECRET]) -> Self {
        let root = hmac::Key::new(HMAC_SHA256, secret);
        let derived = |label: &str| hmac::Key::new(HMAC_SHA256, hmac::sign(&root, label.as_bytes()).as_ref());
        Self {
            id,
            authentic: derived("postroad token authentication"),
            mask: derived("postroad token mask"),
            bounce: derived("postroad return path"),
        }
    }

    /// For checks before there is a key: what it seals, no ring verifies.
    pub fn stand_in() -> Self {
        Self::new(0, &[0; SECRET])
    }

    pub fn id(&self) -> u8 {
        self.id
    }

    /// Appends the token that says `claim`.
    pub fn seal(&self, claim: &Claim, out: &mut String) {
        let mut octets = [self.id; OCTETS];
        let mut payload = written(claim);
        let tag = self.tag(&payload);
        self.masked(&tag, &mut payload);
        octets[1..=TAG].copy_from_slice(&tag);
        octets[1 + TAG..].copy_from_slice(&payload);
        let mut characters = [0; CHARACTERS];
        BASE64.encode_slice(octets, &mut characters).expect("sized for it");
        out.push_str(std::str::from_utf8(&characters).expect("base64 is ASCII"));
    }

    /// # Errors
    /// This key did not make it.
    pub(super) fn open(&self, sealed: &Sealed) -> Result<Claim, TokenError> {
        let mut tag = [0; TAG];
        let mut payload = [0; PAYLOAD];
        tag.copy_from_slice(&sealed.0[1..=TAG]);
        payload.copy_from_slice(&sealed.0[1 + TAG..]);
        self.masked(&tag, &mut payload);
        verify_slices_are_equal(&self.tag(&payload), &tag).map_err(|_| TokenError::Forged)?;
        read(&payload).ok_or(TokenError::Forged)
    }

    /// HMAC-SHA256 over what a return path says.
    pub(super) fn bounce(&self, run: RunToken, recipient: RecipientId) -> hmac::Tag {
        let mut said = [self.id; 17];
        said[1..9].copy_from_slice(&run.to_u64().to_be_bytes());
        said[9..].copy_from_slice(&recipient.to_u64().to_be_bytes());
        hmac::sign(&self.bounce, &said)
    }

    fn tag(&self, payload: &[u8; PAYLOAD]) -> [u8; TAG] {
        let mut said = [self.id; 1 + PAYLOAD];
        said[1..].copy_from_slice(payload);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.authentic, &said).as_ref()[..TAG]);
        tag
    }

    /// Masks or unmasks: the key stream is drawn from the authenticator.
    fn masked(&self, tag: &[u8; TAG], payload: &mut [u8; PAYLOAD]) {
        let stream = hmac::sign(&self.mask, tag);
        payload.iter_mut().zip(stream.as_ref()).for_each(|(octet, mask)| *octet ^= mask);
    }
}

/// A token's octets, not yet believed.
pub(super) struct Sealed([u8; OCTETS]);

impl Sealed {
    pub fn read(token: &str) -> Option<Self> {
        let mut octets = [0; OCTETS];
        let decoded = token.len() == CHARACTERS && BASE64.decode_slice(token, &mut octets) == Ok(OCTETS);
        decoded.then_some(Self(octets))
    }

    pub fn key_id(&self) -> u8 {
        self.0[0]
    }
}

fn written(claim: &Claim) -> [u8; PAYLOAD] {
    let (kind, link) = match claim.kind {
        Kind::Unsubscribe => (1, 0),
        Kind::Click(link) => (2, link),
        Kind::Open => (3, 0),
        Kind::Complaint => (4, 0),
    };
    let mut payload = [kind; PAYLOAD];
    payload[1..9].copy_from_slice(&claim.run.to_u64().to_be_bytes());
    payload[9..17].copy_from_slice(&claim.recipient.to_u64().to_be_bytes());
    payload[17..].copy_from_slice(&u16::to_be_bytes(link));
    payload
}

fn read(payload: &[u8; PAYLOAD]) -> Option<Claim> {
    let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("eight octets"));
    let link = u16::from_be_bytes([payload[17], payload[18]]);
    let kind = match (payload[0], link) {
        (1, 0) => Kind::Unsubscribe,
        (2, link) => Kind::Click(link),
        (3, 0) => Kind::Open,
        (4, 0) => Kind::Complaint,
        _ => return None,
    };
    Some(Claim { kind, run: RunToken::from_u64(number(1))?, recipient: RecipientId::from_u64(number(9)) })
}

#[cfg(test)]
pub(super) fn decoded(token: &str) -> Vec<u8> {
    BASE64.decode(token).unwrap()
}

#[cfg(test)]
pub(super) fn encoded(octets: &[u8]) -> String {
    BASE64.encode(octets)
}
