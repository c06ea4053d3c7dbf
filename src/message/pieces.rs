//! A template cut into literal text and tags, each tag with the file and line it was written in.
//!
//! Comments are dropped and `-` marks are carried out here, as minijinja would, so that pieces can be put
//! together anew (partials, layouts) or taken through an HTML parser and still be one template. Knows the
//! outside of tags only, and of their inside no more than which files they name.

use std::sync::Arc;

use super::ContentError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Tag(Tag),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub kind: Kind,
    /// With its delimiters.
    pub text: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `{{ … }}`
    Output,
    /// `{% … %}`
    Block,
    /// `{% raw %} … {% endraw %}`
    Raw,
}

/// Where a person wrote it; the line counts from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub file: Arc<str>,
    pub line: usize,
}

/// The files a tag names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub names: Vec<String>,
    pub optional: bool,
    /// One plain name and nothing that only minijinja would understand.
    pub plain: bool,
}

impl Tag {
    /// The inside, trimmed.
    pub fn inside(&self) -> &str {
        self.text[2..self.text.len() - 2].trim()
    }

    /// The first word of a block tag; empty for any other.
    pub fn keyword(&self) -> &str {
        if self.kind != Kind::Block {
            return "";
        }
        let inside = self.inside();
        &inside
            [..inside.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(inside.len())]
    }

    /// What follows the keyword.
    pub fn rest(&self) -> &str {
        self.inside()[self.keyword().len()..].trim()
    }

    /// The files an `include`, `extends`, `import` or `from` names; `None` for other tags.
    ///
    /// # Errors
    /// The name is not written out.
    pub fn files(&self) -> Result<Option<Named>, ContentError> {
        if !matches!(self.keyword(), "include" | "extends" | "import" | "from") {
            return Ok(None);
        }
        let mut rest = self.rest();
        let list = rest.strip_prefix('[');
        rest = list.unwrap_or(rest);
        let mut names = Vec::new();
        while let Some((name, after)) = literal(rest) {
            names.push(name.to_owned());
            rest = after.trim_start();
            if list.is_none() {
                break;
            }
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        if list.is_some() {
            rest = rest.strip_prefix(']').map_or("?", str::trim_start);
        }
        let optional = rest.starts_with("ignore missing");
        let understood = rest.is_empty()
            || optional
            || ["as ", "import ", "with ", "without "].iter().any(|word| rest.starts_with(word));
        if names.is_empty() || !understood {
            let reason = "the name of an included file must be written out, like \"parts/footer.html\": \
                          a run keeps a copy of each file it needs";
            return Err(self.origin.error(reason));
        }
        let plain = list.is_none() && (rest.is_empty() || rest == "ignore missing");
        Ok(Some(Named { names, optional, plain }))
    }
}

impl Origin {
    pub fn error(&self, reason: impl Into<String>) -> ContentError {
        ContentError::Template { template: self.file.to_string(), line: self.line, reason: reason.into() }
    }
}

/// A quoted text without escapes, and what follows.
fn literal(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, after) = text[1..].split_once(quote)?;
    (!inner.contains('\\')).then_some((inner, after))
}

/// Cuts a template with LF line ends. A tag that is not closed is left in the text, for minijinja to complain of.
pub(super) fn cut(file: &str, source: &str) -> Vec<Piece> {
    let file: Arc<str> = file.into();
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut line = 1;
    let mut trim = false;
    loop {
        let open = rest
            .match_indices('{')
            .find(|(at, _)| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
        let Some((at, length)) = open.and_then(|(at, _)| Some((at, tag_length(&rest[at..])?))) else {
            push_text(&mut pieces, if trim { rest.trim_start() } else { rest });
            return pieces;
        };
        let (before, text) = (&rest[..at], &rest[at..at + length]);
        let before_trimmed = if trim { before.trim_start() } else { before };
        let marked = matches!(text.as_bytes()[2], b'-');
        push_text(&mut pieces, if marked { before_trimmed.trim_end() } else { before_trimmed });
        line += before.matches('\n').count();
        let origin = Origin { file: file.clone(), line };
        let (kind, mut length) = match text.as_bytes()[1] {
            b'{' => (Some(Kind::Output), length),
            b'%' => (Some(Kind::Block), length),
            _ => (None, length),
        };
        let plain = unmarked(text);
        trim = text.as_bytes()[text.len() - 3] == b'-' && text.len() > 5;
        let mut tag = kind.map(|kind| Tag { kind, text: plain, origin });
        if let Some(raw) = tag.as_mut().filter(|tag| tag.keyword() == "raw")
            && let Some((whole, ends_trimmed)) = raw_length(&rest[at..], length)
        {
            raw.kind = Kind::Raw;
            raw.text = rest[at..at + whole].to_owned();
            (length, trim) = (whole, ends_trimmed);
        }
        line += rest[at..at + length].matches('\n').count();
        pieces.extend(tag.map(Piece::Tag));
        rest = &rest[at + length..];
    }
}

/// Appends to the text before, if there is one.
pub(super) fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// Octets of the tag that `text` starts with; `None` when it has no end.
fn tag_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes[1] == b'#' {
        return text[2..].find("#}").map(|at| at + 4);
    }
    let end: &[u8] = if bytes[1] == b'{' { b"}}" } else { b"%}" };
    let mut depth = 0_u32;
    let mut at = 2;
    while at < bytes.len() {
        if depth == 0 && bytes[at..].starts_with(end) {
            return Some(at + 2);
        }
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The tag without `-` and `+` at its ends.
fn unmarked(text: &str) -> String {
    let (open, rest) = text.split_at(2);
    let (inside, close) = rest.split_at(rest.len() - 2);
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside);
    format!("{open}{inside}{close}")
}

/// Octets from `{% raw %}` to the end of `{% endraw %}`, and whether that one trims what follows.
fn raw_length(text: &str, open: usize) -> Option<(usize, bool)> {
    let mut at = open;
    loop {
        at += text[at..].find("{%")?;
        let end = at + text[at..].find("%}")? + 2;
        let inside = text[at + 2..end - 2].trim_start_matches(['-', '+']);
        let trims = inside.ends_with('-');
        if inside.trim_end_matches(['-', '+']).trim() == "endraw" {
            return Some((end, trims));
        }
        at += 2;
    }
}

/// The pieces as one template again.
#[derive(Debug, Default, Clone)]
pub(super) struct Source {
    pub text: String,
    /// Where each tag starts in `text`.
    tags: Vec<(usize, Origin)>,
}

impl Source {
    pub fn of(pieces: &[Piece]) -> Self {
        let mut source = Self::default();
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Tag(tag) => {
                    source.tags.push((source.text.len(), tag.origin.clone()));
                    source.text.push_str(&tag.text);
                }
                Piece::Text(text) => {
                    let before_tag = matches!(pieces.get(at + 1), Some(Piece::Tag(_)));
                    let mut rest = text.as_str();
                    // What only looks like a tag stays text.
                    while let Some(at) = rest.find('{') {
                        let looks = match rest.as_bytes().get(at + 1) {
                            Some(next) => matches!(next, b'{' | b'%' | b'#'),
                            None => before_tag,
                        };
                        source.text.push_str(&rest[..at]);
                        source.text.push_str(if looks { "{{ '{' }}" } else { "{" });
                        rest = &rest[at + 1..];
                    }
                    source.text.push_str(rest);
                }
            }
        }
        source
    }

    /// Where what stands at `range`, or else in `line`, was written.
    pub fn origin(&self, line: usize, at: Option<usize>) -> Option<&Origin> {
        let line_start = || {
            let newline = self.text.match_indices('\n').nth(line.checked_sub(2)?)?;
            Some(newline.0 + 1)
        };
        match at {
            Some(at) => self.tags.iter().rev().find(|(start, _)| *start <= at),
            None => {
                let start = line_start().unwrap_or(0);
                self.tags.iter().find(|(tag, _)| *tag >= start)
            }
        }
        .or(self.tags.last())
        .map(|(_, origin)| origin)
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    use super::*;

    #[test]
    fn a_template_put_together_again_says_the_same() {
        for text in [
            "a {{ name }} b",
            "a\n {{- name -}} \n b",
            "a {# x #} b {#- y -#} c",
            "{ {# x #}{ name }}",
            "{{ '}}' }}{{ \"{%\" }}{{ {'a': {'b': 1}} }}{{{'a':1}}}",
            "x {%- if name -%} y {%- endif -%} z",
            "x {%- raw -%} {{ name }} {%- endraw -%} y",
            "x {% raw %} {{ name }} {% if %} {% endraw %} y",
            "{%+ if name +%} a {%+ endif +%}",
            "}} {name} { { %} #}",
            "a{{ name }}\n\n{# c #}\n\n{{- name }}",
        ] {
            let mut environment = Environment::new();
            environment.set_keep_trailing_newline(true);
            let render = |text: &str| environment.render_str(text, minijinja::context! { name => "N" });
            let source = Source::of(&cut("f", text));
            assert_eq!(render(&source.text).unwrap(), render(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn tags_know_where_they_were_written() {
        let pieces = cut("f", "a\n{# x\n #}\n{{ b }}{% raw %}\n\n{% endraw %}\n{% if c %}");
        let lines: Vec<usize> = pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Tag(tag) => Some(tag.origin.line),
                Piece::Text(_) => None,
            })
            .collect();
        assert_eq!(lines, [4, 4, 7]);
    }
}
