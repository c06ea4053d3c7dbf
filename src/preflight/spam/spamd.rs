//! SpamAssassin by the protocol of its daemon: one request a connection, the verdict in a header, the rules
//! as a table for people or as bare names.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ANSWER_OCTETS_MAX, Judgement, Rule, ScorerError, Verdict, connect};
use crate::config::spam::Place;

/// What SpamAssassin's own client hands on at most, unless it is told otherwise.
pub(super) const MESSAGE_OCTETS_MAX: usize = 500 << 10;

/// Asks for score and rules.
///
/// # Errors
/// No connection, or an answer that is no verdict.
pub(super) async fn ask(place: &Place, message: &[u8]) -> Result<Verdict, ScorerError> {
    let answer = exchange(place, "REPORT", message).await?;
    let (mut verdict, report) = parse(&answer)?;
    verdict.rules = table(report);
    if verdict.rules.is_empty() {
        // A report can be made to look like anything; the names are always there.
        let answer = exchange(place, "SYMBOLS", message).await?;
        let (_, symbols) = parse(&answer)?;
        verdict.rules = names(symbols);
    }
    Ok(verdict)
}

async fn exchange(place: &Place, method: &str, message: &[u8]) -> Result<String, ScorerError> {
    let mut stream = connect(place).await?;
    let head = format!("{method} SPAMC/1.5\r\nContent-length: {}\r\n\r\n", message.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(message).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_OCTETS_MAX as u64 + 1).read_to_end(&mut answer).await?;
    if answer.len() > ANSWER_OCTETS_MAX {
        return Err(ScorerError::Long);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The verdict without its rules, and the body.
fn parse(answer: &str) -> Result<(Verdict, &str), ScorerError> {
    let not_spamd = || {
        let line: String = answer.lines().next().unwrap_or_default().chars().take(80).collect();
        ScorerError::Answer(format!("it does not answer as spamd does, but with `{}`", line.escape_debug()))
    };
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_spamd)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("SPAMD/")).ok_or_else(not_spamd)?;
    let (_, status) = status.split_once(' ').ok_or_else(not_spamd)?;
    if status.split(' ').next() != Some("0") {
        return Err(ScorerError::Answer(format!("it answers `{}`", status.escape_debug())));
    }
    let verdict = lines.find_map(|line| line.strip_prefix("Spam:")).and_then(spam_header);
    let (is_spam, score, threshold) = verdict.ok_or_else(not_spamd)?;
    let judgement = if is_spam { Judgement::Spam } else { Judgement::Clean };
    let verdict = Verdict { score, threshold: Some(threshold), judgement, action: None, rules: Vec::new() };
    Ok((verdict, body))
}

/// `True ; 7.3 / 5.0`.
fn spam_header(value: &str) -> Option<(bool, f64, f64)> {
    let (word, scores) = value.split_once(';')?;
    let (score, threshold) = scores.split_once('/')?;
    let is_spam = match word.trim() {
        "True" | "Yes" => true,
        "False" | "No" => false,
        _ => return None,
    };
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    Some((is_spam, number(score)?, number(threshold)?))
}

/// The lines below the last rule of dashes: points, name, description, and descriptions that go on.
fn table(report: &str) -> Vec<Rule> {
    let is_dashes = |line: &&str| line.starts_with("----") && line.chars().all(|c| "- ".contains(c));
    let lines: Vec<&str> = report.lines().map(str::trim_end).collect();
    let Some(start) = lines.iter().rposition(is_dashes) else { return Vec::new() };
    let mut rules: Vec<Rule> = Vec::new();
    for line in lines[start + 1..].iter().filter(|line| !line.is_empty()) {
        match (row(line), rules.last_mut()) {
            (Some(rule), _) => rules.push(rule),
            (None, Some(rule)) => {
                rule.description.push(' ');
                rule.description.push_str(line.trim_start());
            }
            (None, None) => {}
        }
    }
    rules
}

fn row(line: &str) -> Option<Rule> {
    let (points, rest) = line.trim_start().split_once(' ')?;
    let rest = rest.trim_start();
    let (name, description) = rest.split_once(' ').unwrap_or((rest, ""));
    let score = points.parse::<f64>().ok().filter(|score| score.is_finite())?;
    is_name(name).then(|| Rule {
        name: name.to_owned(),
        score: Some(score),
        description: description.trim().to_owned(),
    })
}

fn names(symbols: &str) -> Vec<Rule> {
    let names = symbols.split([',', '\r', '\n']).map(str::trim).filter(|name| is_name(name));
    names.map(|name| Rule { name: name.to_owned(), score: None, description: String::new() }).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As SpamAssassin 4.0.1 answers.
    const REPORT: &str = "SPAMD/1.1 0 EX_OK\r\nContent-length: 500\r\nSpam: True ; 5.7 / 5.0\r\n\r\n\
        Content preview:  ---- 9.0 NOT_A_RULE\n\nContent analysis details:   (5.7 points, 5.0 required)\n\n \
        pts rule name              description\n\
        ---- ---------------------- --------------------------------------------------\n\
        -0.0 NO_RECEIVED            Informational: message has no Received headers\n \
        5.0 URIBL_BLOCKED          ADMINISTRATOR NOTICE: The query to URIBL was\n                            \
        blocked.\n 0.7 VERY_LONG_NAME_OF_A_RULE_INDEED No description available.\n\n\n";

    #[test]
    fn a_report_gives_score_threshold_and_rules() {
        let (verdict, report) = parse(REPORT).unwrap();
        assert_eq!((verdict.score, verdict.threshold, verdict.judgement), (5.7, Some(5.0), Judgement::Spam));
        let rules: Vec<String> = table(report).iter().map(Rule::to_string).collect();
        assert_eq!(
            rules,
            [
                "NO_RECEIVED 0.0: Informational: message has no Received headers",
                "URIBL_BLOCKED 5.0: ADMINISTRATOR NOTICE: The query to URIBL was blocked.",
                "VERY_LONG_NAME_OF_A_RULE_INDEED 0.7: No description available.",
            ]
        );
    }

    #[test]
    fn a_report_without_a_table_has_no_rules_and_symbols_are_names() {
        assert_eq!(table("a report of one's own\n 5.0 NAME\n"), []);
        let rules: Vec<String> = names("GTUBE,NO_RELAYS\r\n").iter().map(Rule::to_string).collect();
        assert_eq!(rules, ["GTUBE", "NO_RELAYS"]);
    }

    #[test]
    fn what_is_no_verdict_is_told() {
        for (answer, part) in [
            ("", "does not answer as spamd does"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400 Bad Request"),
            ("SPAMD/1.0 76 Bad header line: x\r\n\r\n", "it answers `76 Bad header line: x`"),
            ("SPAMD/1.1 0 EX_OK\r\n\r\n", "does not answer"),
            ("SPAMD/1.1 0 EX_OK\r\nSpam: True ; NaN / 5.0\r\n\r\n", "does not answer"),
        ] {
            let error = parse(answer).expect_err(answer).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
