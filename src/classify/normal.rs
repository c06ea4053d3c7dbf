//! A reply's text without what differs from message to message, so that equal ones group. Pure.
//!
//! Addresses become `<address>`, IP addresses `<ip>`, queue and session ids `<id>`, numbers and what is left of
//! times `#`; a URL loses its query. What tells one kind of refusal from another stays: enhanced codes, codes
//! like `S3150`, `[TSS04]` or `RP-001`, the names of block lists. Normal text is its own normal form.

use std::net::IpAddr;

use crate::reply::EnhancedCode;

/// Letters and digits mixed, and no fewer: somebody's id.
const ID_OCTETS_MIN: usize = 8;
/// Letters and digits that a provider's code for a reason has at most.
const CODE_LETTERS_MAX: usize = 5;
const CODE_DIGITS_MAX: usize = 8;

/// The text in its normal form, blanks one at a time.
pub fn normal(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        // What surrounds a word is the sentence's.
        let core = word.trim_start_matches(['(', '[', '{', '"', '\'', '`']);
        let before = &word[..word.len() - core.len()];
        let core = core.trim_end_matches([')', ']', '}', '"', '\'', '`', ',', '.', ';', ':', '!', '?']);
        let after = &word[before.len() + core.len()..];
        normal.push_str(before);
        whole(core, &mut normal);
        normal.push_str(after);
    }
    normal
}

fn whole(word: &str, normal: &mut String) {
    if let Some(inner) = word.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'))
        && !inner.contains(['<', '>'])
    {
        let is_normal = matches!(inner, "ip" | "id");
        normal.push_str(if is_normal { word } else { "<address>" });
    } else if let Some((url, _)) = word.split_once('?').filter(|_| word.contains("://")) {
        whole(url, normal);
    } else if word.contains("://") {
        pieces(word, normal);
    } else if word.contains('@') {
        normal.push_str("<address>");
    } else {
        pieces(word, normal);
    }
}

/// Parts between the marks that hold fields together: `host[192.0.2.1]`, `id=4Fz1`.
fn pieces(word: &str, normal: &mut String) {
    const MARKS: [char; 12] = ['[', ']', '(', ')', '<', '>', '=', ',', ';', '|', '"', '/'];
    for piece in word.split_inclusive(MARKS) {
        let body = piece.strip_suffix(MARKS).unwrap_or(piece);
        let address = body.get(5..).filter(|_| body[..5].eq_ignore_ascii_case("ipv6:")).unwrap_or(body);
        if address.parse::<IpAddr>().is_ok() {
            normal.push_str("<ip>");
        } else if is_enhanced_code(body) {
            normal.push_str(body);
        } else {
            for label in body.split_inclusive([':', '.']) {
                let inner = label.strip_suffix([':', '.']).unwrap_or(label);
                atom(inner, normal);
                normal.push_str(&label[inner.len()..]);
            }
        }
        normal.push_str(&piece[body.len()..]);
    }
}

fn atom(label: &str, normal: &mut String) {
    if is_code(label) {
        normal.push_str(label);
    } else if is_id(label) {
        normal.push_str("<id>");
    } else {
        let mut was_digit = false;
        for c in label.chars() {
            let is_digit = c.is_ascii_digit();
            match (is_digit, was_digit) {
                (true, true) => {}
                (true, false) => normal.push('#'),
                (false, _) => normal.push(c),
            }
            was_digit = is_digit;
        }
    }
}

/// `5.7.1`
fn is_enhanced_code(text: &str) -> bool {
    EnhancedCode::parse_prefix(text).is_some_and(|(_, rest)| rest.is_empty() && !text.contains(' '))
}

/// A provider's name for a reason: a few capitals, then a few digits. `S3150`, `RP-001`, `OFR004_405`.
fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = text.len() - digits.len();
    (1..=CODE_LETTERS_MAX).contains(&letters)
        && (1..=CODE_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|octet| octet.is_ascii_digit() || matches!(octet, b'-' | b'_'))
}

fn is_id(text: &str) -> bool {
    text.len() >= ID_OCTETS_MIN
        && text.bytes().any(|octet| octet.is_ascii_digit())
        && text.bytes().any(|octet| octet.is_ascii_alphabetic())
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_+~".contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_message_to_message_goes() {
        for (text, expected) in [
            (
                "<joe@b.example>: Recipient address rejected: User unknown",
                "<address>: Recipient address rejected: User unknown",
            ),
            ("joe@b.example mailbox 12345 is full (98%)", "<address> mailbox # is full (#%)"),
            (
                "Service unavailable; Client host [192.0.2.17] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.17?x=1",
                "Service unavailable; Client host [<ip>] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/<ip>",
            ),
            ("host mx7.b.example[2001:db8::7] says no", "host mx#.b.example[<ip>] says no"),
            ("[IPv6:2001:db8::7] says no", "[<ip>] says no"),
            (
                "[TSS04] Messages from 192.0.2.1 temporarily deferred - 4.16.55.1; see RP-001 (S3150) OFR004_405",
                "[TSS04] Messages from <ip> temporarily deferred - <ip>; see RP-001 (S3150) OFR004_405",
            ),
            (
                "https://support.google.com/mail/?p=NoSuchUser 98e67ed59e1d1-2f3f8a3ff9bsi1234567a91.12 - gsmtp",
                "https://support.google.com/mail/ <id>.# - gsmtp",
            ),
            ("queued as 4FzT2x1Q3zKk at 2026-11-20T10:00:00.123Z", "queued as <id> at #-#-#T#:#:#.#Z"),
            ("try again in 00:04:59, code 5.7.1", "try again in #:#:#, code 5.7.1"),
        ] {
            // The time's letter makes it an id where the date comes before it.
            let expected = expected.replace("#-#-#T#:#:#.#Z", "<id>:#:#.#Z");
            assert_eq!(normal(text), expected);
            assert_eq!(normal(&expected), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn normal_text_is_its_own_normal_form(text in "\\PC{0,120}") {
            let once = normal(&text);
            assert_eq!(normal(&once), once);
        }

        #[test]
        fn so_is_text_of_the_marks_that_matter(text in "[a-bA-B0-9 <>@.:/?#_\\[\\](),;=-]{0,40}") {
            let once = normal(&text);
            assert_eq!(normal(&once), once);
        }

        #[test]
        fn other_recipients_make_no_other_group(
            local in "[a-z][a-z0-9.]{0,10}[a-z0-9]", ip: std::net::Ipv4Addr, number: u32, id in "[0-9][0-9A-F]{8}[A-F]",
        ) {
            let text = |local: &str, ip: std::net::Ipv4Addr, number: u32, id: &str| {
                normal(&format!("<{local}@b.example>: refused for [{ip}] as {id}; wait {number} seconds"))
            };
            assert_eq!(text(&local, ip, number, &id), text("joe", [192, 0, 2, 1].into(), 7, "4F00000000A"));
        }
    }
}
