//! What the spam filters of one's own say of a few messages: SpamAssassin (`spamd`) and Rspamd.
//!
//! Their scores are not those of the large providers, but what they find is what others find, too. A filter
//! that cannot be asked is a warning and holds nothing up for long.

mod rspamd;
mod spamd;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::spam::{Place, Spam};
use crate::preflight::{Findings, Severity};

/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For one message, from the connection to the verdict; both filters give up on their own tests before.
const VERDICT: Duration = Duration::from_secs(60);
/// Octets of an answer at most.
const ANSWER_OCTETS_MAX: usize = 1 << 20;
/// From this share of the threshold on a score is near it.
const NEAR: f64 = 0.8;

/// What a filter says of a message.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    score: f64,
    /// `None`: the filter has none that counts.
    threshold: Option<f64>,
    /// What the filter itself would do or say.
    judgement: Judgement,
    /// Its words for that, if it has several.
    action: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Judgement {
    Clean,
    /// Not refused, not delivered as any other either.
    Doubtful,
    Spam,
}

/// A rule that hit.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    name: String,
    score: Option<f64>,
    description: String,
}

/// Why a filter gave no verdict.
#[derive(Debug, thiserror::Error)]
enum ScorerError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer in {} s", .0.as_secs())]
    Slow(Duration),
    #[error("its answer is longer than 1 MiB")]
    Long,
    /// An answer that is no verdict.
    #[error("{0}")]
    Answer(String),
    #[error("the environment variable {0}, which should hold its password, is not set")]
    Password(String),
}

/// Asks each filter of the settings about the messages, which are samples by row, and adds what the worst
/// verdict comes to: an error if it is spam, a warning if it nearly is, else a note with the score.
pub async fn check(settings: &Spam, messages: &[(u64, Vec<u8>)], findings: &mut Findings) {
    if let Some(place) = &settings.spamd {
        let scorer = Scorer { check: "spamassassin", name: "SpamAssassin", key: "spamd", place };
        let mut verdicts = Verdicts::new(scorer);
        for (row, message) in messages {
            if verdicts.has_room_for(*row, message, spamd::MESSAGE_OCTETS_MAX)
                && !verdicts.take(*row, spamd::ask(place, message)).await
            {
                break;
            }
        }
        verdicts.tell(findings);
    }
    if let Some(place) = &settings.rspamd {
        let password = settings.rspamd_password_env.as_deref();
        let scorer = Scorer { check: "rspamd", name: "Rspamd", key: "rspamd", place };
        let mut verdicts = Verdicts::new(scorer);
        for (row, message) in messages {
            if verdicts.has_room_for(*row, message, rspamd::MESSAGE_OCTETS_MAX)
                && !verdicts.take(*row, rspamd::ask(place, password, message)).await
            {
                break;
            }
        }
        verdicts.tell(findings);
    }
}

/// A filter, as findings speak of it.
#[derive(Clone, Copy)]
struct Scorer<'a> {
    check: &'static str,
    name: &'static str,
    /// Of the settings.
    key: &'static str,
    place: &'a Place,
}

/// What one filter has said so far.
struct Verdicts<'a> {
    scorer: Scorer<'a>,
    given: Vec<(u64, Verdict)>,
    failure: Option<ScorerError>,
    /// Row and octets of messages that it is not asked about.
    too_large: Vec<(u64, usize)>,
}

impl<'a> Verdicts<'a> {
    fn new(scorer: Scorer<'a>) -> Self {
        Self { scorer, given: Vec::new(), failure: None, too_large: Vec::new() }
    }

    fn has_room_for(&mut self, row: u64, message: &[u8], octets_max: usize) -> bool {
        let fits = message.len() <= octets_max;
        if !fits {
            self.too_large.push((row, message.len()));
        }
        fits
    }

    /// Waits for a verdict; false if there is no point in asking on.
    async fn take(&mut self, row: u64, verdict: impl Future<Output = Result<Verdict, ScorerError>>) -> bool {
        let verdict = timeout(VERDICT, verdict).await.unwrap_or(Err(ScorerError::Slow(VERDICT)));
        match verdict {
            Ok(verdict) => self.given.push((row, verdict)),
            Err(error) => self.failure = Some(error),
        }
        self.failure.is_none()
    }

    fn tell(self, findings: &mut Findings) {
        let Scorer { check, name, key, place } = self.scorer;
        if let Some(error) = &self.failure {
            let what = format!("{name} at {place} gives no verdict: {error}");
            let advice = format!("see that it runs there, or take `{key}` out of [check] in the settings");
            findings.add(Severity::Warning, check, what, advice);
        }
        if let Some((row, octets)) = self.too_large.first() {
            let what = format!("{name} is not asked about row {row}: {octets} bytes are too many for it");
            findings.add(Severity::Note, check, what, "filters leave out messages of that size as well");
        }
        let severest = |(_, a): &&(u64, Verdict), (_, b): &&(u64, Verdict)| {
            a.severity().cmp(&b.severity()).then(a.score.total_cmp(&b.score))
        };
        let Some((row, worst)) = self.given.iter().max_by(severest) else { return };
        let severity = worst.severity();
        let count = self.given.iter().filter(|(_, verdict)| verdict.severity() == severity).count() as u64;
        let examples: Vec<String> = worst.telling_rules().iter().map(Rule::to_string).collect();
        let advice = match severity {
            Severity::Error => "change what its rules name until it lets the message pass",
            Severity::Warning => "change what its rules name: other filters weigh the same signs more",
            Severity::Note => "nothing needs to be done",
        };
        let what = format!("{name} gives the message of row {row} {}", worst.in_words());
        findings.add_many(severity, check, (count, &examples), what, advice);
    }
}

impl Verdict {
    fn severity(&self) -> Severity {
        let share = self.threshold.filter(|threshold| *threshold > 0.0).map(|most| self.score / most);
        match (self.judgement, share) {
            (Judgement::Spam, _) => Severity::Error,
            (Judgement::Clean | Judgement::Doubtful, Some(share)) if share >= 1.0 => Severity::Error,
            (Judgement::Doubtful, _) => Severity::Warning,
            (Judgement::Clean, Some(share)) if share >= NEAR => Severity::Warning,
            (Judgement::Clean, _) => Severity::Note,
        }
    }

    fn in_words(&self) -> String {
        let threshold = self.threshold.map_or_else(String::new, |most| format!(" of {most:.1}"));
        let action = self.action.as_ref().map_or_else(String::new, |action| format!(" ({action})"));
        format!("a score of {}{threshold}{action}", points(self.score))
    }

    /// The rules that speak against the message, the worst first; of spam all rules if none has a score.
    fn telling_rules(&self) -> Vec<Rule> {
        let mut rules = self.rules.clone();
        rules.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
        if self.judgement != Judgement::Spam || rules.iter().any(Rule::counts) {
            rules.retain(|rule| rule.counts() || rule.score.is_none());
        }
        rules
    }
}

impl Rule {
    /// Of what is shown with one decimal.
    fn counts(&self) -> bool {
        self.score.is_some_and(|score| score >= 0.05)
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if let Some(score) = self.score {
            write!(f, " {}", points(score))?;
        }
        if self.description.is_empty() { Ok(()) } else { write!(f, ": {}", self.description) }
    }
}

/// With one decimal, and without a sign before zero.
fn points(score: f64) -> String {
    format!("{:.1}", (score * 10.0).round() / 10.0 + 0.0)
}

/// Both directions to a filter.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

async fn connect(place: &Place) -> Result<Box<dyn Duplex>, ScorerError> {
    let connection = async {
        Ok::<Box<dyn Duplex>, std::io::Error>(match place {
            Place::Tcp(place) => Box::new(TcpStream::connect(place).await?),
            Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    };
    Ok(timeout(CONNECT, connection).await.map_err(|_| ScorerError::Slow(CONNECT))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(score: f64, threshold: Option<f64>, judgement: Judgement) -> Verdict {
        Verdict { score, threshold, judgement, action: None, rules: Vec::new() }
    }

    fn rule(name: &str, score: Option<f64>) -> Rule {
        Rule { name: name.to_owned(), score, description: String::new() }
    }

    #[test]
    fn above_the_threshold_is_an_error_and_near_it_a_warning() {
        use Judgement::{Clean, Doubtful, Spam};
        for (score, threshold, judgement, severity) in [
            (4.9, Some(5.0), Clean, Severity::Warning),
            (4.0, Some(5.0), Clean, Severity::Warning),
            (3.9, Some(5.0), Clean, Severity::Note),
            (5.0, Some(5.0), Clean, Severity::Error),
            (7.0, Some(15.0), Spam, Severity::Error),
            (4.5, Some(15.0), Doubtful, Severity::Warning),
            (-1.0, Some(0.0), Clean, Severity::Note),
            (9.0, None, Clean, Severity::Note),
        ] {
            assert_eq!(verdict(score, threshold, judgement).severity(), severity, "{score} {threshold:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_never_answers_is_not_waited_for() {
        let place: Place = "127.0.0.1:783".parse().unwrap();
        let scorer = Scorer { check: "rspamd", name: "Rspamd", key: "rspamd", place: &place };
        let mut verdicts = Verdicts::new(scorer);
        assert!(!verdicts.take(1, std::future::pending()).await);
        let mut findings = Findings::default();
        verdicts.tell(&mut findings);
        let finding = findings.iter().next().unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.what, "Rspamd at 127.0.0.1:783 gives no verdict: no answer in 60 s");
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!([-0.0, -0.04, 0.04, -0.06, 7.25].map(points), ["0.0", "0.0", "0.0", "-0.1", "7.3"]);
    }

    #[test]
    fn rules_that_speak_against_it_come_first_and_others_not_at_all() {
        let mut verdict = verdict(3.0, Some(5.0), Judgement::Clean);
        verdict.rules = vec![
            rule("SMALL", Some(0.5)),
            rule("GOOD", Some(-1.0)),
            rule("NONE", Some(0.0)),
            rule("BIG", Some(3.5)),
        ];
        let names = |verdict: &Verdict| -> Vec<String> {
            verdict.telling_rules().iter().map(Rule::to_string).collect()
        };
        assert_eq!(names(&verdict), ["BIG 3.5", "SMALL 0.5"]);
        verdict.judgement = Judgement::Spam;
        verdict.rules = vec![rule("TEST", Some(0.0))];
        assert_eq!(names(&verdict), ["TEST 0.0"]);
    }
}
