//! A plan's numbers: the list read as a run would, its domains looked up, limits and memory by site.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::people::{People, people, routes};
use super::shares::{by_share, rounds};
use super::sources::{of_relay, relays, sources};
use super::standing::Standing;
use super::{Assumed, Deferrals};
use crate::address::Domain;
use crate::campaign::draft::Draft;
use crate::campaign::manifest::Manifest;
use crate::config::Node;
use crate::plan::{Cohort, Provider, Question, Site, Source};
use crate::policy::Party;
use crate::policy::party::OTHER;
use crate::policy::warmup::Warmup;
use crate::shaping::rate::Credit;
use crate::shaping::{Key, Limits, Line, Shaping, Value};
use crate::site::{self, Route};
use crate::world::World;

/// What a plan is about.
pub(super) struct Subject<'a> {
    /// As the run will have them; in a rehearsal: quickened, and of its world.
    pub node: &'a Node,
    pub manifest: &'a Manifest,
    pub draft: &'a Draft,
    pub warmup: Warmup,
    pub standing: Standing,
    pub assumed: &'a Assumed,
    /// Who answers; `None`: the internet.
    pub world: Option<&'a World>,
}

/// The question, and what people want to know besides its answer.
pub(in crate::cli) struct Gathered {
    pub question: Question,
    pub recipients: u64,
    pub domains: usize,
    /// In the order of the question's.
    pub providers: Vec<Described>,
    /// Domains that take no mail, and their recipients.
    pub nowhere: (usize, u64),
    /// Domains that cannot be looked up or reached, and their recipients.
    pub unreachable: (usize, u64),
    pub undecided: Option<Undecided>,
}

/// A test of variants: most of the list waits for its winner, and nobody knows for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Undecided {
    /// Recipients outside the test slice.
    pub waiting: u64,
    /// From the start, when a winner is taken by itself at the earliest; `None`: a person names it.
    pub after: Option<Duration>,
}

/// A provider for people.
pub(in crate::cli) struct Described {
    pub name: String,
    pub sites: usize,
    /// What files say about the way to its largest site.
    pub lines: Vec<Line>,
    /// Of that way, by source.
    pub limits: Vec<Arc<Limits>>,
    pub round_trip: Duration,
    largest: u64,
}

pub(super) fn gather(subject: Subject<'_>, start: SystemTime) -> anyhow::Result<Gathered> {
    let people = people(subject.draft, subject.world);
    let routes = routes(subject.node, people.keys())?;
    let mut gathering = Gathering::new(subject, start);
    for (domain, people) in people {
        let route = routes.get(&domain);
        gathering.add(&domain, people, route);
    }
    Ok(gathering.finish(start))
}

/// The question as it grows, domain by domain.
struct Gathering<'a> {
    subject: Subject<'a>,
    shaping: Shaping,
    sources: Vec<Source>,
    /// Of each source: the provider of its relay, if it has one.
    relays: Vec<Option<Option<Arc<str>>>>,
    /// Where all mail goes, if every source is a relay.
    relay: Option<Arc<site::Site>>,
    start: SystemTime,
    providers: Vec<(Provider, Described)>,
    by_name: HashMap<Option<Arc<str>>, usize>,
    sites: Vec<Site>,
    by_site: HashMap<usize, usize>,
    /// Keeps sites alive, whose places in memory tell them apart.
    seen: Vec<Arc<site::Site>>,
    domains: usize,
    nowhere: (usize, u64),
    unreachable: (usize, u64),
    recipients: u64,
}

impl<'a> Gathering<'a> {
    fn new(subject: Subject<'a>, start: SystemTime) -> Self {
        let (node, manifest) = (subject.node, subject.manifest);
        let shaping = Shaping::new(node.shaping.clone(), manifest.tls, Credit::Full);
        let sources = sources(node, manifest);
        let relays = relays(node, &sources);
        let relay = relays.iter().all(Option::is_some).then(|| {
            let first = relays.iter().flatten().next().cloned().flatten();
            let provider =
                first.filter(|first| relays.iter().flatten().all(|other| other.as_ref() == Some(first)));
            Arc::new(nameless("relay", provider))
        });
        Self {
            subject,
            shaping,
            sources,
            relays,
            relay,
            start,
            providers: Vec::new(),
            by_name: HashMap::new(),
            sites: Vec::new(),
            by_site: HashMap::new(),
            seen: Vec::new(),
            domains: 0,
            nowhere: (0, 0),
            unreachable: (0, 0),
            recipients: 0,
        }
    }

    fn add(&mut self, domain: &Domain, people: People, route: Option<&Route>) {
        self.domains += 1;
        self.recipients += people.count;
        let is_rehearsal = self.subject.world.is_some();
        let relayed = self.relay.clone().map(Route::Site);
        match relayed.as_ref().or(route) {
            Some(Route::NullMx | Route::NoDomain { .. }) => grow(&mut self.nowhere, people.count),
            Some(Route::Site(site)) => self.settle(domain, people, site, Duration::ZERO),
            // A world knows who is silent for ever and who was only at first: that is asked for once more.
            _ if is_rehearsal => {
                let site = Arc::new(nameless(domain.as_str(), None));
                let held = self.subject.manifest.retry.schedule.first().copied().unwrap_or_default();
                self.settle(domain, people, &site, held);
            }
            _ => grow(&mut self.unreachable, people.count),
        }
    }

    /// Puts a domain's people under its site.
    fn settle(&mut self, domain: &Domain, people: People, site: &Arc<site::Site>, held: Duration) {
        if people.nowhere > 0 {
            grow(&mut self.nowhere, people.nowhere);
        }
        if people.unreachable > 0 {
            grow(&mut self.unreachable, people.unreachable);
        }
        let count = people.count - people.nowhere - people.unreachable;
        if count == 0 {
            return;
        }
        let key = Arc::as_ptr(site) as usize;
        let number = match self.by_site.get(&key) {
            Some(number) => *number,
            None => self.open(domain, site, held),
        };
        match self.subject.assumed.deferrals {
            Deferrals::Share(share) => {
                let rounds = rounds(self.subject.draft.totals.accepted, share);
                self.sites[number].load.extend(by_share(count, share, rounds));
            }
            Deferrals::AsAnswered => {
                let cohort = |((deferrals, greylisted), count): (&(Option<u32>, bool), &u64)| {
                    Cohort::fresh(*count as f64, *deferrals, *greylisted)
                };
                self.sites[number].load.extend(people.loads.iter().map(cohort));
            }
        }
        self.describe(number, count);
    }

    /// A site that is new.
    fn open(&mut self, domain: &Domain, site: &Arc<site::Site>, held: Duration) -> usize {
        let (node, assumed) = (self.subject.node, self.subject.assumed);
        let limits: Vec<Arc<Limits>> = self
            .sources
            .iter()
            .map(|source| {
                let shaped = self.shaping.limits(site, &source.name);
                match node.sources.get(&source.name).and_then(|source| source.relay.as_ref()) {
                    Some(relay) => Arc::new(of_relay(relay, (*shaped).clone())),
                    None => shaped,
                }
            })
            .collect();
        let learned = |(source, limits): (&Source, &Arc<Limits>)| {
            let party = Party::Source(source.name.clone());
            let standing = &self.subject.standing;
            let learned = standing.learned(&party, provider_name(site), limits.per_second(), self.start);
            learned.filter(|_| node.adapt)
        };
        let learned = self.sources.iter().zip(&limits).map(learned).collect();
        let from = self.sending_domain();
        let rests = self
            .sources
            .iter()
            .map(|source| self.subject.standing.rest(&source.name, &from, provider_name(site), self.start));
        let rests = rests.collect();
        let of_world = self.subject.world.and_then(|world| world.round_trip(domain.as_str()));
        let round_trip = of_world.map_or(assumed.round_trip, |far| far + assumed.round_trip);
        let provider = self.provider(site, &limits, round_trip);
        self.sites.push(Site { provider, limits, learned, rests, round_trip, held, load: Vec::new() });
        self.by_site.insert(Arc::as_ptr(site) as usize, self.sites.len() - 1);
        self.seen.push(site.clone());
        self.providers[provider].1.sites += 1;
        self.sites.len() - 1
    }

    fn sending_domain(&self) -> String {
        self.subject.manifest.from_address().domain().to_string()
    }

    /// The provider of a site, or the one that stands for all that have none.
    fn provider(&mut self, site: &Arc<site::Site>, limits: &[Arc<Limits>], round_trip: Duration) -> usize {
        if let Some(number) = self.by_name.get(&site.provider) {
            return *number;
        }
        let known = site.provider.as_deref();
        let layer = known.and_then(|name| self.subject.node.shaping.provider(name));
        let rates = |key| match layer.and_then(|layer| layer.value(key)) {
            Some(Value::Rates(rates)) => rates.iter().copied().filter(|rate| !rate.is_unlimited()).collect(),
            _ => Vec::new(),
        };
        let sessions = match layer.and_then(|layer| layer.value(Key::SessionsTotal)) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        };
        let domain = Party::Domain(self.sending_domain());
        let standing = &self.subject.standing;
        let learned = known.and_then(|name| standing.learned(&domain, name, None, self.start));
        let provider = Provider {
            name: known.unwrap_or(OTHER).to_owned(),
            messages: rates(Key::MessagesTotal),
            connections: rates(Key::ConnectionsTotal),
            sessions,
            warmup: self.accounts(&domain, known),
            learned: learned.filter(|_| self.subject.node.adapt),
        };
        let described = Described {
            name: known.map_or_else(|| "other sites".to_owned(), str::to_owned),
            sites: 0,
            lines: self.shaping.explain(site, &self.sources[0].name),
            limits: limits.to_vec(),
            round_trip,
            largest: 0,
        };
        self.providers.push((provider, described));
        self.by_name.insert(site.provider.clone(), self.providers.len() - 1);
        self.providers.len() - 1
    }

    /// Of each source, the warm-up accounts that it spends from at a provider.
    fn accounts(&mut self, domain: &Party, provider: Option<&str>) -> Vec<Vec<crate::policy::warmup::Slot>> {
        let warmup = &mut self.subject.warmup;
        let of = |(source, relay): (&Source, &Option<Option<Arc<str>>>)| {
            let provider = relay.as_ref().map_or(provider, |relay| relay.as_deref());
            let parties = [Party::Source(source.name.clone()), domain.clone()];
            parties.iter().filter_map(|party| warmup.slot(party, provider)).collect()
        };
        self.sources.iter().zip(&self.relays).map(of).collect()
    }

    /// What is shown of a provider is what holds at its largest site.
    fn describe(&mut self, number: usize, added: u64) {
        let site = &self.sites[number];
        let people = site.load.iter().map(|cohort| cohort.count).sum::<f64>() as u64;
        let described = &mut self.providers[site.provider].1;
        if people.max(added) > described.largest {
            described.largest = people.max(added);
            described.limits.clone_from(&site.limits);
            described.round_trip = site.round_trip;
            described.lines = self.shaping.explain(&self.seen[number], &self.sources[0].name);
        }
    }

    fn finish(self, start: SystemTime) -> Gathered {
        let (node, manifest) = (self.subject.node, self.subject.manifest);
        let limits = manifest.limits.messages.into_iter().filter(|rate| !rate.is_unlimited());
        let (providers, described) = self.providers.into_iter().unzip();
        let undecided = manifest.test.as_ref().map(|test| {
            let totals = self.subject.draft.spool.totals();
            Undecided { waiting: totals.accepted.saturating_sub(totals.tested), after: test.after }
        });
        let question = Question {
            start,
            sources: self.sources,
            providers,
            sites: self.sites,
            campaign: limits.collect(),
            machine: self.subject.assumed.machine,
            sessions: node.sessions_total as f64,
            retry: match manifest.retry.schedule.as_slice() {
                // As the schedule of a run has it.
                [] => vec![Duration::from_secs(3600)],
                waits => waits.to_vec(),
            },
            jitter: manifest.retry.jitter,
            expiry: manifest.retry.expiry,
            warmup: self.subject.warmup,
            unreachable: self.unreachable.1,
        };
        Gathered {
            question,
            recipients: self.recipients,
            domains: self.domains,
            providers: described,
            nowhere: self.nowhere,
            unreachable: self.unreachable,
            undecided,
        }
    }
}

/// Whose standing counts at a site: its provider's, or its own where it has none.
fn provider_name(site: &site::Site) -> &str {
    site.provider.as_deref().unwrap_or(&site.name)
}

fn nameless(name: &str, provider: Option<Arc<str>>) -> site::Site {
    let name = name.to_owned();
    site::Site { name, exchanges: Vec::new(), provider, implicit: false, own_limits_of: None }
}

fn grow(count: &mut (usize, u64), recipients: u64) {
    *count = (count.0 + 1, count.1 + recipients);
}
