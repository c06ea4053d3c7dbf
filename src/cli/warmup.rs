//! `postroad warmup`: where each warm-up stands and when a list would be through; read from the state
//! folder, also while another process sends.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use super::{Common, Exit, say, time};
use crate::config::policy::{Period, Share};
use crate::config::{Node, fault};
use crate::policy::party::OTHER;
use crate::policy::warmup::{Slot, Warmup};
use crate::policy::{Party, ledger};

/// Say where each warm-up stands
///
/// A row for each source and sending domain that is warmed up, and each provider it has sent to: the
/// sending day, the cap of this hour or day, what is spent of it, and when it will be warm if it sends
/// each day from now on.
#[derive(clap::Args)]
pub struct Arguments {
    /// When a list of so many recipients would be through, as far as warm-up goes
    #[arg(long, value_name = "RECIPIENTS", value_parser = number)]
    forecast: Option<u64>,
    /// Where they are, like google=50%,yahoo=20%; the rest: other sites [default: all at one provider]
    #[arg(long, value_name = "SHARES", requires = "forecast", value_delimiter = ',', value_parser = part)]
    provider_mix: Vec<(String, Share)>,
    /// The pool that would send them
    #[arg(long, value_name = "POOL", requires = "forecast", default_value = crate::config::DEFAULT)]
    pool: String,
    /// The domain of `From:`, if that is warmed up
    #[arg(long, value_name = "DOMAIN", requires = "forecast")]
    from: Option<String>,
}

/// `"2,000,000"`.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace([',', '_'], "");
    digits.parse().map_err(|_| "write a number like 2,000,000".to_owned())
}

/// `"google=50%"`.
fn part(text: &str) -> Result<(String, Share), String> {
    let (name, share) = text.split_once('=').ok_or("write it like google=50%")?;
    Ok((name.trim().to_owned(), share.parse()?))
}

/// One account.
#[derive(serde::Serialize)]
struct Row {
    #[serde(flatten)]
    party: Party,
    /// `None`: nothing was sent yet, to any.
    provider: Option<String>,
    schedule: String,
    is_warm: bool,
    /// Sending days before today.
    day: Option<u32>,
    cap: Option<u64>,
    per: Option<Period>,
    spent: Option<u64>,
    /// Today does not count as a sending day.
    held: bool,
    overflow: bool,
    #[serde(skip)]
    until: Option<SystemTime>,
    next_period: Option<jiff::Timestamp>,
    #[serde(skip)]
    warm: Option<SystemTime>,
    warm_on: Option<jiff::Timestamp>,
}

/// When the recipients at one provider would be through.
#[derive(serde::Serialize)]
struct Through {
    /// `None`: any one.
    provider: Option<String>,
    recipients: u64,
    #[serde(skip)]
    at: SystemTime,
    /// `None`: warm-up holds nothing back.
    through: Option<jiff::Timestamp>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let mut warmup = ledger::read(&node.state, &node)?;
    let now = SystemTime::now();
    let rows = rows(&mut warmup, now);
    let forecast = match arguments.forecast {
        Some(recipients) => Some(forecast(&node, &mut warmup, arguments, recipients, now)?),
        None => None,
    };
    if common.json {
        say(serde_json::json!({ "warmup": rows, "forecast": forecast }))?;
        return Ok(Exit::Done);
    }
    match rows.as_slice() {
        [] => say("nothing is warmed up; name a schedule on a source: warmup = \"daily\"")?,
        rows => table(rows).iter().try_for_each(say)?,
    }
    if let Some(forecast) = forecast {
        say(format_args!("\n{:<24} {:>12}  through, as far as warm-up goes", "provider", "recipients"))?;
        for part in &forecast {
            let at = part.through.map_or_else(|| "nothing waits".to_owned(), |_| time::local(part.at));
            say(format_args!(
                "{:<24} {:>12}  {at}",
                part.provider.as_deref().unwrap_or("any one"),
                part.recipients
            ))?;
        }
        say("if each day is a sending day, none is held, and nothing else is sent")?;
    }
    Ok(Exit::Done)
}

fn rows(warmup: &mut Warmup, now: SystemTime) -> Vec<Row> {
    let begun: Vec<Slot> = warmup.slots().map(|(slot, ..)| slot).collect();
    // An account that has sent nothing yet stands for all of its party's.
    let parties: Vec<Party> = warmup.parties().cloned().collect();
    for party in parties {
        if !warmup.slots().any(|(_, other, ..)| *other == party) {
            warmup.slot(&party, None);
        }
    }
    let mut rows: Vec<Row> = warmup
        .slots()
        .map(|(slot, party, provider, schedule)| {
            let cap = warmup.cap(slot, now);
            let (until, warm) = (cap.map(|cap| cap.until), warmup.warm_on(slot, now));
            Row {
                party: party.clone(),
                provider: begun.contains(&slot).then(|| provider.to_owned()),
                schedule: schedule.to_owned(),
                is_warm: cap.is_none(),
                day: cap.map(|cap| cap.day),
                cap: cap.map(|cap| cap.cap),
                per: cap.map(|cap| cap.per),
                spent: cap.map(|cap| cap.spent),
                held: cap.is_some_and(|cap| cap.held),
                overflow: warmup.overflows(slot),
                until,
                next_period: stamp(until),
                warm,
                warm_on: stamp(warm),
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.party, &a.provider).cmp(&(&b.party, &b.provider)));
    rows
}

fn table(rows: &[Row]) -> Vec<String> {
    let line = |cells: [&str; 8]| {
        let [party, provider, schedule, day, cap, spent, next, warm] = cells;
        let text = format!(
            "{party:<28} {provider:<16} {schedule:<12} {day:>5} {cap:>16} {spent:>12}  {next:<24} {warm}"
        );
        text.trim_end().to_owned()
    };
    let head = line(["", "provider", "schedule", "day", "cap", "spent", "next period", "warm on"]);
    let lines = rows.iter().map(|row| {
        let (party, provider) = (row.party.to_string(), row.provider.as_deref().unwrap_or("any"));
        let (Some(day), Some(cap), Some(per), Some(spent)) = (row.day, row.cap, row.per, row.spent) else {
            return line([&party, provider, &row.schedule, "warm", "", "", "", ""]);
        };
        let per = match per {
            Period::Hour => "h",
            Period::Day => "day",
        };
        let day = format!("{day}{}", if row.held { "*" } else { "" });
        let next = row.until.map(time::local).unwrap_or_default();
        let warm = row.warm.map(time::local).unwrap_or_default();
        line([
            &party,
            provider,
            &row.schedule,
            &day,
            &format!("{cap}/{per}"),
            &spent.to_string(),
            &next,
            &warm,
        ])
    });
    let note =
        rows.iter().any(|row| row.held).then(|| "* held: today does not count as a sending day".to_owned());
    std::iter::once(head).chain(lines).chain(note).collect()
}

/// By provider, in the order of the mix, what the mix does not name last.
fn forecast(
    node: &Node,
    warmup: &mut Warmup,
    arguments: &Arguments,
    recipients: u64,
    now: SystemTime,
) -> anyhow::Result<Vec<Through>> {
    let pool = node.pools.get(&arguments.pool).with_context(|| {
        let known: Vec<&str> = node.pools.keys().map(String::as_str).collect();
        format!("there is no pool `{}`; there is {}", arguments.pool, known.join(", "))
    })?;
    let from = arguments.from.as_ref().map(|domain| Party::Domain(domain.to_lowercase()));
    let mut parts = Vec::new();
    let mut rest = recipients;
    let known: Vec<&str> = node.shaping.providers().map(|(name, _)| name).chain([OTHER]).collect();
    for (provider, share) in &arguments.provider_mix {
        if !known.contains(&provider.as_str()) {
            bail!("the provider `{provider}` is not known; {}", fault::suggestion(provider, &known));
        }
        let count = (recipients as f64 * share.fraction()).round() as u64;
        rest = rest.checked_sub(count).context("the shares of --provider-mix are more than the whole")?;
        parts.push((Some(provider.clone()), count));
    }
    match parts.as_slice() {
        [] => parts.push((None, rest)),
        _ if rest > 0 => parts.push((Some(OTHER.to_owned()), rest)),
        _ => {}
    }
    if recipients > crate::config::policy::CAP_MAX {
        bail!("a list of more than {} is no list", crate::config::policy::CAP_MAX);
    }
    let through = parts.into_iter().map(|(provider, count)| {
        let name = provider.as_deref();
        let sources = through_sources(warmup, pool, name, count, now);
        let domain = from.as_ref().and_then(|domain| warmup.slot(domain, name));
        let at = domain.map_or(now, |slot| warmup.forecast(&[slot], count, now)).max(sources);
        let waits = at > now;
        Through { provider, recipients: count, at, through: stamp(waits.then_some(at)) }
    });
    Ok(through.collect())
}

/// What the sources of a pool hold back: nothing that can go over to a warm one.
fn through_sources(
    warmup: &mut Warmup,
    pool: &BTreeMap<String, u32>,
    provider: Option<&str>,
    count: u64,
    now: SystemTime,
) -> SystemTime {
    let weights: u64 = pool.values().copied().map(u64::from).sum();
    let (mut warming, mut warm) = (Vec::new(), false);
    for (name, weight) in pool.iter().filter(|(_, weight)| **weight > 0) {
        match warmup.slot(&Party::Source(name.clone()), provider) {
            Some(slot) if warmup.cap(slot, now).is_some() => warming.push((slot, u64::from(*weight))),
            _ => warm = true,
        }
    }
    if !warm {
        let slots: Vec<Slot> = warming.iter().map(|(slot, _)| *slot).collect();
        return warmup.forecast(&slots, count, now);
    }
    let waiting = warming.into_iter().filter(|(slot, _)| !warmup.overflows(*slot));
    let parts = waiting.map(|(slot, weight)| {
        let part = u128::from(count) * u128::from(weight) / u128::from(weights.max(1));
        warmup.forecast(&[slot], part as u64, now)
    });
    parts.max().unwrap_or(now)
}

fn stamp(at: Option<SystemTime>) -> Option<jiff::Timestamp> {
    at.and_then(|at| jiff::Timestamp::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::policy::Tempo;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    // date -u -d '2026-11-23' +%s
    const MIDNIGHT: u64 = 1_795_392_000;

    fn midnight() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(MIDNIGHT)
    }

    fn node(overflow: bool) -> Node {
        let text = format!(
            "[sources.new]\nwarmup = {{ schedule = \"mine\", overflow = {overflow} }}\n[sources.old]\n\
             [pools.fresh]\nnew = 1\n[warmup.domains]\n\"news.sender.example\" = \"mine\"\n\
             [warmup.schedules.mine]\nper = \"day\"\ncaps = [100, 200, 400]\n"
        );
        Node::parse(Path::new("f"), &text).unwrap()
    }

    /// By provider: recipients, and days from now or `None` for at once.
    fn through(node: &Node, line: &str) -> Vec<(Option<String>, u64, Option<u64>)> {
        let arguments = Line::try_parse_from(line.split(' ')).unwrap().arguments;
        let mut warmup = Warmup::new(node, Tempo(1.0), Vec::new());
        let recipients = arguments.forecast.unwrap();
        let parts = forecast(node, &mut warmup, &arguments, recipients, midnight()).unwrap();
        let days = |part: &Through| part.at.duration_since(midnight()).unwrap().as_secs() / 86_400;
        parts
            .iter()
            .map(|part| (part.provider.clone(), part.recipients, part.through.map(|_| days(part))))
            .collect()
    }

    #[test]
    fn the_forecast_follows_the_mix_and_the_pool() {
        let overflowing = node(true);
        let google = |count, days| (Some("google".to_owned()), count, days);
        let other = |count, days| (Some(OTHER.to_owned()), count, days);
        assert_eq!(through(&overflowing, "x --forecast 1,000"), [(None, 1_000, None)]);
        assert_eq!(through(&overflowing, "x --forecast 1,000 --pool fresh"), [(None, 1_000, Some(3))]);
        assert_eq!(
            through(&overflowing, "x --forecast 1,000 --pool fresh --provider-mix google=30%,yahoo=60%")[..],
            [google(300, Some(1)), (Some("yahoo".to_owned()), 600, Some(2)), other(100, None)]
        );
        assert_eq!(
            through(&overflowing, "x --forecast 500 --provider-mix google=100% --from News.Sender.example"),
            [google(500, Some(2))]
        );
        // Half of it goes over the warm source.
        assert_eq!(
            through(&node(false), "x --forecast 600 --provider-mix google=100%"),
            [google(600, Some(1))]
        );
    }

    #[test]
    fn shares_of_more_than_the_whole_and_of_nobody_are_refused() {
        let refused = |line: &str| {
            let arguments = Line::try_parse_from(line.split(' ')).unwrap().arguments;
            let mut warmup = Warmup::new(&node(true), Tempo(1.0), Vec::new());
            forecast(&node(true), &mut warmup, &arguments, 10, midnight()).err().unwrap().to_string()
        };
        let shares = refused("x --forecast 10 --provider-mix google=60%,yahoo=60%");
        assert!(shares.contains("more than the whole"), "{shares}");
        let name = refused("x --forecast 10 --provider-mix gogle=60%");
        assert!(name.contains("did you mean `google`?"), "{name}");
        assert!(Line::try_parse_from("x --forecast 10 --provider-mix google".split(' ')).is_err());
        assert!(Line::try_parse_from("x --forecast many".split(' ')).is_err());
    }

    #[test]
    fn a_row_says_where_a_warm_up_stands() {
        let mut warmup = Warmup::new(&node(true), Tempo(1.0), Vec::new());
        let slot = warmup.slot(&Party::Source("new".to_owned()), Some("google")).unwrap();
        warmup.take(&[slot], midnight()).unwrap();
        warmup.hold(slot, midnight());
        let rows = rows(&mut warmup, midnight());
        let lines = table(&rows);
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(words[..7], ["source", "new", "google", "mine", "0*", "100/day", "1"]);
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words[..6], ["domain", "news.sender.example", "any", "mine", "0", "100/day"]);
        assert!(lines[3].starts_with("* held"));
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["source"], "new");
        assert_eq!(json[0]["next_period"], "2026-11-24T00:00:00Z");
        // A held day more than the three caps.
        assert_eq!(json[0]["warm_on"], "2026-11-27T00:00:00Z");
    }
}
