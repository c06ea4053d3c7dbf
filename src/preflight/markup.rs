//! HTML as far as a check needs it: elements with their attributes, and the text between them.
//!
//! A scanner, not a parser: it builds no tree, and reads ten kilobytes in some microseconds, for it reads
//! every recipient's message. What stands in comments, styles and scripts is no text.

use std::borrow::Cow;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Between two tags; entities not decoded.
    Text(&'a str),
    Open(Tag<'a>),
    Close(&'a str),
}

/// A start tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    pub name: &'a str,
    attributes: &'a str,
}

impl<'a> Tag<'a> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The attribute's value with its entities decoded; empty if it has none.
    pub fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut attributes = Attributes(self.attributes);
        attributes.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| decoded(value))
    }
}

struct Attributes<'a>(&'a str);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        let end = text.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '/');
        let (name, rest) = text.split_at(end.unwrap_or(text.len()).max(usize::from(text.starts_with('='))));
        if name.is_empty() {
            return None;
        }
        let Some(rest) = rest.trim_start().strip_prefix('=') else {
            self.0 = rest;
            return Some((name, ""));
        };
        let rest = rest.trim_start();
        let (value, after) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].split_once(quote).unwrap_or((&rest[1..], "")),
            _ => rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len())),
        };
        self.0 = after;
        Some((name, value))
    }
}

/// Reads HTML token by token.
pub(super) fn tokens(html: &str) -> Tokens<'_> {
    Tokens { rest: html, skip: None }
}

pub(super) struct Tokens<'a> {
    rest: &'a str,
    /// In an element whose content is no text.
    skip: Option<&'a str>,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(name) = self.skip.take() {
                self.rest = past_element(self.rest, name);
            }
            if self.rest.is_empty() {
                return None;
            }
            let at = memchr::memchr(b'<', self.rest.as_bytes()).unwrap_or(self.rest.len());
            if at > 0 {
                let (text, rest) = self.rest.split_at(at);
                self.rest = rest;
                return Some(Token::Text(text));
            }
            let rest = &self.rest[1..];
            if let Some(comment) = rest.strip_prefix("!--") {
                self.rest = comment.split_once("-->").map_or("", |(_, after)| after);
                continue;
            }
            if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
                let end = memchr::memchr(b'<', rest.as_bytes()).map_or(self.rest.len(), |end| end + 1);
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(Token::Text(text));
            }
            let end = tag_end(rest);
            let inner = &rest[..end];
            self.rest = rest.get(end + 1..).unwrap_or_default();
            if let Some(name) = inner.strip_prefix('/') {
                return Some(Token::Close(name.trim()));
            }
            if inner.starts_with(['!', '?']) {
                continue;
            }
            let name_end = inner.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(inner.len());
            let (name, attributes) = inner.split_at(name_end);
            if ["style", "script", "title"].iter().any(|raw| name.eq_ignore_ascii_case(raw)) {
                self.skip = Some(name);
            }
            return Some(Token::Open(Tag { name, attributes }));
        }
    }
}

/// Where the tag ends: at a `>` that is in no quoted value.
fn tag_end(text: &str) -> usize {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn past_element<'a>(text: &'a str, name: &str) -> &'a str {
    let mut from = 0;
    while let Some(found) = text[from..].find("</") {
        let at = from + found;
        let is_end = text.as_bytes()[at + 2..]
            .get(..name.len())
            .is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()));
        if is_end {
            return &text[at..];
        }
        from = at + 2;
    }
    ""
}

/// A text with the entities that mail uses decoded.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let end = after.char_indices().take(10).find(|(_, c)| *c == ';').map(|(at, _)| at);
        match end.and_then(|end| Some((entity(&after[..end])?, end))) {
            Some((character, end)) => {
                out.push(character);
                rest = &after[end + 1..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.into()
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hex = number.strip_prefix(['x', 'X']);
        let code = hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" | "ensp" | "emsp" | "thinsp" | "zwnj" | "zwj" | "shy" => ' ',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_texts_and_attributes_are_told_apart() {
        let html = "<!doctype html><!-- <a href=no> --><style>a > b {}</style><A HREF='x>y' data-x \
                    title=\"a&amp;b\" >T &lt; 1</a><img src=p.png/>1 < 2";
        let seen: Vec<Token<'_>> = tokens(html).collect();
        let Token::Open(link) = seen[2] else { panic!("{seen:?}") };
        assert!(link.is("a"));
        assert_eq!(link.attribute("href").as_deref(), Some("x>y"));
        assert_eq!(link.attribute("title").as_deref(), Some("a&b"));
        assert_eq!(link.attribute("DATA-X").as_deref(), Some(""));
        assert_eq!(link.attribute("alt"), None);
        assert_eq!(seen[3], Token::Text("T &lt; 1"));
        assert_eq!(seen[4], Token::Close("a"));
        let texts: String =
            seen.iter().filter_map(|t| if let Token::Text(t) = t { Some(*t) } else { None }).collect();
        assert_eq!(texts, "T &lt; 11 < 2");
    }

    #[test]
    fn nonsense_ends() {
        for nonsense in
            ["<", "<a", "<a href=", "<a href=\"", "<!--", "<style>", "</", "<a = b>", "<a =>", "&#;&"]
        {
            for token in tokens(nonsense) {
                if let Token::Open(tag) = token {
                    tag.attribute("none");
                }
            }
            decoded(nonsense);
        }
    }
}
