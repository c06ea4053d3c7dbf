//! Where complaints go: `Feedback-ID` for Gmail's Postmaster Tools, `CFBL-Address` for everyone (RFC 9477).
//!
//! Gmail counts complaints by up to four identifiers with colons between, the last of which is the sender's,
//! of 5 to 15 characters and the same in all that it sends. They name groups of mail; a value that a row
//! brings loses what would make it several identifiers or no plain text.

use super::flatten::Flat;
use super::pieces::{self, Piece};
use super::slots::Form;
use super::template::{Template, Templates};
use super::{ContentError, headers};

/// Identifiers at most.
const PARTS_MAX: usize = 4;
/// Characters of an identifier at most; the rest is cut off.
const PART_MAX: usize = 64;
const SENDER: std::ops::RangeInclusive<usize> = 5..=15;

/// Whether a text can be a `Feedback-ID`: `campaign:customer:other:sender` or the end of it.
///
/// # Errors
/// What is wrong with it.
pub fn check_feedback_id(text: &str) -> Result<(), &'static str> {
    let parts = parts(text);
    if parts.len() > PARTS_MAX {
        return Err("Feedback-ID has four parts at most, with colons between");
    }
    let texts: Vec<Option<&str>> = parts.iter().map(|part| fixed(part)).collect();
    let Some(Some(sender)) = texts.last() else {
        return Err("the last part of Feedback-ID is the sender's own and the same for all, without {{ }}");
    };
    if !SENDER.contains(&sender.len()) || !sender.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err("the last part of Feedback-ID names the sender with 5 to 15 characters, without blanks");
    }
    let named: Vec<&str> = texts.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    if (1..named.len()).any(|at| named[..at].contains(&named[at])) {
        return Err("a part of Feedback-ID stands in it twice, so its complaints would be counted as one's");
    }
    Ok(())
}

/// The parts as templates.
///
/// # Errors
/// As [`check_feedback_id`], and those of templates.
pub(super) fn feedback_id(text: &str, templates: &mut Templates) -> Result<Vec<Template>, ContentError> {
    let name = "Feedback-ID";
    check_feedback_id(text).map_err(|reason| ContentError::Header { name: name.to_owned(), reason })?;
    let compiled = parts(text).into_iter().enumerate().map(|(at, pieces)| {
        let flat = Flat { pieces, unresolved: None };
        templates.add(&format!("feedback_id {at}"), "feedback_id", &flat, Form::Header)
    });
    compiled.collect()
}

/// Appends what a rendered part becomes.
pub(super) fn push_part(value: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(value);
    let plain = |c: char| if c.is_ascii_graphic() && c != ':' { c as u8 } else { b'_' };
    out.extend(text.chars().take(PART_MAX).map(plain));
}

/// Writes `CFBL-Address: address; report=arf`.
///
/// # Errors
/// Not a plain address.
pub(super) fn cfbl_address(text: &str, out: &mut Vec<u8>) -> Result<(), ContentError> {
    let (display, address) = headers::parse_mailbox("cfbl address", text)?;
    if !display.is_empty() {
        let reason = "it is an address without a name".to_owned();
        return Err(ContentError::Address { field: "cfbl address", reason });
    }
    out.extend_from_slice(format!("CFBL-Address: {address}; report=arf\r\n").as_bytes());
    Ok(())
}

/// Cut at the colons outside of tags.
fn parts(text: &str) -> Vec<Vec<Piece>> {
    let mut parts = vec![Vec::new()];
    for piece in pieces::cut("feedback_id", text.trim()) {
        match piece {
            Piece::Text(text) => {
                for (at, text) in text.split(':').enumerate() {
                    if at > 0 {
                        parts.push(Vec::new());
                    }
                    pieces::push_text(parts.last_mut().expect("there is one"), text);
                }
            }
            tag => parts.last_mut().expect("there is one").push(tag),
        }
    }
    parts
}

/// A part's text, if it is the same for all.
fn fixed(part: &[Piece]) -> Option<&str> {
    match part {
        [] => Some(""),
        [Piece::Text(text)] => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feedback_id_is_as_gmail_reads_it() {
        for good in
            ["sender", "autumn:sender", "a:b:{{ plan }}:sender", "::{{ plan|default('a:b') }}:sender-01"]
        {
            check_feedback_id(good).unwrap();
        }
        for bad in [
            "",
            "a:b",
            "a:b:c:d:sender",
            "a:{{ id }}",
            "a:abcd",
            "a:abcdefghijklmnop",
            "a:sen der",
            "a:",
            "sender:sender",
            "a:a::sender",
            "a:s\u{e9}nder",
        ] {
            assert!(check_feedback_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_stays_one_identifier() {
        let mut out = Vec::new();
        push_part("a:b c\r\nX: ü{".as_bytes(), &mut out);
        assert_eq!(out, b"a_b_c__X___{");
        out.clear();
        push_part(&[b'x'; 100], &mut out);
        assert_eq!(out.len(), 64);
    }
}
