//! Decoding what a finished message carries: transfer encodings (RFC 2045 §6) and encoded words (RFC 2047).
//!
//! Lenient, as mail readers are: what cannot be decoded stays as it is.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a part's body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    QuotedPrintable,
    Base64,
}

impl Encoding {
    pub fn named(value: &str) -> Self {
        match value.trim().to_ascii_lowercase().as_str() {
            "quoted-printable" => Self::QuotedPrintable,
            "base64" => Self::Base64,
            _ => Self::Plain,
        }
    }

    /// Writes the decoded body over `out`.
    pub fn decode(self, body: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Plain => out.extend_from_slice(body),
            Self::QuotedPrintable => quoted_printable(body, out),
            Self::Base64 => {
                let octets: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                if BASE64.decode_vec(&octets, out).is_err() {
                    out.clear();
                }
            }
        }
    }
}

fn quoted_printable(body: &[u8], out: &mut Vec<u8>) {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest {
            [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => rest = after,
            [high, low, after @ ..] if let (Some(high), Some(low)) = (hex(*high), hex(*low)) => {
                out.push(high << 4 | low);
                rest = after;
            }
            _ => out.push(b'='),
        }
    }
    out.extend_from_slice(rest);
}

/// The text of an unstructured field: unfolded, its encoded words decoded.
pub(super) fn unstructured(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value).replace(['\r', '\n'], "");
    let mut text = String::with_capacity(value.len());
    // Octets of neighbouring words belong together: a character may be cut in two.
    let mut octets = Vec::new();
    let mut rest = value.trim();
    while let Some((before, decoded, after)) = next_word(rest) {
        if octets.is_empty() || !before.trim().is_empty() {
            text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut octets)));
            text.push_str(before);
        }
        octets.extend_from_slice(&decoded);
        rest = after;
    }
    text.push_str(&String::from_utf8_lossy(&octets));
    text.push_str(rest);
    text
}

/// The first encoded word in UTF-8 (or ASCII): what stands before it, its octets, what comes after.
fn next_word(text: &str) -> Option<(&str, Vec<u8>, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("=?")?;
        if let Some((octets, after)) = word(&text[start + 2..]) {
            return Some((&text[..start], octets, after));
        }
        from = start + 2;
    }
}

fn word(text: &str) -> Option<(Vec<u8>, &str)> {
    let (charset, rest) = text.split_once('?')?;
    let (encoding, rest) = rest.split_once('?')?;
    let (content, after) = rest.split_once("?=")?;
    let charset = charset.split('*').next().unwrap_or_default();
    if !(charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")) {
        return None;
    }
    let octets = match encoding {
        "B" | "b" => BASE64.decode(content).ok()?,
        // A blank may be written as an underscore, an underscore as =5F.
        "Q" | "q" => {
            let mut octets = Vec::new();
            quoted_printable(content.replace('_', "=20").as_bytes(), &mut octets);
            octets
        }
        _ => return None,
    };
    Some((octets, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_decode_as_rfc_2045_says() {
        // The examples' texts were encoded by Python's quopri and base64.
        let mut out = Vec::new();
        Encoding::QuotedPrintable.decode(b"caf=C3=A9 =3D=\r\n 5=\r\n", &mut out);
        assert_eq!(out, "café = 5".as_bytes());
        Encoding::Base64.decode(b"Y2Fm\r\nw6k=\r\n", &mut out);
        assert_eq!(out, "café".as_bytes());
        Encoding::QuotedPrintable.decode(b"100 =ZZ =", &mut out);
        assert_eq!(out, b"100 =ZZ =");
    }

    #[test]
    fn encoded_words_join_and_keep_plain_text_apart() {
        // RFC 2047 §8.
        for (written, read) in [
            ("=?UTF-8?Q?a?=", "a"),
            ("=?UTF-8?Q?a?= b", "a b"),
            ("=?UTF-8?Q?a?= =?UTF-8?Q?b?=", "ab"),
            ("=?UTF-8?Q?a?=\r\n  =?UTF-8?Q?b?=", "ab"),
            ("=?UTF-8?Q?a_b?=", "a b"),
            ("=?UTF-8?Q?a=5Fb?=", "a_b"),
            ("=?UTF-8?B?w6k=?= x =?nonsense", "é x =?nonsense"),
            ("=?UTF-8?Q?=C3?= =?UTF-8?Q?=A9?=", "é"),
        ] {
            assert_eq!(unstructured(written.as_bytes()), read, "{written}");
        }
    }
}
