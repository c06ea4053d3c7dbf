//! DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, rsa-sha256 and ed25519-sha256, one per signer.
//!
//! All headers of a message are signed, and those a forger would add are signed once more than they occur,
//! so that adding one breaks the signature. Whatever a signature says of the campaign is written once;
//! a message costs two hashes and the key's operation. `b=` ends the header without a `;`, and is folded
//! only between base64 characters, which every verifier reads alike. No `l=`: it would leave the end open.

mod generate;
mod private;
mod record;
mod signer;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memmem::Finder;

use super::RenderError;

pub use generate::{KeyKind, generate};
pub use private::{DkimError, RSA_BITS_ADVISED, RSA_BITS_MIN};
pub use record::zone_line;
pub use signer::{Algorithm, Signer};

/// Signed once more than they occur, there or not: what a reader or a filter goes by, so that one that is
/// added later breaks the signature (RFC 6376 §8.15; RFC 8058 §4 for the List headers). Not among them are
/// headers that honest hosts on the way add, such as Sender.
const OVERSIGNED: [&str; 12] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// Likewise, where they are there at all: who asks for complaints or names the campaign is signed (RFC 9477
/// §3.1), and no second one can be put beside it.
const OVERSIGNED_IF_THERE: [&str; 4] = ["List-Id", "Feedback-ID", "CFBL-Address", "CFBL-Feedback-ID"];
/// Characters of a signature on one line.
const SIGNATURE_LINE: usize = 72;
/// `bh=` of SHA-256 in base64.
const BODY_HASH_CHARACTERS: usize = 44;
const AFTER_BODY_HASH: &[u8] = b";\r\n\tb=";

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

    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.seals.iter().map(|seal| &seal.signer)
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
            signer.algorithm().name(),
            signer.domain(),
            signer.selector(),
        );
        let mut column = 3;
        let is_there = |name: &&&str| names.iter().any(|there| there.eq_ignore_ascii_case(name));
        let again = OVERSIGNED.iter().chain(OVERSIGNED_IF_THERE.iter().filter(is_there));
        for (index, name) in names.iter().chain(again).enumerate() {
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
