//! Partials and layouts resolved once: `include`, `extends`, `block` and `super()` become one template.
//!
//! What is left can mostly be rendered without minijinja, and taken through MJML, CSS and text as a whole.
//! Forms that only a rendering could resolve (an include from a list, `self.block()`, a layout chosen by a
//! condition) leave the template as it is, and minijinja loads the files. Names are as in the folder.

use std::collections::HashMap;

use super::ContentError;
use super::folder::{Folder, FolderError, unreadable};
use super::pieces::{self, Kind, Origin, Piece, Tag};
use super::slots::lines_normal;

/// Files deep that templates may pull each other in.
const DEPTH_MAX: usize = 32;
/// Pieces of a resolved template at most: a partial that includes another twice, which includes …
const PIECES_MAX: usize = 100_000;

/// A template and what it pulled in.
#[derive(Debug, Clone)]
pub(super) struct Flat {
    pub pieces: Vec<Piece>,
    /// A tag that only minijinja can resolve.
    pub unresolved: Option<Origin>,
}

/// Resolves `source`, which errors call `name`.
///
/// # Errors
/// A file that is not there or not in the folder, one that includes itself, a name not written out.
pub(super) fn flatten(folder: Option<&Folder>, name: &str, source: &str) -> Result<Flat, ContentError> {
    let root = pieces::cut(name, &lines_normal(source));
    let mut resolver = Resolver { folder, pieces: 0 };
    let mut out = Vec::new();
    match resolver.template(root.clone(), 0, &mut out) {
        Ok(()) => Ok(Flat { pieces: out, unresolved: None }),
        Err(Stop::Fault(error)) => Err(error),
        Err(Stop::Unresolved(origin)) => Ok(Flat { pieces: root, unresolved: Some(origin) }),
    }
}

enum Stop {
    Fault(ContentError),
    Unresolved(Origin),
}

impl From<ContentError> for Stop {
    fn from(error: ContentError) -> Self {
        Self::Fault(error)
    }
}

struct Resolver<'a> {
    folder: Option<&'a Folder>,
    pieces: usize,
}

/// For each block its contents, the most derived first.
type Blocks = HashMap<String, Vec<Vec<Piece>>>;

/// The block whose content is being put out: name and how far from the most derived.
type Within<'a> = Option<(&'a str, usize)>;

impl Resolver<'_> {
    /// Puts out one template with its layouts.
    fn template(&mut self, mut pieces: Vec<Piece>, depth: usize, out: &mut Vec<Piece>) -> Result<(), Stop> {
        let mut blocks = Blocks::new();
        let mut layouts = 0;
        loop {
            collect(&pieces, &mut blocks)?;
            let Some(extends) = layout(&pieces)? else { break };
            // What a layout's child does outside of blocks is done, but shows nothing from `extends` on.
            let mut shows = true;
            for piece in outside_of_blocks(&pieces) {
                match piece {
                    Piece::Tag(tag) => match tag.keyword() {
                        "extends" => shows = false,
                        "set" if tag.rest().contains('=') => out.push(Piece::Tag(tag.clone())),
                        "import" | "from" => out.push(Piece::Tag(tag.clone())),
                        _ if tag.kind == Kind::Block => return Err(Stop::Unresolved(tag.origin.clone())),
                        _ if shows => out.push(Piece::Tag(tag.clone())),
                        _ => {}
                    },
                    Piece::Text(text) if shows => pieces::push_text(out, text),
                    Piece::Text(_) => {}
                }
            }
            layouts += 1;
            let Some(next) = self.read(&extends, depth + layouts)? else {
                return Err(Stop::Unresolved(extends.origin));
            };
            pieces = next;
        }
        self.put(&pieces, &blocks, None, depth, out)
    }

    fn put(
        &mut self,
        pieces: &[Piece],
        blocks: &Blocks,
        within: Within<'_>,
        depth: usize,
        out: &mut Vec<Piece>,
    ) -> Result<(), Stop> {
        let mut at = 0;
        while let Some(piece) = pieces.get(at) {
            at += 1;
            self.pieces += 1;
            let tag = match piece {
                Piece::Text(text) => {
                    pieces::push_text(out, text);
                    continue;
                }
                Piece::Tag(tag) => tag,
            };
            if self.pieces > PIECES_MAX {
                return Err(tag
                    .origin
                    .error("the template grows without end as its files are put in")
                    .into());
            }
            match tag.keyword() {
                "block" => {
                    self.block((tag.rest(), 0), tag, blocks, depth, out)?;
                    at = end_of_block(pieces, at - 1)? + 1;
                }
                "include" => {
                    if let Some(included) = self.read(tag, depth + 1)? {
                        self.template(included, depth + 1, out)?;
                    }
                }
                "extends" | "endblock" => return Err(Stop::Unresolved(tag.origin.clone())),
                "import" | "from" => {
                    tag.files()?;
                    out.push(piece.clone());
                }
                _ if tag.kind == Kind::Output && tag.inside() == "super()" => {
                    let Some((name, level)) = within else {
                        return Err(Stop::Unresolved(tag.origin.clone()));
                    };
                    self.block((name, level + 1), tag, blocks, depth, out)?;
                }
                _ if tag.kind != Kind::Raw && (tag.text.contains("super(") || tag.text.contains("self.")) => {
                    return Err(Stop::Unresolved(tag.origin.clone()));
                }
                _ => out.push(piece.clone()),
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        (name, level): (&str, usize),
        by: &Tag,
        blocks: &Blocks,
        depth: usize,
        out: &mut Vec<Piece>,
    ) -> Result<(), Stop> {
        let Some(content) = blocks.get(name).and_then(|contents| contents.get(level)) else {
            return Err(Stop::Unresolved(by.origin.clone()));
        };
        if depth > DEPTH_MAX {
            return Err(by.origin.error("blocks are nested without end").into());
        }
        // What a block sets is its own.
        let scoped = content.iter().any(|piece| match piece {
            Piece::Tag(tag) => matches!(tag.keyword(), "set" | "import" | "from" | "macro"),
            Piece::Text(_) => false,
        });
        let tag = |text: &str| {
            Piece::Tag(Tag { kind: Kind::Block, text: text.to_owned(), origin: by.origin.clone() })
        };
        if scoped {
            out.push(tag("{% with %}"));
        }
        self.put(content, blocks, Some((name, level)), depth + 1, out)?;
        if scoped {
            out.push(tag("{% endwith %}"));
        }
        Ok(())
    }

    /// The file a tag names; `None` when it may be missing and is.
    fn read(&self, tag: &Tag, depth: usize) -> Result<Option<Vec<Piece>>, Stop> {
        let Some(named) = tag.files()? else { return Err(Stop::Unresolved(tag.origin.clone())) };
        let name = match named.names.as_slice() {
            [name] if named.plain => name,
            _ => return Err(Stop::Unresolved(tag.origin.clone())),
        };
        if depth > DEPTH_MAX {
            return Err(tag
                .origin
                .error(format!("`{name}` includes itself, or files are nested without end"))
                .into());
        }
        let Some(folder) = self.folder else {
            return Err(tag.origin.error(format!("there is no folder to read `{name}` from")).into());
        };
        match folder.template(name) {
            Ok(text) => Ok(Some(pieces::cut(name, &lines_normal(&text)))),
            Err(FolderError::Missing(_)) if named.optional => Ok(None),
            Err(error) => Err(unreadable(&tag.origin.file, tag.origin.line, &error).into()),
        }
    }
}

/// The template's `extends`, if it stands where nothing decides about it.
fn layout(pieces: &[Piece]) -> Result<Option<Tag>, Stop> {
    let mut found = None;
    let mut open = 0_usize;
    let mut blocks = false;
    for piece in pieces {
        let Piece::Tag(tag) = piece else { continue };
        blocks |= tag.keyword() == "block";
        match tag.keyword() {
            "if" | "for" | "macro" | "call" | "filter" | "with" | "autoescape" | "block" => open += 1,
            keyword if keyword.starts_with("end") && keyword != "endset" => open = open.saturating_sub(1),
            "extends" if open > 0 || found.is_some() || blocks => {
                return Err(Stop::Unresolved(tag.origin.clone()));
            }
            "extends" => found = Some(tag.clone()),
            _ => {}
        }
    }
    Ok(found)
}

/// Adds all blocks of a template, nested ones too, behind those of the templates derived from it.
fn collect(pieces: &[Piece], blocks: &mut Blocks) -> Result<(), Stop> {
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Tag(tag) = piece else { continue };
        if tag.keyword() == "block" {
            let name = tag.rest();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(Stop::Unresolved(tag.origin.clone()));
            }
            let end = end_of_block(pieces, at)?;
            blocks.entry(name.to_owned()).or_default().push(pieces[at + 1..end].to_vec());
        }
    }
    Ok(())
}

/// The index of the `endblock` of the block that starts at `start`.
fn end_of_block(pieces: &[Piece], start: usize) -> Result<usize, Stop> {
    let mut open = 0_usize;
    for (at, piece) in pieces.iter().enumerate().skip(start) {
        let Piece::Tag(tag) = piece else { continue };
        match tag.keyword() {
            "block" => open += 1,
            "endblock" => {
                open -= 1;
                if open == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    match &pieces[start] {
        Piece::Tag(tag) => Err(Stop::Unresolved(tag.origin.clone())),
        Piece::Text(_) => unreachable!("a block starts with a tag"),
    }
}

fn outside_of_blocks(pieces: &[Piece]) -> impl Iterator<Item = &Piece> {
    let mut open = 0_usize;
    pieces.iter().filter(move |piece| {
        let keyword = match piece {
            Piece::Tag(tag) => tag.keyword(),
            Piece::Text(_) => "",
        };
        let inside = open > 0 || keyword == "block";
        match keyword {
            "block" => open += 1,
            "endblock" => open = open.saturating_sub(1),
            _ => {}
        }
        !inside
    })
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    use super::*;
    use crate::message::pieces::Source;

    const FILES: [(&str, &str); 10] = [
        ("base", "<{% block head %}H{% endblock %}|{% block body %}B {{ name }}{% endblock body %}>\n"),
        (
            "middle",
            "{% extends 'base' %}{% block body %}M[{{ super() }}]{% block inner %}I{% endblock %}{% endblock %}",
        ),
        (
            "child",
            "junk {% extends \"middle\" %}{% block inner %}C{{ super() }}{% endblock %}{% set x = 1 %}",
        ),
        (
            "set",
            "{% extends 'base' %}{% set x = 'top' %}{% block head %}{{ x }}{% set x = 'in' %}{{ x }}{% endblock %}{% block body %}{{ x }}{% endblock %}",
        ),
        ("part", "P{{ name }}{% set y = 'leaks' %}\n"),
        ("parts", "{% include 'part' -%}  \n {% include 'part' %}{{ y }}{% include 'gone' ignore missing %}"),
        ("macros", "{% macro m(a) %}<{{ a }}>{% endmacro %}"),
        (
            "import",
            "{% import 'macros' as k %}{% for i in [1, 2] %}{{ k.m(i) }}{% include 'part' %}{% endfor %}",
        ),
        ("list", "{% include ['gone', 'part'] %}"),
        ("self", "{% block a %}A{% endblock %}{{ self.a() }}"),
    ];

    #[test]
    fn what_is_put_together_renders_as_its_files_do() {
        let temporary = tempfile::tempdir().unwrap();
        let mut environment = Environment::new();
        environment.set_keep_trailing_newline(true);
        for (name, text) in FILES {
            std::fs::write(temporary.path().join(name), text).unwrap();
            environment.add_template(name, text).unwrap();
        }
        let folder = Folder::open(temporary.path()).unwrap();
        for (name, text) in FILES {
            let flat = flatten(Some(&folder), name, text).unwrap();
            assert_eq!(flat.unresolved.is_some(), matches!(name, "list" | "self"), "{name}");
            let source = Source::of(&flat.pieces);
            let context = minijinja::context! { name => "N" };
            let expected = environment.get_template(name).unwrap().render(&context).unwrap();
            assert_eq!(environment.render_str(&source.text, &context).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn files_without_end_are_told() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::write(temporary.path().join("a"), "x\n{% include 'b' %}").unwrap();
        std::fs::write(temporary.path().join("b"), "{% include 'a' %}").unwrap();
        std::fs::write(temporary.path().join("c"), "{% extends 'c' %}").unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        for name in ["a", "c"] {
            let error = flatten(Some(&folder), "root", &format!("{{% include '{name}' %}}")).unwrap_err();
            assert!(error.to_string().contains("nested without end"), "{error}");
        }
    }
}
