//! The files of a message: read from one folder, never from anywhere else.
//!
//! A name leads down from the folder: no absolute path, no `..`, and no link that ends outside of it. What
//! a template pulls in is found by reading it ([`closure`]), so that a run can keep a copy of all of it;
//! that is why names of included files must be written out. Knows no MIME.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use super::ContentError;
use super::pieces::{self, Piece};

/// Octets of a template file at most.
pub(super) const TEMPLATE_OCTETS_MAX: u64 = 4 << 20;

/// A folder, its links resolved.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// Why a file of a folder cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    #[error("`{0}` leads out of the folder")]
    Outside(String),
    #[error("there is no file `{0}`")]
    Missing(String),
    #[error("`{0}` is no file")]
    NoFile(String),
    #[error("`{name}` is larger than {max} octets")]
    TooLarge { name: String, max: u64 },
    #[error("`{0}` is not UTF-8")]
    NotUtf8(String),
    #[error("`{name}`: {error}")]
    Read { name: String, error: std::io::Error },
}

impl Folder {
    /// # Errors
    /// It is not there, or no folder.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        if path.is_dir() { Ok(Self(path)) } else { Err(std::io::ErrorKind::NotADirectory.into()) }
    }

    /// Where `name` leads, links resolved.
    ///
    /// # Errors
    /// Out of the folder, or to nothing that can be read as a file.
    pub fn find(&self, name: &str) -> Result<PathBuf, FolderError> {
        let outside = || FolderError::Outside(name.to_owned());
        let path = Path::new(name);
        if !leads_down(path) {
            return Err(outside());
        }
        let found = self.0.join(path).canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => FolderError::Missing(name.to_owned()),
            _ => FolderError::Read { name: name.to_owned(), error },
        })?;
        if !found.starts_with(&self.0) {
            return Err(outside());
        }
        if !found.is_file() {
            return Err(FolderError::NoFile(name.to_owned()));
        }
        Ok(found)
    }

    /// The octets of a file, `max` at most.
    ///
    /// # Errors
    /// As [`Folder::find`], too large, or unreadable.
    pub fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, FolderError> {
        let path = self.find(name)?;
        let mut octets = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(max.saturating_add(1)).read_to_end(&mut octets))
            .map_err(|error| FolderError::Read { name: name.to_owned(), error })?;
        if octets.len() as u64 > max {
            return Err(FolderError::TooLarge { name: name.to_owned(), max });
        }
        Ok(octets)
    }

    /// A template's text.
    ///
    /// # Errors
    /// As [`Folder::read`], or not UTF-8.
    pub fn template(&self, name: &str) -> Result<String, FolderError> {
        let octets = self.read(name, TEMPLATE_OCTETS_MAX)?;
        let text = String::from_utf8(octets).map_err(|_| FolderError::NotUtf8(name.to_owned()))?;
        // Editors of some systems write a mark at the start; it is no text.
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }
}

/// Whether a path goes down from a folder, step by step.
pub fn leads_down(path: &Path) -> bool {
    path.components().all(|step| matches!(step, Component::Normal(_) | Component::CurDir))
        && path.file_name().is_some()
}

/// All files that the templates `roots` and the texts `inline` pull in, directly or not, without the roots.
///
/// # Errors
/// A file that is not there or not inside the folder, or a name that only a message would tell.
pub fn closure(folder: &Folder, roots: &[&str], inline: &[&str]) -> Result<BTreeSet<String>, ContentError> {
    let mut found = BTreeSet::new();
    let mut waiting = Vec::new();
    for text in inline {
        waiting.extend(references("a header", text)?);
    }
    for root in roots {
        let text = folder.template(root).map_err(|error| unreadable(root, 1, &error))?;
        waiting.extend(references(root, &text)?);
    }
    while let Some(reference) = waiting.pop() {
        if found.contains(&reference.name) {
            continue;
        }
        match folder.template(&reference.name) {
            Ok(text) => waiting.extend(references(&reference.name, &text)?),
            Err(FolderError::Missing(_)) if reference.optional => continue,
            Err(error) => return Err(unreadable(&reference.by, reference.line, &error)),
        }
        found.insert(reference.name);
    }
    Ok(found)
}

pub(super) fn unreadable(by: &str, line: usize, error: &FolderError) -> ContentError {
    ContentError::Template { template: by.to_owned(), line, reason: error.to_string() }
}

/// A file that another one names.
struct Reference {
    name: String,
    /// May be missing.
    optional: bool,
    by: String,
    line: usize,
}

fn references(by: &str, text: &str) -> Result<Vec<Reference>, ContentError> {
    let mut references = Vec::new();
    for piece in pieces::cut(by, text) {
        match piece {
            Piece::Tag(tag) => {
                let Some(named) = tag.files()? else { continue };
                let line = tag.origin.line;
                references.extend(named.names.into_iter().map(|name| Reference {
                    name,
                    optional: named.optional,
                    by: by.to_owned(),
                    line,
                }));
            }
            Piece::Text(text) => {
                let names = mj_includes(&text).into_iter().map(str::to_owned);
                references.extend(names.map(|name| Reference {
                    name,
                    optional: false,
                    by: by.to_owned(),
                    line: 1,
                }));
            }
        }
    }
    Ok(references)
}

/// The paths of the `<mj-include>` elements of an MJML text.
fn mj_includes(text: &str) -> Vec<&str> {
    let element = |rest: &'_ str| -> Option<(usize, usize)> {
        let end = rest.find('>')?;
        let start = rest[..end].find("path=")? + 5;
        let quote = rest[start..end].chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let length = rest[start + 1..end].find(quote)?;
        Some((start + 1, length))
    };
    text.match_indices("<mj-include")
        .filter_map(|(at, _)| element(&text[at..]).map(|(start, length)| &text[at + start..][..length]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let inside = temporary.path().join("campaign");
        std::fs::create_dir_all(inside.join("parts")).unwrap();
        std::fs::write(temporary.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("parts/a.html"), "\u{feff}a {% include 'parts/b.html' %}").unwrap();
        std::fs::write(inside.join("parts/b.html"), "{% import \"m.html\" as m %}").unwrap();
        std::fs::write(inside.join("m.html"), "{% include [\"gone\"] ignore missing %}").unwrap();
        std::os::unix::fs::symlink(temporary.path().join("secret"), inside.join("out")).unwrap();
        std::os::unix::fs::symlink("parts/a.html", inside.join("in")).unwrap();
        let folder = Folder::open(&inside).unwrap();
        (temporary, folder)
    }

    #[test]
    fn no_name_leads_out() {
        let (temporary, folder) = folder();
        let secret = temporary.path().join("secret");
        for name in ["../secret", "parts/../../secret", "out", secret.to_str().unwrap(), "/etc/passwd"] {
            assert!(matches!(folder.template(name), Err(FolderError::Outside(_))), "{name}");
        }
        assert!(matches!(folder.template("gone"), Err(FolderError::Missing(_))));
        assert!(matches!(folder.template("parts"), Err(FolderError::NoFile(_))));
        assert!(matches!(folder.template(""), Err(FolderError::Outside(_))));
        assert!(matches!(folder.read("m.html", 3), Err(FolderError::TooLarge { .. })));
        assert!(folder.template("in").unwrap().starts_with("a "));
        assert!(folder.template("./parts/a.html").unwrap().starts_with("a "));
    }

    #[test]
    fn all_that_is_pulled_in_is_found() {
        let (_temporary, folder) = folder();
        let found = closure(&folder, &[], &["{% extends 'parts/a.html' %}"]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["m.html", "parts/a.html", "parts/b.html"]);
        for (text, complaint) in [
            ("\n{% include which %}", "line 2: the name of an included file must be written out"),
            ("{% include 'parts/' ~ which %}", "line 1: the name of an included file must be written out"),
            ("{% include 'gone' %}", "line 1: there is no file `gone`"),
            ("{% include 'out' %}", "line 1: `out` leads out of the folder"),
        ] {
            let error = closure(&folder, &[], &[text]).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
        assert_eq!(
            mj_includes("<mj-include path=\"a.mjml\"/>\n<mj-include type='css' path='b.css' />"),
            ["a.mjml", "b.css"]
        );
    }
}
