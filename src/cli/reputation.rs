//! `postroad reputation`: what each provider thinks of our sources and sending domains, as far as its
//! replies tell; read from the state folder, also while another process sends.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::{Common, Exit, say};
use crate::policy::reputation::{Account, Reputation, Signal, share};
use crate::policy::{Party, Tempo, store};

/// Accounts shown on the screen, the worst; `--json` and `--metrics` have them all.
const LINES_MAX: usize = 40;

/// Say how well providers take our mail
///
/// A score from 0 to 100 for each source and sending domain with each provider, the worst first, and what
/// it is made of: recent attempts, older ones counting less. Who is not known has 80.
#[derive(clap::Args)]
pub struct Arguments {
    /// For Prometheus: its text format on the standard output
    #[arg(long)]
    metrics: bool,
}

#[derive(serde::Serialize)]
struct Row {
    #[serde(flatten)]
    party: Party,
    provider: String,
    /// 0 to 100.
    score: f64,
    /// The part of its weight that a source has in its pool.
    share: f64,
    /// What is left of each count, by [`Signal`].
    #[serde(serialize_with = "by_name")]
    counts: [f64; 6],
}

fn by_name<S: serde::Serializer>(counts: &[f64; 6], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(named(counts))
}

fn named(counts: &[f64; 6]) -> impl Iterator<Item = (&'static str, f64)> {
    Signal::ALL.into_iter().map(|signal| (signal.name(), counts[signal as usize]))
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let stored = store::read(&node.state)?;
    let reputation = Reputation::new(&node.reputation, Tempo(1.0), stored.reputation);
    let rows = rows(reputation.accounts(SystemTime::now()));
    if arguments.metrics {
        say(metrics(&rows).trim_end())?;
    } else if common.json {
        say(serde_json::json!({ "reputation": rows }))?;
    } else if rows.is_empty() {
        say("nothing is known yet: it is learned from what providers reply")?;
    } else {
        table(&rows).iter().try_for_each(say)?;
    }
    Ok(Exit::Done)
}

/// The worst first.
fn rows(accounts: Vec<Account>) -> Vec<Row> {
    let mut rows: Vec<Row> = accounts
        .into_iter()
        .map(|Account { party, provider, counts }| {
            let score = counts.score();
            Row { party, provider, score, share: share(score), counts: counts.counts }
        })
        .collect();
    rows.sort_by(|a, b| a.score.total_cmp(&b.score).then_with(|| a.provider.cmp(&b.provider)));
    rows
}

fn table(rows: &[Row]) -> Vec<String> {
    let names = Signal::ALL.map(|signal| format!("{:>13}", signal.name())).concat();
    let head = format!("{:<28} {:<24} {:>5}{names}", "", "provider", "score");
    let lines = rows.iter().take(LINES_MAX).map(|row| {
        let counts: String = row.counts.iter().map(|count| format!("{count:>13.0}")).collect();
        format!("{:<28} {:<24} {:>5.1}{counts}", row.party.to_string(), row.provider, row.score)
    });
    let more = (rows.len() > LINES_MAX).then(|| format!("and {} more, with --json", rows.len() - LINES_MAX));
    std::iter::once(head).chain(lines).chain(more).collect()
}

/// The text format of Prometheus, version 0.0.4.
fn metrics(rows: &[Row]) -> String {
    let mut text = String::from(
        "# HELP postroad_reputation_score How well a provider takes our mail, from 0 to 100.\n\
         # TYPE postroad_reputation_score gauge\n",
    );
    for row in rows {
        let _ = writeln!(text, "postroad_reputation_score{{{}}} {:.2}", labels(row), row.score);
    }
    text.push_str(
        "# HELP postroad_reputation_attempts What the score is made of, older attempts counting less.\n\
         # TYPE postroad_reputation_attempts gauge\n",
    );
    for row in rows {
        for (outcome, count) in named(&row.counts) {
            let labels = labels(row);
            let _ =
                writeln!(text, "postroad_reputation_attempts{{{labels},outcome=\"{outcome}\"}} {count:.2}");
        }
    }
    text
}

fn labels(row: &Row) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let (kind, name) = (row.party.kind(), quoted(row.party.name()));
    format!("{kind}=\"{name}\",provider=\"{}\"", quoted(&row.provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::reputation::Counts;

    fn account(party: Party, provider: &str, counts: [f64; 6]) -> Account {
        let counts = Counts { counts, at: jiff::Timestamp::UNIX_EPOCH };
        Account { party, provider: provider.to_owned(), counts }
    }

    #[test]
    fn metrics_are_what_prometheus_reads() {
        let good = account(Party::Source("a".to_owned()), "google", [1_000.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let bad = account(Party::Domain("x\"y\\".to_owned()), "yahoo", [0.0, 0.0, 10.0, 0.0, 0.0, 0.0]);
        let text = metrics(&rows(vec![good, bad]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "# TYPE postroad_reputation_score gauge");
        assert_eq!(lines[2], "postroad_reputation_score{domain=\"x\\\"y\\\\\",provider=\"yahoo\"} 19.05");
        assert_eq!(lines[3], "postroad_reputation_score{source=\"a\",provider=\"google\"} 98.82");
        assert!(lines.contains(
            &"postroad_reputation_attempts{source=\"a\",provider=\"google\",outcome=\"accepted\"} 1000.00"
        ));
        assert_eq!(lines.len(), 2 + 2 + 2 + 12);
    }
}
