//! Which header fields a campaign may add: any but those that Postroad or servers on the way write.

/// Fields that are made from other keys of the manifest, or by Postroad alone.
const OURS: [&str; 20] = [
    "from",
    "to",
    "cc",
    "bcc",
    "sender",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "feedback-id",
    "cfbl-address",
    "cfbl-feedback-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "content-id",
];
/// Fields of signers and of servers on the way.
const THEIRS: [&str; 8] = [
    "dkim-signature",
    "authentication-results",
    "received",
    "received-spf",
    "return-path",
    "bounces-to",
    "delivered-to",
    "x-original-to",
];
/// Characters of a name at most.
const NAME_MAX: usize = 60;

/// Whether a campaign may add a header field of this name.
///
/// # Errors
/// Not a field name (RFC 5322 §3.6.8), too long, or not the campaign's to write.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || !name.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b':') {
        return Err("a header field's name is letters, digits and -, without blanks and the colon");
    }
    if name.len() > NAME_MAX {
        return Err("a header field's name is 60 characters at most");
    }
    let lower = name.to_ascii_lowercase();
    if OURS.contains(&lower.as_str()) {
        return Err("Postroad makes this header field from other keys");
    }
    let prefixed = ["resent-", "arc-"].iter().any(|prefix| lower.starts_with(prefix));
    if prefixed || THEIRS.contains(&lower.as_str()) {
        return Err("this header field is for signers and servers on the way to write");
    }
    Ok(())
}

/// Whether a campaign may give that value to a header field that it may add.
///
/// # Errors
/// What the field may say (RFC 3834 §5 for `Auto-Submitted`).
pub fn check_value(name: &str, value: &str) -> Result<(), &'static str> {
    let is = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(value.trim()));
    match name.to_ascii_lowercase().as_str() {
        "precedence" if !is(&["bulk", "list", "junk"]) => Err("Precedence is bulk, list or junk"),
        "auto-submitted" if !is(&["auto-generated", "no"]) => {
            Err("Auto-Submitted is auto-generated or no; a campaign answers nobody")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_ours_or_no_names_are_refused() {
        for name in [
            "",
            "X Y",
            "X:Y",
            "Bcc",
            "Feedback-ID",
            "CFBL-Address",
            "cfbl-feedback-id",
            "SUBJECT",
            "Resent-To",
            "ARC-Seal",
            "X-\u{e9}",
            "X\r\nBcc",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["X-Campaign", "Precedence", "Auto-Submitted"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn what_says_that_a_message_is_automatic_says_it_truly() {
        for (name, value) in [
            ("Precedence", "list"),
            ("AUTO-SUBMITTED", " Auto-Generated"),
            ("auto-submitted", "no"),
            ("X-A", "b"),
        ] {
            check_value(name, value).unwrap();
        }
        for (name, value) in
            [("Precedence", "urgent"), ("auto-submitted", "auto-replied"), ("Auto-Submitted", "{{ id }}")]
        {
            assert!(check_value(name, value).is_err(), "{name}: {value}");
        }
    }
}
