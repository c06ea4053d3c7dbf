//! Template tags on their way through a parser of HTML or MJML, which knows none.
//!
//! A tag goes through as a stand-in: a comment where elements may stand, a word elsewhere. What comes back
//! must hold every block tag once and in order, or the template would not say what its author wrote; then
//! it is refused, with the tag's file and line. Links of MJML's elements that are marked to stay keep their
//! mark. Knows no parser.

use super::ContentError;
use super::anchors;
use super::flatten::Flat;
use super::pieces::{self, Kind, Piece, Tag};
use super::tracking::NO_TRACK;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Markup {
    Mjml,
    Html,
    Text,
}

/// Where in HTML a place is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Between,
    /// In a start or end tag, outside of values.
    Element,
    Value {
        quote: char,
        attribute: String,
    },
    Comment,
    /// In an element whose content is no HTML: until its end tag.
    Raw(String),
}

/// Takes tags out of a text and puts them back.
#[derive(Debug)]
pub(super) struct Guard {
    markup: Markup,
    word: String,
    tags: Vec<Tag>,
    /// The tag before says that elements of a table come, between which a parser leaves no words.
    in_table: bool,
}

/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 7] = ["style", "script", "title", "textarea", "mj-style", "mj-title", "mj-preview"];
/// Tags after which a table goes on.
const FRAME: [&str; 12] =
    ["table", "thead", "tbody", "tfoot", "tr", "/thead", "/tbody", "/tfoot", "/tr", "/td", "/th", "/caption"];
/// Elements that a table's parser moves words out of.
const TABLE: [&str; 8] = ["table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption"];

impl Guard {
    pub fn new(markup: Markup) -> Self {
        Self { markup, word: "xqtag".to_owned(), tags: Vec::new(), in_table: false }
    }

    /// The template with stand-ins.
    ///
    /// # Errors
    /// A tag where none can stand.
    pub fn hide(&mut self, pieces: &[Piece]) -> Result<String, ContentError> {
        let clashes = |word: &str| {
            pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Text(text) if text.to_ascii_lowercase().contains(word)))
        };
        // An included file keeps the word of the file that includes it; it is told when that stands in it.
        while self.tags.is_empty() && clashes(&self.word) {
            self.word.push('q');
        }
        let mut out = String::new();
        let mut place = Place::Between;
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.pass(text, &mut place, &mut out),
                Piece::Tag(tag) => {
                    let stand_in = self.stand_in(tag, &place)?;
                    out.push_str(&stand_in);
                }
            }
        }
        Ok(if self.markup == Markup::Mjml { self.marks_into_links(&out) } else { out })
    }

    /// MJML's elements lose attributes that it does not know, but not what stands in their links.
    fn marks_into_links(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut written = 0;
        for marked in anchors::marked(text, |name| name.starts_with("mj-")) {
            let links = marked.links.into_iter().map(|link| (link.end..link.end, true));
            let mut edits: Vec<_> = links.chain(marked.marks.into_iter().map(|mark| (mark, false))).collect();
            edits.sort_unstable_by_key(|(range, _)| range.start);
            for (range, is_link) in edits {
                out.push_str(&text[written..range.start]);
                if is_link {
                    out.push_str(&self.stays());
                }
                written = range.end;
            }
        }
        out.push_str(&text[written..]);
        out
    }

    /// Makes the marks of MJML's links attributes again, and puts the tags back.
    ///
    /// # Errors
    /// As [`Guard::show`].
    pub fn show_mjml(&self, html: &str) -> Result<Flat, ContentError> {
        let stays = self.stays();
        let html = html.replace(&format!("{stays}\""), &format!("\" {NO_TRACK}")).replace(&stays, "");
        self.show(&html, "MJML")
    }

    /// At the end of a link that is marked to stay; no stand-in of a tag begins like it.
    fn stays(&self) -> String {
        format!("{}stays", self.word)
    }

    fn stand_in(&mut self, tag: &Tag, place: &Place) -> Result<String, ContentError> {
        let said = match place {
            Place::Between => true,
            Place::Value { attribute, .. } => attribute == "href" || attribute == "alt",
            _ => false,
        };
        if self.markup == Markup::Text && !said {
            // A text says nothing of it.
            return Ok(String::new());
        }
        let word = format!("{}{}z", self.word, self.tags.len());
        self.tags.push(tag.clone());
        let block = tag.kind == Kind::Block;
        Ok(match place {
            Place::Element => {
                return Err(tag.origin.error(
                    "here a template tag stands between attributes; put it into an attribute's value, or leave \
                     MJML and `inline_css` aside",
                ));
            }
            Place::Raw(element) if block && element == "style" && self.markup == Markup::Html => {
                return Err(tag
                    .origin
                    .error("a block tag cannot stand in a <style> whose rules are inlined"));
            }
            Place::Between
                if (block && self.markup != Markup::Text)
                    || (self.in_table && self.markup == Markup::Html) =>
            {
                format!("<!--{word}-->")
            }
            _ => word,
        })
    }

    /// Follows `text` through the places of HTML.
    fn pass(&mut self, text: &str, place: &mut Place, out: &mut String) {
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let step = match place {
                Place::Between if rest.starts_with("<!--") => {
                    *place = Place::Comment;
                    4
                }
                Place::Between if next == '<' => {
                    let name: String = rest[1..]
                        .chars()
                        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '!' | ':'))
                        .collect();
                    if name.is_empty() {
                        1
                    } else {
                        *place = Place::Element;
                        out.push('<');
                        out.push_str(self.element(&name));
                        // What of the content is no HTML is known where the start tag ends.
                        rest = &rest[1 + name.len()..];
                        let lower = name.to_ascii_lowercase();
                        self.in_table = FRAME.contains(&lower.as_str());
                        if RAW.contains(&lower.as_str()) {
                            *place = Place::Raw(lower);
                        }
                        continue;
                    }
                }
                Place::Between => rest.find('<').unwrap_or(rest.len()),
                Place::Element => {
                    match next {
                        '>' => *place = Place::Between,
                        '"' | '\'' => *place = Place::Value { quote: next, attribute: attribute(out) },
                        _ => {}
                    }
                    next.len_utf8()
                }
                Place::Value { quote, .. } => {
                    let end = rest.find(*quote);
                    if end.is_some() {
                        *place = Place::Element;
                    }
                    end.map_or(rest.len(), |at| at + 1)
                }
                Place::Comment => match rest.find("-->") {
                    Some(at) => {
                        *place = Place::Between;
                        at + 3
                    }
                    None => rest.len(),
                },
                Place::Raw(element) => {
                    let end = format!("</{element}");
                    match rest.to_ascii_lowercase().find(&end) {
                        Some(at) => {
                            *place = Place::Element;
                            at + end.len()
                        }
                        None => rest.len(),
                    }
                }
            };
            out.push_str(&rest[..step]);
            rest = &rest[step..];
        }
    }

    /// An element's name; tables are no tables where a text is made of them.
    fn element<'a>(&self, name: &'a str) -> &'a str {
        let (slash, plain) = match name.strip_prefix('/') {
            Some(plain) => ("/div", plain),
            None => ("div", name),
        };
        let table =
            self.markup == Markup::Text && TABLE.iter().any(|known| known.eq_ignore_ascii_case(plain));
        if table { slash } else { name }
    }

    /// Puts the tags back into what a parser wrote; `what` names it.
    ///
    /// # Errors
    /// A block tag that it moved or dropped.
    pub fn show(&self, text: &str, what: &str) -> Result<Flat, ContentError> {
        let mut out = Vec::new();
        let mut blocks = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(&self.word) {
            let digits = &rest[at + self.word.len()..];
            let length = digits.bytes().take_while(u8::is_ascii_digit).count();
            let index = digits[..length].parse::<usize>().ok().filter(|_| digits[length..].starts_with('z'));
            let Some((index, tag)) = index.and_then(|index| Some((index, self.tags.get(index)?))) else {
                pieces::push_text(&mut out, &rest[..at + self.word.len()]);
                rest = digits;
                continue;
            };
            let (mut before, mut after) = (&rest[..at], &digits[length + 1..]);
            if let (Some(opened), Some(closed)) = (before.strip_suffix("<!--"), after.strip_prefix("-->")) {
                (before, after) = (opened, closed);
            }
            pieces::push_text(&mut out, before);
            out.push(Piece::Tag(tag.clone()));
            if tag.kind == Kind::Block {
                blocks.push(index);
            }
            rest = after;
        }
        pieces::push_text(&mut out, rest);
        let mut expected = (0..self.tags.len()).filter(|&index| self.tags[index].kind == Kind::Block);
        let mut found = blocks.into_iter();
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return Ok(Flat { pieces: out, unresolved: None }),
                (Some(one), Some(other)) if one == other => {}
                (one, other) => {
                    let tag = &self.tags[one.or(other).unwrap_or_default()];
                    return Err(tag.origin.error(format!(
                        "{what} would move or drop the tag {}; put it where an element can stand",
                        tag.text
                    )));
                }
            }
        }
    }
}

/// The attribute whose value begins after `out`.
fn attribute(out: &str) -> String {
    let name = out.trim_end().strip_suffix('=').unwrap_or_default().trim_end();
    let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).map_or(0, |at| at + 1);
    name[start..].to_ascii_lowercase()
}
