//! The filters `date`, `number` and `currency`: a cell's text → as people of a locale write it.
//!
//! Both ways of rendering come here: minijinja at run time, and the scanner, which reads the arguments
//! once. Numbers are kept as the digits they are and never go through a float.

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::locale::{self, Locale, Money};

/// Digits of a number at most.
const DIGITS_MAX: usize = 30;

/// The locale and time zone of a campaign.
#[derive(Debug, Clone)]
pub struct Region {
    locale: &'static Locale,
    zone: TimeZone,
}

impl Default for Region {
    /// English, UTC.
    fn default() -> Self {
        Self { locale: locale::find("en").expect("in the table"), zone: TimeZone::UTC }
    }
}

impl Region {
    /// `None` keeps the default.
    ///
    /// # Errors
    /// What is not known, and what is.
    pub fn new(locale: Option<&str>, zone: Option<&str>) -> Result<Self, String> {
        let mut region = Self::default();
        if let Some(tag) = locale {
            region.locale = find_locale(tag)?;
        }
        if let Some(name) = zone {
            region.zone = find_zone(name)?;
        }
        Ok(region)
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

fn find_locale(tag: &str) -> Result<&'static Locale, String> {
    locale::find(tag).ok_or_else(|| format!("`{tag}` is no locale known here; known are {}", locale::known()))
}

fn find_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("`{name}` is no time zone; write one like Europe/Berlin"))
}

/// Arguments of a filter as they were written, by position and by name.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub plain: Vec<String>,
    pub named: Vec<(String, String)>,
}

/// One of the three filters with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Format {
    what: What,
    locale: &'static Locale,
    /// An empty text stays empty, instead of being a mistake.
    lenient: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Date { pattern: String, zone: TimeZone },
    Number { decimals: Option<usize> },
    Currency { symbol: String, is_code: bool, decimals: usize },
}

/// The names of the filters here.
pub(super) const NAMES: [&str; 3] = ["date", "number", "currency"];

impl Format {
    /// # Errors
    /// An argument the filter `name` does not have or understand.
    pub fn new(name: &str, arguments: &Arguments, region: &Region, lenient: bool) -> Result<Self, String> {
        let mut plain = arguments.plain.iter().map(String::as_str);
        let (mut locale, mut zone, mut first) = (region.locale, None, plain.next());
        if plain.next().is_some() {
            return Err(format!("`{name}` takes one argument, and others by name"));
        }
        for (key, value) in &arguments.named {
            match (name, key.as_str()) {
                (_, "locale") => locale = find_locale(value)?,
                ("date", "time_zone" | "tz") => zone = Some(find_zone(value)?),
                ("date", "format") | ("number", "decimals") | ("currency", "code") if first.is_none() => {
                    first = Some(value)
                }
                _ => return Err(format!("`{name}` has no argument `{key}`")),
            }
        }
        let what = match name {
            "date" => {
                let pattern = match first.unwrap_or("medium") {
                    "short" => locale.short.to_owned(),
                    "medium" => locale.medium.to_owned(),
                    "long" => locale.long.to_owned(),
                    "full" => locale.full.to_owned(),
                    "time" => locale.time.to_owned(),
                    "datetime" => format!("{}, {}", locale.medium, locale.time),
                    pattern if pattern.contains('%') => pattern.to_owned(),
                    other => {
                        return Err(format!(
                            "`{other}` is no date format: short, medium, long, full, time, datetime, or a \
                             pattern like \"%d.%m.%Y\""
                        ));
                    }
                };
                let zone = zone.unwrap_or_else(|| region.zone.clone());
                date(&Zoned::new(jiff::Timestamp::UNIX_EPOCH, zone.clone()), &pattern, locale)?;
                What::Date { pattern, zone }
            }
            "number" => {
                let decimals = first.map(|text| match text.parse() {
                    Ok(decimals) if decimals <= 10 => Ok(decimals),
                    _ => Err(format!("`{text}` is no number of decimals")),
                });
                What::Number { decimals: decimals.transpose()? }
            }
            _ => {
                let code = first.ok_or("`currency` needs a code, like currency(\"EUR\")")?;
                if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_uppercase()) {
                    return Err(format!("`{code}` is no currency code, like EUR"));
                }
                let symbol = symbol(code, locale);
                What::Currency {
                    symbol: symbol.unwrap_or(code).to_owned(),
                    is_code: symbol.is_none_or(|symbol| symbol == code),
                    decimals: decimals_of(code),
                }
            }
        };
        Ok(Self { what, locale, lenient })
    }

    /// # Errors
    /// The text is no date or number.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        if text.is_empty() {
            return if self.lenient {
                Ok(String::new())
            } else {
                Err("the value is empty; give it a default before this filter".to_owned())
            };
        }
        match &self.what {
            What::Date { pattern, zone } => date(&moment(text, zone)?, pattern, self.locale),
            What::Number { decimals } => {
                let (negative, digits) = decimal(text, *decimals, self.locale)?;
                Ok(if negative { format!("-{digits}") } else { digits })
            }
            What::Currency { symbol, is_code, decimals } => {
                let (negative, digits) = decimal(text, Some(*decimals), self.locale)?;
                let minus = if negative { "-" } else { "" };
                Ok(match self.locale.money {
                    Money::Before if *is_code => format!("{minus}{symbol}\u{a0}{digits}"),
                    Money::Before => format!("{minus}{symbol}{digits}"),
                    Money::BeforeApart => format!("{minus}{symbol}\u{a0}{digits}"),
                    Money::BeforeSign => format!("{symbol}\u{a0}{minus}{digits}"),
                    Money::After => format!("{minus}{digits}\u{a0}{symbol}"),
                })
            }
        }
    }
}

/// Reads a date: with a zone or offset it is that moment, without one it is of `zone`.
///
/// # Errors
/// The text is none of the forms.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Result<Zoned, String> {
    if (9..=11).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = text.parse().ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        if let Some(timestamp) = seconds {
            return Ok(timestamp.to_zoned(zone.clone()));
        }
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Ok(zoned.with_time_zone(zone.clone()));
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp.to_zoned(zone.clone()));
    }
    text.parse::<DateTime>().and_then(|civil| civil.to_zoned(zone.clone())).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!("`{shown}` is no date; a list has them as 2026-03-09, 2026-03-09 18:00 or 2026-03-09T18:00:00+01:00")
    })
}

fn date(at: &Zoned, pattern: &str, locale: &Locale) -> Result<String, String> {
    let month = at.month().unsigned_abs() as usize - 1;
    let day = at.weekday().to_monday_zero_offset().unsigned_abs() as usize;
    let beside_day = ["%d", "%-d", "%e", "%-e"].iter().any(|day| pattern.contains(day));
    let months = if beside_day { &locale.months } else { &locale.months_alone };
    let mut named = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        named.push_str(&rest[..at]);
        let directive = rest[at + 1..].chars().next().unwrap_or('%');
        let name = match directive {
            'A' => locale.days[day],
            'a' => locale.days_short[day],
            'B' => months[month],
            'b' | 'h' => locale.months_short[month],
            '%' => "%%",
            _ => "",
        };
        if name.is_empty() {
            named.push('%');
            rest = &rest[at + 1..];
        } else {
            named.push_str(name);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
    }
    named.push_str(rest);
    jiff::fmt::strtime::format(named.as_bytes(), at)
        .map_err(|error| format!("the date format `{pattern}`: {error}"))
}

/// Whether it is below zero, and the digits with their marks; `decimals` rounds half away from zero.
fn decimal(text: &str, decimals: Option<usize>, locale: &Locale) -> Result<(bool, String), String> {
    let refuse = || {
        let shown: String = text.chars().take(40).collect();
        format!("`{shown}` is no number; a list has them as 1234.56")
    };
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || unsigned.len() > DIGITS_MAX {
        return Err(refuse());
    }
    let decimals = decimals.unwrap_or(fraction.len());
    let mut all: Vec<u8> =
        whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    if fraction.as_bytes().get(decimals).is_some_and(|&next| next >= b'5') {
        let mut carry = true;
        for digit in all.iter_mut().rev() {
            *digit = match *digit {
                b'9' => b'0',
                other => {
                    carry = false;
                    other + 1
                }
            };
            if !carry {
                break;
            }
        }
        if carry {
            all.insert(0, b'1');
        }
    }
    let negative = negative && all.iter().any(|&digit| digit != b'0');
    let all = String::from_utf8(all).expect("digits");
    let (whole, fraction) = all.split_at(all.len() - decimals);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let mut out = String::with_capacity(whole.len() * 2 + fraction.len() + 1);
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if at > 0 && left.is_multiple_of(3) && whole.len() >= locale.grouped_from {
            out.push_str(locale.group);
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push_str(locale.decimal);
        out.push_str(fraction);
    }
    Ok((negative, out))
}

/// `None`: the code is written.
fn symbol(code: &str, locale: &Locale) -> Option<&'static str> {
    Some(match code {
        "EUR" => "€",
        "USD" => locale.dollar,
        "GBP" => match locale.tag {
            "es" | "pl" => return None,
            "fr" => "£GB",
            _ => "£",
        },
        "JPY" => match locale.tag {
            "en" | "de" => "¥",
            "fr" | "es" | "it" | "pl" => return None,
            _ => "JP¥",
        },
        "BRL" => "R$",
        "INR" => "₹",
        "PLN" if locale.tag == "pl" => "zł",
        _ => return None,
    })
}

/// Of ISO 4217.
fn decimals_of(code: &str) -> usize {
    match code {
        "JPY" | "KRW" | "VND" | "CLP" | "ISK" | "XAF" | "XOF" | "XPF" | "PYG" | "UGX" => 0,
        "BHD" | "KWD" | "OMR" | "JOD" | "TND" | "IQD" | "LYD" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(filter: &str, plain: &[&str], named: &[(&str, &str)], text: &str) -> Result<String, String> {
        let arguments = Arguments {
            plain: plain.iter().map(|&text| text.to_owned()).collect(),
            named: named.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        Format::new(filter, &arguments, &Region::default(), false)?.apply(text)
    }

    #[test]
    fn dates_are_written_as_the_locale_does() {
        // What ICU 78 says (`Intl.DateTimeFormat`) for 1 December 2026.
        for (locale, long, full) in [
            ("en", "December 1, 2026", "Tuesday, December 1, 2026"),
            ("en-GB", "1 December 2026", "Tuesday, 1 December 2026"),
            ("de", "1. Dezember 2026", "Dienstag, 1. Dezember 2026"),
            ("de-AT", "1. Dezember 2026", "Dienstag, 1. Dezember 2026"),
            ("fr", "1 décembre 2026", "mardi 1 décembre 2026"),
            ("es", "1 de diciembre de 2026", "martes, 1 de diciembre de 2026"),
            ("it", "1 dicembre 2026", "martedì 1 dicembre 2026"),
            ("pt_BR", "1 de dezembro de 2026", "terça-feira, 1 de dezembro de 2026"),
            ("nl", "1 december 2026", "dinsdag 1 december 2026"),
            ("pl", "1 grudnia 2026", "wtorek, 1 grudnia 2026"),
        ] {
            assert_eq!(apply("date", &["long"], &[("locale", locale)], "2026-12-01").unwrap(), long);
            assert_eq!(apply("date", &["full"], &[("locale", locale)], "2026-12-01").unwrap(), full);
        }
        assert_eq!(apply("date", &["%B %Y"], &[("locale", "pl")], "2026-12-01").unwrap(), "grudzień 2026");
        assert_eq!(
            apply("date", &["%a %e. %b, 100 %%"], &[("locale", "de")], "2026-12-01").unwrap(),
            "Di.  1. Dez., 100 %"
        );
    }

    #[test]
    fn a_moment_is_told_in_the_zone_asked_for() {
        let berlin = [("time_zone", "Europe/Berlin")];
        for text in [
            "2026-07-01T16:00:00Z",
            "2026-07-01 18:00",
            "2026-07-01T12:00-04:00[America/New_York]",
            "1782921600",
        ] {
            assert_eq!(
                apply("date", &["%Y-%m-%d %H:%M %Z"], &berlin, text).unwrap(),
                "2026-07-01 18:00 CEST",
                "{text}"
            );
        }
        assert_eq!(apply("date", &["time"], &[], "2026-07-01T16:05:00Z").unwrap(), "4:05 PM");
        for text in ["soon", "01.07.2026", "2026-13-01", ""] {
            assert!(apply("date", &[], &[], text).is_err(), "{text}");
        }
        assert!(apply("date", &["loong"], &[], "2026-07-01").is_err());
        assert!(apply("date", &["%!"], &[], "2026-07-01").is_err());
        assert!(apply("date", &[], &[("time_zone", "Mars/Base")], "2026-07-01").is_err());
    }

    #[test]
    fn numbers_are_rounded_and_grouped() {
        for (decimals, locale, text, expected) in [
            (&["2"] as &[&str], "en", "1234567.895", "1,234,567.90"),
            (&["0"], "en", "999.5", "1,000"),
            (&["0"], "en", "-0.4", "0"),
            (&[], "en", "-0012.50", "-12.50"),
            (&[], "de", "1234.5", "1.234,5"),
            (&[], "fr", "1234.5", "1\u{202f}234,5"),
            (&[], "es", "1234", "1234"),
            (&[], "es", "12345", "12.345"),
            (&[], "pl", "12345", "12\u{a0}345"),
            (&["3"], "en", "5", "5.000"),
        ] {
            assert_eq!(
                apply("number", decimals, &[("locale", locale)], text).unwrap(),
                expected,
                "{locale} {text}"
            );
        }
        for text in ["1,5", "1e3", ".5", "abc", "--1", "1.2.3"] {
            assert!(apply("number", &[], &[], text).is_err(), "{text}");
        }
    }

    #[test]
    fn money_is_written_as_the_locale_does() {
        // What ICU 78 says (`Intl.NumberFormat`).
        for (code, locale, text, expected) in [
            ("USD", "en", "1234.5", "$1,234.50"),
            ("USD", "en", "-1.5", "-$1.50"),
            ("CHF", "en", "1", "CHF\u{a0}1.00"),
            ("EUR", "de", "1234.5", "1.234,50\u{a0}€"),
            ("EUR", "fr", "1234.5", "1\u{202f}234,50\u{a0}€"),
            ("EUR", "nl", "-1234.5", "€\u{a0}-1.234,50"),
            ("BRL", "pt", "1234.5", "R$\u{a0}1.234,50"),
            ("PLN", "pl", "1234.5", "1234,50\u{a0}zł"),
            ("JPY", "en", "1234.5", "¥1,235"),
            ("EUR", "it", "-1234.5", "-1234,50\u{a0}€"),
            ("USD", "fr", "-1234.5", "-1\u{202f}234,50\u{a0}$US"),
            ("GBP", "es", "1234.5", "1234,50\u{a0}GBP"),
            ("CHF", "pt", "-1234.5", "-CHF\u{a0}1.234,50"),
            ("JPY", "pt-PT", "1234.5", "1235\u{a0}JP¥"),
        ] {
            assert_eq!(apply("currency", &[code], &[("locale", locale)], text).unwrap(), expected);
        }
        assert!(apply("currency", &[], &[], "1").is_err());
        assert!(apply("currency", &["euro"], &[], "1").is_err());
    }
}
