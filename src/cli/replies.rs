//! `postroad replies`: what a run was answered, equal replies together, and what that was taken to mean.
//!
//! Everything is classified again from the journal's evidence, by the rules as they are now: what a new
//! rule changes is seen without sending anything.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::classify::{described, load};
use super::{Common, Exit, named_run, say};
use crate::address::Domain;
use crate::classify::{By, Rules, Verdict, line, normal};
use crate::config::Node;
use crate::journal::{self, Line, NameKind};
use crate::outcome::{Evidence, SiteId, Stage};
use crate::reply::Reply;
use crate::shaping::Shaping;
use crate::shaping::rate::Credit;
use crate::site::Providers;

/// List the replies of a run, equal ones together, with what they mean
#[derive(clap::Args)]
pub struct Arguments {
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Only those of which nothing but the reply code is known: the rules still to be written
    #[arg(long)]
    unclassified: bool,
    /// Acceptances too
    #[arg(long, conflicts_with = "unclassified")]
    all: bool,
    /// Reply rules over those of the settings (`reply_files`), a later file over an earlier
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
}

/// What equal replies share.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    provider: Option<Arc<str>>,
    stage: Stage,
    /// With its codes.
    normal: String,
}

/// Equal replies.
struct Group {
    count: u64,
    sample: Reply,
    verdict: Verdict,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let rules = load(&node, &arguments.rules)?;
    let run = named_run(&node, arguments.run.as_deref())?;
    let mut sites = Sites::new(&node);
    let mut groups: HashMap<Key, Group> = HashMap::new();
    for line in journal::read(&run.journal_folder())? {
        match line? {
            Line::Name { kind: NameKind::Site, id, name } => sites.name(SiteId(id), &name),
            Line::Attempt(record) => {
                let Some(reply) = replied(&record.evidence) else { continue };
                let provider = sites.provider(record.site);
                let stage = record.evidence.stage;
                let verdict = rules.classify(provider.as_deref(), stage, &reply);
                let is_wanted = match verdict.by {
                    By::Code if arguments.unclassified => !reply.is_success(),
                    _ if arguments.unclassified => false,
                    _ => arguments.all || !reply.is_success(),
                };
                if is_wanted {
                    let key = Key { provider, stage, normal: with_codes(&reply, &normal(reply.text())) };
                    let group = groups.entry(key).or_insert(Group { count: 0, sample: reply, verdict });
                    group.count += 1;
                }
            }
            _ => {}
        }
    }
    let mut groups: Vec<(Key, Group)> = groups.into_iter().collect();
    groups.sort_by(|(a_key, a), (b_key, b)| b.count.cmp(&a.count).then(a_key.normal.cmp(&b_key.normal)));
    for (key, group) in &groups {
        if common.json {
            say(as_json(&rules, key, group))?;
        } else {
            say(text(&rules, key, group))?;
        }
    }
    if groups.is_empty() && !common.json {
        say(if arguments.unclassified { "no reply is unclassified" } else { "no refusals" })?;
    }
    Ok(Exit::Done)
}

/// The reply as it came; `None` where there was none.
pub(super) fn replied(evidence: &Evidence) -> Option<Reply> {
    let enhanced = evidence.enhanced.map(|code| format!("{code} ")).unwrap_or_default();
    Reply::new(evidence.code, &format!("{enhanced}{}", evidence.text))
}

fn with_codes(reply: &Reply, text: &str) -> String {
    match reply.enhanced() {
        Some(enhanced) => format!("{} {enhanced} {text}", reply.code()),
        None => format!("{} {text}", reply.code()),
    }
}

fn text(rules: &Rules, key: &Key, group: &Group) -> String {
    let provider = key.provider.as_deref().unwrap_or("-");
    let stage = line::stage_name(key.stage);
    format!(
        "{:>8}  {provider}  {stage}: {}\n          {}",
        group.count,
        group.sample,
        described(rules, &group.verdict)
    )
}

fn as_json(rules: &Rules, key: &Key, group: &Group) -> serde_json::Value {
    let rule = match group.verdict.by {
        By::Rule(id) => Some(&*rules.rule(id).name),
        _ => None,
    };
    serde_json::json!({
        "count": group.count,
        "provider": key.provider.as_deref(),
        "stage": line::stage_name(key.stage),
        "normal": key.normal,
        "sample": group.sample.to_string(),
        "class": group.verdict.class,
        "scope": group.verdict.scope,
        "rule": rule,
    })
}

/// The providers of the sites that a journal names.
pub(super) struct Sites {
    shaping: Shaping,
    providers: Providers,
    by_id: HashMap<SiteId, Option<Arc<str>>>,
}

impl Sites {
    pub(super) fn new(node: &Node) -> Self {
        let shaping = Shaping::new(node.shaping.clone(), None, Credit::Full);
        Self { shaping, providers: node.shaping.grouping().providers, by_id: HashMap::new() }
    }

    pub(super) fn name(&mut self, id: SiteId, name: &str) {
        let hosts = hosts(name);
        let provider = self.providers.of(&hosts);
        self.by_id.insert(id, provider.map(|name| Arc::from(self.shaping.replies_of(&name))));
    }

    pub(super) fn provider(&self, id: SiteId) -> Option<Arc<str>> {
        self.by_id.get(&id).cloned().flatten()
    }
}

/// The exchanges that a site's name tells: `(a|b)?.mx.example`, `mx.example`, or only the first of
/// `mx.example+2`.
fn hosts(site: &str) -> Vec<Domain> {
    let grouped = site.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let names: Vec<String> = match grouped {
        Some((heads, suffix)) => {
            let bare = suffix.strip_prefix("?.");
            let suffix = bare.or(suffix.strip_prefix('.')).unwrap_or(suffix);
            let heads = heads.split('|').map(|head| format!("{head}.{suffix}"));
            heads.chain(bare.map(str::to_owned)).collect()
        }
        None => vec![site.split_once('+').map_or(site, |(first, _)| first).to_owned()],
    };
    names.iter().filter_map(|name| Domain::parse(name).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_name_tells_its_exchanges() {
        let hosts = |name| hosts(name).iter().map(|host| host.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(hosts("mx.b.example"), ["mx.b.example"]);
        assert_eq!(hosts("mx.b.example+2"), ["mx.b.example"]);
        assert_eq!(hosts("(a|b).mx.example"), ["a.mx.example", "b.mx.example"]);
        assert_eq!(hosts("(alt1)?.mx.example"), ["alt1.mx.example", "mx.example"]);
    }
}
