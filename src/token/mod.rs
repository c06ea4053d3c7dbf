//! Tokens: what a link or an address of a message says of its recipient, sealed so that only we can make it.
//!
//! A token names run, recipient and purpose. It is 48 characters of base64url: the key's id, 128 bits of
//! HMAC-SHA256 over the rest, and the rest under a key stream drawn from that very authenticator (the
//! synthetic-IV construction of RFC 5297 with HMAC in both places). So the same input gives the same token,
//! nothing of a list's size or order shows, and a token verifies offline with the ring of keys alone. Return
//! paths are signed in their own way ([`bounce`]), for servers on the way may fold their case. Knows no
//! templates, no headers, no campaigns.

pub mod bounce;
pub mod keyring;
mod seal;

use std::fmt;

use crate::envelope::RecipientId;

pub use keyring::{Keyring, KeyringError};
pub use seal::{CHARACTERS, Key};

/// Characters of a run's token at most.
const RUN_MAX: usize = 12;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who follows it wants no more of this.
    Unsubscribe,
    /// A link of the message, by its number from 0.
    Click(u16),
    /// The picture that tells of an opened message.
    Open,
    /// In `CFBL-Feedback-ID`: whose complaint it is (RFC 9477).
    Complaint,
}

impl Kind {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsubscribe => "unsubscribe",
            Self::Click(_) => "click",
            Self::Open => "open",
            Self::Complaint => "complaint",
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub kind: Kind,
    pub run: RunToken,
    pub recipient: RecipientId,
}

/// Up to twelve of [a-z0-9] that stand for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunToken([u8; RUN_MAX]);

impl RunToken {
    /// Keeps the first twelve ASCII letters and digits, in lower case.
    pub fn new(text: &str) -> Self {
        let mut octets = [0; RUN_MAX];
        let kept = text.bytes().filter(u8::is_ascii_alphanumeric);
        for (place, byte) in octets.iter_mut().zip(kept) {
            *place = byte.to_ascii_lowercase();
        }
        Self(octets)
    }

    /// Reads what a return path says.
    fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= RUN_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self::new(text))
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|&byte| byte == 0).unwrap_or(RUN_MAX);
        std::str::from_utf8(&self.0[..length]).expect("ASCII letters and digits")
    }

    /// As a number in base 37, in which 0 is a place without a character; below 2^63.
    fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |number, &byte| {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0' + 1,
                b'a'..=b'z' => byte - b'a' + 11,
                _ => 0,
            };
            number * 37 + u64::from(digit)
        })
    }

    fn from_u64(mut number: u64) -> Option<Self> {
        let mut octets = [0; RUN_MAX];
        for place in octets.iter_mut().rev() {
            *place = match (number % 37) as u8 {
                0 => 0,
                digit @ 1..=10 => b'0' + digit - 1,
                digit => b'a' + digit - 11,
            };
            number /= 37;
        }
        let found = Self(octets);
        // No characters after an empty place, nothing left over.
        (number == 0 && found.as_str().len() == octets.iter().filter(|&&byte| byte != 0).count())
            .then_some(found)
    }
}

impl fmt::Display for RunToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a token or a return path is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    #[error("this is no token: a token is {CHARACTERS} letters, digits, - and _")]
    NoToken,
    #[error(
        "this is no return path of ours: they look like bounce+k3f9.0.1c.aeqx3uw4plmz5rty@bounces.example"
    )]
    NoReturnPath,
    #[error("it was signed with key {0}, which is not in the key ring")]
    UnknownKey(u8),
    #[error("its signature is wrong: it is forged, damaged, or of another key ring")]
    Forged,
}

/// The keys a token may have been signed with.
pub trait Keys {
    fn key(&self, id: u8) -> Option<&Key>;
}

impl Keys for Key {
    fn key(&self, id: u8) -> Option<&Key> {
        (id == self.id()).then_some(self)
    }
}

/// What a token says, and the id of the key that signed it.
///
/// # Errors
/// Not a token, or not one that a key of `keys` made.
pub fn verify(token: &str, keys: &impl Keys) -> Result<(Claim, u8), TokenError> {
    let sealed = seal::Sealed::read(token).ok_or(TokenError::NoToken)?;
    let id = sealed.key_id();
    let key = keys.key(id).ok_or(TokenError::UnknownKey(id))?;
    Ok((key.open(&sealed)?, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Unsubscribe),
            Just(Kind::Open),
            Just(Kind::Complaint),
            any::<u16>().prop_map(Kind::Click)
        ]
    }

    pub(super) fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
    }

    pub(super) fn runs() -> impl Strategy<Value = RunToken> {
        prop_oneof![
            Just(String::new()),
            Just("zzzzzzzzzzzz".to_owned()),
            Just("000000000000".to_owned()),
            "[a-z0-9]{0,12}",
        ]
        .prop_map(|text| RunToken::new(&text))
    }

    fn claims() -> impl Strategy<Value = Claim> {
        (kinds(), runs(), numbers(), numbers()).prop_map(|(kind, run, segment, index)| Claim {
            kind,
            run,
            recipient: RecipientId::new(segment, index),
        })
    }

    fn sealed(key: &Key, claim: &Claim) -> String {
        let mut token = String::new();
        key.seal(claim, &mut token);
        token
    }

    #[test]
    fn a_run_token_is_what_it_was_made_of() {
        assert_eq!(RunToken::new("K3f\r\n9").as_str(), "k3f9");
        assert_eq!(RunToken::new("abcdefghijklmnop").as_str(), "abcdefghijkl");
        assert_eq!(RunToken::from_u64(u64::MAX), None);
        // A character after an empty place.
        assert_eq!(RunToken::from_u64(5), None);
    }

    #[test]
    fn a_token_of_another_key_ring_is_told_from_one_of_another_key() {
        let (key, other) = (Key::new(1, &[7; 32]), Key::new(2, &[7; 32]));
        let claim = Claim { kind: Kind::Open, run: RunToken::new("k3f9"), recipient: RecipientId::new(0, 1) };
        assert_eq!(verify(&sealed(&key, &claim), &other), Err(TokenError::UnknownKey(1)));
        // The same secret under another id is another key.
        let mut octets = seal::decoded(&sealed(&key, &claim));
        octets[0] = 2;
        assert_eq!(verify(&seal::encoded(&octets), &other), Err(TokenError::Forged));
        assert_eq!(verify(&sealed(&key, &claim), &Key::new(1, &[8; 32])), Err(TokenError::Forged));
    }

    proptest! {
        #[test]
        fn run_tokens_survive_the_round_trip(run in runs()) {
            prop_assert_eq!(RunToken::from_u64(run.to_u64()), Some(run));
        }

        #[test]
        fn a_token_says_what_it_was_made_of(claim in claims(), id in 1..=255_u8, secret: [u8; 32]) {
            let key = Key::new(id, &secret);
            let token = sealed(&key, &claim);
            prop_assert!(token.len() <= 60 && token.len() == CHARACTERS);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(verify(&token, &key), Ok((claim, id)));
            prop_assert_eq!(sealed(&key, &claim), token);
        }

        #[test]
        fn no_bit_of_a_token_can_be_changed(claim in claims(), bit in 0..36 * 8_usize) {
            let key = Key::new(3, &[1; 32]);
            let mut octets = seal::decoded(&sealed(&key, &claim));
            octets[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify(&seal::encoded(&octets), &key).is_err());
        }

        #[test]
        fn what_is_no_token_is_an_error(text in "\\PC{0,80}|[A-Za-z0-9_-]{48}") {
            prop_assert!(verify(&text, &Key::new(3, &[1; 32])).is_err());
        }

        #[test]
        fn neighbours_have_nothing_in_common(index in 0..u32::MAX) {
            let key = Key::new(3, &[1; 32]);
            let of = |index| {
                let run = RunToken::new("k3f9");
                let claim = Claim { kind: Kind::Open, run, recipient: RecipientId::new(0, index) };
                seal::decoded(&sealed(&key, &claim))
            };
            let (one, other) = (of(index), of(index + 1));
            let differing: u32 = one[1..].iter().zip(&other[1..]).map(|(a, b)| (a ^ b).count_ones()).sum();
            // Of 280 bits half, give or take eight deviations.
            prop_assert!((73..=207).contains(&differing), "{differing}");
        }
    }
}
