//! Two manifests compared key by key. Paths of message files count as they stand below their folder, for a
//! run's are copies elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use toml::Value;

use crate::campaign::manifest::Manifest;

/// What tells tables of a list apart, so that one more at the front is one more and not all others changed.
const IDENTITIES: [&str; 4] = ["selector", "file", "column", "name"];

/// Values as TOML writes them; `None`: the key is not given and has no default.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Dotted, like `limits.messages`; a table of a list by what names it, like `dkim.s2026.domain`.
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Every key by itself.
#[derive(Default)]
struct Flat {
    values: BTreeMap<String, String>,
    /// The names of the tables of each list, as they follow each other.
    orders: BTreeMap<String, Vec<String>>,
}

pub fn changed(old: &Manifest, new: &Manifest) -> Vec<KeyChange> {
    let (mut old, mut new) = (flat(old), flat(new));
    let mut changes = reordered(&old, &new);
    let all: BTreeSet<String> = old.values.keys().chain(new.values.keys()).cloned().collect();
    let values = all.into_iter().map(|key| {
        let (old, new) = (old.values.remove(&key), new.values.remove(&key));
        KeyChange { key, old, new }
    });
    changes.extend(values.filter(|change| change.old != change.new));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// Lists of tables in which those that both have follow each other otherwise than before: of lists the first
/// that has an address gives its row, and chance goes through variants as they stand.
fn reordered(old: &Flat, new: &Flat) -> Vec<KeyChange> {
    let common = |these: &[String], those: &[String]| -> Vec<Value> {
        let kept = these.iter().filter(|name| those.contains(name));
        kept.map(|name| Value::from(name.as_str())).collect()
    };
    let orders = old.orders.iter().filter_map(|(key, before)| {
        let now = new.orders.get(key)?;
        let (before, now) = (common(before, now), common(now, before));
        let shown = |order| Some(Value::Array(order).to_string());
        (before != now).then(|| KeyChange { key: key.clone(), old: shown(before), new: shown(now) })
    });
    orders.collect()
}

fn flat(manifest: &Manifest) -> Flat {
    let mut manifest = manifest.clone();
    manifest.move_parts(Path::new(""));
    let value = Value::try_from(&manifest).expect("a run holds it as TOML");
    let mut flat = Flat::default();
    flatten(String::new(), value, &mut flat);
    flat
}

fn flatten(key: String, value: Value, flat: &mut Flat) {
    let below = |name: &str| match key.is_empty() {
        true => word(name),
        false => format!("{key}.{}", word(name)),
    };
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                flatten(below(&name), value, flat);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            let names = names(&items);
            for (name, item) in names.iter().zip(items) {
                flatten(below(name), item, flat);
            }
            flat.orders.insert(key, names);
        }
        other => drop(flat.values.insert(key, other.to_string())),
    }
}

/// A name for each table of a list: what it says of itself if that tells them apart, else its number.
fn names(items: &[Value]) -> Vec<String> {
    let own = |item: &Value| IDENTITIES.iter().find_map(|key| item.get(key)?.as_str().map(str::to_owned));
    let named: Option<Vec<String>> = items.iter().map(own).collect();
    let is_telling = |names: &Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let numbers = || (1..=items.len()).map(|number| number.to_string()).collect();
    named.filter(is_telling).unwrap_or_else(numbers)
}

/// A key as TOML writes it.
fn word(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_bare { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(more: &str) -> Manifest {
        let text = format!(
            "name = \"a\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"bounce.sender.test\"\n\
             subject = \"Hello\"\ntext = \"m.txt\"\n{more}\n[list]\nfile = \"l.csv\"\n"
        );
        Manifest::parse(Path::new("campaign.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn change(key: &str, old: Option<&str>, new: Option<&str>) -> KeyChange {
        KeyChange { key: key.to_owned(), old: old.map(str::to_owned), new: new.map(str::to_owned) }
    }

    #[test]
    fn changed_new_and_gone_keys_are_told_by_dotted_key() {
        let old = manifest("locale = \"de\"\n[headers]\n\"X-Any.Key\" = \"a\"");
        let new = manifest("strict = false\n[headers]\n\"X-Any.Key\" = \"b\"");
        assert_eq!(
            changed(&old, &new),
            [
                change("headers.\"X-Any.Key\"", Some("\"a\""), Some("\"b\"")),
                change("locale", Some("\"de\""), None),
                change("strict", Some("true"), Some("false")),
            ]
        );
        assert_eq!(changed(&old, &old), []);
    }

    #[test]
    fn tables_that_change_places_are_told() {
        let variant = |name| format!("[[variants]]\nname = \"{name}\"\nsubject = \"{name}\"\n");
        let old = manifest(&(variant("a") + &variant("b") + &variant("c")));
        let new = manifest(&(variant("c") + &variant("a") + &variant("d")));
        let changes = changed(&old, &new);
        assert_eq!(changes[0], change("variants", Some("[\"a\", \"c\"]"), Some("[\"c\", \"a\"]")));
        assert!(changes[1..].iter().all(|change| {
            change.key.starts_with("variants.b.") || change.key.starts_with("variants.d.")
        }));
    }

    #[test]
    fn one_more_table_of_a_list_is_one_more() {
        let key = |selector| {
            format!("[[dkim]]\ndomain = \"sender.test\"\nselector = \"{selector}\"\nkey_env = \"KEY\"\n")
        };
        let old = manifest(&key("s2"));
        let new = manifest(&(key("s1") + &key("s2")));
        let keys: Vec<String> = changed(&old, &new).into_iter().map(|change| change.key).collect();
        assert_eq!(keys, ["dkim.s1.domain", "dkim.s1.key_env", "dkim.s1.selector"]);
    }
}
