//! A plan for people and for machines: what binds first, then each provider, its limits, what was assumed.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{Deferrals, Planned, Undecided};
use crate::cli::time;
use crate::config::units::{Rate, format_duration};
use crate::plan::{Binds, ProviderAnswer};
use crate::shaping::{Key, Value};

/// Keys that are about how fast mail goes, in the order in which they are shown.
const PACING: [Key; 7] = [
    Key::Messages,
    Key::MessagesTotal,
    Key::Sessions,
    Key::SessionsTotal,
    Key::MessagesPerSession,
    Key::Connections,
    Key::ConnectionsTotal,
];
/// Providers that a person is shown; the rest in one line.
const ROWS_MAX: usize = 40;

impl Planned {
    pub(in crate::cli) fn text(&self, campaign: &str) -> String {
        let mut text = format!(
            "{campaign}: {} recipients at {} domains, from {}\n{}\n",
            self.recipients,
            self.domains,
            time::with_day(self.start),
            self.head()
        );
        self.left_out(&mut text);
        self.table(&mut text);
        self.limits(&mut text);
        text.push_str("\nassumed\n");
        for (name, value, change) in self.assumptions() {
            let _ = writeln!(text, "  {name:<28} {value:<26} {change}");
        }
        text
    }

    /// When, and why not sooner.
    pub(in crate::cli) fn head(&self) -> String {
        let answer = &self.answer;
        let when = format!(
            "{} {}, after {}",
            if self.promise().is_some() {
                "with a winner from the start it would finish"
            } else {
                "finishes"
            },
            time::with_day(self.start + answer.settled),
            span(answer.settled)
        );
        let when = self.promise().map_or(when.clone(), |promise| format!("{promise}; {when}"));
        match answer.last {
            None => "nobody is mailed".to_owned(),
            Some(last) if answer.providers[last].binds.is_empty() => format!("{when}; no limit binds"),
            Some(last) => format!("{when}; {} binds: {}", self.described[last].name, self.binds(last)),
        }
    }

    /// Why no end can be promised. A rehearsal waits for nobody.
    fn promise(&self) -> Option<String> {
        let undecided = self.undecided.filter(|undecided| undecided.waiting > 0)?;
        let Undecided { waiting, after } = undecided;
        match (self.assumed.deferrals, after) {
            (Deferrals::AsAnswered, _) => None,
            (_, None) => Some(format!(
                "no finish can be promised: {waiting} of {} recipients wait until `postroad winner` names one",
                self.recipients
            )),
            (_, Some(after)) => Some(format!(
                "no finish can be promised: {waiting} of {} recipients wait for the winner, until {} at least",
                self.recipients,
                time::with_day(self.start + after)
            )),
        }
    }

    fn left_out(&self, text: &mut String) {
        let (domains, recipients) = self.nowhere;
        if recipients > 0 {
            let _ = writeln!(
                text,
                "{recipients} recipients at {domains} domains that take no mail bounce at once"
            );
        }
        let (domains, recipients) = self.unreachable;
        if recipients > 0 {
            let _ = writeln!(
                text,
                "{recipients} recipients at {domains} domains that cannot be looked up or reached are tried until {}, \
                 after {}",
                time::with_day(self.start + self.expiry),
                span(self.expiry)
            );
        }
        let expired = self.answer.expired.round() as u64;
        if expired > recipients {
            let _ = writeln!(text, "{} recipients are not settled before the expiry", expired - recipients);
        }
    }

    fn table(&self, text: &mut String) {
        let cells = [["provider", "recipients", "sites", "rate", "tried by", "settled by", "what binds"]
            .map(str::to_owned)];
        let order = self.order();
        let rows = order.iter().take(ROWS_MAX).map(|at| self.row(*at));
        let rows: Vec<[String; 7]> = cells.into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let [name, count, sites, rate, tried, settled] = [0, 1, 2, 3, 4, 5].map(width);
        text.push('\n');
        for row in &rows {
            let line = format!(
                "  {:name$}  {:>count$}  {:>sites$}  {:>rate$}  {:tried$}  {:settled$}  {}",
                row[0], row[1], row[2], row[3], row[4], row[5], row[6]
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if order.len() > ROWS_MAX {
            let _ = writeln!(text, "  and {} further providers, through before them", order.len() - ROWS_MAX);
        }
    }

    /// Those with recipients, the last to be through first.
    fn order(&self) -> Vec<usize> {
        let answers = &self.answer.providers;
        let mut order: Vec<usize> = (0..answers.len()).filter(|at| answers[*at].recipients > 0.0).collect();
        order.sort_by(|a, b| answers[*b].settled.cmp(&answers[*a].settled).then(a.cmp(b)));
        order
    }

    fn row(&self, at: usize) -> [String; 7] {
        let (described, answer) = (&self.described[at], &self.answer.providers[at]);
        let by =
            |after: Duration| format!("{} (+{})", time::clock(self.start, self.start + after), span(after));
        [
            described.name.clone(),
            (answer.recipients.round() as u64).to_string(),
            described.sites.to_string(),
            answer.per_second().map_or_else(|| "at once".to_owned(), per_second),
            by(answer.tried),
            by(answer.settled),
            self.binds(at),
        ]
    }

    /// What holds a provider up, in words.
    fn binds(&self, at: usize) -> String {
        let mut said: Vec<String> = Vec::new();
        for (binds, source) in &self.answer.providers[at].binds {
            let text = self.bind(at, *binds, *source);
            if !said.contains(&text) {
                said.push(text);
            }
        }
        if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
    }

    fn bind(&self, at: usize, binds: Binds, source: Option<usize>) -> String {
        let (described, provider) = (&self.described[at], &self.providers[at]);
        let limits = &described.limits[source.unwrap_or_default()];
        let source = source.map_or("a source", |source| self.sources[source].name.as_str());
        let times = match self.sources.len() {
            1 => String::new(),
            count => format!(" × {count} sources"),
        };
        let each = || {
            let each = limits.messages_per_session;
            let each = each.map_or_else(String::new, |count| format!(", {count} messages each"));
            format!("{each}, {} a round trip", span(described.round_trip))
        };
        let is_same = described.limits.iter().all(|other| other.messages == limits.messages);
        match binds {
            Binds::Path if is_same => format!("{} a path{times}", slowest(&limits.messages)),
            Binds::Path => format!("{} from {source}", slowest(&limits.messages)),
            Binds::Sessions => format!("{} sessions a path{times}{}", limits.sessions, each()),
            Binds::Connections if provider.connections.is_empty() => {
                format!("{} connections a path{times}", slowest(&limits.connections))
            }
            Binds::Connections => format!("{} connections in all", slowest(&provider.connections)),
            Binds::Provider => format!("{} over all paths", slowest(&provider.messages)),
            Binds::ProviderSessions => {
                format!("{} sessions in all{}", provider.sessions.unwrap_or_default(), each())
            }
            Binds::NodeSessions => "sessions_total or sessions_per_source of this machine".to_owned(),
            Binds::Learned => format!("the rate learned of it, from {source}"),
            Binds::WarmUp => format!("the warm-up caps of {source}"),
            Binds::Rest => format!("{source} rests there (`postroad status` says why)"),
            Binds::Account => format!("the account of {source} at its relay"),
            Binds::Campaign => format!("{} of the campaign", slowest(&self.campaign)),
            Binds::Machine => format!("{} of this machine (assumed)", per_second(self.assumed.machine)),
            Binds::Retry => "waits before further attempts".to_owned(),
        }
    }

    fn limits(&self, text: &mut String) {
        text.push_str("\nlimits, of a path unless in all\n");
        for at in self.order().into_iter().take(ROWS_MAX) {
            let described = &self.described[at];
            let limits = described
                .lines
                .iter()
                .filter(|line| PACING.contains(&line.key))
                .filter_map(|line| Some(format!("{} {}", line.key, value(line.value.as_ref()?))));
            let mut limits: Vec<String> = limits.collect();
            for (source, slots) in self.sources.iter().zip(&self.providers[at].warmup) {
                if !slots.is_empty() {
                    limits.push(format!("warm-up caps of {}", source.name));
                }
            }
            let _ = writeln!(text, "  {:<16} {}", described.name, limits.join("; "));
        }
        for rate in &self.campaign {
            let _ = writeln!(text, "  {:<16} messages {}", "the campaign", shown(rate));
        }
        for source in self.sources.iter().filter(|source| !source.account.is_empty()) {
            let rates: Vec<String> = source.account.iter().map(shown).collect();
            let _ =
                writeln!(text, "  {:<16} messages {}", format!("relay of {}", source.name), rates.join(", "));
        }
    }

    /// Name, value, how to change it.
    fn assumptions(&self) -> Vec<(&'static str, String, &'static str)> {
        let assumed = &self.assumed;
        let machine = per_second(assumed.machine);
        let mut all = match assumed.deferrals {
            Deferrals::Share(share) => vec![
                ("round trip to any server", span(assumed.round_trip), "--round-trip TIME"),
                ("attempts that are deferred", format!("{}%", share * 100.0), "--deferred SHARE"),
                ("messages of this machine", machine, "--machine RATE"),
                ("learned rates", "stay as they are".to_owned(), "`postroad adjust`"),
            ],
            Deferrals::AsAnswered => vec![
                ("round trip to any server", "as the world delays".to_owned(), "`latency` of the world"),
                ("attempts that are deferred", "as the world answers".to_owned(), "`trouble` of the world"),
                ("messages of this machine", machine, "none: a rehearsal counts on it"),
            ],
        };
        if self.undecided.is_some() {
            all.push(("winner of the test", "there from the start".to_owned(), "[test], `postroad winner`"));
        }
        all
    }

    pub(in crate::cli) fn json(&self, campaign: &str) -> serde_json::Value {
        let answer = &self.answer;
        let providers: Vec<_> = self.order().into_iter().map(|at| self.provider_json(at)).collect();
        let assumed = self.assumptions().into_iter().map(
            |(name, value, change)| serde_json::json!({ "name": name, "value": value, "change": change }),
        );
        let binds = answer.last.map(|last| {
            serde_json::json!({
                "provider": self.described[last].name, "limits": names(&answer.providers[last]), "text": self.binds(last),
            })
        });
        let group = |(domains, recipients): (usize, u64)| serde_json::json!({ "domains": domains, "recipients": recipients });
        serde_json::json!({
            "campaign": campaign,
            "recipients": self.recipients, "domains": self.domains,
            "start": stamp(self.start),
            "tried_by": stamp(self.start + answer.tried),
            "settled_by": stamp(self.start + answer.settled),
            "ends": stamp(self.start + answer.ended),
            "seconds": { "tried": answer.tried.as_secs_f64(), "settled": answer.settled.as_secs_f64(),
                "ended": answer.ended.as_secs_f64() },
            "binds": binds,
            "providers": providers,
            "no_mail": group(self.nowhere),
            "unreachable": group(self.unreachable),
            "expired": answer.expired.round() as u64,
            "undecided": self.undecided.map(|undecided| serde_json::json!({
                "recipients": undecided.waiting,
                "winner_after": undecided.after.and_then(|after| stamp(self.start + after)),
            })),
            "assumed": assumed.collect::<Vec<_>>(),
        })
    }

    fn provider_json(&self, at: usize) -> serde_json::Value {
        let (described, answer) = (&self.described[at], &self.answer.providers[at]);
        let limits = described.lines.iter().filter(|line| PACING.contains(&line.key)).map(|line| {
            serde_json::json!({
                "key": line.key.to_string(), "value": line.value.as_ref().map(value),
                "section": line.section.to_string(),
                "file": line.origin.file.display().to_string(), "line": line.origin.line,
            })
        });
        serde_json::json!({
            "provider": described.name,
            "recipients": answer.recipients.round() as u64,
            "sites": described.sites,
            "messages_per_second": answer.per_second(),
            "tried_by": stamp(self.start + answer.tried),
            "settled_by": stamp(self.start + answer.settled),
            "seconds": { "tried": answer.tried.as_secs_f64(), "settled": answer.settled.as_secs_f64() },
            "binds": { "limits": names(answer), "text": self.binds(at) },
            "expired": answer.expired.round() as u64,
            "limits": limits.collect::<Vec<_>>(),
        })
    }
}

/// What binds, each once, the most first.
fn names(answer: &ProviderAnswer) -> Vec<Binds> {
    let mut names: Vec<Binds> = Vec::new();
    for (binds, _) in &answer.binds {
        if !names.contains(binds) {
            names.push(*binds);
        }
    }
    names
}

/// As files have it, but for what a rehearsal has made quick.
fn value(value: &Value) -> String {
    match value {
        Value::Rates(rates) => rates.iter().map(shown).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

fn stamp(at: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(at).ok()
}

/// The slowest of some rates.
fn slowest(rates: &[Rate]) -> String {
    let per = |rate: &&Rate| f64::from(rate.count) / rate.per.as_secs_f64();
    rates.iter().min_by(|a, b| per(a).total_cmp(&per(b))).map_or_else(String::new, shown)
}

/// As it was written, or where a rehearsal has made it quick, by the second.
fn shown(rate: &Rate) -> String {
    match rate.per.as_millis() {
        1_000 | 60_000 | 3_600_000 | 86_400_000 => rate.to_string(),
        _ => per_second(f64::from(rate.count) / rate.per.as_secs_f64()),
    }
}

/// In the unit that fits.
fn per_second(rate: f64) -> String {
    let (number, unit) = match rate {
        rate if rate >= 1.0 => (rate, "s"),
        rate if rate * 60.0 >= 1.0 => (rate * 60.0, "min"),
        rate => (rate * 3_600.0, "h"),
    };
    if number >= 100.0 { format!("{number:.0}/{unit}") } else { format!("{number:.1}/{unit}") }
}

/// Tenths where they matter.
pub(in crate::cli) fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        seconds if seconds < 120.0 => format!("{seconds:.1}s"),
        seconds => format_duration(Duration::from_secs(seconds.round() as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_spans_are_told_in_the_unit_that_fits() {
        assert_eq!([20.0, 1234.5, 0.5, 0.01].map(per_second), ["20.0/s", "1234/s", "30.0/min", "36.0/h"]);
        let quick = "20/min".parse::<Rate>().unwrap().quickened(60.0);
        assert_eq!((shown(&"20/min".parse().unwrap()), shown(&quick)), ("20/min".into(), "20/s".into()));
        assert_eq!(shown(&"1/min".parse::<Rate>().unwrap().quickened(7.0)), "7.0/min");
        let spans = [0.02, 43.21, 7_265.0].map(|seconds| span(Duration::from_secs_f64(seconds)));
        assert_eq!(spans, ["20ms", "43.2s", "2h1m5s"]);
    }
}
