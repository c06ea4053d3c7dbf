//! Header fields: values that stay within their field, encoded (RFC 2047) and folded (RFC 5322 §2.2.3).
//!
//! Whatever a template made of a value, control characters become blanks here before it is written, so no
//! value can end its field. Plain ASCII stays readable; anything else becomes encoded-words, B or Q,
//! whichever is shorter. Knows no templates and no recipients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ContentError, RenderError};
use crate::address::Address;

/// Characters of a line that should not be exceeded (RFC 5322 §2.1.1).
const LINE_MAX: usize = 78;
/// Characters of a line with an encoded-word at most (RFC 2047 §2).
const ENCODED_LINE_MAX: usize = 76;
/// `=?utf-8?Q?` and `?=`.
const ENCODED_WORD_OVERHEAD: usize = 12;
/// A longer word is encoded, for it could pass the 998 octets of a line.
const WORD_MAX: usize = 900;
/// Octets of a rendered URL or address at most; it cannot be folded.
const URL_MAX: usize = 900;

/// Octets of a parameter's value on one line.
const PARAMETER_MAX: usize = 60;

/// Turns what a template gave into one line: controls and line ends become blanks, outer blanks go.
pub(super) fn clean(text: &mut Vec<u8>) {
    if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        let cleaned: String = String::from_utf8_lossy(text)
            .chars()
            .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
            .collect();
        text.clear();
        text.extend_from_slice(cleaned.as_bytes());
    }
    let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
    text.truncate(end);
    let start = text.iter().position(|&byte| byte != b' ').unwrap_or(0);
    text.drain(..start);
}

/// Writes `Name: value` and CRLF for a cleaned, unstructured value.
pub(super) fn unstructured(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let column = name.len() + 2;
    if stays_ascii(value) {
        folded(column, value, out);
    } else {
        encoded_words(column, &String::from_utf8_lossy(value), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `Name: display <address>` and CRLF; `display` is cleaned and may be empty.
pub(super) fn mailbox(name: &str, display: &[u8], local: &str, domain: &str, out: &mut Vec<u8>) {
    let line = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    if !display.is_empty() {
        phrase(name.len() + 2, display, out);
        let column =
            memchr::memrchr(b'\n', &out[line..]).map_or(out.len() - line, |at| out.len() - line - at - 1);
        if column + local.len() + domain.len() + 4 > LINE_MAX {
            out.extend_from_slice(b"\r\n");
        }
        out.push(b' ');
    }
    out.push(b'<');
    out.extend_from_slice(local.as_bytes());
    out.push(b'@');
    out.extend_from_slice(domain.as_bytes());
    out.extend_from_slice(b">\r\n");
}

/// Reads `Name <local@domain>` or a plain address as a person wrote it in the manifest.
///
/// # Errors
/// What is wrong, naming the field.
pub(super) fn parse_mailbox(field: &'static str, text: &str) -> Result<(Vec<u8>, Address), ContentError> {
    let refuse = |reason: String| ContentError::Address { field, reason };
    let text = text.trim();
    let (display, address) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((display, address)) => (display.trim(), address),
        None => ("", text),
    };
    let address = Address::parse(address).map_err(|error| refuse(error.to_string()))?;
    if address.as_ref().needs_smtputf8() {
        return Err(refuse("the part before @ must be ASCII, or most receivers could not be mailed".into()));
    }
    let quoted = display.len() > 1 && display.starts_with('"') && display.ends_with('"');
    let display = if quoted { &display[1..display.len() - 1] } else { display };
    if display.contains(char::is_control) || (!quoted && display.contains(['<', '>', '"'])) {
        return Err(refuse(
            "write it as Name <local@domain>, the name in quotes if it has <, > or \"".into(),
        ));
    }
    let mut plain = Vec::with_capacity(display.len());
    let mut bytes = display.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if quoted && byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte };
        plain.push(byte);
    }
    clean(&mut plain);
    Ok((plain, address))
}

/// Writes `List-Id: name <label.domain>` (RFC 2919 §3).
///
/// # Errors
/// When the identifier is not dotted letters, digits and hyphens.
pub(super) fn list_id(text: &str, out: &mut Vec<u8>) -> Result<(), ContentError> {
    let text = text.trim();
    let (name, id) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((name, id)) => (name.trim(), id),
        None => ("", text),
    };
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !id.contains('.') || !id.split('.').all(label) || id.len() > 255 {
        let reason = "a list identifier is like autumn.sender.example".to_owned();
        return Err(ContentError::Address { field: "list id", reason });
    }
    let mut name = name.trim_matches('"').as_bytes().to_vec();
    clean(&mut name);
    out.extend_from_slice(b"List-Id: ");
    if !name.is_empty() {
        phrase(9, &name, out);
        out.extend_from_slice(if name.len() + id.len() > 60 { b"\r\n " } else { b" " });
    }
    out.extend_from_slice(format!("<{id}>\r\n").as_bytes());
    Ok(())
}

/// Makes a URL of a cleaned value: octets that no URL holds are percent-encoded.
///
/// # Errors
/// Too long, or not starting with `scheme` and something after it.
pub(super) fn url(
    template: &str,
    scheme: &'static str,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let refuse = |reason| Err(RenderError::Value { template: template.to_owned(), reason });
    let start = out.len();
    for (at, &byte) in value.iter().enumerate() {
        let keep = match byte {
            b'%' => value.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            b'<' | b'>' | b'"' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            other => matches!(other, b'!'..=b'~'),
        };
        if keep {
            out.push(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    let written = &out[start..];
    if written.len() > URL_MAX {
        return refuse("longer than 900 octets");
    }
    match written.strip_prefix(scheme.as_bytes()) {
        Some(rest) if scheme == "mailto:" && rest.contains(&b'@') => Ok(()),
        Some([first, ..]) if scheme == "https://" && first.is_ascii_alphanumeric() => Ok(()),
        _ if scheme == "mailto:" => refuse("not an address"),
        _ => refuse("does not start with https:// and a host"),
    }
}

/// Writes `;`, a fold and `name=value`: a quoted string, or what RFC 2231 makes of other scripts and of
/// long values.
pub(super) fn parameter(name: &str, value: &str, out: &mut Vec<u8>) {
    if value.len() <= PARAMETER_MAX && value.bytes().all(|b| matches!(b, b' '..=b'~')) {
        out.extend_from_slice(format!(";\r\n {name}=\"").as_bytes());
        for byte in value.bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
        return;
    }
    let mut sections = vec!["utf-8''".to_owned()];
    for character in value.chars() {
        let mut encoded = String::new();
        let mut octets = [0; 4];
        for &byte in character.encode_utf8(&mut octets).as_bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        let last = sections.last_mut().expect("there is one");
        if last.len() + encoded.len() > PARAMETER_MAX {
            sections.push(encoded);
        } else {
            last.push_str(&encoded);
        }
    }
    if let [section] = sections.as_slice() {
        out.extend_from_slice(format!(";\r\n {name}*={section}").as_bytes());
        return;
    }
    for (number, section) in sections.iter().enumerate() {
        out.extend_from_slice(format!(";\r\n {name}*{number}*={section}").as_bytes());
    }
}

/// Whether a cleaned value can be written without encoded-words.
fn stays_ascii(value: &[u8]) -> bool {
    value.is_ascii()
        && memchr::memmem::find(value, b"=?").is_none()
        && (value.len() <= WORD_MAX
            // Folds need single blanks.
            || value.split(|&byte| byte == b' ').all(|word| !word.is_empty() && word.len() <= WORD_MAX))
}

/// Folds before single blanks where a line would grow past 78; a long word stays whole.
fn folded(mut column: usize, value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while column + rest.len() > LINE_MAX {
        let room = LINE_MAX.saturating_sub(column);
        let single = |&at: &usize| rest[at] == b' ' && rest[at - 1] != b' ' && rest[at + 1] != b' ';
        // Values are trimmed, so there is an octet on each side of a blank.
        let blank = (1..rest.len().min(room + 1)).rev().find(single);
        let Some(at) = blank.or_else(|| (room.max(1)..rest.len()).find(single)) else { break };
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n ");
        rest = &rest[at + 1..];
        column = 1;
    }
    out.extend_from_slice(rest);
}

/// A display name: atoms, a quoted string or encoded-words (RFC 5322 §3.2.5, RFC 2047 §5).
fn phrase(column: usize, display: &[u8], out: &mut Vec<u8>) {
    let atom = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~ ".contains(b);
    let doubled = memchr::memmem::find(display, b"  ").is_some();
    if !stays_ascii(display) || display.len() > 200 || doubled {
        encoded_words(column, &String::from_utf8_lossy(display), out);
    } else if display.iter().all(atom) {
        out.extend_from_slice(display);
    } else {
        out.push(b'"');
        for &byte in display {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
}

/// Writes the whole text as encoded-words, folded between them; no word splits a character.
fn encoded_words(mut column: usize, text: &str, out: &mut Vec<u8>) {
    let q_octets: usize = text.bytes().map(q_cost).sum();
    let quoted = q_octets <= text.len().div_ceil(3) * 4;
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        let mut room = ENCODED_LINE_MAX.saturating_sub(column + ENCODED_WORD_OVERHEAD);
        if !first || room < 12 {
            out.extend_from_slice(b"\r\n ");
            room = ENCODED_LINE_MAX - 1 - ENCODED_WORD_OVERHEAD;
        }
        first = false;
        column = 1;
        let (word, after) = rest.split_at(fitting(rest, room, quoted));
        rest = after;
        if quoted {
            out.extend_from_slice(b"=?utf-8?Q?");
            word.bytes().for_each(|byte| push_q(byte, out));
        } else {
            out.extend_from_slice(b"=?utf-8?B?");
            let start = out.len();
            out.resize(start + word.len().div_ceil(3) * 4, 0);
            BASE64.encode_slice(word, &mut out[start..]).expect("sized for it");
        }
        out.extend_from_slice(b"?=");
    }
}

/// Octets of `text`, whole characters, that fit `room` characters when encoded.
fn fitting(text: &str, room: usize, quoted: bool) -> usize {
    let mut octets = 0;
    let mut cost = 0;
    for character in text.chars() {
        let length = character.len_utf8();
        cost = if quoted {
            cost + text[octets..octets + length].bytes().map(q_cost).sum::<usize>()
        } else {
            (octets + length).div_ceil(3) * 4
        };
        if cost > room {
            break;
        }
        octets += length;
    }
    octets
}

/// What Q leaves alone even in a phrase (RFC 2047 §5 (3)).
fn is_q_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'*' | b'+' | b'-' | b'/')
}

fn q_cost(byte: u8) -> usize {
    if is_q_literal(byte) || byte == b' ' { 1 } else { 3 }
}

fn push_q(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b' ' => out.push(b'_'),
        _ if is_q_literal(byte) => out.push(byte),
        _ => out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, value: &str) -> String {
        let mut value = value.as_bytes().to_vec();
        clean(&mut value);
        let mut out = Vec::new();
        unstructured(name, &value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_values_stay_readable_and_fold_at_78() {
        assert_eq!(written("Subject", " Our autumn offers "), "Subject: Our autumn offers\r\n");
        let long = "word ".repeat(40);
        let folded = written("Subject", &long);
        assert!(folded.lines().all(|line| line.len() <= 78), "{folded}");
        assert_eq!(folded.replace("\r\n ", " "), format!("Subject: {}\r\n", long.trim()));
    }

    #[test]
    fn other_values_become_the_shorter_encoded_word() {
        // Made with Python: email.charset.Charset("utf-8") with header_encoding QP and BASE64.
        assert_eq!(
            written("Subject", "Herbstangebote aus Köln"),
            "Subject: =?utf-8?Q?Herbstangebote_aus_K=C3=B6ln?=\r\n"
        );
        assert_eq!(written("Subject", "Grüße aus Köln"), "Subject: =?utf-8?B?R3LDvMOfZSBhdXMgS8O2bG4=?=\r\n");
        assert_eq!(written("Subject", "こんにちは"), "Subject: =?utf-8?B?44GT44KT44Gr44Gh44Gv?=\r\n");
        assert_eq!(written("Subject", "=?utf-8?Q?a?="), "Subject: =?utf-8?B?PT91dGYtOD9RP2E/PQ==?=\r\n");
        for line in written("X-Long", &"ä ö ü ß 🎉 ".repeat(60)).lines() {
            assert!(line.len() <= 76, "{line}");
        }
    }

    #[test]
    fn a_value_cannot_leave_its_line() {
        let value = "a\r\nBcc: x@example.test\0\u{85}\u{2028}b";
        assert_eq!(written("Subject", value), "Subject: a  Bcc: x@example.test   b\r\n");
    }

    #[test]
    fn display_names_are_atoms_quoted_or_encoded() {
        let to = |display: &str| {
            let mut out = Vec::new();
            mailbox("To", display.as_bytes(), "ann", "example.test", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(to(""), "To: <ann@example.test>\r\n");
        assert_eq!(to("Ann Bell"), "To: Ann Bell <ann@example.test>\r\n");
        assert_eq!(to("Ann <x@y>, \"B\""), "To: \"Ann <x@y>, \\\"B\\\"\" <ann@example.test>\r\n");
        assert_eq!(to("Jörg Bell"), "To: =?utf-8?Q?J=C3=B6rg_Bell?= <ann@example.test>\r\n");
    }

    #[test]
    fn urls_hold_only_what_urls_may() {
        let make = |value: &str| {
            let mut out = Vec::new();
            url("u", "https://", value.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            make("https://a.test/?q=ä b%20%zz>,<").unwrap(),
            "https://a.test/?q=%C3%A4%20b%20%25zz%3E,%3C"
        );
        assert!(make("http://a.test/").is_err());
        assert!(make("https://").is_err());
        assert!(make(&format!("https://a.test/{}", "x".repeat(900))).is_err());
    }

    #[test]
    fn a_mailbox_is_read_as_people_write_it() {
        let (display, address) = parse_mailbox("from", "\"Bell, \\\"Ann\\\"\" <ann@Example.test>").unwrap();
        assert_eq!(display, b"Bell, \"Ann\"");
        assert_eq!(address.to_string(), "ann@example.test");
        assert!(parse_mailbox("from", "Ann").is_err());
        assert!(parse_mailbox("from", "Ann <a@example.test>\r\nBcc: <x@example.test>").is_err());
    }
}
