//! The domains of a list, looked up in bulk: who has no mail service, and who serves how many.
//!
//! Each domain is asked for once, by the same resolver that a run uses, so many at a time. What came of
//! it takes some 24 octets a domain. What is not known when the time is over is told as such.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{Findings, Severity};
use crate::address::Domain;
use crate::campaign::segment::Segment;
use crate::campaign::spool::Spool;
use crate::config::Node;
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
    pub fn shares(&self) -> Vec<super::super::Share> {
        let shares = self.providers.iter();
        shares
            .map(|share| super::super::Share {
                provider: share.provider.clone(),
                recipients: share.recipients,
            })
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
    let deadline = Instant::now() + bounds.time;
    let mut tally = Tally::default();
    for segment in spool.iter() {
        tally.ask_for(&segment, resolver, bounds, deadline, progress).await;
    }
    if tally.known.values().any(|known| !tally.is_served(known.kind)) {
        for segment in spool.iter() {
            tally.pick_examples(&segment);
        }
    }
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

/// What is known of a domain.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// An index into [`Tally::kinds`].
    kind: u32,
    recipients: u64,
}

#[derive(Default)]
struct Tally {
    /// By hash of the name.
    known: HashMap<u64, Known>,
    kinds: Vec<Kind>,
    /// For each kind: the domains with the most recipients.
    examples: Vec<Vec<(u64, String)>>,
}

impl Tally {
    /// Counts a segment's recipients, and asks for those of its domains that are not known yet.
    async fn ask_for(
        &mut self,
        segment: &Segment,
        resolver: &Resolver,
        bounds: Bounds,
        deadline: Instant,
        progress: &Progress,
    ) {
        let mut asking: JoinSet<(u64, Kind)> = JoinSet::new();
        let not_asked = self.number(Kind::NotAsked);
        for span in segment.spans() {
            let key = xxh3_64(span.domain.as_bytes());
            let is_new = !self.known.contains_key(&key);
            let known = self.known.entry(key).or_insert(Known { kind: not_asked, recipients: 0 });
            known.recipients += u64::from(span.count);
            let Some(domain) =
                Domain::parse(span.domain).ok().filter(|_| is_new && Instant::now() < deadline)
            else {
                continue;
            };
            if asking.len() >= bounds.at_once.max(1) {
                self.take_one(&mut asking, deadline, progress).await;
            }
            let resolver = resolver.clone();
            asking.spawn(async move { (key, kind_of(resolver.route(&domain).await.route)) });
        }
        while !asking.is_empty() {
            self.take_one(&mut asking, deadline, progress).await;
        }
    }

    /// Waits for one answer; gives up all when the time is over.
    async fn take_one(&mut self, asking: &mut JoinSet<(u64, Kind)>, deadline: Instant, progress: &Progress) {
        match tokio::time::timeout_at(deadline, asking.join_next()).await {
            Ok(Some(Ok((key, kind)))) => {
                let kind = self.number(kind);
                if let Some(known) = self.known.get_mut(&key) {
                    known.kind = kind;
                }
                progress.settled.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => *asking = JoinSet::new(),
        }
    }

    fn number(&mut self, kind: Kind) -> u32 {
        let number = self.kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
            self.kinds.push(kind);
            self.examples.push(Vec::new());
            self.kinds.len() - 1
        });
        u32::try_from(number).expect("there are no more kinds than providers and reasons")
    }

    fn is_served(&self, kind: u32) -> bool {
        matches!(self.kinds[kind as usize], Kind::Provider(_))
    }

    fn pick_examples(&mut self, segment: &Segment) {
        for span in segment.spans() {
            let Some(known) = self.known.get(&xxh3_64(span.domain.as_bytes())) else { continue };
            if self.is_served(known.kind) {
                continue;
            }
            let examples = &mut self.examples[known.kind as usize];
            let least = examples.last().map_or(0, |(recipients, _)| *recipients);
            let is_wanted = examples.len() < EXAMPLES_MAX || known.recipients > least;
            if is_wanted && !examples.iter().any(|(_, name)| name == span.domain) {
                examples.push((known.recipients, span.domain.to_owned()));
                examples.sort_by_key(|(recipients, _)| std::cmp::Reverse(*recipients));
                examples.truncate(EXAMPLES_MAX);
            }
        }
    }

    /// Domains and recipients of a kind.
    fn count(&self, kind: usize) -> (u64, u64) {
        let of_kind = self.known.values().filter(|known| known.kind as usize == kind);
        of_kind.fold((0, 0), |(domains, recipients), known| (domains + 1, recipients + known.recipients))
    }

    fn tell(&self, bounds: Bounds, findings: &mut Findings) {
        for (number, kind) in self.kinds.iter().enumerate() {
            let (domains, recipients) = self.count(number);
            let shown =
                self.examples[number].iter().map(|(recipients, name)| format!("{name} ({recipients})"));
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
            findings.add_many(severity, check, (recipients, &examples), what, advice);
        }
    }

    fn survey(&self) -> Survey {
        let shares = self.kinds.iter().enumerate().filter_map(|(number, kind)| match kind {
            Kind::Provider(provider) => {
                let (domains, recipients) = self.count(number);
                Some(Share { provider: provider.to_string(), domains, recipients })
            }
            _ => None,
        });
        let mut providers: Vec<Share> = shares.collect();
        providers.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.provider.cmp(&b.provider)));
        Survey {
            domains: self.known.len() as u64,
            recipients: self.known.values().map(|known| known.recipients).sum(),
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
