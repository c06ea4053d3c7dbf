//! The files of a message as a run has them and as they are now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use similar::TextDiff;

use crate::campaign::manifest::Manifest;

/// Larger files are not compared line by line: nobody reads that.
const LINES_OCTETS_MAX: usize = 1 << 20;
/// After so long the comparison of lines is settled with more lines than need be.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Below the campaign's folder.
    pub name: String,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum Change {
    Added {
        octets: usize,
    },
    Removed {
        octets: usize,
    },
    /// Of what is no text, or too much of it.
    Octets {
        old: usize,
        new: usize,
    },
    /// A unified diff.
    Lines {
        lines: String,
    },
}

/// Those that differ, by name.
///
/// # Errors
/// A file that cannot be read, or that a template names and that is not there.
pub fn changed(old: &Manifest, new: &Manifest) -> anyhow::Result<Vec<FileChange>> {
    let names = |manifest: &Manifest| manifest.content_files().map(BTreeSet::from_iter);
    let (of_old, of_new): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = (names(old)?, names(new)?);
    let mut changes = Vec::new();
    for path in of_old.union(&of_new) {
        let octets = |folder: &Path, known: &BTreeSet<PathBuf>| {
            let file = folder.join(path);
            let read = || std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()));
            known.contains(path).then(read).transpose()
        };
        let name = path.display().to_string();
        let change = match (octets(&old.folder, &of_old)?, octets(&new.folder, &of_new)?) {
            (Some(old), Some(new)) if old != new => between(&name, &old, &new),
            (Some(old), None) => Change::Removed { octets: old.len() },
            (None, Some(new)) => Change::Added { octets: new.len() },
            _ => continue,
        };
        changes.push(FileChange { name, change });
    }
    Ok(changes)
}

fn between(name: &str, old: &[u8], new: &[u8]) -> Change {
    let (Some(before), Some(after)) = (lines(old), lines(new)) else {
        return Change::Octets { old: old.len(), new: new.len() };
    };
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(before, after);
    let lines = diff.unified_diff().header(&format!("run/{name}"), &format!("now/{name}")).to_string();
    Change::Lines { lines }
}

fn lines(octets: &[u8]) -> Option<&str> {
    let is_text = octets.len() <= LINES_OCTETS_MAX && !octets.contains(&0);
    std::str::from_utf8(octets).ok().filter(|_| is_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compared_by_lines_and_the_rest_by_size() {
        let Change::Lines { lines } = between("m.txt", b"one\ntwo\nthree\n", b"one\n2\nthree\n") else {
            panic!("it is text");
        };
        assert_eq!(lines, "--- run/m.txt\n+++ now/m.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n");
        for (old, new) in [(b"a\0b" as &[u8], b"abc" as &[u8]), (b"\xff\xfe\xfd", b"abc")] {
            assert_eq!(between("m", old, new), Change::Octets { old: 3, new: 3 });
        }
    }
}
