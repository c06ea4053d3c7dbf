//! What Gmail, Yahoo and Microsoft demand of a message's header, and RFC 5322 §3.6 before them.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::anatomy::Field;
use super::finding::Severity;
use super::rows::{Facts, Place};
use super::tally::{Flaw, Tally};

/// Exactly one of each: RFC 5322 §3.6 for the first two, receivers for the others.
const ONCE: [&str; 5] = ["From", "Date", "To", "Subject", "Message-ID"];
/// May stand more than once.
const REPEATED: [&str; 8] = [
    "DKIM-Signature",
    "Received",
    "Comments",
    "Keywords",
    "CFBL-Address",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];
/// Characters of a subject; readers show some seventy of them.
const SUBJECT_CHARACTERS_MAX: usize = 150;
/// What stands before the subject of a reply or a forwarded message.
const PREFIXES: [&str; 11] =
    ["re:", "fw:", "fwd:", "aw:", "wg:", "tr:", "rv:", "sv:", "vs:", "antw:", "odp:"];
/// What templates leave behind when they are another system's, or are not carried out.
const LEFTOVERS: [&str; 9] = ["{{", "}}", "{%", "%}", "*|", "%%", "${", "[[", "lorem ipsum"];

static LEFTOVER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = AhoCorasick::builder().ascii_case_insensitive(true).build(LEFTOVERS);
    words.expect("words make an automaton")
});

/// What a header says that the body is held to.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The https URL of `List-Unsubscribe`.
    pub unsubscribe: Option<String>,
}

pub(super) fn check(fields: &[Field<'_>], facts: &Facts, place: Place<'_>, tally: &mut Tally) -> Head {
    counts(fields, place, tally);
    for field in fields {
        if !field.value.is_ascii() {
            let what = format!("the field {} is not ASCII", field.name);
            error(tally, place, "header-malformed", &what, "encode it as RFC 2047 says", || field.text());
        }
    }
    let find = |name: &str| fields.iter().find(|field| field.is(name)).map(Field::text);
    if let Some(from) = find("From").filter(|from| mailboxes(from) != 1) {
        let what = "From does not name exactly one address";
        let advice = "write one \"Name <address@domain>\"";
        error(tally, place, "header-malformed", what, advice, || from.clone());
    }
    if let Some(subject) = find("Subject") {
        check_subject(&subject, place, tally);
    }
    one_click(find("List-Unsubscribe"), find("List-Unsubscribe-Post"), facts, place, tally)
}

fn counts(fields: &[Field<'_>], place: Place<'_>, tally: &mut Tally) {
    let count = |name: &str| fields.iter().filter(|field| field.is(name)).count();
    for name in ONCE {
        let advice = "every receiver wants exactly one of it";
        match count(name) {
            1 => {}
            0 => error(
                tally,
                place,
                "header-missing",
                &format!("the message has no {name}"),
                advice,
                String::new,
            ),
            n => {
                let what = format!("the message has {n} fields {name}");
                error(
                    tally,
                    place,
                    "header-repeated",
                    &what,
                    "Gmail refuses messages with doubled fields",
                    || place.shown(""),
                );
            }
        }
    }
    for (at, field) in fields.iter().enumerate() {
        let is_counted = ONCE.iter().chain(&REPEATED).any(|name| field.is(name));
        if !is_counted && fields[..at].iter().any(|other| other.is(field.name)) {
            let what = format!("the field {} stands more than once", field.name);
            error(
                tally,
                place,
                "header-repeated",
                &what,
                "Gmail refuses messages with doubled fields",
                || place.shown(""),
            );
        }
    }
}

/// Addresses of a `From`: commas outside quotes and comments part them.
fn mailboxes(from: &str) -> usize {
    let (mut quoted, mut count) = (false, 1);
    let mut characters = from.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => count += 1,
            _ => {}
        }
    }
    if from.contains('@') { count } else { 0 }
}

fn check_subject(subject: &str, place: Place<'_>, tally: &mut Tally) {
    let show = || place.shown(subject);
    let trimmed = subject.trim();
    if trimmed.is_empty() {
        let advice = "give the template something to say for these rows, like {{ name|default(\"…\") }}";
        return error(tally, place, "subject-empty", "the subject is empty", advice, show);
    }
    if trimmed.chars().count() > SUBJECT_CHARACTERS_MAX {
        let what = format!("the subject is longer than {SUBJECT_CHARACTERS_MAX} characters");
        let advice = "readers show some 70, phones 40; say the rest in the message";
        warning(tally, place, "subject-long", &what, advice, show);
    }
    let lower = trimmed.to_lowercase();
    if let Some(prefix) = PREFIXES.iter().find(|prefix| lower.starts_with(**prefix)) {
        let what = format!("the subject begins with {prefix} though nobody wrote before");
        let advice = "leave it out: receivers take it for deceit, and laws forbid it";
        warning(tally, place, "subject-deceives", &what, advice, show);
    }
    let letters = || trimmed.chars().filter(|c| c.is_alphabetic());
    let shouts = letters().count() >= 12 && letters().all(char::is_uppercase);
    if shouts || trimmed.contains("!!!") {
        let advice = "write it as you would to one person; spam filters count capitals and exclamation marks";
        warning(tally, place, "subject-shouts", "the subject shouts", advice, show);
    }
    leftovers("the subject", trimmed, place, tally);
}

/// Looks for what a template left in a text.
pub(super) fn leftovers(name: &str, text: &str, place: Place<'_>, tally: &mut Tally) {
    let Some(found) = LEFTOVER.find(text) else { return };
    let what = format!("{name} holds `{}`, which a template left there", LEFTOVERS[found.pattern()]);
    let advice = "write fields as {{ variable }}, and say what is meant to be there";
    error(tally, place, "placeholder", &what, advice, || {
        let from = text.floor_char_boundary(found.start().saturating_sub(20));
        let to = text.ceil_char_boundary((found.end() + 40).min(text.len()));
        place.shown(text[from..to].trim())
    });
}

/// RFC 8058 §3: an https URL, and the field that says that it may be posted to.
fn one_click(
    list: Option<String>,
    post: Option<String>,
    facts: &Facts,
    place: Place<'_>,
    tally: &mut Tally,
) -> Head {
    let flaw = |what| Flaw {
        severity: facts.demanded,
        check: "one-click",
        what,
        advice: "give [unsubscribe] an https URL: Gmail and Yahoo want one-click unsubscription (RFC 8058) of bulk mail",
    };
    let Some(list) = list else {
        tally.add(place.row, flaw("there is no List-Unsubscribe"), || place.shown(""));
        return Head::default();
    };
    let urls = list.split('<').skip(1).filter_map(|part| part.split('>').next());
    let url = urls
        .map(str::trim)
        .find(|url| url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")));
    match (url, post) {
        (None, _) => tally.add(place.row, flaw("List-Unsubscribe has no https URL"), || place.shown(&list)),
        (Some(_), Some(post)) if post.trim().eq_ignore_ascii_case("List-Unsubscribe=One-Click") => {}
        (Some(_), _) => {
            let what = "List-Unsubscribe-Post: List-Unsubscribe=One-Click is missing";
            tally.add(place.row, flaw(what), || place.shown(""));
        }
    }
    Head { unsubscribe: url.map(str::to_owned) }
}

fn error(
    tally: &mut Tally,
    place: Place<'_>,
    check: &'static str,
    what: &str,
    advice: &str,
    example: impl FnOnce() -> String,
) {
    tally.add(place.row, Flaw { severity: Severity::Error, check, what, advice }, example);
}

fn warning(
    tally: &mut Tally,
    place: Place<'_>,
    check: &'static str,
    what: &str,
    advice: &str,
    example: impl FnOnce() -> String,
) {
    tally.add(place.row, Flaw { severity: Severity::Warning, check, what, advice }, example);
}

#[cfg(test)]
mod tests {
    use super::super::anatomy;
    use super::super::finding::Findings;
    use super::*;

    const CLEAN: &str = "From: \"A, B\" <a@one.test>\r\nTo: b@two.test\r\nSubject: Your order\r\n\
        Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@one.test>\r\n\
        List-Unsubscribe: <mailto:l@one.test>,\r\n <https://one.test/l>\r\n\
        List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";

    fn found(header: &str) -> Vec<(&'static str, Severity)> {
        let message = format!("{header}\r\nHi\r\n");
        let (fields, _) = anatomy::fields(message.as_bytes());
        let mut tally = Tally::default();
        let place = Place { row: 1, address: &"b@two.test" };
        check(&fields, &Facts::default(), place, &mut tally);
        let mut findings = Findings::default();
        tally.into_findings(&mut findings);
        findings.iter().map(|finding| (finding.check, finding.severity)).collect()
    }

    #[test]
    fn a_right_header_has_no_flaw() {
        assert_eq!(found(CLEAN), []);
    }

    #[test]
    fn each_field_stands_exactly_once() {
        for name in ONCE {
            let line = CLEAN.split_inclusive("\r\n").find(|line| line.starts_with(name)).unwrap();
            assert_eq!(found(&CLEAN.replace(line, "")), [("header-missing", Severity::Error)], "{name}");
            assert_eq!(found(&format!("{CLEAN}{line}")), [("header-repeated", Severity::Error)], "{name}");
        }
        assert_eq!(found(&format!("{CLEAN}Reply-To: a@b.test\r\n")), []);
        let doubled = format!("{CLEAN}Reply-To: a@b.test\r\nReply-To: a@b.test\r\n");
        assert_eq!(found(&doubled), [("header-repeated", Severity::Error)]);
    }

    #[test]
    fn a_sender_is_one_and_in_ascii() {
        let two = CLEAN.replace("\"A, B\" <a@one.test>", "a@one.test, b@one.test");
        assert_eq!(found(&two), [("header-malformed", Severity::Error)]);
        let raw = CLEAN.replace("Your order", "Café order");
        assert_eq!(found(&raw), [("header-malformed", Severity::Error)]);
    }

    #[test]
    fn one_click_wants_https_and_both_fields() {
        for wrong in [
            CLEAN.replace("https://one.test/l", "http://one.test/l"),
            CLEAN.replace("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", ""),
            CLEAN.replace("=One-Click", "=Click"),
        ] {
            assert_eq!(found(&wrong), [("one-click", Severity::Warning)], "{wrong}");
        }
    }
}
