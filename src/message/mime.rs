//! Parts: rendered text → lines that are safe on any wire, in the transfer encoding that fits.
//!
//! 7bit where the text allows it, else quoted-printable or base64 (RFC 2045 §6), whichever is shorter;
//! never 8bit, so that no server on the way must re-encode what was signed. Lines a template fixes are
//! checked and encoded once; only lines that hold a value are worked on for each message. Every part ends
//! with a line end. A 7bit part has no line that starts like the boundary; the encodings cannot make one.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::slots::{Shape, Values};
use super::template::{Segment, Template, Templates};
use super::{Merge, RenderError};

/// How every boundary starts: neither quoted-printable nor base64 can produce it (RFC 2045 §6.7).
pub(super) const BOUNDARY_PREFIX: &str = "=_";
/// Octets of a line at most, without CRLF (RFC 5322 §2.1.1).
pub(super) const LINE_OCTETS_MAX: usize = 998;
/// Characters of an encoded line at most (RFC 2045 §6.7, §6.8).
const ENCODED_LINE_MAX: usize = 76;
const ENCODING: &[u8] = b"Content-Transfer-Encoding: ";

/// A text or HTML part.
#[derive(Debug)]
pub(super) struct Part {
    subtype: &'static str,
    template: Template,
    /// `None`: minijinja makes the text.
    layout: Option<Layout>,
}

/// A template cut at its line ends.
#[derive(Debug, Default)]
struct Layout {
    literals: Vec<u8>,
    encoded: Vec<u8>,
    pieces: Vec<Piece>,
    /// Octets of the lines in `Piece::Lines`, as they are and quoted-printable.
    lines_octets: usize,
    lines_encoded_octets: usize,
    /// Whether a literal rules 7bit out.
    odd: bool,
}

#[derive(Debug)]
enum Piece {
    Lines(Lines),
    /// A line with values in it.
    Mixed(Vec<Fragment>),
}

/// Whole lines without a value: where in `literals` and in `encoded`.
#[derive(Debug)]
struct Lines {
    literal: Range<usize>,
    encoded: Range<usize>,
}

#[derive(Debug)]
enum Fragment {
    Literal(Range<usize>),
    Slot(usize),
}

/// Room for one part on its way into a message; reused.
#[derive(Default)]
pub(super) struct Work {
    text: Vec<u8>,
    encoded: Vec<u8>,
    ends: Vec<(usize, usize)>,
    joined: Vec<u8>,
    base64: Vec<u8>,
}

impl Part {
    pub fn new(subtype: &'static str, template: Template) -> Self {
        let layout = template.segments.as_deref().map(Layout::new);
        Self { subtype, template, layout }
    }

    /// Writes the part's header, the empty line and its text; gives where the text starts in `out`.
    pub fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        values: &Values,
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<usize, RenderError> {
        out.extend_from_slice(b"Content-Type: text/");
        out.extend_from_slice(self.subtype.as_bytes());
        out.extend_from_slice(b"; charset=utf-8\r\n");
        out.extend_from_slice(ENCODING);
        let encoding = out.len();
        out.extend_from_slice(b"7bit\r\n\r\n");
        let start = out.len();
        let Some(layout) = &self.layout else {
            work.joined.clear();
            templates.run(&self.template, merge, values.beside(), &mut work.joined)?;
            let mut text = std::mem::take(&mut work.text);
            text.clear();
            wire_lines(&work.joined, &mut text);
            out.truncate(encoding - ENCODING.len());
            let start = write_text(&text, work, out);
            work.text = text;
            return Ok(start);
        };
        if layout.write_7bit(values, out) && ends_plainly(&out[start..]) {
            return Ok(start);
        }
        layout.encode_mixed(values, work);
        out.truncate(encoding);
        Ok(layout.write_encoded(work, out))
    }
}

/// Writes how a text of whole lines that end in CRLF is encoded, the empty line, and the text; gives where
/// it starts.
pub(super) fn write_text(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(ENCODING);
    if fits_7bit(text) && ends_plainly(text) {
        out.extend_from_slice(b"7bit\r\n\r\n");
        let start = out.len();
        out.extend_from_slice(text);
        return start;
    }
    work.encoded.clear();
    quoted_printable(text, &mut work.encoded);
    if work.encoded.len() <= base64_octets(text.len()) {
        out.extend_from_slice(b"quoted-printable\r\n\r\n");
        let start = out.len();
        out.extend_from_slice(&work.encoded);
        return start;
    }
    out.extend_from_slice(b"base64\r\n\r\n");
    let start = out.len();
    write_base64(text, &mut work.base64, out);
    start
}

fn write_base64(text: &[u8], room: &mut Vec<u8>, out: &mut Vec<u8>) {
    room.resize(text.len().div_ceil(3) * 4, 0);
    let octets = BASE64.encode_slice(text, room).expect("sized for it");
    for line in room[..octets].chunks(ENCODED_LINE_MAX) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
}

impl Layout {
    fn new(segments: &[Segment]) -> Self {
        let mut layout = Self::default();
        let mut line: Vec<Fragment> = Vec::new();
        for segment in segments {
            match segment {
                Segment::Slot(slot) => line.push(Fragment::Slot(*slot)),
                Segment::Literal(text) => {
                    for text in text.split_inclusive('\n') {
                        layout.push_literal(text, &mut line);
                    }
                }
            }
        }
        debug_assert!(line.is_empty(), "a part's template ends with a line end");
        layout
    }

    /// Adds a literal of at most one line; `line` holds what stands before it in that line.
    fn push_literal(&mut self, text: &str, line: &mut Vec<Fragment>) {
        let start = self.literals.len();
        let ended = text.strip_suffix('\n');
        self.literals.extend_from_slice(ended.unwrap_or(text).as_bytes());
        if ended.is_some() {
            self.literals.extend_from_slice(b"\r\n");
        }
        let literal = start..self.literals.len();
        self.odd |= !self.literals[literal.clone()].iter().all(|&byte| is_7bit(byte));
        if ended.is_none() || line.iter().any(|fragment| matches!(fragment, Fragment::Slot(_))) {
            line.push(Fragment::Literal(literal));
            if ended.is_some() {
                self.pieces.push(Piece::Mixed(std::mem::take(line)));
            }
            return;
        }
        // A line may come in several literals, side by side in `literals`; it has no value.
        let start = line.drain(..).next().map_or(start, |first| match first {
            Fragment::Literal(range) => range.start,
            Fragment::Slot(_) => start,
        });
        let literal = start..self.literals.len();
        self.odd |= !fits_7bit(&self.literals[literal.clone()]);
        let encoded_start = self.encoded.len();
        quoted_printable(&self.literals[literal.clone()], &mut self.encoded);
        self.lines_octets += literal.len();
        self.lines_encoded_octets += self.encoded.len() - encoded_start;
        match self.pieces.last_mut() {
            Some(Piece::Lines(before)) => {
                before.literal.end = literal.end;
                before.encoded.end = self.encoded.len();
            }
            _ => {
                let encoded = encoded_start..self.encoded.len();
                self.pieces.push(Piece::Lines(Lines { literal, encoded }));
            }
        }
    }

    /// Writes the text as it is; `false` leaves it half written when it must be encoded.
    fn write_7bit(&self, values: &Values, out: &mut Vec<u8>) -> bool {
        if self.odd {
            return false;
        }
        for piece in &self.pieces {
            match piece {
                Piece::Lines(lines) => out.extend_from_slice(&self.literals[lines.literal.clone()]),
                Piece::Mixed(fragments) => {
                    let start = out.len();
                    let shape = self.write_mixed(fragments, values, out);
                    let line = &out[start..];
                    let fits = match shape {
                        Shape::Plain => is_line_7bit(&line[..line.len() - 2]),
                        Shape::Lines => fits_7bit(line),
                        Shape::Odd => false,
                    };
                    if !fits {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn write_mixed(&self, fragments: &[Fragment], values: &Values, out: &mut Vec<u8>) -> Shape {
        let mut worst = Shape::Plain;
        for fragment in fragments {
            match fragment {
                Fragment::Literal(range) => out.extend_from_slice(&self.literals[range.clone()]),
                Fragment::Slot(slot) => {
                    let (value, shape) = values.get(*slot);
                    out.extend_from_slice(value);
                    worst = worst.max(shape);
                }
            }
        }
        worst
    }

    /// Puts the lines with values into `work`, as they are and quoted-printable.
    fn encode_mixed(&self, values: &Values, work: &mut Work) {
        work.text.clear();
        work.encoded.clear();
        work.ends.clear();
        for piece in &self.pieces {
            if let Piece::Mixed(fragments) = piece {
                let start = work.text.len();
                self.write_mixed(fragments, values, &mut work.text);
                quoted_printable(&work.text[start..], &mut work.encoded);
                work.ends.push((work.text.len(), work.encoded.len()));
            }
        }
    }

    /// Writes name of the encoding, empty line and encoded text; gives where the text starts.
    fn write_encoded(&self, work: &mut Work, out: &mut Vec<u8>) -> usize {
        let text_octets = self.lines_octets + work.text.len();
        if self.lines_encoded_octets + work.encoded.len() <= base64_octets(text_octets) {
            out.extend_from_slice(b"quoted-printable\r\n\r\n");
            let start = out.len();
            let ends = work.ends.iter().map(|end| end.1);
            self.join(&self.encoded, |lines| &lines.encoded, &work.encoded, ends, out);
            return start;
        }
        out.extend_from_slice(b"base64\r\n\r\n");
        let start = out.len();
        work.joined.clear();
        let ends = work.ends.iter().map(|end| end.0);
        self.join(&self.literals, |lines| &lines.literal, &work.text, ends, &mut work.joined);
        write_base64(&work.joined, &mut work.base64, out);
        start
    }

    /// Puts fixed lines and lines with values back in order.
    fn join(
        &self,
        fixed: &[u8],
        place: fn(&Lines) -> &Range<usize>,
        mixed: &[u8],
        mut ends: impl Iterator<Item = usize>,
        out: &mut Vec<u8>,
    ) {
        let mut start = 0;
        for piece in &self.pieces {
            match piece {
                Piece::Lines(lines) => out.extend_from_slice(&fixed[place(lines).clone()]),
                Piece::Mixed(_) => {
                    let end = ends.next().expect("one end for each mixed line");
                    out.extend_from_slice(&mixed[start..end]);
                    start = end;
                }
            }
        }
    }
}

fn base64_octets(octets: usize) -> usize {
    let characters = octets.div_ceil(3) * 4;
    characters + characters.div_ceil(ENCODED_LINE_MAX) * 2
}

/// Line ends become CRLF, and there is one at the end.
fn wire_lines(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        let octets = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[at + octets..];
    }
    out.extend_from_slice(rest);
    if !rest.is_empty() || text.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
}

fn is_7bit(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')
}

fn is_line_7bit(line: &[u8]) -> bool {
    // Some parsers find a boundary in the middle of a line. mbox readers on the way turn "From " into
    // ">From ", which breaks the signature.
    line.len() <= LINE_OCTETS_MAX
        && memchr::memmem::find(line, b"--=_").is_none()
        && !line.starts_with(b"From ")
}

/// No blanks at the end of the last line that has any octets: mail-auth takes a last line of blanks for
/// more than the empty line that RFC 6376 §3.4.4 makes of it, and the signature must hold there too.
fn ends_plainly(text: &[u8]) -> bool {
    !matches!(text.iter().rfind(|byte| !matches!(byte, b'\r' | b'\n')), Some(b' ' | b'\t'))
}

/// For text of whole lines that end in CRLF.
fn fits_7bit(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\r\n").unwrap_or(text);
    text.iter().all(|&byte| is_7bit(byte))
        && text
            .split(|&byte| byte == b'\n')
            .all(|line| is_line_7bit(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// Octets that quoted-printable leaves alone, save at the ends of lines.
const LITERAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'=' as usize;
        byte += 1;
    }
    table[b'\t' as usize] = true;
    table
};

/// Encodes whole lines that end in CRLF (RFC 2045 §6.7).
fn quoted_printable(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        quoted_printable_line(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), out);
        out.extend_from_slice(b"\r\n");
        rest = &rest[end + 1..];
    }
}

fn quoted_printable_line(line: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    let mut at = 0;
    while at < line.len() {
        let last = at + 1 == line.len();
        let byte = line[at];
        // A dot alone and "From " have their own meaning at the start of a line on the way.
        let special = column == 0 && (byte == b'.' || line[at..].starts_with(b"From "))
            || last && matches!(byte, b' ' | b'\t');
        if LITERAL[usize::from(byte)] && !special {
            let run =
                line[at..].iter().take(ENCODED_LINE_MAX).take_while(|&&b| LITERAL[usize::from(b)]).count();
            // The last octet of the line is looked at alone, for it may be a blank or fill the line.
            let run = if run > 1 && at + run == line.len() { run - 1 } else { run };
            let room = ENCODED_LINE_MAX - 1 - column;
            if room == 0 && !(last && column < ENCODED_LINE_MAX) {
                out.extend_from_slice(b"=\r\n");
                column = 0;
                continue;
            }
            let run = run.min(room.max(1));
            out.extend_from_slice(&line[at..at + run]);
            column += run;
            at += run;
        } else {
            let room = if last { ENCODED_LINE_MAX } else { ENCODED_LINE_MAX - 1 };
            if column + 3 > room {
                out.extend_from_slice(b"=\r\n");
                column = 0;
                continue;
            }
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            let digits = [b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&digits);
            column += 3;
            at += 1;
        }
    }
}
