//! Durations and rates as people write them: `"1h30m"`, `"100/min"`, `"10/s burst 5"`.
//!
//! Each type prints what it parses, so that a merged configuration can be read back. The finest unit
//! is the millisecond. Knows nothing of what the values are for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no duration, rate or other value; says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    #[error("`{0}` is no duration: write it like \"200ms\", \"30s\", \"5m\", \"1h30m\", \"3d\" or \"2w\"")]
    Duration(String),
    #[error(
        "`{0}` is no rate: write it like \"100/min\", \"1,000/h\", \"50/day\", \"10/s burst 5\" or \"unlimited\""
    )]
    Rate(String),
    #[error("`{0}` allows nothing at all: the count, the time and the burst of a rate must be above zero")]
    RateZero(String),
}

/// Octets as people write them: "500KB", "5MB", "1MiB"; at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// More is no mail.
const SIZE_MAX: u64 = 25 << 20;
const SIZES: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("KB", 1_000), ("MB", 1_000_000), ("B", 1)];

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}B", self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = SIZES.iter().find_map(|(unit, octets)| {
            text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*octets)
        });
        match octets {
            Some(octets @ 1..=SIZE_MAX) => Ok(Self(octets)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is no size up to 25MiB: write it like \"500KB\", \"5MB\" or \"1MiB\""
            ))),
        }
    }
}

/// So many in a time, at most `burst` of them at once.
///
/// `count` > 0, `per` > 0; `burst` `None` means what whoever enforces the rate finds fitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
    pub burst: Option<u32>,
}

impl Rate {
    /// No limit at all; written `"unlimited"`.
    pub const UNLIMITED: Self = Self { count: u32::MAX, per: Duration::from_nanos(1), burst: None };

    pub fn is_unlimited(self) -> bool {
        self == Self::UNLIMITED
    }

    /// As many in a `factor`th of the time: what a rehearsal makes of it, whose days pass in seconds.
    pub fn quickened(self, factor: f64) -> Self {
        if self.is_unlimited() {
            return self;
        }
        let per = self.per.div_f64(factor.max(f64::MIN_POSITIVE)).max(Duration::from_nanos(1));
        Self { per, ..self }
    }
}

/// Units of a duration, largest first, as they are printed; in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses `"1h30m"`: numbers and units without blanks between a number and its unit.
///
/// # Errors
/// Anything else, a bare number too: its unit would be a guess.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = unit_millis(&rest[..letters]).ok_or_else(wrong)?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    Ok(Duration::from_millis(total))
}

fn unit_millis(unit: &str) -> Option<u64> {
    let short = match unit {
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        "week" | "weeks" => "w",
        other => other,
    };
    UNITS.iter().find(|(name, _)| *name == short).map(|(_, millis)| *millis)
}

/// The shortest text that [`parse_duration`] reads back, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS.iter().skip(1) {
        if rest >= *millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Rate(text.to_owned());
        if text.trim() == "unlimited" {
            return Ok(Self::UNLIMITED);
        }
        let (count, rest) = text.trim().split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().replace([',', '_'], "").parse().map_err(|_| wrong())?;
        let (per, burst) = match rest.split_once("burst") {
            Some((per, burst)) => (per.trim(), Some(burst.trim().parse::<u32>().map_err(|_| wrong())?)),
            None => (rest.trim(), None),
        };
        let per = match unit_millis(per) {
            Some(millis) => Duration::from_millis(millis),
            None => parse_duration(per).map_err(|_| wrong())?,
        };
        if count == 0 || per.is_zero() || burst == Some(0) {
            return Err(UnitError::RateZero(text.to_owned()));
        }
        Ok(Self { count, per, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unlimited() {
            return f.write_str("unlimited");
        }
        let per = match self.per.as_millis() {
            1_000 => "s".to_owned(),
            60_000 => "min".to_owned(),
            3_600_000 => "h".to_owned(),
            86_400_000 => "day".to_owned(),
            _ => format_duration(self.per),
        };
        write!(f, "{}/{per}", self.count)?;
        self.burst.map_or(Ok(()), |burst| write!(f, " burst {burst}"))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// `#[serde(with = "units::duration")]`.
pub mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A duration in a place where `with` cannot reach: inside `Option` and `Vec`.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Written(#[serde(with = "duration")] Duration);

/// `#[serde(with = "units::duration_optional", default)]`.
pub mod duration_optional {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Written).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Written>::deserialize(deserializer)?.map(|written| written.0))
    }
}

/// `#[serde(with = "units::duration_list")]`.
pub mod duration_list {
    use super::*;

    pub fn serialize<S: Serializer>(value: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().copied().map(Written))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<Written>::deserialize(deserializer)?.into_iter().map(|written| written.0).collect())
    }
}

/// A mail domain in a file.
pub mod domain_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::address::Domain;

    pub fn serialize<S: Serializer>(domain: &Domain, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(domain.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Domain, D::Error> {
        let text = String::deserialize(deserializer)?;
        Domain::parse(&text)
            .map_err(|error| serde::de::Error::custom(format!("`{text}` is no mail domain: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("200ms", 200),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("3d", 259_200_000),
            ("2w", 1_209_600_000),
            ("0s", 0),
            ("2 min", 0),
        ] {
            let parsed = parse_duration(text);
            if text == "2 min" {
                assert!(parsed.is_err(), "a blank inside {text} is taken");
            } else {
                assert_eq!(parsed, Ok(Duration::from_millis(millis)), "{text}");
            }
        }
        for text in ["", "5", "s", "5 parsecs", "-1s", "1.5h", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text} is taken");
        }
    }

    #[test]
    fn rates_read_as_people_write_them() {
        for (text, count, secs, burst) in [
            ("100/min", 100, 60, None),
            ("1,000/h", 1_000, 3_600, None),
            ("10/s burst 5", 10, 1, Some(5)),
            ("50/day", 50, 86_400, None),
            ("7/30s", 7, 30, None),
            (" 20 / hour ", 20, 3_600, None),
        ] {
            let expected = Rate { count, per: Duration::from_secs(secs), burst };
            assert_eq!(text.parse::<Rate>(), Ok(expected), "{text}");
        }
        for text in
            ["", "100", "100/", "/min", "many/min", "0/s", "5/0s", "5/s burst 0", "5/s burst", "5/lightyear"]
        {
            assert!(text.parse::<Rate>().is_err(), "{text} is taken");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(millis in 0u64..u64::MAX / 2, count in 1u32.., per in 1u64..1 << 40, burst: Option<u16>) {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            let burst = burst.filter(|burst| *burst > 0).map(u32::from);
            let rate = Rate { count, per: Duration::from_millis(per), burst };
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
