//! `[warmup]`: schedules, and who is warmed up by which.
//!
//! The shipped schedules are `data/warmup.toml`, compiled in; a file's `[warmup.schedules.NAME]` stands
//! beside them, or in place of one of the same name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Mistake, owned};
use crate::address::Domain;
use crate::config::units::duration;
use crate::config::{Node, fault};

const SHIPPED: &str = include_str!("../../../data/warmup.toml");

/// Stages of a schedule: more would be longer than a year.
pub const CAPS_MAX: usize = 366;
/// The largest cap: above any rate there is, far from where sums would overflow.
pub const CAP_MAX: u64 = 1_000_000_000_000;

/// `[warmup]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Warmups {
    /// The shipped schedules with the file's on top.
    #[serde(deserialize_with = "over_shipped")]
    pub schedules: BTreeMap<String, Schedule>,
    /// Sending domains (of `From:`) that are warmed up, with their schedule.
    pub domains: BTreeMap<String, WarmupUse>,
}

impl Default for Warmups {
    fn default() -> Self {
        Self { schedules: shipped(), domains: BTreeMap::new() }
    }
}

/// What the caps of a schedule count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From one full hour, UTC, to the next.
    Hour,
    /// From midnight UTC to the next.
    Day,
}

/// Caps by sending day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub per: Period,
    /// Messages to one provider in a period on each sending day, the first first. After the last: warm.
    pub caps: Vec<u64>,
    /// After so long without a message to a provider, the first day comes again for it.
    #[serde(with = "duration", default = "rewarm")]
    pub rewarm: Duration,
    /// What holds for a provider instead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Caps>,
}

/// Caps for one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    pub per: Period,
    pub caps: Vec<u64>,
}

impl Schedule {
    /// The period and the caps towards `provider`.
    pub fn towards(&self, provider: &str) -> (Period, &[u64]) {
        match self.providers.get(provider) {
            Some(own) => (own.per, &own.caps),
            None => (self.per, &self.caps),
        }
    }
}

/// `warmup = "daily"`, or `warmup = { schedule = "daily", overflow = false }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmupUse {
    pub schedule: String,
    /// What is over the cap goes over the warm sources of the pool; if not, it waits for the next period.
    /// A sending domain has no other to go over to: its mail waits either way.
    pub overflow: bool,
}

impl<'de> Deserialize<'de> for WarmupUse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            schedule: String,
            #[serde(default = "yes")]
            overflow: bool,
        }
        fn yes() -> bool {
            true
        }
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = WarmupUse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a schedule, or { schedule = \"NAME\", overflow = false }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<WarmupUse, E> {
                Ok(WarmupUse { schedule: name.to_owned(), overflow: true })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WarmupUse, A::Error> {
                let table = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(WarmupUse { schedule: table.schedule, overflow: table.overflow })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn rewarm() -> Duration {
    Duration::from_secs(30 * 86_400)
}

/// The schedules that come with this program.
pub fn shipped() -> BTreeMap<String, Schedule> {
    toml::from_str(SHIPPED).expect("the shipped data/warmup.toml is read by a test")
}

fn over_shipped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Schedule>, D::Error> {
    let mut schedules = shipped();
    schedules.extend(BTreeMap::<String, Schedule>::deserialize(deserializer)?);
    Ok(schedules)
}

/// The first mistake in the schedules and in who uses them.
pub(super) fn mistake(node: &Node) -> Option<Mistake> {
    let warmups = &node.warmup;
    let mut schedules = warmups.schedules.iter();
    let mut domains = warmups.domains.iter();
    let mut sources = node.sources.iter().filter_map(|(name, source)| Some((name, source.warmup.as_ref()?)));
    schedules
        .find_map(|(name, schedule)| mistake_of_schedule(name, schedule))
        .or_else(|| domains.find_map(|(domain, usage)| mistake_of_domain(warmups, domain, usage)))
        .or_else(|| {
            sources.find_map(|(name, usage)| unknown_schedule(warmups, &["sources", name, "warmup"], usage))
        })
}

fn mistake_of_schedule(name: &str, schedule: &Schedule) -> Option<Mistake> {
    let place = ["warmup", "schedules", name];
    if schedule.rewarm < Duration::from_secs(86_400) {
        let advice = "give at least one day, like \"30d\"; for nearly never, \"520w\"".to_owned();
        return Some((
            owned(&[&place[..], &["rewarm"]].concat()),
            "rewarm is less than a day".to_owned(),
            advice,
        ));
    }
    let own =
        schedule.providers.iter().map(|(provider, own)| (vec!["providers", provider, "caps"], &own.caps));
    std::iter::once((vec!["caps"], &schedule.caps)).chain(own).find_map(|(keys, caps)| {
        let keys = owned(&[&place[..], &keys].concat());
        if caps.is_empty() || caps.len() > CAPS_MAX {
            let what = format!("the schedule `{name}` has {} caps", caps.len());
            return Some((keys, what, format!("give one for each sending day, from 1 to {CAPS_MAX}")));
        }
        let day = caps.iter().position(|cap| *cap == 0 || *cap > CAP_MAX)?;
        let what = format!("the schedule `{name}` has the cap {} for day {day}", caps[day]);
        let advice = format!("at least 1 is needed to have a sending day, and no more than {CAP_MAX} counts");
        Some(([keys, vec![day.to_string()]].concat(), what, advice))
    })
}

fn mistake_of_domain(warmups: &Warmups, domain: &str, usage: &WarmupUse) -> Option<Mistake> {
    let keys = ["warmup", "domains", domain];
    match Domain::parse(domain) {
        Err(error) => {
            let advice = "give the domain of `From:`, like \"news.sender.example\"".to_owned();
            Some((owned(&keys), format!("`{domain}` is no domain: {error}"), advice))
        }
        Ok(parsed) if parsed.as_str() != domain => {
            let advice = format!("write \"{}\"", parsed.as_str());
            Some((owned(&keys), format!("`{domain}` is not how the domain is written in mail"), advice))
        }
        Ok(_) => unknown_schedule(warmups, &keys, usage),
    }
}

fn unknown_schedule(warmups: &Warmups, keys: &[&str], usage: &WarmupUse) -> Option<Mistake> {
    if warmups.schedules.contains_key(&usage.schedule) {
        return None;
    }
    let known: Vec<&str> = warmups.schedules.keys().map(String::as_str).collect();
    let what = format!("there is no warm-up schedule `{}`", usage.schedule);
    Some((owned(keys), what, fault::suggestion(&usage.schedule, &known)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn node(text: &str) -> Node {
        Node::parse(Path::new("f"), text).unwrap()
    }

    fn fault(text: &str) -> String {
        Node::parse(Path::new("f"), text).expect_err(text).to_string()
    }

    #[test]
    fn the_shipped_schedules_have_the_published_caps() {
        let shipped = shipped();
        let sendgrid = &shipped["sendgrid"];
        assert_eq!(sendgrid.per, Period::Hour);
        for (day, cap) in [
            (0, 20),
            (1, 28),
            (2, 39),
            (3, 55),
            (4, 77),
            (5, 108),
            (6, 151),
            (7, 211),
            (8, 295),
            (9, 413),
            (10, 579),
            (11, 810),
            (12, 1_000),
            (13, 1_587),
            (14, 2_222),
            (15, 3_111),
            (16, 4_356),
            (17, 6_098),
            (20, 16_734),
            (25, 89_998),
            (30, 484_029),
        ] {
            assert_eq!(sendgrid.caps[day], cap, "day {day}");
        }
        // 2.6 million and 19.6 million.
        assert_eq!((sendgrid.caps[35] / 100_000, sendgrid.caps[41] / 100_000), (26, 196));
        assert_eq!(sendgrid.caps.len(), 42);
        let daily = &shipped["daily"];
        assert_eq!((daily.per, daily.caps[0], daily.caps[15]), (Period::Day, 50, 100_000));
        assert_eq!((daily.caps.len(), daily.caps[20]), (21, 1_000_000));
        for (name, schedule) in &shipped {
            assert!(schedule.caps.is_sorted(), "{name} shrinks");
            assert_eq!(mistake_of_schedule(name, schedule), None);
        }
    }

    #[test]
    fn a_source_and_a_domain_name_their_schedules() {
        let node = node(
            "[sources.a]\nwarmup = \"daily\"\n[sources.b]\nwarmup = { schedule = \"mine\", overflow = false }\n\
             [warmup.domains]\n\"news.sender.example\" = \"sendgrid\"\n\
             [warmup.schedules.mine]\nper = \"day\"\ncaps = [10, 20]\n\
             [warmup.schedules.mine.providers.google]\nper = \"hour\"\ncaps = [1]\n",
        );
        let daily = WarmupUse { schedule: "daily".to_owned(), overflow: true };
        assert_eq!(node.sources["a"].warmup, Some(daily));
        assert!(!node.sources["b"].warmup.as_ref().unwrap().overflow);
        let mine = &node.warmup.schedules["mine"];
        assert_eq!(mine.towards("yahoo"), (Period::Day, &[10, 20][..]));
        assert_eq!(mine.towards("google"), (Period::Hour, &[1][..]));
        assert_eq!(mine.rewarm, Duration::from_secs(30 * 86_400));
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
    }

    #[test]
    fn mistakes_in_schedules_are_told_with_their_place() {
        let message = fault("[sources.a]\nwarmup = \"dayly\"\n");
        assert!(
            message.starts_with("f:2:10: there is no warm-up schedule `dayly`; did you mean `daily`?"),
            "{message}"
        );
        let message = fault("[warmup.schedules.x]\nper = \"day\"\ncaps = [10, 0]\n");
        assert!(message.starts_with("f:3:13: the schedule `x` has the cap 0 for day 1"), "{message}");
        let message = fault("[warmup.schedules.x]\nper = \"week\"\ncaps = [10]\n");
        assert!(message.starts_with("f:2:7: "), "{message}");
        let message = fault("[warmup.schedules.x]\nper = \"day\"\ncaps = []\n");
        assert!(message.starts_with("f:3:8: the schedule `x` has 0 caps"), "{message}");
        let message = fault("[warmup.domains]\n\"no domain\" = \"daily\"\n");
        assert!(message.starts_with("f:2:15: `no domain` is no domain"), "{message}");
        let message = fault("[sources.a.warmup]\nschedule = \"daily\"\noverflw = true\n");
        assert!(message.starts_with("f:3:1: unknown key `overflw`"), "{message}");
    }
}
