//! Slots: the places in a template that a recipient fills, and their values for one message.
//!
//! A slot is a column, filters, and the form its value takes (body text, escaped HTML, header). Equal
//! slots are one, so a name that stands in a message thirty times is filtered and escaped once. Values
//! are kept ready to be copied, with what a transfer encoding must know of them. Line ends in fields
//! (CRLF, CR or LF) are one line end each here and in the engine.

use std::borrow::Cow;

use super::filters::Format;
use super::pieces::Origin;
use super::template::Segment;
use super::{Merge, RenderError};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Column(usize),
    Address,
    /// A text with a token, by its place in [`super::tokens::Tokens`].
    Made(usize),
}

/// What variables stand for beside columns.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub address: &'a str,
    pub made: &'a [String],
}

/// What minijinja's filter of the same name does to a string; `Default` also replaces an empty one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Upper,
    Lower,
    Title,
    Trim,
    UrlEncode,
    Default(String),
    /// A date, a number or money.
    Format(Box<Format>),
}

/// What becomes of the filtered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Part of a body: line ends become CRLF.
    Text,
    /// As `Text`, escaped as minijinja escapes HTML.
    Html,
    /// Part of a header: as it is; the header cleans the whole of it.
    Header,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub source: Source,
    pub filters: Vec<Filter>,
    pub form: Form,
    /// Every message has it, so a value that its filter refuses is the end of the message. `false`: only
    /// links have it, which a message may leave out.
    pub is_needed: bool,
    /// Where it stands first: a filter may refuse a value.
    pub origin: Origin,
}

impl Slot {
    fn refused(&self, reason: String) -> RenderError {
        RenderError::Template { template: self.origin.file.to_string(), line: self.origin.line, reason }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.source == other.source && self.form == other.form && self.filters == other.filters
    }
}

/// What a body must know of a value before it copies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// Printable ASCII, blanks and tabs within a line.
    Plain,
    /// The same with line ends.
    Lines,
    /// Must be encoded: not ASCII, or control characters.
    Odd,
}

/// The values of all slots for one message; reused.
#[derive(Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    ends: Vec<(usize, Shape)>,
    pub address: String,
    /// Texts with tokens; those that no template asks for are empty.
    pub made: Vec<String>,
    /// Slots of links alone whose values were refused.
    refused: Vec<(usize, RenderError)>,
}

impl Values {
    pub fn get(&self, slot: usize) -> (&[u8], Shape) {
        let start = if slot == 0 { 0 } else { self.ends[slot - 1].0 };
        let (end, shape) = self.ends[slot];
        (&self.bytes[start..end], shape)
    }

    pub fn beside(&self) -> Beside<'_> {
        Beside { address: &self.address, made: &self.made }
    }

    /// Fills in every slot for one recipient, whose tokens are there already.
    ///
    /// # Errors
    /// A value that the filter of a needed slot refuses.
    pub fn fill(&mut self, slots: &[Slot], merge: &Merge<'_>) -> Result<(), RenderError> {
        let mut kept = std::mem::take(&mut self.refused);
        kept.clear();
        self.fill_but(slots, merge, |slot, refused| {
            if slots[slot].is_needed {
                return Err(refused);
            }
            kept.push((slot, refused));
            Ok(())
        })?;
        self.refused = kept;
        Ok(())
    }

    /// Why one of these segments has no value, if so.
    pub fn refused(&self, segments: &[Segment]) -> Option<&RenderError> {
        let (_, error) = self.refused.iter().find(|(slot, _)| segments.contains(&Segment::Slot(*slot)))?;
        Some(error)
    }

    /// The same, where `refused` decides what becomes of a slot whose filter refuses the value.
    pub fn fill_but(
        &mut self,
        slots: &[Slot],
        merge: &Merge<'_>,
        mut refused: impl FnMut(usize, RenderError) -> Result<(), RenderError>,
    ) -> Result<(), RenderError> {
        let Self { bytes, ends, address, made, .. } = self;
        address.clear();
        address.push_str(merge.address.local());
        address.push('@');
        address.push_str(merge.address.domain());
        let beside = Beside { address, made };
        bytes.clear();
        ends.clear();
        for (index, slot) in slots.iter().enumerate() {
            let mut text = lines_normal(raw(slot.source, merge, beside));
            for filter in &slot.filters {
                text = match filter {
                    Filter::Format(format) => match format.apply(&text) {
                        Ok(text) => text.into(),
                        Err(reason) => {
                            refused(index, slot.refused(reason))?;
                            break;
                        }
                    },
                    other => other.apply(text),
                };
            }
            let shape = push(&text, slot.form, bytes);
            ends.push((bytes.len(), shape));
        }
        Ok(())
    }
}

/// The text a source stands for.
pub(super) fn raw<'a>(source: Source, merge: &Merge<'a>, beside: Beside<'a>) -> &'a str {
    match source {
        Source::Column(index) => merge.fields.get(index).copied().unwrap_or_default(),
        Source::Address => beside.address,
        Source::Made(index) => beside.made.get(index).map(String::as_str).unwrap_or_default(),
    }
}

/// Every CRLF and lone CR as LF.
pub(super) fn lines_normal(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\r', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Octets of a body by what must be done about them.
const PLAIN: u8 = 0;
const ESCAPED: u8 = 1;
const LINE: u8 = 2;
const ODD: u8 = 3;

const CLASS: [u8; 256] = {
    let mut table = [ODD; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = PLAIN;
        byte += 1;
    }
    table[b'\t' as usize] = PLAIN;
    table[b'\n' as usize] = LINE;
    table[b'<' as usize] = ESCAPED;
    table[b'>' as usize] = ESCAPED;
    table[b'&' as usize] = ESCAPED;
    table[b'"' as usize] = ESCAPED;
    table[b'\'' as usize] = ESCAPED;
    table[b'/' as usize] = ESCAPED;
    table
};

fn push(text: &str, form: Form, out: &mut Vec<u8>) -> Shape {
    let bytes = text.as_bytes();
    let worst = bytes.iter().fold(PLAIN, |worst, &byte| worst.max(CLASS[byte as usize]));
    if form == Form::Header || worst == PLAIN || (worst == ESCAPED && form == Form::Text) {
        out.extend_from_slice(bytes);
        return Shape::Plain;
    }
    for &byte in bytes {
        match byte {
            b'\n' => out.extend_from_slice(b"\r\n"),
            b'<' if form == Form::Html => out.extend_from_slice(b"&lt;"),
            b'>' if form == Form::Html => out.extend_from_slice(b"&gt;"),
            b'&' if form == Form::Html => out.extend_from_slice(b"&amp;"),
            b'"' if form == Form::Html => out.extend_from_slice(b"&quot;"),
            b'\'' if form == Form::Html => out.extend_from_slice(b"&#x27;"),
            b'/' if form == Form::Html => out.extend_from_slice(b"&#x2f;"),
            other => out.push(other),
        }
    }
    match worst {
        ODD => Shape::Odd,
        LINE => Shape::Lines,
        _ => Shape::Plain,
    }
}

impl Filter {
    fn apply<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        match self {
            Self::Upper => text.to_uppercase().into(),
            Self::Lower => text.to_lowercase().into(),
            Self::Title => title(&text).into(),
            Self::Trim => match text {
                Cow::Borrowed(text) => text.trim().into(),
                Cow::Owned(text) => text.trim().to_owned().into(),
            },
            Self::UrlEncode => url_encode(&text).into(),
            Self::Default(other) if text.is_empty() => other.clone().into(),
            Self::Default(_) | Self::Format(_) => text,
        }
    }
}

pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for character in text.chars() {
        if character.is_ascii_punctuation() || character.is_whitespace() {
            out.push(character);
            first = true;
        } else if first {
            out.extend(character.to_uppercase());
            first = false;
        } else {
            out.extend(character.to_lowercase());
        }
    }
    out
}

/// Percent-encodes all but letters, digits and `/.-_`, as Jinja's `urlencode` does.
pub(super) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}
