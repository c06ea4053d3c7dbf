//! Which header fields a campaign may add: any but those that Postroad or servers on the way write.

/// Fields that are made from other keys of the manifest, or by Postroad alone.
const OURS: [&str; 17] = [
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_ours_or_no_names_are_refused() {
        for name in ["", "X Y", "X:Y", "Bcc", "SUBJECT", "Resent-To", "ARC-Seal", "X-\u{e9}", "X\r\nBcc"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["Feedback-ID", "X-Campaign", "Precedence"] {
            check_name(name).unwrap();
        }
    }
}
