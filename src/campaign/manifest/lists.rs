//! The checks of what a manifest says of its lists, and of who on them is mailed.

use super::check::Mistake;
use super::{List, Manifest};
use crate::campaign::condition::Condition;

/// More would be files held open and threads that wait.
const LISTS_MAX: usize = 256;

pub(super) fn check(manifest: &Manifest) -> Result<(), Mistake> {
    for (at, list) in manifest.lists.iter().enumerate() {
        check_list(list, &["list", &at.to_string()])?;
    }
    for (at, list) in manifest.exclude.iter().enumerate() {
        let at = at.to_string();
        check_list(list, &["exclude", &at])?;
        is_no_pipe(list, &["exclude", &at, "file"])?;
    }
    for (key, lists) in [("list", &manifest.lists), ("exclude", &manifest.exclude)] {
        if lists.len() > LISTS_MAX {
            let what = format!("there are {} lists, at most {LISTS_MAX} can be read", lists.len());
            return Err(Mistake::new(&[key], what, "put some of them together"));
        }
    }
    let mut piped = manifest.lists.iter().enumerate().filter(|(_, list)| list.is_stdin()).skip(1);
    if let Some((at, _)) = piped.next() {
        let what = "a second list comes through the standard input";
        return Err(Mistake::new(&["list", &at.to_string(), "file"], what, "put one of them into a file"));
    }
    condition(manifest.select.condition.as_deref(), &["select", "where"])?;
    if manifest.select.cap == Some(0) {
        let advice = "give how many recipients there are at most, or leave it out";
        return Err(Mistake::new(&["select", "cap"], "nobody would be mailed", advice));
    }
    seeds(manifest)
}

fn check_list(list: &List, keys: &[&str]) -> Result<(), Mistake> {
    let within = |key| keys.iter().copied().chain([key]).collect::<Vec<&str>>();
    if !list.delimiter.is_ascii() || matches!(list.delimiter, '"' | '\r' | '\n' | '\0') {
        let what = format!("{:?} cannot separate columns", list.delimiter);
        return Err(Mistake::new(&within("delimiter"), what, "use \",\", \";\" or \"\\t\""));
    }
    if list.address.is_empty() {
        let what = "the name of the address column is empty";
        return Err(Mistake::new(&within("address"), what, "name the column that holds the address"));
    }
    for (variable, column) in &list.columns {
        let identifier = variable
            .bytes()
            .enumerate()
            .all(|(at, b)| b == b'_' || b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit()));
        if variable.is_empty() || !identifier || column.is_empty() {
            let what = format!("`{variable}` = `{column}` is no template variable and column");
            let advice = "variables are letters, digits and _, like first_name = \"First Name\"";
            let keys: Vec<&str> = keys.iter().copied().chain(["columns", variable]).collect();
            return Err(Mistake::new(&keys, what, advice));
        }
    }
    condition(list.condition.as_deref(), &within("where"))
}

fn condition(text: Option<&str>, keys: &[&str]) -> Result<(), Mistake> {
    match text.map(Condition::check) {
        Some(Err(error)) => {
            let advice = "write it like country == \"DE\" and points > 100";
            Err(Mistake::new(keys, error.to_string(), advice))
        }
        _ => Ok(()),
    }
}

fn is_no_pipe(list: &List, keys: &[&str]) -> Result<(), Mistake> {
    if list.is_stdin() {
        let what = "only a list of recipients can come through the standard input";
        return Err(Mistake::new(keys, what, "name a file"));
    }
    Ok(())
}

fn seeds(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(seeds) = &manifest.seeds else { return Ok(()) };
    check_list(&seeds.list, &["seeds", "list"])?;
    is_no_pipe(&seeds.list, &["seeds", "list", "file"])?;
    if seeds.every.is_some() && !seeds.at.is_empty() {
        let what = "seeds have places and come every so many recipients as well";
        return Err(Mistake::new(&["seeds", "every"], what, "give one of `at` and `every`"));
    }
    if seeds.every == Some(0) {
        let advice = "give after how many recipients the next one comes";
        return Err(Mistake::new(&["seeds", "every"], "no recipient would ever come", advice));
    }
    if !seeds.at.is_sorted() {
        let advice = "give them in order, like [1, 1000, 50000]";
        return Err(Mistake::new(&["seeds", "at"], "the places of the seeds go back", advice));
    }
    Ok(())
}
