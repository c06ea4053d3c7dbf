//! Settings of the delivery policy: warm-up schedules, breakers, reputation. Values and checks only; what
//! is done with them is in [`crate::policy`].
//!
//! The shipped schedules are `data/warmup.toml`, compiled in; a file's `[warmup.schedules.NAME]` stands
//! beside them, or in place of one of the same name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::duration;
use super::{Node, fault};
use crate::address::Domain;

const SHIPPED: &str = include_str!("../../data/warmup.toml");

/// Stages of a schedule: more would be longer than a year.
pub const CAPS_MAX: usize = 366;
/// The largest cap: above any rate there is, far from where sums would overflow.
pub const CAP_MAX: u64 = 1_000_000_000_000;

/// A mistake: the keys that lead to it, what is wrong, what to do.
type Mistake = (Vec<String>, String, String);

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

/// A part of a whole, from 0 to 100 %, exact to a millionth; written `"0.5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// `millionths` ≤ 1,000,000.
    pub const fn millionths(millionths: u32) -> Self {
        assert!(millionths <= 1_000_000, "more than the whole");
        Self(millionths)
    }

    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// Whether `part` of `whole` is at least this share. No rounding.
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 >= u128::from(whole) * u128::from(self.0)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no share: write it like \"0.5%\" or \"10%\"");
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || part.len() > 4 || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let millionths = format!("{whole}{part:0<4}").parse().map_err(|_| wrong())?;
        if millionths > 1_000_000 { Err(wrong()) } else { Ok(Self(millionths)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 1e4)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `[breakers]`: the same for each campaign, each sending domain and each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BreakersText", rename_all = "kebab-case")]
pub struct Breakers {
    pub hard_bounce: Windows,
    pub complaint: Windows,
    pub deferral: Windows,
}

/// Thresholds over the last hour and over the last day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Windows {
    pub short: Thresholds,
    pub long: Thresholds,
}

/// From which rate on what is done; nothing is before both minima are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    /// Attempts that reached a server, at least 1.
    pub sends_min: u32,
    /// Bounces, complaints or deferrals, at least 1.
    pub events_min: u32,
    /// `None`, written `"off"`: never.
    #[serde(serialize_with = "or_off")]
    pub warn: Option<Share>,
    #[serde(serialize_with = "or_off")]
    pub slow: Option<Share>,
    #[serde(serialize_with = "or_off")]
    pub pause: Option<Share>,
}

impl Default for Breakers {
    /// Hard bounces and complaints: the thresholds for warning and pausing that PostHog publishes (pull
    /// request 89879 of PostHog/posthog). Everything about slowing down and about deferrals: (estimate).
    /// A first mailing meets greylisting at a tenth of its recipients or more, which is no reason to stop.
    fn default() -> Self {
        // Minima, then warn, slow and pause in millionths.
        let thresholds = |sends_min, events_min, [warn, slow, pause]: [u32; 3]| Thresholds {
            sends_min,
            events_min,
            warn: Some(Share(warn)),
            slow: Some(Share(slow)),
            pause: Some(Share(pause)),
        };
        Self {
            hard_bounce: Windows {
                short: thresholds(200, 20, [50_000, 75_000, 100_000]),
                long: thresholds(1_000, 50, [25_000, 37_500, 50_000]),
            },
            complaint: Windows {
                short: thresholds(200, 5, [5_000, 7_500, 10_000]),
                long: thresholds(1_000, 10, [1_500, 2_000, 3_000]),
            },
            deferral: Windows {
                short: thresholds(500, 200, [300_000, 500_000, 800_000]),
                long: thresholds(2_000, 500, [250_000, 400_000, 600_000]),
            },
        }
    }
}

/// A level as a file has it: a share, or `"off"`.
struct LevelText(Option<Share>);

impl<'de> Deserialize<'de> for LevelText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "off" => Ok(Self(None)),
            text => text.parse().map(|share| Self(Some(share))).map_err(serde::de::Error::custom),
        }
    }
}

fn or_off<S: Serializer>(level: &Option<Share>, serializer: S) -> Result<S::Ok, S::Error> {
    match level {
        Some(share) => share.serialize(serializer),
        None => serializer.serialize_str("off"),
    }
}

/// `[breakers]` as a file has it: what is not said stays as it is by default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct BreakersText {
    hard_bounce: WindowsText,
    complaint: WindowsText,
    deferral: WindowsText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WindowsText {
    short: ThresholdsText,
    long: ThresholdsText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ThresholdsText {
    sends_min: Option<u32>,
    events_min: Option<u32>,
    warn: Option<LevelText>,
    slow: Option<LevelText>,
    pause: Option<LevelText>,
}

impl From<BreakersText> for Breakers {
    fn from(text: BreakersText) -> Self {
        let below = Self::default();
        Self {
            hard_bounce: text.hard_bounce.over(below.hard_bounce),
            complaint: text.complaint.over(below.complaint),
            deferral: text.deferral.over(below.deferral),
        }
    }
}

impl WindowsText {
    fn over(self, below: Windows) -> Windows {
        Windows { short: self.short.over(below.short), long: self.long.over(below.long) }
    }
}

impl ThresholdsText {
    fn over(self, below: Thresholds) -> Thresholds {
        let level = |text: Option<LevelText>, below| text.map_or(below, |level| level.0);
        Thresholds {
            sends_min: self.sends_min.unwrap_or(below.sends_min),
            events_min: self.events_min.unwrap_or(below.events_min),
            warn: level(self.warn, below.warn),
            slow: level(self.slow, below.slow),
            pause: level(self.pause, below.pause),
        }
    }
}

/// `[reputation]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reputation {
    /// What happened so long ago counts half.
    #[serde(with = "duration")]
    pub half_life: Duration,
}

impl Default for Reputation {
    fn default() -> Self {
        Self { half_life: Duration::from_secs(7 * 86_400) }
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

/// See [`Node::parse`]: the first mistake in what the delivery policy is told.
pub(super) fn mistake(node: &Node) -> Option<Mistake> {
    let warmups = &node.warmup;
    warmups
        .schedules
        .iter()
        .find_map(|(name, schedule)| mistake_of_schedule(name, schedule))
        .or_else(|| {
            warmups.domains.iter().find_map(|(domain, usage)| mistake_of_domain(warmups, domain, usage))
        })
        .or_else(|| {
            let mut warmed =
                node.sources.iter().filter_map(|(name, source)| Some((name, source.warmup.as_ref()?)));
            warmed.find_map(|(name, usage)| unknown_schedule(warmups, &["sources", name, "warmup"], usage))
        })
        .or_else(|| mistake_of_breakers(&node.breakers))
        .or_else(|| {
            node.reputation.half_life.is_zero().then(|| {
                let advice = "give a time like \"7d\", or leave it out";
                (owned(&["reputation", "half_life"]), "half_life is 0".to_owned(), advice.to_owned())
            })
        })
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
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

fn mistake_of_breakers(breakers: &Breakers) -> Option<Mistake> {
    let kinds = [
        ("hard-bounce", &breakers.hard_bounce),
        ("complaint", &breakers.complaint),
        ("deferral", &breakers.deferral),
    ];
    let windows = kinds
        .into_iter()
        .flat_map(|(kind, windows)| [(kind, "short", windows.short), (kind, "long", windows.long)]);
    windows.into_iter().find_map(|(kind, window, thresholds)| {
        let keys = |key| owned(&["breakers", kind, window, key]);
        for (key, minimum) in [("sends_min", thresholds.sends_min), ("events_min", thresholds.events_min)] {
            if minimum == 0 {
                return Some((
                    keys(key),
                    format!("{key} is 0"),
                    "at least 1 is needed for a rate".to_owned(),
                ));
            }
        }
        let levels = [("warn", thresholds.warn), ("slow", thresholds.slow), ("pause", thresholds.pause)];
        let given: Vec<(&str, Share)> = levels.into_iter().filter_map(|(key, at)| Some((key, at?))).collect();
        if let Some((key, _)) = given.iter().find(|(_, at)| at.0 == 0) {
            let advice = "give a share above 0, or \"off\" for never".to_owned();
            return Some((keys(key), format!("{key} is at 0%, which is always reached"), advice));
        }
        let (low, high) = given.iter().zip(given.iter().skip(1)).find(|((_, low), (_, high))| high < low)?;
        let what = format!("{} is at {}, below {} at {}", high.0, high.1, low.0, low.1);
        Some((keys(high.0), what, "warn comes first, then slow, then pause".to_owned()))
    })
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

    #[test]
    fn a_threshold_changes_by_itself() {
        let node = node("[breakers.complaint.short]\npause = \"2%\"\nslow = \"off\"\n");
        let mut expected = Breakers::default();
        expected.complaint.short.pause = Some(Share::millionths(20_000));
        expected.complaint.short.slow = None;
        assert_eq!(node.breakers, expected);
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        let message = fault("[breakers.complaint.short]\npause = \"0.1%\"\n");
        assert!(message.starts_with("f:2:9: pause is at 0.1%, below slow at 0.75%"), "{message}");
        let message = fault("[breakers.hard-bounce.long]\nsends_min = 0\n");
        assert!(message.starts_with("f:2:13: sends_min is 0"), "{message}");
        for text in ["5", "101%", "-1%", "1.23456%", "%", "five%"] {
            let message = fault(&format!("[breakers.deferral.long]\nwarn = \"{text}\"\n"));
            assert!(message.starts_with("f:2:8: ") && message.contains("is no share"), "{message}");
        }
    }

    #[test]
    fn shares_are_exact() {
        let share: Share = "0.3%".parse().unwrap();
        assert_eq!(share.to_string(), "0.3%");
        assert!(share.is_reached(3, 1_000) && !share.is_reached(2_999, 1_000_000));
        assert!("100%".parse::<Share>().unwrap().is_reached(7, 7));
    }
}
