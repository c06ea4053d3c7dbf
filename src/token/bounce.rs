//! Signed return paths: `bounce+RUN.SEGMENT.INDEX.SIGNATURE`, told from forged ones without a list.
//!
//! Run, segment and index (both in hexadecimal) stand in the open, for a person reads them in logs. The
//! signature is the key's id and 72 bits of HMAC-SHA256 in base32 (RFC 4648 §6), so 16 characters; nothing of
//! it depends on case, which servers on the way may fold. 54 octets at most: a local part has 64
//! (RFC 5321 §4.5.3.1.1).

use std::fmt::Write as _;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::seal::Key;
use super::{Keys, RunToken, TokenError};
use crate::envelope::RecipientId;

const PREFIX: &str = "bounce+";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Octets of a signature: the key's id and 72 bits.
const OCTETS: usize = 10;
const CHARACTERS: usize = OCTETS / 5 * 8;

/// What a return path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReturnPath {
    pub run: RunToken,
    pub recipient: RecipientId,
    /// The key that signed it.
    pub key_id: u8,
}

/// Appends a local part; allocates nothing once `out` has grown to its size.
pub fn write(key: &Key, run: RunToken, recipient: RecipientId, out: &mut String) {
    write!(out, "{PREFIX}{run}.{:x}.{:x}.", recipient.segment, recipient.index)
        .expect("writing to a String does not fail");
    let characters = base32(signature(key, run, recipient));
    out.push_str(std::str::from_utf8(&characters).expect("base32 is ASCII"));
}

/// Reads a local part, or an address whose domain does not matter, in upper or lower case.
///
/// # Errors
/// Not one of ours, or not signed by a key of `keys`.
pub fn read(text: &str, keys: &impl Keys) -> Result<ReturnPath, TokenError> {
    let local = text.split_once('@').map_or(text, |(local, _)| local);
    let said = parse(local).ok_or(TokenError::NoReturnPath)?;
    let (run, recipient, given) = said;
    let key = keys.key(given[0]).ok_or(TokenError::UnknownKey(given[0]))?;
    let expected = signature(key, run, recipient);
    verify_slices_are_equal(&expected, &given).map_err(|_| TokenError::Forged)?;
    Ok(ReturnPath { run, recipient, key_id: key.id() })
}

/// Whether a text looks like a return path rather than a token.
pub fn looks_like_one(text: &str) -> bool {
    text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

fn parse(local: &str) -> Option<(RunToken, RecipientId, [u8; OCTETS])> {
    let rest = local.get(PREFIX.len()..).filter(|_| looks_like_one(local))?;
    let mut fields = rest.split('.');
    let run = RunToken::parse(fields.next()?)?;
    let recipient = RecipientId::new(hexadecimal(fields.next()?)?, hexadecimal(fields.next()?)?);
    let signature = from_base32(fields.next()?)?;
    fields.next().is_none().then_some((run, recipient, signature))
}

/// As it is written: without leading zeros and signs.
fn hexadecimal(text: &str) -> Option<u32> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_hexdigit()));
    canonical.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn signature(key: &Key, run: RunToken, recipient: RecipientId) -> [u8; OCTETS] {
    let mut octets = [key.id(); OCTETS];
    octets[1..].copy_from_slice(&key.bounce(run, recipient).as_ref()[..OCTETS - 1]);
    octets
}

fn base32(octets: [u8; OCTETS]) -> [u8; CHARACTERS] {
    let mut characters = [0; CHARACTERS];
    for (octets, characters) in octets.chunks_exact(5).zip(characters.chunks_exact_mut(8)) {
        let bits = octets.iter().fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
        for (place, character) in characters.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (35 - 5 * place) & 31) as usize];
        }
    }
    characters
}

fn from_base32(text: &str) -> Option<[u8; OCTETS]> {
    if text.len() != CHARACTERS {
        return None;
    }
    let mut octets = [0; OCTETS];
    for (characters, octets) in text.as_bytes().chunks_exact(8).zip(octets.chunks_exact_mut(5)) {
        let mut bits = 0_u64;
        for character in characters {
            let lower = character.to_ascii_lowercase();
            bits = bits << 5 | ALPHABET.iter().position(|&known| known == lower)? as u64;
        }
        octets.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{numbers, runs};
    use super::*;
    use proptest::prelude::*;

    fn written(key: &Key, run: RunToken, recipient: RecipientId) -> String {
        let mut out = String::new();
        write(key, run, recipient, &mut out);
        out
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        // RFC 4648 §10: BASE32("fooba") = "MZXW6YTB".
        assert_eq!(&base32(*b"foobafooba"), b"mzxw6ytbmzxw6ytb");
        assert_eq!(from_base32("MZXW6YTBmzxw6ytb"), Some(*b"foobafooba"));
        assert_eq!(from_base32("mzxw6ytbmzxw6yt1"), None);
    }

    #[test]
    fn other_addresses_are_none_of_ours() {
        let key = Key::new(1, &[7; 32]);
        let good = written(&key, RunToken::new("k3f9"), RecipientId::new(1, 0x2a));
        // The key's id is the first octet: 00000 001.. in base32.
        assert!(good.starts_with("bounce+k3f9.1.2a.a"));
        for text in [
            "",
            "bounce",
            "bounce+",
            "bounce+k3f9.1.2a",
            "postmaster@sender.test",
            "bounce+k3f9.1.2a.",
            &good.replace(".1.", ".01."),
            &good.replace(".1.", ".+1."),
            &good.replace(".1.", ".1.1."),
            &format!("{good}a"),
            &format!("{good}."),
            &good.replace("k3f9", "k3f9k3f9k3f9k"),
            &good.replace("bounce+", "bounce-"),
            "bounce+\u{e9}.0.0.aaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(read(text, &key), Err(TokenError::NoReturnPath), "{text}");
        }
        assert_eq!(read(&good.replace(".2a.", ".2b."), &key), Err(TokenError::Forged));
        assert_eq!(read(&good, &Key::new(2, &[7; 32])), Err(TokenError::UnknownKey(1)));
    }

    proptest! {
        #[test]
        fn a_return_path_says_whose_it_is_in_any_case(
            run in runs(), segment in numbers(), index in numbers(), id in 1..=255_u8, folds: u64,
        ) {
            let (key, recipient) = (Key::new(id, &[9; 32]), RecipientId::new(segment, index));
            let local = written(&key, run, recipient);
            prop_assert!(local.len() <= 64);
            let folded: String = local
                .chars()
                .enumerate()
                .map(|(at, c)| if folds >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            let expected = Ok(ReturnPath { run, recipient, key_id: id });
            prop_assert_eq!(read(&folded, &key), expected.clone());
            prop_assert_eq!(read(&format!("{folded}@Bounces.Sender.TEST"), &key), expected);
        }

        #[test]
        fn no_character_of_a_return_path_can_be_changed(
            run in runs(), index in numbers(), at: prop::sample::Index, put in "[a-z0-9.+]",
        ) {
            let key = Key::new(3, &[9; 32]);
            let mut local = written(&key, run, RecipientId::new(4, index));
            let at = at.index(local.len());
            prop_assume!(local[at..=at] != put);
            local.replace_range(at..=at, &put);
            prop_assert!(read(&local, &key).is_err(), "{}", local);
        }

        #[test]
        fn nothing_makes_reading_panic(text in "\\PC{0,80}|bounce\\+[a-z0-9]{0,13}\\.[0-9a-f]{0,9}\\.[0-9a-f]{0,9}\\.[a-z2-7]{16}") {
            prop_assert!(read(&text, &Key::new(3, &[9; 32])).is_err());
        }
    }
}
