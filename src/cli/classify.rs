//! `postroad classify`: what replies mean, from the standard input: bare ones, or a log's lines.

use std::io::BufRead as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::{Common, Exit, say, warn};
use crate::classify::line::{self, Found};
use crate::classify::{By, Measure, RecipientAction, Rules, Threshold, Verdict};
use crate::config::units::format_duration;
use crate::config::{Node, fault};
use crate::outcome::Stage;
use crate::shaping::Shaping;
use crate::shaping::rate::Credit;

/// Say what replies mean: class, scope, what would be done, which rule says so
///
/// Reads one reply a line from the standard input: as a server says it (`550 5.1.1 User unknown`, or with a
/// stage, `MAIL: 550 ...`), or a line of a log that holds one (Postfix, KumoMTA, PowerMTA).
#[derive(clap::Args)]
pub struct Arguments {
    /// The provider who says it, by its name in the limits, like google [default: any other]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Where in the session it is said, if the line does not tell
    #[arg(long, value_name = "STAGE", default_value = "rcpt", value_parser = stage)]
    stage: Stage,
    /// Reply rules over those of the settings (`reply_files`), a later file over an earlier
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
}

fn stage(name: &str) -> Result<Stage, String> {
    let known = line::STAGES.map(|(name, _)| name);
    line::stage_named(name).ok_or_else(|| format!("no stage; known: {}", known.join(", ")))
}

/// The rules of the settings with `files` over them, or an error that lists every mistake.
pub(super) fn load(node: &Node, files: &[PathBuf]) -> anyhow::Result<Rules> {
    Rules::load(&[&node.reply_files[..], files].concat()).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the rules cannot be used:\n{}", lines.join("\n"))
    })
}

/// Whose rules hold for the provider of that name.
fn provider<'a>(shaping: &'a Shaping, name: &'a str) -> anyhow::Result<&'a str> {
    if shaping.tables().provider(name).is_none() {
        let known: Vec<&str> = shaping.tables().providers().map(|(name, _)| name).collect();
        bail!("the provider `{name}` is not known; {}", fault::suggestion(name, &known));
    }
    Ok(shaping.replies_of(name))
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let rules = load(&node, &arguments.rules)?;
    let shaping = Shaping::new(node.shaping, None, Credit::Full);
    let provider = arguments.provider.as_deref().map(|name| provider(&shaping, name)).transpose()?;
    let mut is_all_read = true;
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.context("cannot read the standard input")?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let Some(Found { stage, reply }) = line::find(line) else {
            warn(format_args!("no reply in this line: {line}"));
            is_all_read = false;
            continue;
        };
        let stage = stage.unwrap_or(arguments.stage);
        let verdict = rules.classify(provider, stage, &reply);
        if common.json {
            say(as_json(&rules, stage, &reply.to_string(), &verdict))?;
        } else {
            let stage = line::stage_name(stage);
            say(format_args!("{stage}: {reply}\n  {}", described(&rules, &verdict)))?;
        }
    }
    Ok(if is_all_read { Exit::Done } else { Exit::Error })
}

/// A verdict on one line: class, scope, actions, who knew.
pub(super) fn described(rules: &Rules, verdict: &Verdict) -> String {
    let class = verdict.class.name();
    let actions = actions(verdict).join(", ");
    format!("{class}  {}  {actions}  by {}", verdict.scope.name(), known_by(rules, verdict.by))
}

fn as_json(rules: &Rules, stage: Stage, reply: &str, verdict: &Verdict) -> serde_json::Value {
    let rule = match verdict.by {
        By::Rule(id) => Some(rules.rule(id)),
        _ => None,
    };
    serde_json::json!({
        "reply": reply,
        "stage": line::stage_name(stage),
        "class": verdict.class,
        "scope": verdict.scope,
        "action": actions(verdict),
        "by": match verdict.by {
            By::Rule(_) => "rule",
            By::Registry => "registry",
            By::Code => "code",
            By::Engine => "engine",
        },
        "rule": rule.map(|rule| &*rule.name),
        "at": rule.map(|rule| rule.place.to_string()),
    })
}

fn known_by(rules: &Rules, by: By) -> String {
    match by {
        By::Rule(id) => {
            let rule = rules.rule(id);
            format!("rule {} ({})", rule.name, rule.place)
        }
        By::Registry => "the enhanced code".to_owned(),
        By::Code => "nothing but the reply code".to_owned(),
        By::Engine => "this engine".to_owned(),
    }
}

/// As a rule would write them.
fn actions(verdict: &Verdict) -> Vec<String> {
    let recipient = match verdict.recipient {
        RecipientAction::Delivered => "delivered".to_owned(),
        RecipientAction::Retry => "retry".to_owned(),
        RecipientAction::RetryAfter(wait) => format!("retry after {}", format_duration(wait)),
        RecipientAction::Bounce => "bounce".to_owned(),
        RecipientAction::Suppress => "suppress".to_owned(),
    };
    let measure = verdict.measure.map(|measure| {
        let measure = match measure {
            Measure::Slow(factor) => format!("slow {factor}"),
            Measure::Narrow => "narrow".to_owned(),
            Measure::Reconnect => "reconnect".to_owned(),
            Measure::Suspend { lasting, resume } => {
                format!("suspend {} resume {resume}", format_duration(lasting))
            }
            Measure::TakeOut(lasting) => format!("take source out {}", format_duration(lasting)),
            Measure::PauseDomain(lasting) => format!("pause domain {}", format_duration(lasting)),
            Measure::PauseCampaign => "pause campaign".to_owned(),
        };
        match verdict.threshold {
            Some(Threshold { count, within }) => {
                format!("{measure} after {count}/{}", format_duration(within))
            }
            None => measure,
        }
    });
    let alert = verdict.alert.then(|| "alert".to_owned());
    [Some(recipient), measure, alert].into_iter().flatten().collect()
}
