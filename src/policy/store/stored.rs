//! What is stored: values with bounds, so that whatever is read can be used.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::{Party, reputation};

/// Entries of one kind.
pub(in crate::policy) const ENTRIES_MAX: usize = 200_000;
/// Of a name: a domain's 253, or the exchanges of a site, which stand for its name.
const NAME_MAX: usize = 4_096;
/// Of a cause: a reply of several lines.
const TEXT_MAX: usize = 8_192;
/// Messages a second: above what any machine sends.
const RATE_MAX: f64 = 1e9;
/// A count that fades and is only ever increased by one stays below.
const COUNT_MAX: f64 = 1e18;

/// `standing.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    pub ceilings: Vec<Ceiling>,
    /// Also what breakers have paused.
    pub adjustments: Vec<Adjustment>,
    pub reputation: Vec<reputation::Account>,
}

/// The rate at which a provider began to refuse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    pub party: Party,
    /// A provider, or the site of none, by its name.
    pub provider: String,
    /// Messages a second, above 0.
    pub rate: f64,
    pub learned: Timestamp,
}

/// A change of what the settings say, while it lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adjustment {
    /// For `postroad adjust`; unique in a store.
    pub id: u64,
    pub target: Target,
    pub change: Change,
    pub since: Timestamp,
    /// `None`: until a person ends it.
    pub until: Option<Timestamp>,
    pub by: By,
    /// For people: the reply and its rule, a breaker's evidence, what a person wrote.
    pub cause: String,
}

/// What is adjusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A source or sending domain at a provider, or a site of none, by name.
    Path { party: Party, provider: String },
    /// A source or sending domain everywhere.
    Party(Party),
    /// By name.
    Campaign(String),
}

/// How.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The rate is this part of what it was, above 0 and at most 1.
    Slowed(f64),
    /// Nothing goes; then one message as a probe, then this part of the former rate.
    Suspended {
        resume: f64,
    },
    /// Mail goes over the other sources.
    TakenOut,
    Paused,
    /// A limit has this value, as the settings write it, whatever is learned.
    Pinned {
        limit: String,
        value: String,
    },
}

/// Who asked for an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A reply rule, by its name.
    Rule(String),
    Breaker,
    Person,
}

impl Stored {
    /// Forgets what has ended.
    pub fn expire(&mut self, now: Timestamp) {
        self.adjustments.retain(|adjustment| adjustment.until.is_none_or(|until| until > now));
    }

    /// Leaves out what could not be read again, so that it does not keep the rest from being written: names
    /// and replies are others' to choose. Of too many entries the newest stay.
    pub(in crate::policy) fn fit(&mut self) {
        for adjustment in &mut self.adjustments {
            let end = adjustment.cause.floor_char_boundary(TEXT_MAX);
            adjustment.cause.truncate(end);
        }
        self.adjustments.retain(|adjustment| adjustment.check().is_ok());
        self.ceilings.retain(|ceiling| ceiling.check().is_ok());
        self.reputation.retain(|account| check_reputation(account).is_ok());
        keep_newest(&mut self.adjustments, |adjustment| adjustment.since);
        keep_newest(&mut self.ceilings, |ceiling| ceiling.learned);
        keep_newest(&mut self.reputation, |account| account.counts.at);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (list, len) in [
            ("ceilings", self.ceilings.len()),
            ("adjustments", self.adjustments.len()),
            ("reputation", self.reputation.len()),
        ] {
            if len > ENTRIES_MAX {
                return Err(format!("{len} {list}"));
            }
        }
        self.ceilings.iter().try_for_each(Ceiling::check)?;
        self.reputation.iter().try_for_each(check_reputation)?;
        self.adjustments.iter().try_for_each(Adjustment::check)
    }
}

fn keep_newest<T>(entries: &mut Vec<T>, at: impl Fn(&T) -> Timestamp) {
    if entries.len() > ENTRIES_MAX {
        entries.select_nth_unstable_by_key(ENTRIES_MAX, |entry| std::cmp::Reverse(at(entry)));
        entries.truncate(ENTRIES_MAX);
    }
}

impl Ceiling {
    fn check(&self) -> Result<(), String> {
        check_account(&self.party, &self.provider)?;
        check_number("rate", self.rate, f64::MIN_POSITIVE, RATE_MAX)
    }
}

fn check_reputation(account: &reputation::Account) -> Result<(), String> {
    check_account(&account.party, &account.provider)?;
    account.counts.counts.iter().try_for_each(|count| check_number("count", *count, 0.0, COUNT_MAX))
}

impl Adjustment {
    fn check(&self) -> Result<(), String> {
        match &self.target {
            Target::Path { party, provider } => check_account(party, provider)?,
            Target::Party(party) => check_name(party.name())?,
            Target::Campaign(name) => check_name(name)?,
        }
        match &self.change {
            Change::Slowed(part) | Change::Suspended { resume: part } => {
                check_number("part", *part, f64::MIN_POSITIVE, 1.0)?;
            }
            Change::Pinned { limit, value } => {
                check_name(limit)?;
                check_name(value)?;
            }
            Change::TakenOut | Change::Paused => {}
        }
        if let By::Rule(name) = &self.by {
            check_name(name)?;
        }
        if self.cause.len() > TEXT_MAX { Err("a cause of more than 8 KiB".to_owned()) } else { Ok(()) }
    }
}

pub(in crate::policy) fn check_account(party: &Party, provider: &str) -> Result<(), String> {
    check_name(party.name())?;
    check_name(provider)
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        let start: String = name.chars().take(40).collect();
        return Err(format!("{start:?} is no name"));
    }
    Ok(())
}

fn check_number(what: &str, number: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&number) { Ok(()) } else { Err(format!("a {what} of {number}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_to_say_does_not_keep_the_rest_from_being_written() {
        let ceiling = |provider: &str, secs| Ceiling {
            party: Party::Source("a".to_owned()),
            provider: provider.to_owned(),
            rate: 1.0,
            learned: Timestamp::from_second(secs).unwrap(),
        };
        let mut stored = Stored { ceilings: vec![ceiling("mx.site.test", 0)], ..Stored::default() };
        stored.ceilings.push(ceiling(&"mx.a-long-name.test,".repeat(300), 0));
        stored.adjustments.push(Adjustment {
            id: 1,
            target: Target::Campaign("c".to_owned()),
            change: Change::Paused,
            since: Timestamp::UNIX_EPOCH,
            until: None,
            by: By::Person,
            cause: "é".repeat(TEXT_MAX),
        });
        assert!(stored.check().is_err());
        stored.fit();
        assert_eq!(stored.check(), Ok(()));
        assert_eq!((stored.ceilings.len(), stored.adjustments.len()), (1, 1));
        let many = i64::try_from(ENTRIES_MAX).unwrap() + 5;
        stored.ceilings = (0..many).map(|secs| ceiling("mx.site.test", secs)).collect();
        stored.fit();
        assert_eq!(stored.check(), Ok(()));
        assert_eq!(stored.ceilings.iter().map(|ceiling| ceiling.learned.as_second()).min(), Some(5));
    }
}
