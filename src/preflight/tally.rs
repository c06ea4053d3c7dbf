//! What was found in many rows, counted without growing with them.

use std::collections::BTreeMap;

use super::finding::{Findings, Severity};

/// Things alike of one check that are told apart; what comes after is counted with the last.
const SUBJECTS_MAX: usize = 24;
const EXAMPLES_MAX: usize = 5;
/// Characters of an example.
const EXAMPLE_CHARACTERS: usize = 200;

/// What is wrong, in what a [`super::Finding`] will say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flaw<'a> {
    pub severity: Severity,
    pub check: &'static str,
    pub what: &'a str,
    pub advice: &'a str,
}

#[derive(Debug)]
struct Entry {
    severity: Severity,
    what: String,
    advice: String,
    count: u64,
    /// By row.
    examples: Vec<(u64, String)>,
}

/// Flaws by check and by what they say.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(&'static str, String), Entry>);

impl Tally {
    /// Counts a flaw of a row; of its first rows `example` is kept.
    pub fn add(&mut self, row: u64, flaw: Flaw<'_>, example: impl FnOnce() -> String) {
        self.add_many(row, 1, flaw, example);
    }

    /// Counts a flaw that `count` rows have, of which `row` is one.
    pub fn add_many(&mut self, row: u64, count: u64, flaw: Flaw<'_>, example: impl FnOnce() -> String) {
        let known = |entries: &BTreeMap<(&'static str, String), Entry>| {
            let of_check = entries.range((flaw.check, String::new())..);
            of_check.take_while(|((check, _), _)| *check == flaw.check).count()
        };
        let mut key = (flaw.check, flaw.what.to_owned());
        if !self.0.contains_key(&key) && known(&self.0) >= SUBJECTS_MAX {
            // Sorts behind all the others.
            key.1 = String::from("\u{10ffff}");
        }
        let is_rest = key.1.starts_with('\u{10ffff}');
        let entry = self.0.entry(key).or_insert_with(|| Entry {
            severity: flaw.severity,
            what: if is_rest { "there are more of the same kind".to_owned() } else { flaw.what.to_owned() },
            advice: flaw.advice.to_owned(),
            count: 0,
            examples: Vec::new(),
        });
        entry.count += count;
        if entry.examples.len() < EXAMPLES_MAX || entry.examples.last().is_some_and(|(last, _)| row < *last) {
            entry.keep(row, example());
        }
    }

    /// Takes in what another thread counted.
    pub fn merge(&mut self, other: Self) {
        for (key, theirs) in other.0 {
            match self.0.entry(key) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(theirs);
                }
                std::collections::btree_map::Entry::Occupied(mut ours) => {
                    let ours = ours.get_mut();
                    ours.count += theirs.count;
                    theirs.examples.into_iter().for_each(|(row, example)| ours.keep(row, example));
                }
            }
        }
    }

    pub fn into_findings(self, findings: &mut Findings) {
        for ((check, _), entry) in self.0 {
            let Entry { severity, what, advice, count, examples } = entry;
            let examples: Vec<String> = examples.into_iter().map(|(_, example)| example).collect();
            findings.add_many(severity, check, (count, &examples), what, advice);
        }
    }
}

impl Entry {
    /// Keeps the example if its row is among the first.
    fn keep(&mut self, row: u64, example: String) {
        let at = self.examples.partition_point(|(other, _)| *other <= row);
        let short: String = example.chars().take(EXAMPLE_CHARACTERS).collect();
        self.examples.insert(at, (row, short));
        self.examples.truncate(EXAMPLES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(what: &str) -> Flaw<'_> {
        Flaw { severity: Severity::Warning, check: "render", what, advice: "do" }
    }

    #[test]
    fn the_first_rows_are_the_examples_whoever_finds_them_first() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for row in (0..20).rev() {
            let tally = if row % 2 == 0 { &mut one } else { &mut other };
            tally.add(row, flaw("w"), || row.to_string());
        }
        one.merge(other);
        let mut findings = Findings::default();
        one.into_findings(&mut findings);
        let found = findings.sorted();
        assert_eq!((found.len(), found[0].count), (1, 20));
        assert_eq!(found[0].examples, ["0", "1", "2", "3", "4"]);
    }

    #[test]
    fn ever_new_flaws_do_not_grow_without_bound() {
        let mut tally = Tally::default();
        for row in 0..10_000 {
            tally.add(row, flaw(&format!("w{row:05}")), String::new);
        }
        let mut findings = Findings::default();
        tally.into_findings(&mut findings);
        assert_eq!(findings.iter().count(), SUBJECTS_MAX + 1);
        assert_eq!(findings.iter().map(|finding| finding.count).sum::<u64>(), 10_000);
    }
}
