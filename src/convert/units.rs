//! Times and rates as the peers write them: `2 hours`, `4d12h`, `1,000/hr`, `100/day,max_burst=1`, `20/h`,
//! `200/30m`.

use std::time::Duration;

use crate::config::Rate;

/// `2 hours`, `1h 30m`, `4d12h`, `90 mins`; a bare number is of seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let mut rest = text;
    let mut millis = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        millis = millis.checked_add(number.checked_mul(unit(&rest[..letters])?)?)?;
        rest = rest[letters..].trim_start_matches([' ', ',']);
    }
    // What is longer than a century was not meant, and sums of it overflow.
    (millis < 100 * 366 * 86_400_000).then(|| Duration::from_millis(millis))
}

/// In milliseconds.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "w" | "week" | "weeks" => 604_800_000,
        _ => return None,
    })
}

/// A rate, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Rate(Rate),
    Unlimited,
}

/// `1,000/hr`, `200/30m`, `unlimited`, with KumoMTA's `local:` before and `,max_burst=1` behind.
pub(super) fn rate(text: &str) -> Option<Limit> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("unlimited") || text == "0" {
        return Some(Limit::Unlimited);
    }
    let text = text.strip_prefix("local:").unwrap_or(text);
    let (count, rest) = text.split_once('/')?;
    let count: u32 = count.trim().replace([',', '_'], "").parse().ok()?;
    let (per, burst) = match rest.split_once(',') {
        Some((per, burst)) => {
            (per.trim(), Some(burst.trim().strip_prefix("max_burst=")?.trim().parse::<u32>().ok()?))
        }
        None => (rest.trim(), None),
    };
    let per = match unit(per) {
        Some(millis) => Duration::from_millis(millis),
        None if per.bytes().any(|octet| octet.is_ascii_alphabetic()) => duration(per)?,
        None => return None,
    };
    let is_rate = count > 0 && !per.is_zero() && burst != Some(0);
    is_rate.then_some(Limit::Rate(Rate { count, per, burst }))
}

/// A number, with `local:` before and separators in it.
pub(super) fn count(text: &str) -> Option<u32> {
    let text = text.trim();
    text.strip_prefix("local:").unwrap_or(text).replace([',', '_'], "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_both_peers_write_them() {
        for (text, seconds) in [
            ("2 hours", 7_200),
            ("90 mins", 5_400),
            ("1h 30m", 5_400),
            ("4d12h", 388_800),
            ("10m", 600),
            ("60", 60),
            ("3 days", 259_200),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "never", "-1s", "1.5h", "5 parsecs", "99999999999d", "h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn rates_read_as_both_peers_write_them() {
        let is = |text: &str, count, secs, burst| {
            let expected = Limit::Rate(Rate { count, per: Duration::from_secs(secs), burst });
            assert_eq!(rate(text), Some(expected), "{text}");
        };
        is("1,000/hr", 1_000, 3_600, None);
        is("100/day,max_burst=1", 100, 86_400, Some(1));
        is("20/h", 20, 3_600, None);
        is("200/30m", 200, 1_800, None);
        is("local:10/s", 10, 1, None);
        is("3/min", 3, 60, None);
        assert_eq!(rate("unlimited"), Some(Limit::Unlimited));
        for text in ["", "100", "0/s", "5/", "/h", "5/year", "5/0s", "5/30", "5/s,max_burst=0"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
