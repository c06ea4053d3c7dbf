//! What is done to HTML once, before it is compiled: MJML, CSS put into elements, a text made of it.
//!
//! Parsers of HTML know no template tags, so tags go through them as stand-ins: comments where elements
//! may stand, words elsewhere. What comes back must hold every block tag once and in order, or the
//! template would not say what its author wrote; then it is refused, with the tag's file and line.
//! Nothing is fetched from a network, and files only from the campaign's folder.

use std::sync::{Arc, Mutex};

use mrml::prelude::parser::ParserOptions;
use mrml::prelude::parser::loader::{IncludeLoader, IncludeLoaderError};
use mrml::prelude::render::RenderOptions;

use super::ContentError;
use super::flatten::{self, Flat};
use super::folder::Folder;
use super::pieces::{self, Kind, Piece, Tag};

/// Columns of a text made from HTML.
const TEXT_WIDTH: usize = 78;

/// MJML → HTML; `mj-include` reads from the folder.
///
/// # Errors
/// What MJML refuses, a tag where it cannot stand.
pub(super) fn mjml(name: &str, flat: &Flat, folder: Option<&Folder>) -> Result<Flat, ContentError> {
    let refuse = |reason: String| ContentError::Template { template: name.to_owned(), line: 1, reason };
    resolved(flat, "MJML")?;
    let guard = Guard::new(Markup::Mjml);
    let shared = Arc::new(Mutex::new((guard, None::<ContentError>)));
    let text = shared.lock().expect("not poisoned").0.hide(&flat.pieces)?;
    let loader = Includes { folder: folder.cloned(), shared: Arc::clone(&shared) };
    let options = ParserOptions { include_loader: Box::new(loader) };
    let parsed = mrml::parse_with_options(&text, &options);
    let (guard, fault) = {
        let mut shared = shared.lock().expect("not poisoned");
        (std::mem::replace(&mut shared.0, Guard::new(Markup::Mjml)), shared.1.take())
    };
    if let Some(fault) = fault {
        return Err(fault);
    }
    let parsed = parsed.map_err(|error| match place(&error.to_string(), &text) {
        Some(line) => refuse(format!("MJML, about line {line} once files are put in: {error}")),
        None => refuse(format!("MJML: {error}")),
    })?;
    // Web fonts would be fetched by the reader; they are named only where the author does.
    let options = RenderOptions { fonts: std::collections::HashMap::new(), ..RenderOptions::default() };
    let html = parsed.element.render(&options).map_err(|error| refuse(format!("MJML: {error}")))?;
    if let Some(at) = html.find("<mj-") {
        let element: String =
            html[at + 1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        return Err(refuse(format!("MJML has no element {element}, or not where it stands")));
    }
    guard.show(&html, "MJML")
}

/// The line of an error's `position start..end`.
fn place(error: &str, text: &str) -> Option<usize> {
    let digits = error.split("position ").nth(1)?;
    let start: usize = digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

#[derive(Debug)]
struct Includes {
    folder: Option<Folder>,
    shared: Arc<Mutex<(Guard, Option<ContentError>)>>,
}

impl IncludeLoader for Includes {
    fn resolve(&self, path: &str) -> Result<String, IncludeLoaderError> {
        let mut shared = self.shared.lock().expect("not poisoned");
        let read = match &self.folder {
            Some(folder) => folder.template(path).map_err(|error| ContentError::Template {
                template: path.to_owned(),
                line: 1,
                reason: error.to_string(),
            }),
            None => return Err(IncludeLoaderError::not_found(path)),
        };
        let hidden = read
            .and_then(|text| flatten::flatten(self.folder.as_ref(), path, &text))
            .and_then(|flat| resolved(&flat, "MJML").map(|()| flat))
            .and_then(|flat| shared.0.hide(&flat.pieces));
        hidden.map_err(|error| {
            shared.1 = Some(error);
            IncludeLoaderError::not_found(path)
        })
    }
}

/// Puts the rules of `<style>` elements into the elements they are for; what no element can hold (media
/// queries, `:hover`) stays in a `<style>`.
///
/// # Errors
/// CSS that cannot be read, a tag where it cannot stand.
pub(super) fn inline_css(name: &str, flat: &Flat) -> Result<Flat, ContentError> {
    resolved(flat, "CSS inlining")?;
    let mut guard = Guard::new(Markup::Html);
    let html = guard.hide(&flat.pieces)?;
    let inliner = css_inline::CSSInliner::options()
        .load_remote_stylesheets(false)
        .keep_style_tags(true)
        .remove_inlined_selectors(true)
        .keep_link_tags(true)
        .build();
    let html = inliner.inline(&html).map_err(|error| ContentError::Template {
        template: name.to_owned(),
        line: 1,
        reason: format!("inlining the CSS: {error}"),
    })?;
    guard.show(&html, "CSS inlining")
}

/// The text of an HTML template: a template itself, with links after their words.
///
/// # Errors
/// A tag where no text can be made of it.
pub(super) fn text(name: &str, flat: &Flat) -> Result<Flat, ContentError> {
    let refuse = |reason: String| ContentError::Template {
        template: name.to_owned(),
        line: 1,
        reason: format!("no text can be made of the HTML ({reason}); give a `text` of its own"),
    };
    if flat.unresolved.is_some() {
        return Err(refuse("it loads files in a way that only a rendering resolves".to_owned()));
    }
    let mut guard = Guard::new(Markup::Text);
    let html = guard.hide(&flat.pieces)?;
    let text = html2text::config::with_decorator(Plain { links: Vec::new() })
        .raw_mode(true)
        .no_link_wrapping()
        .allow_width_overflow()
        .string_from_read(html.as_bytes(), TEXT_WIDTH)
        .map_err(|error| refuse(error.to_string()))?;
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut flat = guard.show(&format!("{}\n", text.join("\n").trim_matches('\n')), "the text")?;
    close_up(&mut flat.pieces);
    Ok(flat)
}

/// A block tag alone in its line takes the line with it, and an empty one after it.
fn close_up(pieces: &mut Vec<Piece>) {
    for at in 0..pieces.len() {
        if !matches!(&pieces[at], Piece::Tag(tag) if tag.kind == Kind::Block) {
            continue;
        }
        let starts = match at.checked_sub(1).map(|before| &pieces[before]) {
            None => true,
            Some(Piece::Text(before)) => before.is_empty() || before.ends_with('\n'),
            Some(Piece::Tag(_)) => false,
        };
        if let (true, Some(Piece::Text(after))) = (starts, pieces.get_mut(at + 1)) {
            let rest = after.strip_prefix('\n').map(|rest| rest.strip_prefix('\n').unwrap_or(rest));
            if let Some(rest) = rest {
                *after = rest.to_owned();
            }
        }
    }
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
}

fn resolved(flat: &Flat, what: &str) -> Result<(), ContentError> {
    match &flat.unresolved {
        None => Ok(()),
        Some(origin) => Err(origin.error(format!(
            "with {what}, layouts and partials are plain: extends at the top, block, include \"file\", super()"
        ))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Markup {
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
struct Guard {
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
    fn new(markup: Markup) -> Self {
        Self { markup, word: "xqtag".to_owned(), tags: Vec::new(), in_table: false }
    }

    fn hide(&mut self, pieces: &[Piece]) -> Result<String, ContentError> {
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
        Ok(out)
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

    /// Puts the tags back into what a parser wrote.
    fn show(&self, text: &str, what: &str) -> Result<Flat, ContentError> {
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

/// Words without marks; a link's address after its words unless they are the same.
#[derive(Clone)]
struct Plain {
    links: Vec<String>,
}

impl html2text::render::TextDecorator for Plain {
    type Annotation = ();

    fn decorate_link_start(&mut self, url: &str) -> (String, ()) {
        self.links.push(url.to_owned());
        (String::new(), ())
    }

    fn decorate_link_end(&mut self) -> String {
        match self.links.pop() {
            Some(url) if url.starts_with(['#']) || url.is_empty() => String::new(),
            Some(url) => format!(" <{url}>"),
            None => String::new(),
        }
    }

    fn decorate_em_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_em_end(&self) -> String {
        String::new()
    }

    fn decorate_strong_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strong_end(&self) -> String {
        String::new()
    }

    fn decorate_strikeout_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }

    fn decorate_code_start(&self) -> (String, ()) {
        (String::new(), ())
    }

    fn decorate_code_end(&self) -> String {
        String::new()
    }

    fn decorate_preformat_first(&self) {}

    fn decorate_preformat_cont(&self) {}

    fn decorate_image(&mut self, _src: &str, title: &str) -> (String, ()) {
        (title.to_owned(), ())
    }

    fn header_prefix(&self, _level: usize) -> String {
        String::new()
    }

    fn quote_prefix(&self) -> String {
        "> ".to_owned()
    }

    fn unordered_item_prefix(&self) -> String {
        "- ".to_owned()
    }

    fn ordered_item_prefix(&self, i: i64) -> String {
        format!("{i}. ")
    }

    fn make_subblock_decorator(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::pieces::Source;

    fn flat(text: &str) -> Flat {
        flatten::flatten(None, "f", text).unwrap()
    }

    fn shown(flat: &Flat) -> String {
        Source::of(&flat.pieces).text
    }

    #[test]
    fn css_goes_into_elements_and_tags_stay_where_they_are() {
        let html = "{% set a = 1 %}<!doctype html><html><head><title>{{ t }}</title><style>p{color:red}\n\
            a:hover{color:blue}@media (max-width:9px){p{color:{{ c }}}}</style></head><body>\n\
            <table>{% for x in [1] %}<tr><td><p class=\"{{ k > 1 }}\">{{ name|default(\"a<b\") }} &amp; co</p></td></tr>\
            {% endfor %}</table><!--[if mso]><b>{{ t }}</b><![endif]--></body></html>";
        let inlined = shown(&inline_css("f", &flat(html)).unwrap());
        for expected in [
            "{% set a = 1 %}<!DOCTYPE html>",
            "<title>{{ t }}</title>",
            "<table>{% for x in [1] %}<tbody><tr>",
            "<p class=\"{{ k > 1 }}\" style=\"color: red;\">{{ name|default(\"a<b\") }} &amp; co</p>",
            "{% endfor %}",
            "@media (max-width:9px){p{color:{{ c }}}}",
            "<!--[if mso]><b>{{ t }}</b><![endif]-->",
        ] {
            assert!(inlined.contains(expected), "{expected}\n in \n{inlined}");
        }
        let error = inline_css("f", &flat("<p>\n<a {% if x %}b{% endif %}>x</a>")).unwrap_err().to_string();
        assert!(error.starts_with("template f, line 2: here a template tag stands"), "{error}");
        let error =
            inline_css("f", &flat("<style>\n{% if x %}p{}{% endif %}</style>")).unwrap_err().to_string();
        assert!(error.contains("line 2: a block tag cannot stand in a <style>"), "{error}");
    }

    #[test]
    fn a_text_is_made_of_html() {
        let html = "<html><head><title>T</title><style>p{}</style></head><body><h1>Hello {{ name }}</h1>\n\
            <table><tr><td><p>One &amp; <b>two</b>, <a href=\"https://x.test/{{ id }}\">read\nmore</a>.</p></td>\
            <td>Right</td></tr>{% if gold %}<tr><td>Gold {{ points }}</td></tr>{% endif %}</table>\
            <p class=\"{% if x %}a{% endif %}\" {% if y %}hidden{% endif %}><!--{% if z %}{% endif %}--></p>\
            <img src=\"cid:a\" alt=\"Our logo\"><ul><li>a</li><li>b</li></ul><p>End</p></body></html>";
        let text = shown(&text("f", &flat(html)).unwrap());
        assert_eq!(
            text,
            "Hello {{ name }}\n\nOne & two, read more <https://x.test/{{ id }}>.\n\nRight\n\
             {% if gold %}Gold {{ points }}\n{% endif %}Our logo\n- a\n- b\n\nEnd\n"
        );
    }

    #[test]
    fn mjml_becomes_html_with_its_tags() {
        let source = "<mjml><mj-head><mj-title>{{ t }}</mj-title><mj-preview>For {{ name }}</mj-preview></mj-head>\
            <mj-body><mj-section><mj-column>{% if gold %}<mj-text>Hello {{ name }}, <b>you</b></mj-text>{% endif %}\
            <mj-button href=\"https://x.test/{{ id }}\">Go</mj-button></mj-column></mj-section></mj-body></mjml>";
        let html = shown(&mjml("f", &flat(source), None).unwrap());
        for expected in [
            "<title>{{ t }}</title>",
            "For {{ name }}",
            "{% if gold %}",
            "Hello {{ name }}, <b>you</b>",
            "{% endif %}",
            "href=\"https://x.test/{{ id }}\"",
        ] {
            assert!(html.contains(expected), "{expected}\n in \n{html}");
        }
        assert!(!html.contains("fonts.googleapis.com"), "{html}");
        assert!(
            mjml("f", &flat("<mjml><mj-body><mj-oops/></mj-body></mjml>"), None)
                .unwrap_err()
                .to_string()
                .contains("MJML has no element mj-oops")
        );
        assert!(mjml("f", &flat("<mjml><mj-body>"), None).is_err());
    }
}
