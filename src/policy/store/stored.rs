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
        for ceiling in &self.ceilings {
            check_account(&ceiling.party, &ceiling.provider)?;
            check_number("rate", ceiling.rate, f64::MIN_POSITIVE, RATE_MAX)?;
        }
        for account in &self.reputation {
            check_account(&account.party, &account.provider)?;
            account
                .counts
                .counts
                .iter()
                .try_for_each(|count| check_number("count", *count, 0.0, COUNT_MAX))?;
        }
        self.adjustments.iter().try_for_each(Adjustment::check)
    }
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
