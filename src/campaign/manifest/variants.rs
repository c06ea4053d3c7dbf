//! What a manifest says of variants: who gets what, and how a winner is found.
//!
//! Shapes and their checks; who is assigned to which variant is [`crate::campaign::variants`]'s to say.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Manifest;
use super::check::{Mistake, one_line};
use crate::config::units::duration_optional;

/// More would not be told apart in a test of any size, and their numbers must fit an octet.
pub const VARIANTS_MAX: usize = 26;

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

/// A part of a whole in percent, written like "10%" or "2.5%"; above 0, at most 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl Share {
    /// Above 0, at most 1.
    pub fn of_one(self) -> f64 {
        self.0 / 100.0
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}%", self.0))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let share = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match share {
            Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is no share: write it like \"10%\", above 0 and at most 100"
            ))),
        }
    }
}

fn one() -> u32 {
    1
}

impl Variant {
    /// What it changes; two of a campaign must differ in it.
    fn changes(&self) -> [Option<&str>; 4] {
        [
            self.subject.as_deref(),
            self.from_name.as_deref(),
            self.text.as_ref().and_then(|path| path.to_str()),
            self.html.as_ref().and_then(|path| path.to_str()),
        ]
    }
}

impl Winner {
    /// Whether a run counts what it goes by. Of openings and clicks nothing is reported to it yet.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Delivered)
    }

    /// As manifests and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Delivered => "delivered",
            Self::Opens => "opens",
            Self::Clicks => "clicks",
        }
    }
}

impl Manifest {
    /// Variants that say one thing in their text and another in their HTML, as far as files tell.
    pub fn half_variants(&self) -> Vec<String> {
        let both = self.text.is_some() && self.html.is_some();
        let half = self.variants.iter().filter(|variant| variant.text.is_some() != variant.html.is_some());
        let half = half.filter(|_| both).map(|variant| {
            let (own, other) = if variant.text.is_some() { ("text", "html") } else { ("html", "text") };
            format!("the variant {} has its own {own} beside the {other} of all", variant.name)
        });
        half.collect()
    }

    /// A winner that goes by what nothing reports.
    pub fn unreported_winner(&self) -> Option<String> {
        let by = self.test.as_ref().map(|test| test.winner)?;
        (by != Winner::Manual && !by.is_counted()).then(|| {
            format!(
                "the winner goes by {}, which nothing reports yet: who is outside the test expires with the run \
                 unless `postroad winner` says which it is",
                by.name()
            )
        })
    }

    /// The manifest as it is for those who get `variant`; the address of `from` is the same for all.
    pub fn with_variant(&self, variant: &Variant) -> Self {
        let mut manifest = self.clone();
        if let Some(subject) = &variant.subject {
            manifest.subject.clone_from(subject);
        }
        if let Some(name) = &variant.from_name {
            // In quotes it may hold anything.
            manifest.from = format!("\"{name}\" <{}>", self.from_address());
        }
        for (of_all, own) in [(&mut manifest.text, &variant.text), (&mut manifest.html, &variant.html)] {
            if own.is_some() {
                of_all.clone_from(own);
            }
        }
        manifest
    }
}

pub(super) fn check(manifest: &Manifest) -> Result<(), Mistake> {
    test(manifest)?;
    let variants = &manifest.variants;
    let mistake = |at: usize, key: &str, what: String, advice: &str| {
        Err(Mistake::new(&["variants", &at.to_string(), key], what, advice))
    };
    if variants.len() == 1 {
        let what = "one variant alone is no comparison".to_owned();
        return mistake(0, "name", what, "add a second [[variants]]; one that changes nothing may be it");
    }
    if variants.len() > VARIANTS_MAX {
        let what = format!("there are {} variants", variants.len());
        return mistake(VARIANTS_MAX, "name", what, "a campaign has at most 26");
    }
    for (at, variant) in variants.iter().enumerate() {
        let (name, number) = (&variant.name, at.to_string());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(allowed) {
            let what = format!("`{name}` is no name of a variant");
            return mistake(at, "name", what, "use 1 to 32 letters, digits, - and _, like \"B\"");
        }
        let before = &variants[..at];
        if before.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return mistake(at, "name", format!("two variants are called `{name}`"), "rename one of them");
        }
        if let Some(same) = before.iter().find(|other| other.changes() == variant.changes()) {
            let what = format!("`{name}` is the same message as `{}`", same.name);
            let advice = "let it differ in subject, from_name, text or html; only one may change nothing";
            return mistake(at, "name", what, advice);
        }
        for (key, text) in [("subject", &variant.subject), ("from_name", &variant.from_name)] {
            let Some(text) = text else { continue };
            one_line(&format!("`{key}`"), text, &["variants", &number, key])?;
            if text.trim().is_empty() {
                return mistake(at, key, format!("`{key}` is empty"), "leave it out to use that of all");
            }
        }
        if manifest.with_variant(variant).text.is_none() && manifest.with_variant(variant).html.is_none() {
            let what = format!("`{name}` has no message: neither `text` nor `html` is given");
            return mistake(at, "name", what, "name a template file here, or for all");
        }
    }
    if !variants.is_empty() && variants.iter().all(|variant| variant.weight == 0) {
        let what = "all weights are 0, so that nobody would get anything".to_owned();
        return mistake(0, "weight", what, "give at least one variant a weight above 0");
    }
    Ok(())
}

fn test(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(test) = &manifest.test else { return Ok(()) };
    if manifest.variants.is_empty() {
        let what = "there are no variants to test";
        return Err(Mistake::new(&["test"], what, "add two or more [[variants]], or take [test] out"));
    }
    match (test.winner, test.after) {
        (Winner::Manual, Some(_)) => {
            let what = "`after` is for a winner that is taken by itself, and this one is left to a person";
            let advice = "take it out, or say winner = \"delivered\", \"opens\" or \"clicks\"";
            Err(Mistake::new(&["test", "after"], what, advice))
        }
        (_, Some(after)) if after >= manifest.retry.expiry => {
            let what = "the winner would come when the run has expired, and the rest with it";
            Err(Mistake::new(&["test", "after"], what, "make it less than the expiry of [retry]"))
        }
        (Winner::Manual, None) | (_, Some(_)) => Ok(()),
        (metric, None) => {
            let what = format!("nothing says when the winner by {} is taken", metric.name());
            Err(Mistake::new(&["test", "winner"], what, "give a time, like after = \"4h\""))
        }
    }
}
