//! `name | filter("argument")`: the inside of an output tag that needs no minijinja.
//!
//! Gives up rather than guess: whatever is not exactly a variable of the list and filters known here is
//! left to the engine.

use super::filters::{self, Arguments, Format, Region};
use super::slots::{Filter, Form, Source};

/// What the scanner knows of a campaign.
pub(super) struct Names<'a> {
    /// Variables and where their values come from.
    pub variables: &'a [(String, Source)],
    pub region: &'a Region,
    /// An empty value may be formatted.
    pub lenient: bool,
}

/// Source, filters and form of an expression; `None` where minijinja is needed.
pub(super) fn scan(text: &str, mut form: Form, names: &Names<'_>) -> Option<(Source, Vec<Filter>, Form)> {
    let (name, mut rest) = word(text)?;
    if matches!(
        name,
        "true" | "false" | "none" | "True" | "False" | "None" | "not" | "loop" | "self" | "super"
    ) {
        return None;
    }
    let source = names.variables.iter().find(|(known, _)| known == name)?.1;
    let mut found = Vec::new();
    loop {
        rest = blanks(rest);
        if rest.is_empty() {
            return Some((source, found, form));
        }
        let (filter, after) = word(rest.strip_prefix('|')?)?;
        rest = after;
        let mut given = Arguments::default();
        if rest.starts_with('(') {
            rest = arguments(rest, &mut given)?;
        }
        let bare = given.plain.is_empty() && given.named.is_empty();
        found.push(match filter {
            "upper" if bare => Filter::Upper,
            "lower" if bare => Filter::Lower,
            "title" if bare => Filter::Title,
            "trim" if bare => Filter::Trim,
            "urlencode" if bare => Filter::UrlEncode,
            "default" | "d" if given.plain.len() == 1 && given.named.is_empty() => {
                Filter::Default(given.plain.remove(0))
            }
            "safe" if bare => {
                if !blanks(rest).is_empty() {
                    return None;
                }
                form = if form == Form::Html { Form::Text } else { form };
                return Some((source, found, form));
            }
            name if filters::NAMES.contains(&name) => {
                Filter::Format(Box::new(Format::new(name, &given, names.region, names.lenient).ok()?))
            }
            _ => return None,
        });
    }
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n'])
}

/// An identifier after blanks, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = blanks(text);
    let end = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(text.len());
    (end > 0 && !text.as_bytes()[0].is_ascii_digit()).then(|| text.split_at(end))
}

/// `("text", 2, name="text")` without escapes; gives what follows.
fn arguments<'a>(text: &'a str, into: &mut Arguments) -> Option<&'a str> {
    let mut rest = blanks(text.strip_prefix('(')?);
    loop {
        if let Some(after) = rest.strip_prefix(')') {
            return Some(after);
        }
        let name = word(rest).and_then(|(name, after)| Some((name, blanks(after).strip_prefix('=')?)));
        if let Some((_, after)) = name {
            rest = blanks(after);
        } else if !into.named.is_empty() {
            return None;
        }
        let (value, after) = value(rest)?;
        match name {
            Some((name, _)) => into.named.push((name.to_owned(), value.to_owned())),
            None => into.plain.push(value.to_owned()),
        }
        rest = blanks(after);
        rest = match rest.strip_prefix(',') {
            Some(after) => blanks(after),
            None if rest.starts_with(')') => rest,
            None => return None,
        };
    }
}

/// A quoted text or a whole number.
fn value(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let end = text.bytes().position(|b| !b.is_ascii_digit())?;
        return (end < 4).then(|| text.split_at(end));
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, after) = text[1..].split_once(quote)?;
    (!inner.contains(['\\', '\n'])).then_some((inner, after))
}
