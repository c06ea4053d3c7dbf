//! What a server said it can do (RFC 5321 §4.1.1.1).
//!
//! Capabilities are read off the lines of the answer to EHLO, before those are cleaned or joined.
//! An own parser because no crate at hand reads LIMITS (RFC 9422), and because bulk mail wants to
//! be lenient here: an odd parameter must not cost the whole extension.

use super::auth::Mechanisms;

/// What the answer to EHLO offers; nothing of it after HELO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// RFC 2920
    pub pipelining: bool,
    /// RFC 3030
    pub chunking: bool,
    /// RFC 6152
    pub eight_bit_mime: bool,
    /// RFC 6531
    pub smtputf8: bool,
    /// RFC 2034
    pub enhanced_status_codes: bool,
    /// RFC 3207
    pub starttls: bool,
    /// SIZE is offered, so MAIL may carry it (RFC 1870).
    pub size: bool,
    /// Octets of a message at most, where SIZE names a limit.
    pub size_max: Option<u64>,
    /// Transactions in a session at most (RFC 9422 §4).
    pub mail_max: Option<u32>,
    /// Recipients in a transaction at most.
    pub rcpt_max: Option<u32>,
    /// Different recipient domains in a session at most.
    pub rcpt_domain_max: Option<u32>,
    /// RFC 4954
    pub auth: Mechanisms,
}

impl Capabilities {
    /// Reads the lines of an answer to EHLO, without their codes; the first is the greeting.
    pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut capabilities = Self::default();
        for line in lines.skip(1) {
            if let Ok(line) = std::str::from_utf8(line) {
                capabilities.note(line);
            }
        }
        capabilities
    }

    fn note(&mut self, line: &str) {
        // Some old servers write SIZE=1000.
        let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            "CHUNKING" => self.chunking = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "SIZE" => {
                self.size = true;
                // RFC 1870 §4: 0 means that no fixed limit is in force.
                self.size_max = words.next().and_then(|word| word.parse().ok()).filter(|&octets| octets > 0);
            }
            "LIMITS" => self.note_limits(words),
            // AUTH=LOGIN is how it was written before there was a standard.
            "AUTH" => words.for_each(|name| self.auth.note(name)),
            _ => {}
        }
    }

    /// Names and values come in turn, the `=` being gone.
    fn note_limits<'a>(&mut self, mut words: impl Iterator<Item = &'a str>) {
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            // RFC 9422 §4: a limit is one to six digits and never 0.
            let value = value.parse().ok().filter(|&value| (1..=999_999).contains(&value));
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.mail_max = value,
                "RCPTMAX" => self.rcpt_max = value,
                "RCPTDOMAINMAX" => self.rcpt_domain_max = value,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Capabilities {
        Capabilities::read(text.lines().map(str::as_bytes))
    }

    #[test]
    fn extensions_are_read_whatever_their_case() {
        let capabilities = read(
            "mx.example.test greets\npipelining\nCHUNKING\nSIZE 35882577\n8BitMime\nSMTPUTF8\n\
             ENHANCEDSTATUSCODES\nSTARTTLS\nDSN\nAUTH PLAIN\nAUTH=LOGIN",
        );
        let mut auth = Mechanisms::default();
        auth.note("PLAIN");
        auth.note("LOGIN");
        let expected = Capabilities {
            auth,
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
            starttls: true,
            size: true,
            size_max: Some(35_882_577),
            ..Capabilities::default()
        };
        assert_eq!(capabilities, expected);
    }

    #[test]
    fn the_greeting_is_no_extension() {
        assert_eq!(read("PIPELINING"), Capabilities::default());
        assert_eq!(read(""), Capabilities::default());
    }

    #[test]
    fn limits_are_read_and_nonsense_is_not() {
        // The sample of RFC 9422 §3, then values out of its grammar.
        let limits = read("x\nLIMITS MAILMAX=20 RCPTMAX=100 RCPTDOMAINMAX=1 NEWMAX=3");
        assert_eq!(
            (limits.mail_max, limits.rcpt_max, limits.rcpt_domain_max),
            (Some(20), Some(100), Some(1))
        );
        let odd = read("x\nLIMITS MAILMAX=0 RCPTMAX=many RCPTDOMAINMAX=1000000");
        assert_eq!((odd.mail_max, odd.rcpt_max, odd.rcpt_domain_max), (None, None, None));
    }

    #[test]
    fn size_without_a_limit_is_still_size() {
        assert_eq!((read("x\nSIZE").size, read("x\nSIZE").size_max), (true, None));
        assert_eq!((read("x\nSIZE 0").size, read("x\nSIZE 0").size_max), (true, None));
        assert_eq!(read("x\nSIZE=1000").size_max, Some(1000));
    }
}
