//! The DNS tree walk: which DMARC records stand over a domain, and which domain is its organisation's.
//!
//! RFC 9989 §4.10. Eight questions at most, however long the name.

use super::record::{Record, Suffix, is_meant, parse};
use crate::preflight::dns::lookup::Lookup;

/// Questions of one walk; longer names are cut to one label less after the first.
const QUESTIONS_MAX: usize = 8;

/// What stands at one name of the walk.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Record(Box<Record>),
    /// Several records, which count as none.
    Several(usize),
    /// A record that means to be one and is ignored.
    Ignored(String),
}

/// The records found, the longest name first.
#[derive(Debug)]
pub(super) struct Walk {
    start: String,
    found: Vec<(String, Found)>,
}

/// Walks from `domain` to the top; `None` where a name server failed.
pub(super) async fn walk(domain: &str, lookup: &Lookup) -> Option<Walk> {
    let mut found = Vec::new();
    for name in names(domain) {
        let texts = lookup.txt(&format!("_dmarc.{name}")).await.known()?;
        let meant: Vec<String> = texts.into_iter().filter(|text| is_meant(text)).collect();
        let mut records: Vec<Record> = meant.iter().filter_map(|text| parse(text)).collect();
        let here = match (records.len(), meant.into_iter().next()) {
            (0, None) => continue,
            (0, Some(text)) => Found::Ignored(text),
            (1, _) => Found::Record(Box::new(records.remove(0))),
            (several, _) => Found::Several(several),
        };
        let ends = match &here {
            Found::Record(record) if name == domain => record.suffix == Suffix::No,
            Found::Record(record) => record.suffix != Suffix::Unsaid,
            _ => false,
        };
        found.push((name.to_owned(), here));
        if ends {
            break;
        }
    }
    Some(Walk { start: domain.to_owned(), found })
}

/// The names that are asked for.
fn names(domain: &str) -> impl Iterator<Item = &str> {
    let labels = domain.split('.').count();
    let dots = domain.match_indices('.').map(|(dot, _)| &domain[dot + 1..]);
    let skipped = (labels + 1).saturating_sub(QUESTIONS_MAX).saturating_sub(1);
    std::iter::once(domain).chain(dots.skip(skipped))
}

impl Walk {
    /// What stands at the domain itself.
    pub fn at_start(&self) -> Option<&Found> {
        self.found.iter().find(|(name, _)| *name == self.start).map(|(_, found)| found)
    }

    fn records(&self) -> impl DoubleEndedIterator<Item = (&str, &Record)> {
        self.found.iter().filter_map(|(name, found)| match found {
            Found::Record(record) => Some((name.as_str(), &**record)),
            _ => None,
        })
    }

    /// The organisational domain (§4.10.2).
    pub fn organisation(&self) -> &str {
        for (name, record) in self.records() {
            match record.suffix {
                Suffix::No => return &self.start[self.start.len() - name.len()..],
                Suffix::Yes if name != self.start => return one_below(&self.start, name),
                _ => {}
            }
        }
        let shortest = self.records().last().map(|(name, _)| name);
        shortest.map_or(&self.start, |name| &self.start[self.start.len() - name.len()..])
    }

    /// The record that applies to the domain, and where it stands: its own, else its organisation's,
    /// else that of the suffix above (§4.10.1).
    pub fn applied(&self) -> Option<(&str, &Record)> {
        let at = |wanted: &str| self.records().find(|(name, _)| *name == wanted);
        at(&self.start)
            .or_else(|| at(self.organisation()))
            .or_else(|| self.records().last().filter(|(_, record)| record.suffix == Suffix::Yes))
    }
}

/// The part of `start` with one label more than `suffix`.
fn one_below<'a>(start: &'a str, suffix: &str) -> &'a str {
    let head = &start[..start.len() - suffix.len() - 1];
    head.rfind('.').map_or(start, |dot| &start[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(records: &[(&str, &str)], start: &str) -> Walk {
        let found = records
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Found::Record(Box::new(parse(text).unwrap()))))
            .collect();
        Walk { start: start.to_owned(), found }
    }

    /// The example of RFC 9989 §4.10.
    #[test]
    fn a_long_name_takes_eight_questions() {
        let asked: Vec<&str> = names("a.b.c.d.e.f.g.h.i.j.mail.example.com").collect();
        let expected = [
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            "g.h.i.j.mail.example.com",
            "h.i.j.mail.example.com",
            "i.j.mail.example.com",
            "j.mail.example.com",
            "mail.example.com",
            "example.com",
            "com",
        ];
        assert_eq!(asked, expected);
        assert_eq!(names("a.b.c.d.e.f.example.com").count(), 8);
        assert_eq!(
            names("a.mail.example.com").collect::<Vec<_>>(),
            ["a.mail.example.com", "mail.example.com", "example.com", "com"]
        );
    }

    /// The examples of RFC 9989 §4.10.2.
    #[test]
    fn the_organisation_is_the_shortest_name_with_a_record_unless_psd_says_otherwise() {
        let none = "v=DMARC1; p=none";
        let start = "a.mail.example.com";
        let walk = found(&[("mail.example.com", none), ("example.com", none)], start);
        assert_eq!(walk.organisation(), "example.com");
        let walk = found(&[("mail.example.com", "v=DMARC1; p=none; psd=n")], start);
        assert_eq!(walk.organisation(), "mail.example.com");
        let walk = found(&[("com", "v=DMARC1; p=none; psd=y")], start);
        assert_eq!(walk.organisation(), "example.com");
        assert_eq!(walk.applied().unwrap().0, "com");
        assert_eq!(found(&[], start).organisation(), start);
        // A suffix that sends mail itself is no suffix to itself.
        let walk = found(&[("example.com", "v=DMARC1; p=none; psd=y")], "example.com");
        assert_eq!(walk.organisation(), "example.com");
    }
}
