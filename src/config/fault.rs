//! A mistake in a file that a person wrote: where it is, what it is, what to do about it.
//!
//! Both the node's settings and the campaign manifests report through it, so that every such message
//! reads `file:line:column: what is wrong; what to do`. Positions come from the TOML parser; a check
//! that runs later names the key it is about and the key's place is looked up again.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake in one file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub what: String,
    /// What to do; empty where `what` says it.
    pub advice: String,
}

impl Fault {
    /// What the TOML parser or a field's type said.
    pub fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (what, advice) = reworded(error.message());
        Self::at(file, text, error.span().unwrap_or(0..0), what, advice)
    }

    /// About the value at `keys`, table by table from the top; a number is an index into a list, and 0 also
    /// stands for what is there once and not as a list.
    ///
    /// A key that is not there stands for the nearest table above it that is.
    pub fn about(
        file: &Path,
        text: &str,
        keys: &[&str],
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::at(file, text, place_of(text, keys), what, advice)
    }

    /// About the octets `span` of `text`.
    pub fn at(
        file: &Path,
        text: &str,
        span: Range<usize>,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl std::error::Error for Fault {}

/// One a line.
pub fn listed(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Serde speaks of fields, people write keys.
fn reworded(message: &str) -> (String, String) {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let quoted: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        if let Some((key, known)) = quoted.split_first() {
            return (format!("unknown key `{key}`"), suggestion(key, known));
        }
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return (format!("the key {rest} is missing"), "add it".to_owned());
    }
    let address = match message {
        "invalid socket address syntax" => {
            Some("address and port, like \"192.0.2.53:53\" or \"[2001:db8::53]:53\"")
        }
        "invalid IPv4 address syntax" => Some("IPv4 address, like \"192.0.2.1\""),
        "invalid IPv6 address syntax" => Some("IPv6 address, like \"2001:db8::1\""),
        _ => None,
    };
    if let Some(address) = address {
        return ("this is no address of the kind wanted".to_owned(), format!("write an {address}"));
    }
    (message.replace('\n', " "), String::new())
}

/// Names the nearest of `known` if one is near, else all of them.
pub fn suggestion(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|candidate| distance(key, candidate));
    match nearest {
        Some(nearest) if distance(key, nearest) <= nearest.len().max(key.len()) / 3 => {
            format!("did you mean `{nearest}`? Known here: {}", known.join(", "))
        }
        Some(_) => format!("known here: {}", known.join(", ")),
        None => "nothing is known here".to_owned(),
    }
}

/// Edits (insert, delete, replace) that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

fn place_of(text: &str, keys: &[&str]) -> Range<usize> {
    use toml::de::{DeTable, DeValue};
    let Ok(document) = DeTable::parse(text) else { return 0..0 };
    let mut place = 0..0;
    let Some((first, rest)) = keys.split_first() else { return place };
    let Some((key, mut value)) = document.get_ref().get_key_value(*first) else { return place };
    place = if value.get_ref().is_table() { key.span() } else { value.span() };
    for step in rest {
        let next = match value.get_ref() {
            // The only one of what could be a list.
            DeValue::Table(table) if *step == "0" && !table.contains_key("0") => continue,
            DeValue::Table(table) => table.get_key_value(*step).map(|(key, value)| (key.span(), value)),
            DeValue::Array(items) => {
                step.parse::<usize>().ok().and_then(|at| items.get(at)).map(|value| (value.span(), value))
            }
            _ => None,
        };
        let Some((key, inner)) = next else { return place };
        place = if inner.get_ref().is_table() { key } else { inner.span() };
        value = inner;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_names_its_nearest_neighbour() {
        assert_eq!(
            suggestion("sesions", &["sessions", "idle"]),
            "did you mean `sessions`? Known here: sessions, idle"
        );
        assert_eq!(suggestion("zzz", &["sessions", "idle"]), "known here: sessions, idle");
    }

    #[test]
    fn the_place_of_a_value_is_found_by_its_keys() {
        let text = "a = 1\n[b]\nc = [\"é\", \"x\"]\n[[d]]\ne = 1\n[[d]]\ne = 2\n";
        let place = |keys: &[&str]| {
            let fault = Fault::about(Path::new("f"), text, keys, "", "");
            (fault.line, fault.column)
        };
        assert_eq!(place(&["a"]), (1, 5));
        assert_eq!(place(&["b", "c", "1"]), (3, 11));
        assert_eq!(place(&["d", "1", "e"]), (7, 5));
        assert_eq!(place(&["nowhere"]), (1, 1));
        assert_eq!(place(&["b", "nowhere"]), (2, 2));
    }
}
