//! Moments as people give them: RFC 3339, or a local time and the name of its zone.

use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error(
        "`{0}` is no time with a zone: write it like 2026-11-23T09:00:00Z, 2026-11-23T09:00+01:00 or \
         \"2026-11-23 09:00 Europe/Berlin\""
    )]
    Unreadable(String),
    #[error("`{0}` has no zone: add one, like \"{0} Europe/Berlin\" or \"{0} UTC\"")]
    NoZone(String),
    #[error("there is no time zone `{0}` here: write it like Europe/Berlin or America/New_York, or use UTC")]
    UnknownZone(String),
}

/// Parses a moment; a local time that a clock change skips or repeats is taken the way calendars do.
///
/// # Errors
/// What is missing, with an example of what would do.
pub fn parse(text: &str) -> Result<SystemTime, TimeError> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.into());
    }
    if let Ok(at) = text.parse::<Zoned>() {
        return Ok(at.timestamp().into());
    }
    if text.parse::<DateTime>().is_ok() {
        return Err(TimeError::NoZone(text.to_owned()));
    }
    let unreadable = || TimeError::Unreadable(text.to_owned());
    let (local, zone) = text.rsplit_once(char::is_whitespace).ok_or_else(unreadable)?;
    let local: DateTime = local.trim().parse().map_err(|_| unreadable())?;
    let zone = match zone {
        "UTC" | "Z" | "GMT" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| TimeError::UnknownZone(name.to_owned()))?,
    };
    Ok(local.to_zoned(zone).map_err(|_| unreadable())?.timestamp().into())
}

/// As a person here reads it: local time to the second, with its zone.
pub fn local(at: SystemTime) -> String {
    written(at, "%Y-%m-%d %H:%M:%S %Z")
}

fn written(at: SystemTime, format: &str) -> String {
    match Timestamp::try_from(at) {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime(format).to_string(),
        Err(_) => "an unknown time".to_owned(),
    }
}

/// As [`local`], with the day of the week.
pub fn with_day(at: SystemTime) -> String {
    written(at, "%a %Y-%m-%d %H:%M:%S %Z")
}

/// The local time of the day, with the date where that is not the day of `now`.
pub fn clock(now: SystemTime, at: SystemTime) -> String {
    let day = |at| written(at, "%F");
    written(at, if day(now) == day(at) { "%H:%M:%S" } else { "%a %F %H:%M" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_taken_only_with_its_zone() {
        // date -u -d '2026-11-23 08:00' +%s
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_420_800);
        for text in [
            "2026-11-23T08:00:00Z",
            "2026-11-23T09:00:00+01:00",
            "2026-11-23 08:00 UTC",
            " 2026-11-23T08:00 UTC ",
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert!(matches!(parse("2026-11-23 09:00"), Err(TimeError::NoZone(_))));
        assert!(matches!(parse("2026-11-23 09:00 Mars/Olympus"), Err(TimeError::UnknownZone(_))));
        assert!(matches!(parse("tomorrow"), Err(TimeError::Unreadable(_))));
        // A machine without a time zone database can only say so.
        if TimeZone::get("Europe/Berlin").is_ok() {
            assert_eq!(parse("2026-11-23 09:00 Europe/Berlin"), Ok(expected));
        }
    }
}
