//! What is checked of the text and the HTML that a reader sees.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::finding::Severity;
use super::header::{Head, leftovers};
use super::links::Links;
use super::markup::{self, Token};
use super::rows::{Facts, Place};
use super::tally::{Flaw, Tally};

/// Letters and digits of a message that has pictures; with fewer it is a picture of a message.
const LETTERS_MIN: usize = 120;
/// Elements that mail readers take out, and receivers take for an attack.
const ACTIVE: [&str; 6] = ["script", "form", "iframe", "object", "embed", "applet"];

/// How leaving a list is called.
static LEAVING: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let words = [
        "unsubscribe",
        "unsubscription",
        "opt out",
        "opt-out",
        "optout",
        "leave the list",
        "leave this list",
        "abmeld",
        "abbestell",
        "austragen",
        "désabonn",
        "desabonn",
        "désinscri",
        "desinscri",
        "se désinscrire",
        "darse de baja",
        "darte de baja",
        "cancelar suscripci",
        "disiscri",
        "cancella iscrizione",
        "annulla iscrizione",
        "afmelden",
        "uitschrij",
        "wypisz",
        "rezygn",
        "cancelar inscri",
        "cancelar subscri",
        "descadastr",
        "avregistrer",
        "avprenumerer",
        "avslut",
        "frameld",
        "afmeld",
        "peruuta tilaus",
        "odhlásit",
        "leiratkoz",
        "dezabon",
        "отписаться",
        "отказаться от",
        "配信停止",
        "退订",
        "退訂",
        "구독 취소",
        "수신거부",
        "إلغاء الاشتراك",
    ];
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("words make an automaton")
});

/// Checks the plain text.
pub(super) fn check_text(
    text: &str,
    head: &Head,
    links: &mut Links,
    facts: &Facts,
    place: Place<'_>,
    tally: &mut Tally,
) {
    if text.trim().is_empty() {
        let what = "the text part is empty";
        let advice = "write one: some people and all filters read it; without `text` it is made of the HTML";
        let flaw = Flaw { severity: Severity::Warning, check: "text-empty", what, advice };
        return tally.add(place.row, flaw, || place.shown(""));
    }
    leftovers("the text part", text, place, tally);
    let mut leads_out = false;
    for href in addresses(text) {
        leads_out |= head.unsubscribe.as_deref() == Some(href);
        links.check(href, facts, place, tally);
    }
    let has_way = || (text.contains("://") || text.contains('@')) && LEAVING.is_match(text);
    if !leads_out && !has_way() {
        no_way_out("the text part", facts, place, tally);
    }
}

/// What a text holds of URLs, without what ends the sentence around them.
fn addresses(text: &str) -> impl Iterator<Item = &str> {
    let octets = text.as_bytes();
    memchr::memmem::find_iter(octets, "://").filter_map(move |at| {
        let start = ["https", "http"].iter().find_map(|scheme| {
            let from = at.checked_sub(scheme.len())?;
            octets[from..at].eq_ignore_ascii_case(scheme.as_bytes()).then_some(from)
        })?;
        let rest = &text[start..];
        let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '\'' | '`');
        let url = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let open = url.contains('(');
        Some(url.trim_end_matches(|c| {
            matches!(c, '.' | ',' | ';' | ':' | '!' | '?' | ']') || (c == ')' && !open)
        }))
    })
}

/// Checks the HTML.
pub(super) fn check_html(
    html: &str,
    head: &Head,
    links: &mut Links,
    facts: &Facts,
    place: Place<'_>,
    tally: &mut Tally,
) {
    let mut anchor: Option<(String, String)> = None;
    let (mut letters, mut pictures, mut leads_out) = (0, 0, false);
    for token in markup::tokens(html) {
        match token {
            Token::Text(text) => {
                letters += text.bytes().filter(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80).count();
                if let Some((_, shown)) = &mut anchor {
                    shown.push_str(text);
                }
                if text.len() > 2 {
                    leftovers("the HTML", text, place, tally);
                }
            }
            Token::Open(tag) if tag.is("a") || tag.is("area") => {
                if let Some(href) = tag.attribute("href") {
                    links.check(href.trim(), facts, place, tally);
                    leads_out |= head.unsubscribe.as_deref() == Some(href.trim());
                    anchor = Some((href.trim().to_owned(), String::new()));
                }
            }
            Token::Close(name) if name.eq_ignore_ascii_case("a") => {
                if let Some((href, shown)) = anchor.take() {
                    let shown = markup::decoded(&shown);
                    links.check_text(&shown, &href, place, tally);
                    leads_out = leads_out || LEAVING.is_match(&*shown) || LEAVING.is_match(&href);
                }
            }
            Token::Open(tag) if tag.is("img") => {
                pictures += 1;
                let source = tag.attribute("src").unwrap_or_default();
                links.check_image(&source, place, tally);
                if tag.attribute("alt").is_none() {
                    let what = "a picture has no alt text";
                    let advice = "give it alt=\"…\": pictures are off for many; alt=\"\" if it is decoration";
                    let flaw = Flaw { severity: Severity::Note, check: "image-alt", what, advice };
                    tally.add(place.row, flaw, || place.shown(&source));
                }
            }
            Token::Open(tag) if ACTIVE.iter().any(|name| tag.is(name)) => {
                let what = format!("the HTML has <{}>", tag.name.to_ascii_lowercase());
                let advice =
                    "take it out: mail readers remove it, and receivers distrust it; link to a page instead";
                let flaw = Flaw { severity: Severity::Warning, check: "html-active", what: &what, advice };
                tally.add(place.row, flaw, || place.shown(""));
            }
            Token::Open(_) | Token::Close(_) => {}
        }
    }
    if pictures > 0 && letters < LETTERS_MIN {
        let what = "the HTML is pictures with hardly any text";
        let advice = "say in text what the pictures say: they are off for many, and filters cannot read them";
        let flaw = Flaw { severity: Severity::Warning, check: "image-only", what, advice };
        tally.add(place.row, flaw, || place.shown(&format!("{letters} letters, {pictures} pictures")));
    }
    if !leads_out {
        no_way_out("the HTML", facts, place, tally);
    }
}

fn no_way_out(name: &str, facts: &Facts, place: Place<'_>, tally: &mut Tally) {
    let what = format!("{name} shows no way to leave the list");
    let advice = "put a link to the unsubscribe URL where people see it";
    let flaw = Flaw { severity: facts.demanded, check: "unsubscribe-link", what: &what, advice };
    tally.add(place.row, flaw, || place.shown(""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_a_text_end_where_people_end_them() {
        let text = "See https://a.test/x, or (http://b.test/y?z=1). <https://c.test> HTTPS://D.test/w_(x)\nftp://e.test";
        let found: Vec<&str> = addresses(text).collect();
        assert_eq!(
            found,
            ["https://a.test/x", "http://b.test/y?z=1", "https://c.test", "HTTPS://D.test/w_(x)"]
        );
    }
}
