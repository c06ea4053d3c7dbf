//! What a manifest says of variants: who gets what, and how a winner is found.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::duration_optional;

/// What one of several groups gets instead of what the manifest says for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Letters, digits, `-` and `_`; in reports and in `postroad winner`.
    pub name: String,
    /// Its share is this by the sum of all.
    #[serde(default = "one")]
    pub weight: u32,
    /// A template.
    pub subject: Option<String>,
    /// Display name instead of that of `from`.
    pub from_name: Option<String>,
    /// Absolute once opened.
    pub text: Option<PathBuf>,
    pub html: Option<PathBuf>,
}

/// A part of the list decides what the rest gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Of the recipients, by chance.
    pub share: Share,
    #[serde(default)]
    pub winner: Winner,
    /// When the winner is taken by itself, from the start of the run on.
    #[serde(default, with = "duration_optional")]
    pub after: Option<Duration>,
}

/// What the variants are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Winner {
    /// A person says so: `postroad winner`.
    #[default]
    Manual,
    Delivered,
    Opens,
    Clicks,
}

/// A part of a whole, written like "10%" or "2.5%"; above 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}%", self.0 * 100.0))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let share = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match share {
            Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent / 100.0)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is no share: write it like \"10%\", above 0 and at most 100"
            ))),
        }
    }
}

fn one() -> u32 {
    1
}
