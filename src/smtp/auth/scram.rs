//! SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677): neither side shows the password, and both
//! prove that they know it. Pure: the nonce is an argument.

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::AuthFault;

const NAME: &str = "SCRAM-SHA-256";
/// The header of a client that does no channel binding (RFC 5802 §7).
const HEADER: &str = "n,,";
const HEADER_BASE64: &str = "biws";
/// Rounds that a server may ask for: some 0.1 s of work. RFC 7677 asks for 4,096 at least, and a server
/// that stores with fewer still proves itself.
const ROUNDS_MAX: u64 = 600_000;
const DIGEST_OCTETS: usize = 32;

/// A client's side of one exchange.
pub(super) struct Scram {
    first_bare: String,
    nonce: String,
    password: String,
    state: State,
}

enum State {
    Begun,
    /// Answered: what the server's signature must be.
    Answered([u8; DIGEST_OCTETS]),
    Verified,
}

/// 18 random octets as text without a comma.
pub(super) fn nonce() -> String {
    let mut octets = [0u8; 18];
    aws_lc_rs::rand::fill(&mut octets).expect("the system gives random octets");
    BASE64_STANDARD.encode(octets)
}

/// A name as it stands in a message (RFC 5802 §5.1).
pub(super) fn sasl_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

impl Scram {
    /// # Errors
    /// The user name or the password has characters that SASLprep forbids (RFC 4013).
    pub(super) fn new(user: &str, password: &str, nonce: &str) -> Result<Self, AuthFault> {
        let prepared = |text| -> Result<Cow<'_, str>, AuthFault> {
            stringprep::saslprep(text).map_err(|_| AuthFault::Password(NAME))
        };
        Ok(Self {
            first_bare: format!("n={},r={nonce}", sasl_name(&prepared(user)?)),
            nonce: nonce.to_owned(),
            password: prepared(password)?.into_owned(),
            state: State::Begun,
        })
    }

    /// The client's first message.
    pub(super) fn first(&self) -> String {
        format!("{HEADER}{}", self.first_bare)
    }

    /// The client's final message, which answers the server's first.
    pub(super) fn answer(&mut self, server_first: &[u8]) -> Result<String, AuthFault> {
        let nonsense = || AuthFault::Challenge(NAME);
        let server_first = std::str::from_utf8(server_first).map_err(|_| nonsense())?;
        let mut parts = server_first.split(',');
        let mut part = |key: &str| parts.next().and_then(|part| part.strip_prefix(key)).ok_or_else(nonsense);
        let (nonce, salt, rounds) = (part("r=")?, part("s=")?, part("i=")?);
        // A nonce that is not ours continued would let an old exchange be played again.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(nonsense());
        }
        let salt = BASE64_STANDARD.decode(salt).map_err(|_| nonsense())?;
        let rounds: u64 = rounds.parse().map_err(|_| nonsense())?;
        if rounds > ROUNDS_MAX {
            return Err(AuthFault::Rounds(rounds));
        }
        let rounds = u32::try_from(rounds).ok().and_then(NonZeroU32::new).ok_or_else(nonsense)?;

        let mut salted = [0u8; DIGEST_OCTETS];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, self.password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let without_proof = format!("c={HEADER_BASE64},r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = sign(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
        self.state = State::Answered(sign(&sign(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
    }

    /// Takes the server's final message, its proof.
    pub(super) fn verify(&mut self, server_final: &[u8]) -> Result<(), AuthFault> {
        let State::Answered(expected) = &self.state else { return Err(AuthFault::Challenge(NAME)) };
        let proof = server_final.strip_prefix(b"v=").ok_or(AuthFault::Unproven)?;
        let proof = proof.split(|octet| *octet == b',').next().unwrap_or_default();
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| AuthFault::Unproven)?;
        constant_time::verify_slices_are_equal(&proof, expected).map_err(|_| AuthFault::Unproven)?;
        self.state = State::Verified;
        Ok(())
    }

    pub(super) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }
}

fn sign(key: &[u8], text: &[u8]) -> [u8; DIGEST_OCTETS] {
    let mut signature = [0u8; DIGEST_OCTETS];
    signature.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677 §3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begun() -> Scram {
        Scram::new("user", "pencil", NONCE).unwrap()
    }

    #[test]
    fn the_exchange_of_rfc_7677_comes_out() {
        let mut scram = begun();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(SERVER_FIRST.as_bytes()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_verified());
        scram.verify(SERVER_FINAL).unwrap();
        assert!(scram.is_verified());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for wrong in
            [&b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..], b"v=", b"v=!", b"e=invalid-proof", b""]
        {
            let mut scram = begun();
            scram.answer(SERVER_FIRST.as_bytes()).unwrap();
            assert_eq!(scram.verify(wrong), Err(AuthFault::Unproven));
            assert!(!scram.is_verified());
        }
        assert!(begun().verify(SERVER_FINAL).is_err(), "there is nothing to verify yet");
    }

    #[test]
    fn a_first_message_that_makes_no_sense_is_not_answered() {
        for wrong in [
            "",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
            "m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        ] {
            assert_eq!(begun().answer(wrong.as_bytes()), Err(AuthFault::Challenge(NAME)), "{wrong}");
        }
        let costly = "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000";
        assert_eq!(begun().answer(costly.as_bytes()), Err(AuthFault::Rounds(4_000_000_000)));
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        assert_eq!(sasl_name("a=b,c"), "a=3Db=2Cc");
        // RFC 4013 §3: a soft hyphen goes, a roman numeral is mapped, a bell is forbidden.
        assert_eq!(Scram::new("I\u{ad}X", "p", NONCE).unwrap().first(), format!("n,,n=IX,r={NONCE}"));
        assert_eq!(Scram::new("\u{2168}", "p", NONCE).unwrap().first(), format!("n,,n=IX,r={NONCE}"));
        assert!(Scram::new("u", "\u{7}", NONCE).is_err());
    }
}
