//! The grammar of PowerMTA's configuration: directives, nested blocks, includes, macros.
//!
//! ```text
//! # comment
//! directive value "quoted value"        # to the end of the line
//! <block argument> … </block>           # within each other
//! domain-macro name a.example, b.example    (a line that ends in a comma goes on)
//! include /path/of/file
//! ```
//!
//! Within lists of patterns a line is kept as it is, for a `#` may stand in an expression. Nothing here is
//! fatal: what cannot be read is in the report.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::FILE_OCTETS_MAX;
use super::super::report::{Place, Report};

/// Blocks within each other.
const DEPTH_MAX: usize = 16;
/// Files, with all they include.
const FILES_MAX: usize = 128;
/// Includes within each other.
const INCLUDES_MAX: usize = 8;
/// Octets of all files.
const OCTETS_MAX: usize = 4 * FILE_OCTETS_MAX;
/// Names that a macro stands for.
const MACRO_MAX: usize = 2_000;
/// Names of all blocks, with what macros make of them.
const NAMES_MAX: usize = 100_000;

/// One line, or a block.
#[derive(Debug)]
pub(super) enum Item {
    Directive {
        name: String,
        value: String,
        place: Place,
    },
    /// A line of a list of patterns.
    Pattern {
        line: String,
        place: Place,
    },
    Block {
        name: String,
        argument: String,
        items: Vec<Item>,
        place: Place,
    },
}

/// A configuration with everything it includes.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub items: Vec<Item>,
    /// Without the `$`.
    pub macros: HashMap<String, Vec<String>>,
    /// Names that were asked for so far.
    names: Cell<usize>,
}

/// Reads files by name.
pub(super) type Open<'a> = &'a mut dyn FnMut(&Path) -> io::Result<String>;

pub(super) fn parse(file: &Path, text: &str, open: Open<'_>, report: &mut Report) -> Document {
    let mut parser =
        Parser { open, report, document: Document::default(), stack: Vec::new(), files: 0, octets: 0 };
    parser.file(file, text, 0);
    while let Some(level) = parser.stack.pop() {
        parser.report.lost(
            &level.place,
            format!("<{}>", level.name),
            "it is never closed; it is taken to end with the file",
        );
        parser.close(level);
    }
    parser.document
}

/// A block that is still open.
struct Level {
    name: String,
    argument: String,
    items: Vec<Item>,
    place: Place,
}

struct Parser<'a> {
    open: Open<'a>,
    report: &'a mut Report,
    document: Document,
    stack: Vec<Level>,
    files: usize,
    octets: usize,
}

impl Parser<'_> {
    fn file(&mut self, file: &Path, text: &str, depth: usize) {
        self.files += 1;
        self.octets += text.len();
        let name: Arc<Path> = file.into();
        let mut numbered = text.lines().zip(1..);
        while let Some((line, number)) = numbered.next() {
            let place = Place { file: Arc::clone(&name), line: number };
            let is_pattern_list = self.stack.last().is_some_and(|level| is_pattern_list(&level.name));
            let trimmed = line.trim();
            if is_pattern_list && !trimmed.starts_with('<') {
                if !trimmed.is_empty() && !trimmed.starts_with('#') {
                    self.push(Item::Pattern { line: trimmed.to_owned(), place });
                }
                continue;
            }
            let mut line = without_comment(line).trim().to_owned();
            while line.ends_with([',', '\\']) && !line.starts_with('<') {
                let Some((more, _)) = numbered.next() else { break };
                let kept = line.trim_end_matches('\\').len();
                line.truncate(kept);
                line.push(' ');
                line.push_str(without_comment(more).trim());
            }
            if !line.is_empty() {
                self.line(&line, place, file, depth);
            }
        }
    }

    fn line(&mut self, line: &str, place: Place, file: &Path, depth: usize) {
        if let Some(tag) = line.strip_prefix("</") {
            return self.end(tag.trim_end_matches('>').trim(), &place);
        }
        if let Some(tag) = line.strip_prefix('<') {
            let (tag, rest) = tag.split_once('>').unwrap_or((tag, ""));
            if !rest.trim().is_empty() {
                self.report.lost(&place, rest.trim(), "a block begins on a line of its own");
            }
            return self.begin(tag, place);
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.to_ascii_lowercase();
        let value = unquoted(value.trim());
        match name.as_str() {
            "include" => self.include(&value, &place, file, depth),
            "domain-macro" => self.define(&value, &place),
            _ => self.push(Item::Directive { name, value, place }),
        }
    }

    fn push(&mut self, item: Item) {
        match self.stack.last_mut() {
            Some(level) => level.items.push(item),
            None => self.document.items.push(item),
        }
    }

    fn begin(&mut self, tag: &str, place: Place) {
        let (name, argument) = tag.trim().split_once(char::is_whitespace).unwrap_or((tag.trim(), ""));
        let name = name.to_ascii_lowercase();
        if self.stack.len() >= DEPTH_MAX {
            let why = format!("there are more than {DEPTH_MAX} blocks within each other; it is left out");
            return self.report.lost(&place, format!("<{name}>"), why);
        }
        let argument = unquoted(argument.trim());
        self.stack.push(Level { name, argument, items: Vec::new(), place });
    }

    /// Closes the innermost block of that name, and what was left open in it.
    fn end(&mut self, name: &str, place: &Place) {
        let name = name.to_ascii_lowercase();
        if !self.stack.iter().any(|level| level.name == name) {
            return self.report.lost(place, format!("</{name}>"), "no such block is open");
        }
        while let Some(level) = self.stack.pop() {
            let is_it = level.name == name;
            if !is_it {
                self.report.lost(
                    &level.place,
                    format!("<{}>", level.name),
                    format!("it is not closed before </{name}>"),
                );
            }
            self.close(level);
            if is_it {
                break;
            }
        }
    }

    fn close(&mut self, level: Level) {
        let Level { name, argument, items, place } = level;
        self.push(Item::Block { name, argument, items, place });
    }

    fn include(&mut self, name: &str, place: &Place, file: &Path, depth: usize) {
        let subject = format!("include {name}");
        if name.contains("://") {
            let why = "it is not fetched: save it beside this file and name that";
            return self.report.lost(place, subject, why);
        }
        if depth >= INCLUDES_MAX || self.files >= FILES_MAX {
            return self.report.lost(place, subject, "there are too many files within each other");
        }
        let path: PathBuf = file.parent().unwrap_or(Path::new("")).join(name);
        match (self.open)(&path) {
            Ok(text) if text.len() > FILE_OCTETS_MAX || self.octets + text.len() > OCTETS_MAX => {
                self.report.lost(place, subject, "the files are too large");
            }
            Ok(text) => self.file(&path, &text, depth + 1),
            Err(error) => self.report.lost(place, subject, format!("it cannot be read: {error}")),
        }
    }

    fn define(&mut self, value: &str, place: &Place) {
        let (name, list) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let names: Vec<String> = list
            .split([',', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .take(MACRO_MAX)
            .map(str::to_owned)
            .collect();
        if name.is_empty() || names.is_empty() {
            return self.report.lost(place, format!("domain-macro {name}"), "it stands for nothing");
        }
        self.document.macros.insert(name.to_owned(), names);
    }
}

impl Document {
    /// The names that a block's argument stands for: `a.example, yahoo.$tld`.
    pub fn names(&self, argument: &str, place: &Place, report: &mut Report) -> Vec<String> {
        let mut names = Vec::new();
        for word in argument.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
            let Some((before, rest)) = word.split_once('$') else {
                names.push(word.to_ascii_lowercase());
                continue;
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(length);
            match self.macros.get(name) {
                Some(list) if !after.contains('$') => {
                    names.extend(list.iter().map(|one| format!("{before}{one}{after}").to_ascii_lowercase()));
                }
                Some(_) => report.lost(place, word, "one macro in a name is all that is read"),
                None => report.lost(place, word, format!("there is no domain-macro `{name}`")),
            }
            if self.names.get() + names.len() > NAMES_MAX {
                report.lost(place, word, format!("there are more than {NAMES_MAX} names of domains"));
                return Vec::new();
            }
        }
        self.names.set(self.names.get() + names.len());
        names
    }
}

fn is_pattern_list(block: &str) -> bool {
    matches!(block, "smtp-pattern-list" | "bounce-category-patterns" | "pattern-list")
}

/// Up to a `#` that is in no quotes.
fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    for (at, octet) in line.bytes().enumerate() {
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'#' if !is_quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.unwrap_or(value).to_owned()
}
