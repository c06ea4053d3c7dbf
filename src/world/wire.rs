//! Lines and content in, replies out; how fast octets are read and how replies leave.
//!
//! Replies gather until the commands that came together are answered, unless the file says otherwise.
//! Knows the framing of SMTP (RFC 5321 §2.3.8, §4.5.2) and none of its commands.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::file::ReplyFlow;

/// Octets read at once; three messages of 10 KB.
const READ_OCTETS: usize = 32 * 1_024;
/// A longer command line is no command (RFC 5321 §4.5.3.1.4 has 512, extensions add).
const LINE_OCTETS_MAX: usize = 8_192;
/// How often a slow reader reads in a second.
const SLOW_READS_PER_SECOND: u32 = 20;
/// A dialog that is kept stops growing here.
const LOG_OCTETS_MAX: usize = 1_048_576;

pub(crate) struct Wire<S> {
    stream: S,
    input: Vec<u8>,
    /// Octets of `input` that are used up.
    used: usize,
    output: Vec<u8>,
    flow: ReplyFlow,
    /// Octets a second, if slow.
    pace: Option<u32>,
    pub log: Option<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S, flow: ReplyFlow, pace: Option<u32>, log: Option<String>) -> Self {
        Self { stream, input: Vec::new(), used: 0, output: Vec::new(), flow, pace, log }
    }

    /// Gives the stream back; octets that were read ahead are dropped (RFC 3207 §6).
    pub fn into_stream(self) -> (S, Option<String>) {
        (self.stream, self.log)
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Whether the client sent more than was read so far.
    pub fn has_pending(&self) -> bool {
        self.used < self.input.len()
    }

    /// Reads a command line into `line`, without its end.
    pub async fn line(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let mut searched = 0;
        loop {
            let pending = &self.input[self.used..];
            if let Some(end) = memchr::memchr(b'\n', &pending[searched..]) {
                let end = searched + end;
                line.clear();
                line.extend_from_slice(pending[..end].strip_suffix(b"\r").unwrap_or(&pending[..end]));
                self.used += end + 1;
                self.note("C: ", line);
                return Ok(());
            }
            searched = pending.len();
            if searched > LINE_OCTETS_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.fill().await?;
        }
    }

    /// Waits until the client sent something that is not read yet.
    pub async fn pending(&mut self) -> io::Result<()> {
        if !self.has_pending() {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads content up to the lone dot, dots unstuffed; past `octets_max` the rest is dropped.
    pub async fn dotted(&mut self, content: &mut Vec<u8>, octets_max: usize) -> io::Result<bool> {
        let mut unstuffer = Unstuffer::default();
        let mut too_long = false;
        loop {
            let (used, done) = unstuffer.feed(&self.input[self.used..], content);
            self.used += used;
            if content.len() > octets_max {
                too_long = true;
                content.clear();
            }
            if done {
                self.note("C: ", b"(content)");
                return Ok(!too_long);
            }
            self.fill().await?;
        }
    }

    /// Reads `count` octets of content; past `octets_max` in all the rest is dropped.
    pub async fn chunk(
        &mut self,
        content: &mut Vec<u8>,
        mut count: usize,
        octets_max: usize,
    ) -> io::Result<bool> {
        let mut fits = true;
        while count > 0 {
            self.pending().await?;
            let pending = &self.input[self.used..];
            let part = &pending[..pending.len().min(count)];
            fits &= content.len() + part.len() <= octets_max;
            if fits {
                content.extend_from_slice(part);
            }
            count -= part.len();
            self.used += part.len();
        }
        Ok(fits)
    }

    /// Sends what gathered, then reads more; the end of the stream is an error here.
    async fn fill(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        } else if self.used > READ_OCTETS {
            self.input.drain(..self.used);
            self.used = 0;
        }
        let length = match self.pace {
            None => {
                self.input.reserve(READ_OCTETS);
                self.stream.read_buf(&mut self.input).await?
            }
            Some(pace) => {
                tokio::time::sleep(Duration::from_secs(1) / SLOW_READS_PER_SECOND).await;
                let octets = (pace / SLOW_READS_PER_SECOND).max(1);
                (&mut self.stream).take(u64::from(octets)).read_buf(&mut self.input).await?
            }
        };
        if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Adds a whole reply, CRLF included.
    pub async fn reply(&mut self, reply: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(reply);
        if self.log.is_some() {
            for line in reply.split_inclusive(|octet| *octet == b'\n') {
                self.note("S: ", line.trim_ascii_end());
            }
        }
        if self.flow == ReplyFlow::Joined { Ok(()) } else { self.flush().await }
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        if self.flow == ReplyFlow::Octets {
            for octet in &self.output {
                self.stream.write_all(std::slice::from_ref(octet)).await?;
                self.stream.flush().await?;
                tokio::task::yield_now().await;
            }
        } else {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
        }
        self.output.clear();
        Ok(())
    }

    /// Ends our direction after what gathered, and reads the client's until it ends too or a while
    /// has passed: a close with unread octets would reset the connection and lose our last replies.
    pub async fn finish(&mut self, patience: Duration) {
        let closing = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            let mut waste = [0; 4_096];
            while self.stream.read(&mut waste).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        // Either end of it is the end of the connection.
        let _ = tokio::time::timeout(patience, closing).await;
    }

    fn note(&mut self, side: &str, line: &[u8]) {
        if let Some(log) = &mut self.log
            && log.len() < LOG_OCTETS_MAX
        {
            log.push_str(side);
            log.push_str(&String::from_utf8_lossy(line));
            log.push('\n');
        }
    }
}

/// Takes content apart from its end and its stuffed dots, in pieces of any size.
struct Unstuffer {
    at_line_start: bool,
    after_cr: bool,
}

impl Default for Unstuffer {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false }
    }
}

impl Unstuffer {
    /// Takes what it can from `input`: octets used, and whether the end was among them.
    fn feed(&mut self, input: &[u8], content: &mut Vec<u8>) -> (usize, bool) {
        // Octets before `copied` are in `content` or dropped; a run is copied as one.
        let (mut copied, mut at) = (0, 0);
        loop {
            if self.at_line_start && at < input.len() {
                if input[at] == b'.' {
                    let rest = &input[at..];
                    content.extend_from_slice(&input[copied..at]);
                    if rest.len() < 3 && b".\r\n".starts_with(rest) {
                        return (at, false);
                    }
                    if rest.starts_with(b".\r\n") {
                        return (at + 3, true);
                    }
                    at += 1;
                    copied = at;
                }
                self.at_line_start = false;
            }
            let Some(offset) = memchr::memchr(b'\n', &input[at..]) else {
                content.extend_from_slice(&input[copied..]);
                if at < input.len() {
                    self.after_cr = input.last() == Some(&b'\r');
                }
                return (input.len(), false);
            };
            let newline = at + offset;
            self.at_line_start = if offset == 0 { self.after_cr } else { input[newline - 1] == b'\r' };
            self.after_cr = false;
            at = newline + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unstuffed(stuffed: &[u8], piece: usize) -> (Vec<u8>, usize) {
        let (mut unstuffer, mut content, mut from, mut to) = (Unstuffer::default(), Vec::new(), 0, 0);
        loop {
            to = (to + piece).min(stuffed.len());
            let (used, done) = unstuffer.feed(&stuffed[from..to], &mut content);
            from += used;
            if done || to == stuffed.len() {
                assert!(done, "no end found");
                return (content, from);
            }
        }
    }

    #[test]
    fn the_lone_dot_ends_content_and_a_stuffed_one_does_not() {
        for piece in [1, 2, 3, 100] {
            let (content, used) = unstuffed(b"a\r\n..b\r\n.c\r\n\n.\r\n\r\n.\r\nMAIL", piece);
            assert_eq!(content, b"a\r\n.b\r\nc\r\n\n.\r\n\r\n", "pieces of {piece}");
            assert_eq!(used, 21);
            assert_eq!(unstuffed(b".\r\n", piece).0, b"");
        }
    }

    proptest! {
        #[test]
        fn any_content_comes_back_whatever_the_pieces(lines in prop::collection::vec("[.a\n\r]{0,6}", 0..8), piece in 1usize..9) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut stuffed = text.replace("\r\n.", "\r\n..");
            if stuffed.starts_with('.') {
                stuffed.insert(0, '.');
            }
            stuffed.push_str(".\r\n");
            let (content, used) = unstuffed(stuffed.as_bytes(), piece);
            prop_assert_eq!(String::from_utf8(content).unwrap(), text);
            prop_assert_eq!(used, stuffed.len());
        }
    }
}
