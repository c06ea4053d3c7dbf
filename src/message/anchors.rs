//! The `<a …>` elements of an HTML template: where their addresses stand.
//!
//! Follows a text as HTML parsers do as far as links need it: comments and elements whose content is no HTML
//! are passed over, attributes may have quotes or none. A template tag is one character to it, wherever it
//! stands. Knows nothing of what links lead to.

use std::collections::HashSet;
use std::ops::Range;

use super::pieces::{self, Origin, Piece, Tag};
use super::tracking::NO_TRACK;

/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 6] = ["style", "script", "title", "textarea", "xmp", "noframes"];

/// A template as one text in which a mark stands for each tag.
pub(super) struct Whole<'a> {
    pub text: String,
    pub mark: char,
    /// Where each tag's mark stands.
    tags: Vec<(usize, &'a Tag)>,
}

impl<'a> Whole<'a> {
    pub fn new(pieces: &'a [Piece]) -> Self {
        let used: HashSet<char> = pieces
            .iter()
            .filter_map(|piece| if let Piece::Text(text) = piece { Some(text.chars()) } else { None })
            .flatten()
            .filter(|c| !c.is_ascii())
            .collect();
        let mark = ('\u{f0000}'..='\u{ffffd}').find(|c| !used.contains(c)).unwrap_or('\u{100000}');
        let mut whole = Self { text: String::new(), mark, tags: Vec::new() };
        for piece in pieces {
            match piece {
                Piece::Text(text) => whole.text.push_str(text),
                Piece::Tag(tag) => {
                    whole.tags.push((whole.text.len(), tag));
                    whole.text.push(mark);
                }
            }
        }
        whole
    }

    /// What stands in `range`, as pieces again.
    pub fn pieces(&self, range: Range<usize>) -> Vec<Piece> {
        let mut out = Vec::new();
        self.copy(range, &mut out);
        out
    }

    /// Appends what stands in `range`, as pieces again.
    pub fn copy(&self, range: Range<usize>, out: &mut Vec<Piece>) {
        let mut at = range.start;
        let first = self.tags.partition_point(|(place, _)| *place < range.start);
        for (place, tag) in self.tags[first..].iter().take_while(|(place, _)| *place < range.end) {
            pieces::push_text(out, &self.text[at..*place]);
            out.push(Piece::Tag((*tag).clone()));
            at = place + self.mark.len_utf8();
        }
        pieces::push_text(out, &self.text[at..range.end]);
    }

    /// The line of a tag near it; there is none for plain text.
    pub fn origin(&self, range: &Range<usize>, name: &str) -> Origin {
        let before = self.tags.iter().rev().find(|(place, _)| *place < range.end);
        before.map_or_else(|| Origin { file: name.into(), line: 1 }, |(_, tag)| tag.origin.clone())
    }
}

/// What matters of an `<a …>`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The insides of its `href`s: conditions may give it several.
    pub links: Vec<Range<usize>>,
    /// `data-no-track` with the blanks before it.
    pub marks: Vec<Range<usize>>,
}

/// All links of an HTML text, and where its last `</body` stands.
pub(super) fn scan(whole: &Whole<'_>) -> (Vec<Anchor>, Option<usize>) {
    let mut anchors = Vec::new();
    let mut body_end = None;
    elements(&whole.text, whole.mark, |element| match (element.is_end, element.name.as_str()) {
        (false, "a") => anchors.push(element.anchor),
        (true, "body") => body_end = Some(element.start),
        _ => {}
    });
    (anchors, body_end)
}

/// Elements with a link and a `data-no-track`, of those that `wanted` names.
pub(super) fn marked(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Anchor> {
    let mut marked = Vec::new();
    elements(text, '\0', |Element { is_end, name, anchor, .. }| {
        if !is_end && wanted(&name) && !anchor.links.is_empty() && !anchor.marks.is_empty() {
            marked.push(anchor);
        }
    });
    marked
}

/// A start or end tag.
struct Element {
    /// In lower case.
    name: String,
    is_end: bool,
    start: usize,
    anchor: Anchor,
}

/// Shows `each` the elements of `text`, in which `mark` stands for template tags.
fn elements(text: &str, mark: char, mut each: impl FnMut(Element)) {
    let mut at = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        let rest = &text[start + 1..];
        if rest.starts_with("!--") {
            at = rest.find("-->").map_or(text.len(), |end| start + 1 + end + 3);
            continue;
        }
        let is_end = rest.starts_with('/');
        let slash = usize::from(is_end);
        let name: String = rest[slash..].chars().take_while(|c| is_name(*c)).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            at = start + 1;
            continue;
        }
        let after = start + 1 + slash + name.len();
        let name = name.to_ascii_lowercase();
        let close = (!is_end && RAW.contains(&name.as_str())).then(|| format!("</{name}"));
        let Some((anchor, end)) = attributes(text, after, mark) else { break };
        each(Element { name, is_end, start, anchor });
        at = end;
        if let Some(close) = close {
            // Lower-casing ASCII moves nothing.
            at = text[at..].to_ascii_lowercase().find(&close).map_or(text.len(), |found| at + found);
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '_')
}

/// Reads attributes from `at` to behind the `>`; `None` when there is none.
fn attributes(text: &str, mut at: usize, mark: char) -> Option<(Anchor, usize)> {
    let mut anchor = Anchor::default();
    let blank = |c: char| c.is_ascii_whitespace();
    loop {
        let before = at;
        at += text[at..].find(|c: char| !(blank(c) || c == '/' || c == mark))?;
        if text[at..].starts_with('>') {
            return Some((anchor, at + 1));
        }
        let start = at;
        // A name has one character at least, even a `=`.
        let first = text[at..].chars().next()?.len_utf8();
        let ends = |c: char| blank(c) || matches!(c, '/' | '>' | '=') || c == mark;
        at += first + text[at + first..].find(ends)?;
        let name = text[start..at].to_ascii_lowercase();
        let equals = at + text[at..].find(|c: char| !blank(c))?;
        let mut value = None;
        if text[equals..].starts_with('=') {
            let from = equals + 1;
            let from = from + text[from..].find(|c: char| !blank(c))?;
            let inside = match text[from..].chars().next()? {
                quote @ ('"' | '\'') => {
                    let inside = from + 1..from + 1 + text[from + 1..].find(quote)?;
                    at = inside.end + 1;
                    inside
                }
                _ => {
                    let inside = from..from + text[from..].find(|c: char| blank(c) || c == '>')?;
                    at = inside.end;
                    inside
                }
            };
            value = Some(inside);
        }
        match (name.as_str(), value) {
            ("href", Some(value)) => anchor.links.push(value),
            (NO_TRACK, _) => {
                let blanks = text[before..start].trim_end_matches(blank).len();
                anchor.marks.push(before + blanks..at);
            }
            _ => {}
        }
    }
}
