//! What is done to HTML once, before it is compiled: MJML, CSS put into elements, a text made of it.
//!
//! Template tags go through the parsers behind a [`Guard`]. Nothing is fetched from a network, and files only from the campaign's folder.

use std::sync::{Arc, Mutex};

use mrml::prelude::parser::ParserOptions;
use mrml::prelude::parser::loader::{IncludeLoader, IncludeLoaderError};
use mrml::prelude::render::RenderOptions;

use super::ContentError;
use super::flatten::{self, Flat};
use super::folder::Folder;
use super::guard::{Guard, Markup};
use super::pieces::{Kind, Piece};

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
    guard.show_mjml(&html)
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
    use crate::message::tracking::{self, Leave, Wanted};

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
    fn links_of_mjml_that_are_marked_to_stay_keep_their_mark() {
        let source = "<mjml><mj-body><mj-section><mj-column>\
            <mj-button data-no-track href=\"https://x.test/a{{ id }}\">Go</mj-button>\
            <mj-image href='https://x.test/b' data-no-track=\"1\" src=\"https://x.test/i.png\"/>\
            <mj-text><a data-no-track href=\"https://x.test/c\">c</a></mj-text>\
            <mj-navbar><mj-navbar-link href=\"https://x.test/d\" DATA-NO-TRACK=\"\">d</mj-navbar-link></mj-navbar>\
            <mj-social><mj-social-element name=\"web\" data-no-track href=\"https://x.test/e\">e</mj-social-element></mj-social>\
            <mj-button href=\"https://x.test/f\">Go</mj-button></mj-column></mj-section></mj-body></mjml>";
        let html = mjml("f", &flat(source), None).unwrap();
        let html = inline_css("f", &html).unwrap();
        let wanted =
            Wanted { base_url: "https://t.test/", click: Some("c"), open: None, leave: Leave::default() };
        let (tracked, links) = tracking::rewrite("f", &html, &wanted, None).unwrap();
        assert_eq!(links.iter().map(shown).collect::<Vec<_>>(), ["https://x.test/f"]);
        let html = shown(&tracked);
        for link in ["a{{ id }}", "b", "c", "d", "e"] {
            assert!(html.contains(&format!("href=\"https://x.test/{link}\"")), "{link}\n in \n{html}");
        }
        assert!(!html.contains("data-no-track") && !html.contains("stays"), "{html}");
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
