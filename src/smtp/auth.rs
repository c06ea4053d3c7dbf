//! Saying who we are: SASL over SMTP (RFC 4954), as far as relays want it. No I/O.
//!
//! An [`Exchange`] makes the AUTH command and answers challenges; the session carries the lines. It is
//! only begun where the connection is protected, or stays on this machine; that is the session's to see.
//! What it makes holds the secret, so its lines are never logged.

mod scram;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::source::Secret;
pub use crate::config::source::{Mechanism, SecretPlace};
use scram::Scram;

/// Octets of a command line at most, its end included (RFC 5321 §4.5.3.1.4): a longer first response
/// waits for the server to ask (RFC 4954 §4).
const COMMAND_OCTETS_MAX: usize = 512;

/// Who we are, and where it is kept what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub secret: SecretPlace,
    /// Whether the secret is an OAuth 2.0 token.
    pub is_token: bool,
    /// `None`: the best that is offered.
    pub method: Option<Mechanism>,
}

/// The mechanisms that a server offers, of those spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mechanisms(u8);

/// Why an exchange cannot go on; nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFault {
    #[error("the relay asked for more than {0} has to say")]
    Surplus(&'static str),
    #[error("the relay's challenge makes no sense in {0}")]
    Challenge(&'static str),
    #[error("the relay wants {0} rounds of hashing, which is out of all proportion")]
    Rounds(u64),
    #[error("the relay has not shown that it knows the password")]
    Unproven,
    #[error("the password has characters that {0} does not take")]
    Password(&'static str),
}

impl Mechanisms {
    /// Notes a mechanism by its registered name, in any case; others are passed over.
    pub fn note(&mut self, name: &str) {
        if let Some(known) = Mechanism::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
        {
            self.0 |= 1 << known as u8;
        }
    }

    pub fn has(self, mechanism: Mechanism) -> bool {
        self.0 & (1 << mechanism as u8) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The best for a password or a token. SCRAM never shows the password; the others are alike under
    /// TLS, and CRAM-MD5 comes last since servers often offer it for passwords that it cannot check.
    pub fn best(self, is_token: bool) -> Option<Mechanism> {
        let by_preference: &[Mechanism] = match is_token {
            true => &[Mechanism::Oauthbearer, Mechanism::Xoauth2],
            false => &[Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5],
        };
        by_preference.iter().copied().find(|mechanism| self.has(*mechanism))
    }
}

impl Mechanism {
    /// As registered with IANA and said in AUTH.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Xoauth2 => "XOAUTH2",
            Self::Oauthbearer => "OAUTHBEARER",
        }
    }
}

impl Login {
    /// The mechanism to use with a server that offers `offered`.
    ///
    /// # Errors
    /// The name of what it does not offer.
    pub fn choose(&self, offered: Mechanisms) -> Result<Mechanism, &'static str> {
        match self.method {
            Some(method) if offered.has(method) => Ok(method),
            Some(method) => Err(method.name()),
            None if self.is_token => offered.best(true).ok_or("AUTH for tokens"),
            None => offered.best(false).ok_or("AUTH for passwords"),
        }
    }
}

/// One AUTH, from the command to what must hold once the server says 235.
pub struct Exchange {
    mechanism: Mechanism,
    user: String,
    secret: Secret,
    /// The server's name and port, which OAUTHBEARER names.
    host: String,
    port: u16,
    /// Responses given.
    given: usize,
    /// A first response too long for the command.
    held: Option<String>,
    scram: Option<Scram>,
}

impl Exchange {
    /// # Errors
    /// The secret cannot be used with this mechanism.
    pub fn new(
        mechanism: Mechanism,
        user: &str,
        secret: Secret,
        host: &str,
        port: u16,
    ) -> Result<Self, AuthFault> {
        let scram = match mechanism {
            Mechanism::ScramSha256 => Some(Scram::new(user, secret.expose(), &scram::nonce())?),
            _ => None,
        };
        let (user, host) = (user.to_owned(), host.to_owned());
        Ok(Self { mechanism, user, secret, host, port, given: 0, held: None, scram })
    }

    /// The AUTH command, with the first response in it where there is one and it fits.
    pub fn command(&mut self) -> String {
        let name = self.mechanism.name();
        let Some(first) = self.first() else { return format!("AUTH {name}\r\n") };
        let first = BASE64_STANDARD.encode(first);
        if "AUTH  \r\n".len() + name.len() + first.len() > COMMAND_OCTETS_MAX {
            self.held = Some(first);
            return format!("AUTH {name}\r\n");
        }
        self.given = 1;
        format!("AUTH {name} {first}\r\n")
    }

    /// The line that answers a challenge, which is given as it came behind 334.
    ///
    /// # Errors
    /// The exchange cannot go on; the session says `*` and gives it up.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<String, AuthFault> {
        if let Some(held) = self.held.take() {
            self.given = 1;
            return Ok(held + "\r\n");
        }
        let name = self.mechanism.name();
        let decoded =
            || BASE64_STANDARD.decode(challenge.trim_ascii()).map_err(|_| AuthFault::Challenge(name));
        let response: Vec<u8> = match (self.mechanism, self.given) {
            // Whatever the words of the question: they differ, and their order does not.
            (Mechanism::Login, 0) => self.user.as_bytes().to_vec(),
            (Mechanism::Login, 1) => self.secret.expose().as_bytes().to_vec(),
            (Mechanism::CramMd5, 0) => cram_md5(&self.user, self.secret.expose(), &decoded()?).into_bytes(),
            (Mechanism::ScramSha256, 1) => {
                let scram = self.scram.as_mut().ok_or(AuthFault::Surplus(name))?;
                scram.answer(&decoded()?)?.into_bytes()
            }
            (Mechanism::ScramSha256, 2) => {
                let scram = self.scram.as_mut().ok_or(AuthFault::Surplus(name))?;
                scram.verify(&decoded()?)?;
                Vec::new()
            }
            // Says why it refuses, and wants that acknowledged (RFC 7628 §3.2.3) before it does.
            (Mechanism::Oauthbearer, 1) => vec![1],
            (Mechanism::Xoauth2, 1) => Vec::new(),
            _ => return Err(AuthFault::Surplus(name)),
        };
        self.given += 1;
        Ok(BASE64_STANDARD.encode(response) + "\r\n")
    }

    /// Asked when the server says 235: whether it has proven what the mechanism makes it prove.
    ///
    /// # Errors
    /// It has not.
    pub fn accepted(&self) -> Result<(), AuthFault> {
        match &self.scram {
            Some(scram) if !scram.is_verified() => Err(AuthFault::Unproven),
            _ => Ok(()),
        }
    }

    /// What a mechanism in which the client begins has to say first.
    fn first(&self) -> Option<Vec<u8>> {
        let (user, secret) = (&self.user, self.secret.expose());
        let text = match self.mechanism {
            Mechanism::Login | Mechanism::CramMd5 => return None,
            Mechanism::Plain => format!("\0{user}\0{secret}"),
            Mechanism::ScramSha256 => self.scram.as_ref()?.first(),
            Mechanism::Xoauth2 => format!("user={user}\x01auth=Bearer {secret}\x01\x01"),
            Mechanism::Oauthbearer => format!(
                "n,a={},\x01host={}\x01port={}\x01auth=Bearer {secret}\x01\x01",
                scram::sasl_name(user),
                self.host,
                self.port
            ),
        };
        Some(text.into_bytes())
    }
}

/// RFC 2195 §2.
fn cram_md5(user: &str, password: &str, challenge: &[u8]) -> String {
    let digest = hmac_md5(password.as_bytes(), challenge);
    let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{user} {hex}")
}

/// RFC 2104. MD5 is broken as a hash; CRAM-MD5 asks for it all the same, and it is used for nothing else.
fn hmac_md5(key: &[u8], text: &[u8]) -> [u8; 16] {
    const BLOCK: usize = 64;
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        block[..16].copy_from_slice(&md5::compute(key).0);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|octet| octet ^ pad);
    let inner = md5::compute([&padded(0x36)[..], text].concat()).0;
    md5::compute([&padded(0x5c)[..], &inner].concat()).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(mechanism: Mechanism, user: &str, secret: &str) -> Exchange {
        Exchange::new(mechanism, user, Secret::new(secret), "server.example.com", 587).unwrap()
    }

    fn decoded(line: &str) -> String {
        let text = line.trim_end().rsplit(' ').next().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
    }

    fn encoded(text: &str) -> Vec<u8> {
        BASE64_STANDARD.encode(text).into_bytes()
    }

    #[test]
    fn hmac_md5_gives_the_digests_of_rfc_2202() {
        let hex = |digest: [u8; 16]| digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        assert_eq!(hex(hmac_md5(&[0x0b; 16], b"Hi There")), "9294727a3638bb1c13f48ef8158bfc9d");
        let digest = hmac_md5(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(digest), "750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(hex(hmac_md5(&[0xaa; 16], &[0xdd; 50])), "56be34521d144c88dbb8c733f0e8b3f6");
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(hmac_md5(&[0xaa; 80], text)), "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }

    #[test]
    fn cram_md5_is_that_of_rfc_2195() {
        let mut exchange = exchange(Mechanism::CramMd5, "tim", "tanstaaftanstaaf");
        assert_eq!(exchange.command(), "AUTH CRAM-MD5\r\n");
        let challenge = b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
        let response = exchange.respond(challenge).unwrap();
        assert_eq!(response, "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n");
        assert_eq!(exchange.respond(b""), Err(AuthFault::Surplus("CRAM-MD5")));
    }

    #[test]
    fn plain_is_that_of_rfc_4954() {
        // §4.1: AUTH PLAIN with test / 1234, the authorization identity left out.
        let mut exchange = exchange(Mechanism::Plain, "tim", "tanstaaftanstaaf");
        let command = exchange.command();
        assert_eq!(command, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
        assert_eq!(exchange.respond(b""), Err(AuthFault::Surplus("PLAIN")));
    }

    #[test]
    fn login_answers_in_order_whatever_the_words() {
        for (first, second) in [("VXNlcm5hbWU6", "UGFzc3dvcmQ6"), ("", "not base64"), ("dXNlcg==", "?")] {
            let mut exchange = exchange(Mechanism::Login, "tim", "secret");
            assert_eq!(exchange.command(), "AUTH LOGIN\r\n");
            assert_eq!(decoded(&exchange.respond(first.as_bytes()).unwrap()), "tim");
            assert_eq!(decoded(&exchange.respond(second.as_bytes()).unwrap()), "secret");
            assert_eq!(exchange.respond(b""), Err(AuthFault::Surplus("LOGIN")));
        }
    }

    #[test]
    fn oauthbearer_is_that_of_rfc_7628() {
        // §4.1, §4.3: what the client says first, and how it acknowledges a refusal.
        let mut exchange = exchange(
            Mechanism::Oauthbearer,
            "user@example.com",
            "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
        );
        let command = exchange.command();
        assert!(command.starts_with("AUTH OAUTHBEARER "));
        assert_eq!(
            decoded(&command),
            "n,a=user@example.com,\x01host=server.example.com\x01port=587\x01\
             auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
        assert_eq!(exchange.respond(&encoded("{\"status\":\"invalid_token\"}")).unwrap(), "AQ==\r\n");
        assert!(exchange.respond(b"").is_err());
    }

    #[test]
    fn xoauth2_is_that_of_its_makers() {
        // The example of Google's description of the mechanism.
        let mut exchange = exchange(
            Mechanism::Xoauth2,
            "someuser@example.com",
            "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg",
        );
        assert_eq!(
            exchange.command(),
            "AUTH XOAUTH2 dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52\
             YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==\r\n"
        );
        assert_eq!(exchange.respond(&encoded("{\"status\":\"401\"}")).unwrap(), "\r\n");
    }

    #[test]
    fn a_long_first_response_waits_until_it_is_asked_for() {
        let token = "t".repeat(2_000);
        let mut exchange = exchange(Mechanism::Xoauth2, "me@example.com", &token);
        assert_eq!(exchange.command(), "AUTH XOAUTH2\r\n");
        assert!(decoded(&exchange.respond(b"").unwrap()).contains(&token));
        assert_eq!(exchange.respond(b"e30=").unwrap(), "\r\n");
    }

    #[test]
    fn the_best_of_what_is_offered_is_used() {
        let offered = |names: &str| {
            let mut mechanisms = Mechanisms::default();
            names.split(' ').for_each(|name| mechanisms.note(name));
            mechanisms
        };
        let everything = offered("plain LOGIN CRAM-MD5 SCRAM-SHA-256 XOAUTH2 OAUTHBEARER");
        assert_eq!(everything.best(false), Some(Mechanism::ScramSha256));
        assert_eq!(everything.best(true), Some(Mechanism::Oauthbearer));
        assert_eq!(offered("LOGIN PLAIN CRAM-MD5").best(false), Some(Mechanism::Plain));
        assert_eq!(offered("CRAM-MD5 DIGEST-MD5 GSSAPI").best(false), Some(Mechanism::CramMd5));
        assert_eq!(offered("PLAIN LOGIN").best(true), None);
        assert!(offered("NTLM SCRAM-SHA-256-PLUS").is_empty());
        let login = |method| Login {
            user: "u".into(),
            secret: SecretPlace::Env("E".into()),
            is_token: false,
            method,
        };
        assert_eq!(login(Some(Mechanism::Login)).choose(everything), Ok(Mechanism::Login));
        assert_eq!(login(Some(Mechanism::CramMd5)).choose(offered("PLAIN")), Err("CRAM-MD5"));
        assert_eq!(login(None).choose(Mechanisms::default()), Err("AUTH for passwords"));
    }

    #[test]
    fn scram_is_not_believed_without_the_servers_proof() {
        let mut exchange = exchange(Mechanism::ScramSha256, "user", "pencil");
        assert!(decoded(&exchange.command()).starts_with("n,,n=user,r="));
        assert_eq!(exchange.accepted(), Err(AuthFault::Unproven));
        assert_eq!(exchange.respond(b"!"), Err(AuthFault::Challenge("SCRAM-SHA-256")));
    }
}
