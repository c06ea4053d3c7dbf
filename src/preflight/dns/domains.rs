//! The domains of a list, looked up in bulk: who has no mail service, and who serves how many.
//!
//! Each domain is asked for once, by the same resolver that a run uses, so many at a time; only sums and a
//! few examples of them are kept. What is not known when the time is over is told as such.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Findings, Severity};
use crate::address::Domain;
use crate::campaign::domains::domains_of;
use crate::campaign::spool::Spool;
use crate::config::Node;
use crate::preflight;
use crate::site::bulk::Bulk;
use crate::site::{Resolver, Route};

/// Domains named in a finding, those with the most recipients.
const EXAMPLES_MAX: usize = 5;
/// What a domain's site is called that is of no known provider.
const OTHER: &str = "other";

/// How a survey may go about it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Domains asked for at once, at least 1.
    pub at_once: usize,
    pub time: Duration,
}

impl Bounds {
    /// Those of the settings.
    pub fn new(node: &Node) -> Self {
        Self { at_once: node.dns.lookups_max, time: node.check.domains_time }
    }
}

/// How far a survey is, for others to look at.
#[derive(Debug, Default)]
pub struct Progress {
    /// Distinct domains that are settled.
    pub settled: AtomicU64,
}

/// What became of a list's domains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Survey {
    /// Distinct ones.
    pub domains: u64,
    pub recipients: u64,
    /// Known providers and `other`, those with the most recipients first. Domains without mail service
    /// are in none.
    pub providers: Vec<Share>,
}

/// A provider's part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    pub provider: String,
    pub domains: u64,
    pub recipients: u64,
}

impl Survey {
    /// Recipients by provider, the most first.
    pub fn shares(&self) -> Vec<preflight::Share> {
        let shares = self.providers.iter();
        shares
            .map(|share| preflight::Share { provider: share.provider.clone(), recipients: share.recipients })
            .collect()
    }
}

impl std::fmt::Display for Survey {
    /// A line a provider: its name, recipients, their share of all, domains.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.providers.iter().map(|share| share.provider.len()).max().unwrap_or(0);
        for Share { provider, domains, recipients } in &self.providers {
            let percent = *recipients as f64 * 100.0 / self.recipients.max(1) as f64;
            writeln!(f, "{provider:width$} {recipients:>10} {percent:>5.1}% {domains:>8} domains")?;
        }
        Ok(())
    }
}

/// Looks up all domains in `spool`. Needs a tokio runtime.
///
/// # Cancel safety
/// Dropping the future gives up what is under way.
pub async fn survey(
    spool: &Spool,
    resolver: &Resolver,
    bounds: Bounds,
    progress: &Progress,
    findings: &mut Findings,
) -> Survey {
    let mut tally = Tally::default();
    let bulk = Bulk { at_once: bounds.at_once, until: Some(Instant::now() + bounds.time) };
    let segments: Vec<_> = spool.iter().collect();
    // Domains of a spool were parsed before they came into it.
    let domains = domains_of(&segments).filter_map(|found| {
        let asked = Asked { name: found.domain.to_owned(), recipients: found.recipients };
        Some((Domain::parse(found.domain).ok()?, asked))
    });
    let settled = |asked: Asked, route: Option<Route>| {
        progress.settled.fetch_add(u64::from(route.is_some()), Ordering::Relaxed);
        tally.add(asked, route.map_or(Kind::NotAsked, kind_of));
    };
    bulk.routes(resolver, domains, settled).await;
    tally.tell(bounds, findings);
    tally.survey()
}

/// What may come of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Provider(Arc<str>),
    /// The DNS is sure that there is nowhere to deliver to.
    Dead(&'static str),
    Unresolved,
    NotAsked,
}

/// A domain of the list.
struct Asked {
    name: String,
    recipients: u64,
}

/// What came of one kind.
struct Count {
    kind: Kind,
    domains: u64,
    recipients: u64,
    /// Those with the most recipients, in order of name where they have the same.
    examples: Vec<Asked>,
}

/// No more than there are providers and reasons.
#[derive(Default)]
struct Tally(Vec<Count>);

impl Tally {
    fn add(&mut self, asked: Asked, kind: Kind) {
        let known = self.0.iter().position(|count| count.kind == kind);
        let at = known.unwrap_or_else(|| {
            self.0.push(Count { kind, domains: 0, recipients: 0, examples: Vec::new() });
            self.0.len() - 1
        });
        let count = &mut self.0[at];
        count.domains += 1;
        count.recipients += asked.recipients;
        if matches!(count.kind, Kind::Provider(_)) {
            return;
        }
        count.examples.push(asked);
        count.examples.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.name.cmp(&b.name)));
        count.examples.truncate(EXAMPLES_MAX);
    }

    fn tell(&self, bounds: Bounds, findings: &mut Findings) {
        for Count { kind, domains, recipients, examples } in &self.0 {
            let shown = examples.iter().map(|asked| format!("{} ({})", asked.name, asked.recipients));
            let examples: Vec<String> = shown.collect();
            let (severity, check, what, advice) = match kind {
                Kind::Provider(_) => continue,
                Kind::Dead(reason) => (
                    Severity::Warning,
                    "domain-without-mail",
                    format!("recipients are at {domains} domains without mail service: {reason}"),
                    "take them off the list: each is a bounce, and old lists have many".to_owned(),
                ),
                Kind::Unresolved => (
                    Severity::Note,
                    "domain-unresolved",
                    format!("recipients are at {domains} domains whose name servers do not answer now"),
                    "a run tries them again until they expire; see whether they are still there tomorrow"
                        .to_owned(),
                ),
                Kind::NotAsked => (
                    Severity::Note,
                    "domain-not-asked",
                    format!(
                        "recipients are at {domains} domains that were not looked up within {} s",
                        bounds.time.as_secs()
                    ),
                    "give [check] domains_time more, or raise [dns] lookups_max".to_owned(),
                ),
            };
            findings.add_many(severity, check, (*recipients, &examples), what, advice);
        }
    }

    fn survey(&self) -> Survey {
        let shares = self.0.iter().filter_map(|count| match &count.kind {
            Kind::Provider(provider) => {
                let &Count { domains, recipients, .. } = count;
                Some(Share { provider: provider.to_string(), domains, recipients })
            }
            _ => None,
        });
        let mut providers: Vec<Share> = shares.collect();
        providers.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.provider.cmp(&b.provider)));
        Survey {
            domains: self.0.iter().map(|count| count.domains).sum(),
            recipients: self.0.iter().map(|count| count.recipients).sum(),
            providers,
        }
    }
}

fn kind_of(route: Route) -> Kind {
    match route {
        Route::Site(site) => Kind::Provider(site.provider.clone().unwrap_or_else(|| OTHER.into())),
        Route::NullMx => Kind::Dead("they say that they take no mail (null MX)"),
        Route::NoDomain { reason } => Kind::Dead(reason),
        Route::Unresolved { .. } => Kind::Unresolved,
    }
}
