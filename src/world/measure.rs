//! Durations and rates as the world's file writes them: `"50ms"`, `"1h30m"`, `"3,000/h"`.
//!
//! Pure text to value; knows nothing of what is measured.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A span of time in the file; whether it is real or the world's own is said where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span(pub Duration);

impl Span {
    /// Parses one or more `number unit` pairs, units ms, s, m (or min), h, d; plain `0` is allowed.
    ///
    /// # Errors
    /// A sentence with an example when the text is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration; write it like \"50ms\", \"30s\" or \"1h30m\"");
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit = unit_of(&rest[..letters]).ok_or_else(wrong)?;
            let number = u32::try_from(number).map_err(|_| wrong())?;
            total = unit.checked_mul(number).and_then(|d| total.checked_add(d)).ok_or_else(wrong)?;
            rest = rest[letters..].trim_start();
        }
        if text.trim().is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

fn unit_of(name: &str) -> Option<Duration> {
    Some(match name {
        "ms" => Duration::from_millis(1),
        "s" | "sec" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" | "hour" => Duration::from_secs(3_600),
        "d" | "day" => Duration::from_secs(86_400),
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// At most `count` events in any interval of length `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

impl Rate {
    /// Parses `count/unit` with thousands commas allowed: `"100/min"`, `"3,000/h"`, `"10/500ms"`.
    ///
    /// # Errors
    /// A sentence with an example when the text is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate; write it like \"100/min\" or \"3,000/h\"");
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().replace(',', "").parse().map_err(|_| wrong())?;
        let per = per.trim();
        let per = match unit_of(per) {
            Some(unit) => unit,
            None => Span::parse(per).map_err(|_| wrong())?.0,
        };
        if count == 0 || per.is_zero() { Err(wrong()) } else { Ok(Self { count, per }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.count, self.per)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(Span::parse("50ms").unwrap().0, Duration::from_millis(50));
        assert_eq!(Span::parse("1h30m").unwrap().0, Duration::from_secs(5_400));
        assert_eq!(Span::parse("3d").unwrap().0, Duration::from_secs(259_200));
        for wrong in ["", "5", "m", "5 lightyears", "-1s", "99999999999999999999s"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(Rate::parse("3,000/h").unwrap(), Rate { count: 3_000, per: Duration::from_secs(3_600) });
        assert_eq!(Rate::parse("10 / 500ms").unwrap(), Rate { count: 10, per: Duration::from_millis(500) });
        for wrong in ["", "10", "/s", "0/s", "x/s", "10/0"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
