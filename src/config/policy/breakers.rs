//! `[breakers]`: from which rates on a campaign, a sending domain or a source is warned about, slowed down,
//! paused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Mistake, owned};

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

/// The first mistake in the thresholds.
pub(super) fn mistake(breakers: &Breakers) -> Option<Mistake> {
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
    use crate::config::Node;

    fn node(text: &str) -> Node {
        Node::parse(Path::new("f"), text).unwrap()
    }

    fn fault(text: &str) -> String {
        Node::parse(Path::new("f"), text).expect_err(text).to_string()
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
