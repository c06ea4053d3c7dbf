//! Octets on their way to the peer: commands and contents in one flat buffer.
//!
//! Places in the stream are absolute ([`Mark`]), so that "has the end of this content been handed to
//! the socket?" is one comparison. Commands are made here and nowhere else, from parsed parts that
//! cannot hold a line end. Knows no order of commands and no replies.

use std::io::Write as _;

use memchr::memmem;

use crate::envelope::Envelope;

/// Capacity that an emptied outbox keeps.
const KEPT_OCTETS_MAX: usize = 256 * 1024;

/// A place in the stream: octets since the connection began to carry transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    octets: Vec<u8>,
    /// How much of `octets` the socket has taken.
    written: usize,
    /// Where `octets` begins in the stream.
    base: u64,
}

impl Outbox {
    pub fn unwritten(&self) -> &[u8] {
        &self.octets[self.written..]
    }

    /// The socket took the first `octets` of what was unwritten.
    pub fn advance(&mut self, octets: usize) {
        self.written = (self.written + octets).min(self.octets.len());
        if self.written == self.octets.len() {
            self.base += self.octets.len() as u64;
            self.octets.clear();
            self.octets.shrink_to(KEPT_OCTETS_MAX);
            self.written = 0;
        } else if self.written >= KEPT_OCTETS_MAX {
            // Only a slow peer and large contents come here; without it the buffer would never empty.
            self.octets.drain(..self.written);
            self.base += self.written as u64;
            self.written = 0;
        }
    }

    /// The end of what has been put in so far.
    pub fn end(&self) -> Mark {
        Mark(self.base + self.octets.len() as u64)
    }

    /// Whether the socket has taken everything up to `mark`.
    pub fn has_written(&self, mark: Mark) -> bool {
        mark.0 <= self.base + self.written as u64
    }

    /// Whether the socket has taken anything from `mark` on.
    pub fn has_begun(&self, mark: Mark) -> bool {
        mark.0 < self.base + self.written as u64
    }

    pub fn rset(&mut self) {
        self.octets.extend_from_slice(b"RSET\r\n");
    }

    pub fn data(&mut self) {
        self.octets.extend_from_slice(b"DATA\r\n");
    }

    pub fn quit(&mut self) {
        self.octets.extend_from_slice(b"QUIT\r\n");
    }

    /// MAIL, with the size where the server wants to know it (RFC 1870 §3). Contents are 7-bit, so
    /// there is nothing to say about BODY.
    pub fn mail(&mut self, envelope: &Envelope, size: Option<usize>) {
        self.octets.extend_from_slice(b"MAIL FROM:<");
        self.octets.extend_from_slice(envelope.return_path().as_bytes());
        self.octets.push(b'>');
        if let Some(size) = size {
            write!(self.octets, " SIZE={size}").expect("writing to a Vec does not fail");
        }
        if envelope.needs_smtputf8() {
            self.octets.extend_from_slice(b" SMTPUTF8");
        }
        self.octets.extend_from_slice(b"\r\n");
    }

    pub fn rcpt(&mut self, envelope: &Envelope) {
        self.octets.extend_from_slice(b"RCPT TO:<");
        self.octets.extend_from_slice(envelope.recipient().as_bytes());
        self.octets.extend_from_slice(b">\r\n");
    }

    /// The whole content as one chunk (RFC 3030 §2).
    pub fn last_chunk(&mut self, content: &[u8]) {
        write!(self.octets, "BDAT {} LAST\r\n", content.len()).expect("writing to a Vec does not fail");
        self.octets.extend_from_slice(content);
    }

    /// The content after a 354, dots doubled, and the final dot (RFC 5321 §4.5.2).
    pub fn content(&mut self, content: &[u8]) {
        self.octets.reserve(content.len() + 64);
        if content.first() == Some(&b'.') {
            self.octets.push(b'.');
        }
        let mut copied = 0;
        for line_end in memmem::find_iter(content, b"\n.") {
            self.octets.extend_from_slice(&content[copied..=line_end]);
            self.octets.push(b'.');
            copied = line_end + 1;
        }
        self.octets.extend_from_slice(&content[copied..]);
        if !content.ends_with(b"\r\n") && !content.is_empty() {
            self.octets.extend_from_slice(b"\r\n");
        }
        self.lone_dot();
    }

    /// The end of a content that is not sent (RFC 2920 §3.1).
    pub fn lone_dot(&mut self) {
        self.octets.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(content: &[u8]) -> Vec<u8> {
        let mut outbox = Outbox::default();
        outbox.content(content);
        outbox.unwritten().to_vec()
    }

    #[test]
    fn dots_at_the_start_of_lines_are_doubled() {
        assert_eq!(stuffed(b".a\r\n.\r\n..b\r\nc.\r\n"), b"..a\r\n..\r\n...b\r\nc.\r\n.\r\n");
        assert_eq!(stuffed(b"no line end"), b"no line end\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }

    #[test]
    fn a_mark_is_written_when_its_last_octet_is() {
        let mut outbox = Outbox::default();
        outbox.rset();
        let mark = outbox.end();
        outbox.quit();
        outbox.advance(5);
        assert!(!outbox.has_written(mark));
        outbox.advance(1);
        assert!(outbox.has_written(mark));
        assert_eq!(outbox.unwritten(), b"QUIT\r\n");
        outbox.advance(6);
        assert!(outbox.has_written(mark) && outbox.has_written(outbox.end()));
    }

    proptest! {
        /// RFC 5321 §4.5.2, the receiver's side, undoes what was done.
        #[test]
        fn a_receiver_gets_the_content_back(lines in prop::collection::vec("[.a]{0,4}", 0..20)) {
            let content: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
            let sent = String::from_utf8(stuffed(content.as_bytes())).unwrap();
            let received: String = sent
                .split_inclusive("\r\n")
                .take_while(|line| *line != ".\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line))
                .collect();
            prop_assert!(sent.ends_with(".\r\n"));
            prop_assert_eq!(received, content);
        }
    }
}
