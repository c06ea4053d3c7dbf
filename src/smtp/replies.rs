//! Octets in, answers out, however the octets were split or joined.
//!
//! [`ReplyReader`] keeps what has been read and hands out one [`Answer`] at a time, borrowed from
//! its buffer: most answers of a session (250 to MAIL, to RCPT) are looked at and forgotten, and
//! only those that make an outcome become a [`Reply`]. Lenient about line ends (LF alone) and about a
//! bare code, strict about everything that would mean the two sides are out of step. Bounded: a peer
//! cannot make it keep more than [`REPLY_OCTETS_MAX`]. RFC 5321 §4.2.

use std::borrow::Cow;

use crate::reply::{EnhancedCode, Reply, Severity};

/// Octets of one line at most, line end included (RFC 5321 §4.5.3.1.5 says 512; real ones are longer).
pub const LINE_OCTETS_MAX: usize = 4096;
/// Octets of one reply at most.
pub const REPLY_OCTETS_MAX: usize = 64 * 1024;
/// Lines of one reply at most.
pub const REPLY_LINES_MAX: usize = 128;

/// Room offered to a read at least.
const SPARE_OCTETS_MIN: usize = 1024;
const BUFFER_OCTETS: usize = 4096;
/// Octets of a senseless line that are quoted.
const GARBAGE_QUOTED_MAX: usize = 80;

/// What the peer sent is no reply; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no SMTP reply: {0:?}")]
pub struct Garbage(pub String);

/// One whole reply as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    code: u16,
    raw: &'a [u8],
}

impl<'a> Answer<'a> {
    /// 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
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

    /// The lines without codes and line ends.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.raw
            .split_inclusive(|&octet| octet == b'\n')
            .map(|line| without_line_end(line).get(4..).unwrap_or_default())
    }

    /// The reply to keep: lines joined, an enhanced code repeated on each line kept once.
    pub fn to_reply(&self) -> Reply {
        let mut lines = self.lines().map(String::from_utf8_lossy);
        let mut text = lines.next().unwrap_or_default();
        let enhanced = EnhancedCode::parse_prefix(&text).map(|(code, _)| code);
        for line in lines {
            let rest = match EnhancedCode::parse_prefix(&line) {
                Some((code, rest)) if Some(code) == enhanced => rest,
                _ => &line,
            };
            let text = text.to_mut();
            text.push('\n');
            text.push_str(rest);
        }
        let text: Cow<'_, str> = text;
        Reply::new(self.code, &text).expect("the code was in range when the answer was read")
    }
}

/// Reads answers off a stream, incrementally.
#[derive(Debug)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Start of the answer being read.
    start: usize,
    /// End of its last whole line.
    line: usize,
    /// Up to where no line end has been found.
    scanned: usize,
    /// End of what was received.
    end: usize,
    /// Code of the answer being read, once it has a line.
    code: Option<u16>,
    lines: usize,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_OCTETS], start: 0, line: 0, scanned: 0, end: 0, code: None, lines: 0 }
    }
}

impl ReplyReader {
    /// Room to read into. Invariant: [`next`](Self::next) has said `None` since the last octets
    /// came, which bounds what the buffer holds.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.forget(self.end);
        } else if self.buffer.len() - self.end < SPARE_OCTETS_MIN && self.start > 0 {
            self.forget(self.start);
        }
        if self.buffer.len() - self.end < SPARE_OCTETS_MIN {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many octets were read into the spare room.
    pub fn filled(&mut self, octets: usize) {
        self.end = (self.end + octets).min(self.buffer.len());
    }

    /// Whether [`next`](Self::next) has an answer.
    ///
    /// # Errors
    /// Those of `next`.
    pub fn has_answer(&mut self) -> Result<bool, Garbage> {
        let (start, line, scanned, code, lines) =
            (self.start, self.line, self.scanned, self.code, self.lines);
        let found = self.next()?.is_some();
        if found {
            (self.start, self.line, self.scanned, self.code, self.lines) =
                (start, line, scanned, code, lines);
        }
        Ok(found)
    }

    /// Whether octets wait that make no whole answer yet.
    pub fn has_rest(&self) -> bool {
        self.start < self.end
    }

    /// Forgets all that was received: before a TLS handshake, since what came in clear must not be
    /// taken for what came encrypted (RFC 3207 §4.2).
    pub fn clear(&mut self) {
        (self.start, self.line, self.scanned, self.end) = (0, 0, 0, 0);
        (self.code, self.lines) = (None, 0);
    }

    /// The next whole answer, if there is one.
    ///
    /// # Errors
    /// What is no reply: no code, another code within one reply, a line or reply out of bounds.
    #[expect(clippy::should_implement_trait, reason = "an answer borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Answer<'_>>, Garbage> {
        if self.code.is_none() {
            self.start = self.line;
        }
        while let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..self.end]) {
            let line_start = self.line;
            let line_end = self.scanned + found + 1;
            if line_end - line_start > LINE_OCTETS_MAX {
                return Err(garbage(&self.buffer[line_start..line_end]));
            }
            let (code, is_last) = read_line(&self.buffer[line_start..line_end])?;
            self.lines += 1;
            if self.code.is_some_and(|first| first != code)
                || self.lines > REPLY_LINES_MAX
                || line_end - self.start > REPLY_OCTETS_MAX
            {
                return Err(garbage(&self.buffer[line_start..line_end]));
            }
            (self.line, self.scanned) = (line_end, line_end);
            if is_last {
                let raw = self.start..line_end;
                (self.code, self.lines, self.start) = (None, 0, line_end);
                return Ok(Some(Answer { code, raw: &self.buffer[raw] }));
            }
            self.code = Some(code);
        }
        self.scanned = self.end;
        if self.end - self.line > LINE_OCTETS_MAX {
            return Err(garbage(&self.buffer[self.line..self.end]));
        }
        Ok(None)
    }

    /// Drops the first `octets` of the buffer, all of them consumed.
    fn forget(&mut self, octets: usize) {
        self.buffer.copy_within(octets..self.end, 0);
        for mark in [&mut self.start, &mut self.line, &mut self.scanned, &mut self.end] {
            *mark = mark.saturating_sub(octets);
        }
    }
}

/// Code of a line, and whether it is the last of its reply.
fn read_line(line: &[u8]) -> Result<(u16, bool), Garbage> {
    let (code, is_last) = match without_line_end(line) {
        [a, b, c] => ([a, b, c], true),
        [a, b, c, b' ', ..] => ([a, b, c], true),
        [a, b, c, b'-', ..] => ([a, b, c], false),
        _ => return Err(garbage(line)),
    };
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] = code.map(|&digit| digit) else {
        return Err(garbage(line));
    };
    Ok((code.iter().fold(0, |code, &&digit| code * 10 + u16::from(digit - b'0')), is_last))
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn garbage(line: &[u8]) -> Garbage {
    let text = String::from_utf8_lossy(&line[..line.len().min(GARBAGE_QUOTED_MAX)]);
    Garbage(text.trim_end().replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `octets` cut at each of `cuts` and collects what comes out.
    fn read(octets: &[u8], cuts: &[usize]) -> (Vec<Reply>, Option<Garbage>) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
        cuts.extend([0, octets.len()]);
        cuts.sort_unstable();
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for piece in cuts.windows(2) {
            let mut piece = &octets[piece[0]..piece[1]];
            while !piece.is_empty() {
                let spare = reader.spare();
                let taken = piece.len().min(spare.len());
                spare[..taken].copy_from_slice(&piece[..taken]);
                reader.filled(taken);
                piece = &piece[taken..];
                loop {
                    match reader.next() {
                        Ok(Some(answer)) => replies.push(answer.to_reply()),
                        Ok(None) => break,
                        Err(garbage) => return (replies, Some(garbage)),
                    }
                }
            }
        }
        (replies, None)
    }

    fn texts(octets: &[u8]) -> Vec<String> {
        let (replies, garbage) = read(octets, &[]);
        assert_eq!(garbage, None);
        replies.iter().map(Reply::to_string).collect()
    }

    #[test]
    fn one_line_many_lines_and_bare_codes_are_replies() {
        let octets = b"250 ok\r\n250-one\r\n250-\r\n250 two\r\n354\r\n250-x\n250\n";
        assert_eq!(texts(octets), ["250 ok", "250 one  two", "354", "250 x"]);
    }

    #[test]
    fn an_enhanced_code_repeated_on_each_line_is_kept_once() {
        // As large providers write it: RFC 2034 §4 puts the code on every line.
        let octets = b"550-5.1.1 The account does not exist.\r\n550 5.1.1 Learn more at x.example\r\n";
        assert_eq!(texts(octets), ["550 5.1.1 The account does not exist. Learn more at x.example"]);
    }

    #[test]
    fn what_is_no_reply_is_garbage() {
        let long = [b"250 ".as_slice(), &[b'x'; LINE_OCTETS_MAX], b"\r\n"].concat();
        let endless = [b'2'; LINE_OCTETS_MAX + 1];
        let lines = b"250-x\r\n".repeat(REPLY_LINES_MAX + 1);
        let large = [b"250-".as_slice(), &[b'x'; 4000], b"\r\n"].concat().repeat(17);
        let cases: [&[u8]; 12] = [
            b"hello\r\n",
            b"\r\n",
            b"25\r\n",
            b"2500 ok\r\n",
            b"250\tok\r\n",
            b"150 ok\r\n",
            b"650 ok\r\n",
            b"250-one\r\n251 two\r\n",
            &long,
            &endless,
            &lines,
            &large,
        ];
        for case in cases {
            assert!(read(case, &[]).1.is_some(), "{:?}", String::from_utf8_lossy(case));
        }
    }

    #[test]
    fn bounds_are_reached_before_they_are_passed() {
        let line = [b"250 ".as_slice(), &[b'x'; LINE_OCTETS_MAX - 6], b"\r\n"].concat();
        assert_eq!(read(&line, &[]).0.len(), 1);
        let mut lines = b"250-x\r\n".repeat(REPLY_LINES_MAX - 1);
        lines.extend_from_slice(b"250 x\r\n");
        assert_eq!(read(&lines, &[]).0.len(), 1);
    }

    #[test]
    fn what_came_before_a_handshake_is_forgotten() {
        let mut reader = ReplyReader::default();
        let injected = b"220 go ahead\r\n250 injected\r\n25";
        reader.spare()[..injected.len()].copy_from_slice(injected);
        reader.filled(injected.len());
        assert_eq!(reader.next().unwrap().unwrap().code(), 220);
        assert!(reader.has_rest());
        reader.clear();
        assert!(!reader.has_rest());
        assert_eq!(reader.next(), Ok(None));
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let code = prop_oneof![Just("250"), Just("354"), Just("421"), Just("550"), Just("999"), Just("x")];
        let separator = prop_oneof![4 => Just(" "), 2 => Just("-"), 1 => Just("")];
        let text = prop_oneof![4 => "[a-z .]{0,30}", 1 => Just("é".repeat(2100))];
        let end = prop_oneof![Just("\r\n"), Just("\n")];
        (code, separator, text, end).prop_map(|(code, separator, text, end)| {
            let text = if separator.is_empty() { String::new() } else { text };
            format!("{code}{separator}{text}{end}").into_bytes()
        })
    }

    proptest! {
        #[test]
        fn splitting_changes_nothing(lines in prop::collection::vec(line(), 0..40), cuts in prop::collection::vec(any::<usize>(), 0..60)) {
            let octets = lines.concat();
            prop_assert_eq!(read(&octets, &[]), read(&octets, &cuts));
        }

        #[test]
        fn nothing_a_peer_sends_panics(octets in prop::collection::vec(any::<u8>(), 0..3000), cuts in prop::collection::vec(any::<usize>(), 0..20)) {
            prop_assert_eq!(read(&octets, &[]), read(&octets, &cuts));
        }
    }
}
