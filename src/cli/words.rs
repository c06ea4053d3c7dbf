//! What binds a path, in words for people. The same words everywhere: `why`, `adjust`, `status`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::units::format_duration;
use crate::policy::{Binding, PathReport, RateReport, RateWord, Resting};
use crate::shaping::rate::Limit;

/// The name of a binding as JSON has it, without what is inside: `rate`, `hold`.
fn name(binding: Binding) -> &'static str {
    match binding {
        Binding::Work => "work",
        Binding::Site => "site",
        Binding::Opening => "opening",
        Binding::Rate(_) => "rate",
        Binding::Connections => "connections",
        Binding::Sessions => "sessions",
        Binding::Window => "window",
        Binding::ProviderSessions => "provider-sessions",
        Binding::SourceSessions => "source-sessions",
        Binding::NodeSessions => "node-sessions",
        Binding::Probe => "probe",
        Binding::Hold => "hold",
    }
}

/// What binds, by its name and in a sentence.
pub(super) fn binding(binding: Binding, resting: Option<Resting>) -> String {
    let sentence = match (binding, resting) {
        (Binding::Hold, Some(resting)) => return format!("{}: {}", resting_name(resting), rests(resting)),
        (Binding::Rate(limit), _) => return format!("{} rate: {}", limit_name(limit), paced(limit)),
        (Binding::Hold, None) => "nothing goes for now",
        (Binding::Work, _) => "nothing waits for it",
        (Binding::Site, _) => "as fast as the site takes it; no limit of ours binds",
        (Binding::Opening, _) => "a session is being opened",
        (Binding::Connections, _) => "the limit on new connections",
        (Binding::Sessions, _) => "as many sessions as the limits allow are open",
        (Binding::Window, _) => "as many sessions as the site seems to bear, or a pin allows, are open",
        (Binding::ProviderSessions, _) => "all sessions that the provider bears over all paths are taken",
        (Binding::SourceSessions, _) => "all sessions of the source are taken (sessions_per_source)",
        (Binding::NodeSessions, _) => "all sessions of this machine are taken (sessions_total)",
        (Binding::Probe, _) => "one message goes alone, to see whether it gets through",
    };
    format!("{}: {sentence}", name(binding))
}

fn resting_name(resting: Resting) -> &'static str {
    match resting {
        Resting::Path => "suspended",
        Resting::Unreachable => "unreachable",
        Resting::Source => "source taken out",
        Resting::WholeSource => "source paused",
        Resting::DomainAtProvider | Resting::SendingDomain => "sending domain paused",
        Resting::Campaign => "campaign paused",
        Resting::WarmUp => "warm-up",
    }
}

fn rests(resting: Resting) -> &'static str {
    match resting {
        Resting::Path => "the site holds this source back",
        Resting::Unreachable => "no session can be opened",
        Resting::Source => "this provider takes nothing from the source for now",
        Resting::WholeSource => "the source sends to nobody",
        Resting::DomainAtProvider => "this provider takes nothing from the sending domain for now",
        Resting::SendingDomain => "nothing of the sending domain goes",
        Resting::Campaign => "nothing of the campaign goes",
        Resting::WarmUp => "the cap is spent",
    }
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Path => "path",
        Limit::Provider => "provider",
        Limit::Campaign => "campaign",
        Limit::Account => "account",
        Limit::AdaptedPath => "adapted-path",
        Limit::AdaptedDomain => "adapted-domain",
        Limit::WarmUp => "warm-up",
    }
}

fn paced(limit: Limit) -> &'static str {
    match limit {
        Limit::Path => "the limit on messages of this path",
        Limit::Provider => "the provider's limit on messages over all paths",
        Limit::Campaign => "the campaign's own limit on messages",
        Limit::Account => "the limit on messages of the relay's account",
        Limit::AdaptedPath => "this path is slowed down further than files say",
        Limit::AdaptedDomain => "the sending domain is slowed down at this provider",
        Limit::WarmUp => "the cap of a warm-up",
    }
}

/// What happens next, without anybody doing anything, or what somebody has to do.
pub(super) fn next(path: &PathReport) -> Option<String> {
    if let Some(hold) = path.hold.as_ref().filter(|_| path.binding == Binding::Hold) {
        let mut text = match hold.until {
            None => "it waits for a person: `postroad adjust resume`".to_owned(),
            Some(_) if hold.then_probe => "then one message alone, the rest once that got through".to_owned(),
            Some(_) => "then it goes on".to_owned(),
        };
        if hold.overflows {
            text.push_str("; other sources take its mail meanwhile");
        }
        return Some(text);
    }
    match path.binding {
        Binding::Probe => Some("the rest goes once a message got through".to_owned()),
        Binding::Rate(Limit::AdaptedPath) => Some(outlook(&path.rate)),
        Binding::Rate(Limit::AdaptedDomain) => path.domain_rate.as_ref().map(outlook),
        Binding::Window => Some(match path.sessions.pinned_until {
            Some(until) => pin_ends(until),
            None => "one session more is tried from time to time".to_owned(),
        }),
        Binding::Rate(_) => Some(match path.until {
            Some(until) => format!("the next message {}", at(until)),
            None => "the next message as soon as it lets one through".to_owned(),
        }),
        Binding::ProviderSessions | Binding::SourceSessions | Binding::NodeSessions => {
            Some("a session is opened as soon as another of these ends".to_owned())
        }
        Binding::Connections => Some(format!("the next connection {}", at(path.until?))),
        _ => None,
    }
}

/// What an adapted rate does next.
fn outlook(rate: &RateReport) -> String {
    let to = rate.ceiling_per_minute.map(|to| format!(" to {}", per_minute(to))).unwrap_or_default();
    match rate.state {
        RateWord::Free => "it is free again".to_owned(),
        RateWord::Cut | RateWord::Growing => format!("it grows back by itself{to}"),
        RateWord::AtCeiling => match rate.until {
            Some(until) => format!("{}: a little more is tried", at(until)),
            None => "a little more is tried from time to time".to_owned(),
        },
        RateWord::Probing => "a little more than was known to be taken is being tried".to_owned(),
        RateWord::Pinned => match rate.until {
            Some(until) => pin_ends(until),
            None => "it is pinned".to_owned(),
        },
    }
}

fn pin_ends(until: Timestamp) -> String {
    format!("{}: the pin ends", at(until))
}

/// As [`at`], after "until".
pub(super) fn until(moment: Timestamp) -> String {
    at(moment).trim_start_matches("at ").to_owned()
}

/// A rate, short: `31/min`, `12/h`, `1.5/h`, `2/day`.
pub(super) fn per_minute(rate: f64) -> String {
    let (rate, unit) = match rate {
        1.0.. => (rate, "min"),
        _ if rate * 60.0 >= 1.0 => (rate * 60.0, "h"),
        _ => (rate * 1440.0, "day"),
    };
    let rate = (rate * 10.0).round() / 10.0;
    if rate < 10.0 { format!("{rate}/{unit}") } else { format!("{rate:.0}/{unit}") }
}

/// Where a rate stands, short.
pub(super) fn rate(rate: &RateReport) -> String {
    let Some(now) = rate.per_minute else { return "as fast as it goes".to_owned() };
    let state = match rate.state {
        RateWord::Free => return per_minute(now),
        RateWord::Cut => "cut",
        RateWord::Growing => "growing",
        RateWord::AtCeiling => "just below what the site takes",
        RateWord::Probing => "trying a little more",
        RateWord::Pinned => "pinned",
    };
    format!("{}, {state}", per_minute(now))
}

/// `at 09:12:30 (in 14m5s)`, with its day if that is not today.
pub(super) fn at(moment: Timestamp) -> String {
    let now = Timestamp::now();
    let zone = TimeZone::system();
    let [there, here] = [moment, now].map(|at| at.to_zoned(zone.clone()));
    let format = if there.date() == here.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    let time = there.strftime(format);
    let seconds = moment.duration_since(now).as_secs();
    let distance = format_duration(Duration::from_secs(seconds.unsigned_abs()));
    match seconds {
        0 => format!("at {time} (now)"),
        1.. => format!("at {time} (in {distance})"),
        _ => format!("at {time} ({distance} ago)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_has_the_name_that_json_has() {
        let all = [
            Binding::Work,
            Binding::Site,
            Binding::Opening,
            Binding::Connections,
            Binding::Sessions,
            Binding::Window,
            Binding::ProviderSessions,
            Binding::SourceSessions,
            Binding::NodeSessions,
            Binding::Probe,
            Binding::Hold,
        ];
        for binding in all {
            assert_eq!(serde_json::to_value(binding).unwrap(), name(binding));
        }
        for limit in [
            Limit::Path,
            Limit::Provider,
            Limit::Campaign,
            Limit::Account,
            Limit::AdaptedPath,
            Limit::AdaptedDomain,
            Limit::WarmUp,
        ] {
            assert_eq!(serde_json::to_value(limit).unwrap(), limit_name(limit));
        }
    }

    #[test]
    fn a_rate_is_told_in_the_unit_that_fits() {
        let rates = [600.0, 31.4, 2.5, 1.0, 0.2, 1.0 / 60.0, 1.0 / 720.0].map(per_minute);
        assert_eq!(rates, ["600/min", "31/min", "2.5/min", "1/min", "12/h", "1/h", "2/day"]);
    }

    #[test]
    fn a_moment_is_told_with_its_distance() {
        let now = Timestamp::now();
        let text = at(now + jiff::SignedDuration::from_secs(125));
        assert!(text.ends_with("(in 2m5s)") || text.ends_with("(in 2m4s)"), "{text}");
        assert!(at(now - jiff::SignedDuration::from_hours(50)).ends_with("(2d2h ago)"));
    }
}
