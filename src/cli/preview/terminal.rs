//! A message as text for a terminal. Nothing in it can steer the terminal.

use std::fmt::Write as _;

use super::shown::{Part, Shown};

/// Shown in this order; the others are for machines.
const HEADERS: [&str; 8] =
    ["From", "To", "Reply-To", "Subject", "Date", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post"];

pub fn text(shown: &Shown) -> String {
    let mut text = String::new();
    for name in HEADERS {
        if let Some(value) = shown.header(name) {
            let _ = writeln!(text, "{name}: {}", harmless(value).replace('\n', " "));
        }
    }
    text.push('\n');
    match (&shown.text, &shown.html) {
        (Some(part), _) => {
            let _ = writeln!(text, "{}", harmless(part).trim_end());
        }
        (None, Some(_)) => text.push_str("(no text part; `--html FILE` shows the HTML)\n"),
        (None, None) => text.push_str("(no text)\n"),
    }
    text.push('\n');
    for part in &shown.parts {
        let _ = writeln!(text, "  {:>12}  {}", octets(part.octets), described(part));
    }
    let _ = writeln!(text, "  {:>12}  the whole message as it is sent", octets(shown.octets));
    text
}

fn described(part: &Part) -> String {
    let mut text = harmless(&part.kind);
    if let Some(name) = &part.name {
        let _ = write!(text, "  {}", harmless(name));
    }
    if let Some(id) = &part.content_id {
        let _ = write!(text, "  cid:{}", harmless(id));
    }
    if part.attached {
        text.push_str("  (attached)");
    }
    text
}

/// `12,345 B`.
fn octets(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + " B"
}

/// Without control characters but tab and line feed, and without those that turn the direction of a line.
fn harmless(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let shown = Shown::parse(b"Subject: =?utf-8?q?=1B]0;gone=07?=\r\n\r\nred \x1b[31m\ttext\r\nmore\r\n");
        let text = text(&shown);
        assert!(
            text.starts_with("Subject: \u{fffd}]0;gone\u{fffd}\n\nred \u{fffd}[31m\ttext\nmore\n"),
            "{text}"
        );
    }

    #[test]
    fn octets_are_easy_to_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(octets), ["0 B", "999 B", "1,000 B", "1,234,567 B"]);
    }
}
