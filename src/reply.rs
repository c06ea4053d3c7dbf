//! What a server answered: reply code, enhanced status code, text.
//!
//! A reply is data about the peer; it never holds control characters and is never longer than
//! [`REPLY_TEXT_OCTETS_MAX`], whatever the peer sent. Reading replies from a stream of octets is
//! [`crate::smtp`]'s work. RFC 5321 §4.2, RFC 3463, RFC 2034.

use std::fmt;

/// Octets of text kept of a reply; the rest is cut.
pub const REPLY_TEXT_OCTETS_MAX: usize = 512;

/// An enhanced status code such as 5.1.1 (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedCode {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl EnhancedCode {
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `5.1.1` at the start of a text, followed by a blank or the end.
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut numbers = word.split('.');
        let class = numbers.next()?;
        let subject = numbers.next()?;
        let detail = numbers.next()?;
        let digits =
            |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        if numbers.next().is_some()
            || !matches!(class, "2" | "4" | "5")
            || !digits(subject)
            || !digits(detail)
        {
            return None;
        }
        let code = Self::new(class.parse().ok()?, subject.parse().ok()?, detail.parse().ok()?);
        Some((code, rest))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The first digit of a reply code (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// 2yz
    Success,
    /// 3yz
    Intermediate,
    /// 4yz
    Transient,
    /// 5yz
    Permanent,
}

impl Severity {
    /// Of a reply code from 200 to 599.
    pub fn of(code: u16) -> Self {
        match code / 100 {
            2 => Self::Success,
            3 => Self::Intermediate,
            4 => Self::Transient,
            _ => Self::Permanent,
        }
    }
}

/// One whole reply, of one line or many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Box<str>,
}

impl Reply {
    /// A reply with `code` from 200 to 599; `text` is cleaned of control characters (lines of a
    /// multi-line reply come joined by `\n`, which becomes a blank) and cut to size, the enhanced
    /// code read off its start. `None` when the code is out of range.
    pub fn new(code: u16, text: &str) -> Option<Self> {
        if !(200..=599).contains(&code) {
            return None;
        }
        let text = text.trim();
        let (enhanced, text) = match EnhancedCode::parse_prefix(text) {
            Some((enhanced, rest)) => (Some(enhanced), rest),
            None => (None, text),
        };
        Some(Self { code, enhanced, text: cleaned(text) })
    }

    /// 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// Text without codes, on one line.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn severity(&self) -> Severity {
        Severity::of(self.code)
    }

    pub fn is_success(&self) -> bool {
        self.severity() == Severity::Success
    }

    /// 421: the server closes the channel (RFC 5321 §3.8).
    pub fn is_closing(&self) -> bool {
        self.code == 421
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

fn cleaned(text: &str) -> Box<str> {
    let mut end = text.len().min(REPLY_TEXT_OCTETS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    // Nearly every reply is plain ASCII, and there is one for each message.
    if text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_off_the_text() {
        // The sample of RFC 2034 §5.
        let reply = Reply::new(550, "5.1.1 Mailbox \"nosuchuser\" does not exist").unwrap();
        assert_eq!(reply.enhanced(), Some(EnhancedCode::new(5, 1, 1)));
        assert_eq!(reply.text(), "Mailbox \"nosuchuser\" does not exist");
        assert_eq!(reply.severity(), Severity::Permanent);
        assert_eq!(reply.to_string(), "550 5.1.1 Mailbox \"nosuchuser\" does not exist");
    }

    #[test]
    fn what_only_looks_like_an_enhanced_code_is_text() {
        for text in ["1.1.1 x", "5.1 x", "5.1.1.1 x", "5.1.1x", "5..1 x", "5.1.1000 x"] {
            assert_eq!(Reply::new(550, text).unwrap().enhanced(), None, "{text}");
        }
    }

    #[test]
    fn control_characters_and_excess_are_dropped() {
        let reply = Reply::new(250, &format!("a\r\nb\u{1b}[31m{}", "é".repeat(600))).unwrap();
        assert!(!reply.text().chars().any(char::is_control));
        assert!(reply.text().len() <= REPLY_TEXT_OCTETS_MAX);
        assert!(Reply::new(199, "x").is_none() && Reply::new(600, "x").is_none());
    }
}
