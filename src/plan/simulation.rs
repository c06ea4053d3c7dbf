//! The timeline, portion by portion.

mod portion;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::answer::{Answer, Binds, ProviderAnswer};
use super::bucket::{Bucket, buckets, per_second};
use super::load::{After, Cohort, Ready, Waits, attempted};
use super::question::{Question, Rest};
use super::sessions::Session;
use super::{PORTION, PORTION_MIN};
use crate::policy::warmup::Slot;
use crate::scheduler::SOURCE_SPREAD;

/// Of all waiting, what somebody wants to know of.
const MUCH: f64 = 0.2;

/// Sites at work from which on portions grow with their number, and up to how many times as large.
const MANY: f64 = 1_000.0;
const COARSEST: f64 = 8.0;

/// A source at work on a site.
struct Path {
    source: usize,
    messages: Vec<Bucket>,
    connections: Vec<Bucket>,
    /// Sessions by limit and the source's weight.
    sessions: u32,
    session: Session,
    learned: Option<Bucket>,
    /// Messages a second of the slowest pace.
    per_second: Option<f64>,
}

struct SiteState {
    ready: Ready,
    paths: Vec<Path>,
    waits: Waits,
}

struct ProviderState {
    messages: Vec<Bucket>,
    connections: Vec<Bucket>,
    learned: Option<Bucket>,
    recipients: f64,
    tried: f64,
    settled: f64,
    expired: f64,
    /// Recipients × seconds that waited, by what for.
    waited: HashMap<(Binds, Option<usize>), f64>,
}

/// Who is due when: by the portion of time they are due in, then by site and how they fare.
type Dues = BTreeMap<(u64, usize, u32, Option<u32>, bool), (f64, Cohort)>;

/// See the head of the file. Times are seconds from the start.
pub(super) struct Simulation {
    question: Question,
    sites: Vec<SiteState>,
    providers: Vec<ProviderState>,
    accounts: Vec<Vec<Bucket>>,
    campaign: Vec<Bucket>,
    machine: Bucket,
    /// Whose turn it is to be put to work on a site; smooth weighted round robin.
    credits: Vec<f64>,
    due: Dues,
    /// Parts of messages that a cap is yet to be charged.
    owed: HashMap<Slot, f64>,
    now: f64,
}

impl Simulation {
    pub fn new(question: Question) -> Self {
        let providers = question.providers.iter().map(|provider| ProviderState {
            messages: buckets(&provider.messages),
            connections: buckets(&provider.connections),
            learned: provider.learned.map(Bucket::steady),
            recipients: 0.0,
            tried: 0.0,
            settled: 0.0,
            expired: 0.0,
            waited: HashMap::new(),
        });
        let sites = question.sites.iter().map(|site| {
            let limits = &site.limits[0];
            let retry = limits.retry.clone().unwrap_or_else(|| question.retry.clone());
            let waits = Waits { retry, greylist: limits.greylist };
            SiteState { ready: Ready::default(), paths: Vec::new(), waits }
        });
        let mut simulation = Self {
            providers: providers.collect(),
            sites: sites.collect(),
            accounts: question.sources.iter().map(|source| buckets(&source.account)).collect(),
            campaign: buckets(&question.campaign),
            machine: Bucket::steady(question.machine),
            credits: vec![0.0; question.sources.len()],
            due: Dues::new(),
            owed: HashMap::new(),
            now: 0.0,
            question,
        };
        simulation.load();
        simulation
    }

    /// Everyone is due when the site's servers are known.
    fn load(&mut self) {
        for (number, site) in self.question.sites.iter().enumerate() {
            for cohort in &site.load {
                self.providers[site.provider].recipients += cohort.count;
                come(&mut self.due, number, site.held.as_secs_f64(), *cohort);
            }
        }
    }

    pub fn run(mut self) -> Answer {
        let expiry = self.question.expiry.as_secs_f64();
        let mut working: Vec<usize> = Vec::new();
        while self.now < expiry {
            self.wake(&mut working);
            let (due, other) = self.next_event(&working);
            if working.is_empty() {
                // Nobody is ready: on to whoever is next.
                let Some(due) = due else { break };
                self.now = due.max(self.now).min(expiry);
                continue;
            }
            let ends = other.unwrap_or(f64::INFINITY).min(expiry);
            // Where there is very much to be gone through, in larger portions.
            let coarse = (working.len() as f64 / MANY).clamp(1.0, COARSEST);
            let portion = coarse * (self.now * PORTION).max(PORTION_MIN);
            let seconds = portion.min(ends - self.now).max(1e-9);
            self.now += match self.portion(&working, seconds) {
                true => seconds,
                // Caps are used up and sources rest: nothing moves before that changes, or others come.
                false => {
                    let until = due.unwrap_or(f64::INFINITY).min(ends) - self.now;
                    self.portion(&working, (until - seconds).max(0.0));
                    until.max(seconds)
                }
            };
            working.retain(|site| self.sites[*site].ready.total() > 0.0);
        }
        self.answer(&working)
    }

    /// Gives everyone who is due to his site.
    fn wake(&mut self, working: &mut Vec<usize>) {
        while let Some(entry) = self.due.first_entry()
            && entry.get().0 <= self.now
        {
            let site = entry.key().1;
            let (_, cohort) = entry.remove();
            let ready = &mut self.sites[site].ready;
            if ready.total() == 0.0 {
                working.push(site);
            }
            ready.add(cohort);
        }
    }

    /// When the next are due, and when a cap begins anew or a rest ends for those at work.
    fn next_event(&self, working: &[usize]) -> (Option<f64>, Option<f64>) {
        let due = self.due.first_key_value().map(|(_, (at, _))| *at);
        let mut next = f64::INFINITY;
        let clock = self.clock();
        let mut sooner = |at: SystemTime| {
            if let Ok(wait) = at.duration_since(clock)
                && !wait.is_zero()
            {
                next = next.min(self.now + wait.as_secs_f64());
            }
        };
        let mut providers = BTreeSet::new();
        for site in working.iter().map(|site| &self.question.sites[*site]) {
            providers.insert(site.provider);
            for rest in site.rests.iter().flatten() {
                if let Rest::Until(until) = rest {
                    sooner(*until);
                }
            }
        }
        for slot in
            providers.into_iter().flat_map(|number| self.question.providers[number].warmup.iter().flatten())
        {
            if let Some(cap) = self.question.warmup.cap(*slot, clock) {
                sooner(cap.until);
            }
        }
        (due, next.is_finite().then_some(next))
    }

    fn clock(&self) -> SystemTime {
        // Rounded up to the microsecond: a period that has begun by now must have begun by the clock.
        self.question.start + Duration::from_micros((self.now * 1e6).ceil() as u64)
    }

    /// Puts sources to work on a site: one, one for each that is `suspended`, another for each
    /// `SOURCE_SPREAD` that are ready.
    fn staff(&mut self, site: usize, suspended: usize) {
        let ready = self.sites[site].ready.total();
        let wanted = 1 + suspended + (ready / SOURCE_SPREAD as f64) as usize;
        while self.sites[site].paths.len() < wanted.min(self.question.sources.len()) {
            let path = self.path(site, self.next_source(site));
            self.credits[path.source] -= 1.0;
            self.sites[site].paths.push(path);
        }
    }

    /// The source that is furthest behind its weight, of those not at work on the site; one that rests last.
    fn next_source(&self, site: usize) -> usize {
        let used = |source: &usize| self.sites[site].paths.iter().any(|path| path.source == *source);
        let behind =
            |source: usize| self.credits[source] / f64::from(self.question.sources[source].weight.max(1));
        let free = (0..self.question.sources.len()).filter(|source| !used(source));
        let rests = |source: usize| self.rests(site, source);
        free.max_by(|a, b| rests(*b).cmp(&rests(*a)).then(behind(*a).total_cmp(&behind(*b))).then(b.cmp(a)))
            .expect("asked only while one is free")
    }

    fn rests(&self, site: usize, source: usize) -> bool {
        match self.question.sites[site].rests.get(source).copied().flatten() {
            Some(Rest::Until(until)) => self.clock() < until,
            Some(Rest::ForGood) => true,
            None => false,
        }
    }

    fn path(&self, site: usize, source: usize) -> Path {
        let question = &self.question;
        let (asked, limits) = (&question.sites[site], &question.sites[site].limits[source]);
        let provider = &question.providers[asked.provider];
        let heaviest = question.sources.iter().map(|source| source.weight).max().unwrap_or(1).max(1);
        let weight = u64::from(question.sources[source].weight.max(1));
        let share = (u64::from(limits.sessions) * weight / u64::from(heaviest)).max(1);
        let account = &question.sources[source].account;
        let paces = limits.messages.iter().chain(account).chain(&provider.messages).chain(&question.campaign);
        let learned = asked.learned.get(source).copied().flatten();
        let slowest = paces.map(per_second).chain(learned).min_by(f64::total_cmp);
        Path {
            source,
            messages: buckets(&limits.messages),
            connections: buckets(&limits.connections),
            sessions: u32::try_from(share).unwrap_or(u32::MAX),
            session: Session::new(limits, asked.round_trip.as_secs_f64()),
            learned: learned.map(Bucket::steady),
            per_second: slowest,
        }
    }

    /// So many of a site were attempted at a time.
    fn attempt(&mut self, site: usize, count: f64, at: f64) {
        let expiry = self.question.expiry.as_secs_f64();
        let jitter = self.question.jitter;
        let provider = &mut self.providers[self.question.sites[site].provider];
        let state = &mut self.sites[site];
        for cohort in state.ready.take(count) {
            if cohort.failures == 0 {
                provider.tried = provider.tried.max(at);
            }
            for after in attempted(cohort, &state.waits, jitter) {
                match after {
                    After::Again(wait, cohort) if at + wait < expiry => {
                        come(&mut self.due, site, at + wait, cohort);
                    }
                    // With no time left for another attempt it expires at once.
                    After::Again(_, cohort) => {
                        provider.expired += cohort.count;
                        provider.settled = provider.settled.max(at);
                    }
                    After::Settled => provider.settled = provider.settled.max(at),
                }
            }
        }
    }

    fn answer(mut self, working: &[usize]) -> Answer {
        let expiry = self.question.expiry.as_secs_f64();
        let waiting =
            std::mem::take(&mut self.due).into_iter().map(|(key, (_, cohort))| (key.1, cohort.count));
        let mut left: Vec<(usize, f64)> = waiting.collect();
        left.extend(working.iter().map(|site| (*site, self.sites[*site].ready.total())));
        for (site, count) in left {
            let provider = &mut self.providers[self.question.sites[site].provider];
            provider.expired += count;
            provider.settled = expiry;
        }
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0));
        let providers: Vec<ProviderAnswer> = self
            .providers
            .iter()
            .map(|provider| {
                let binds = provider.binds();
                let (tried, settled) = (seconds(provider.tried), seconds(provider.settled));
                let (recipients, expired) = (provider.recipients, provider.expired);
                ProviderAnswer { recipients, tried, settled, binds, expired }
            })
            .collect();
        let last = (0..providers.len()).filter(|at| providers[*at].recipients > 0.0);
        let last = last.max_by_key(|at| (providers[*at].settled, Reverse(*at)));
        let of_all = |of: fn(&ProviderAnswer) -> Duration| providers.iter().map(of).max().unwrap_or_default();
        let (tried, settled) = (of_all(|provider| provider.tried), of_all(|provider| provider.settled));
        let lost = self.question.unreachable;
        let ended = if lost > 0 { self.question.expiry.max(settled) } else { settled };
        let expired = providers.iter().map(|provider| provider.expired).sum::<f64>() + lost as f64;
        Answer { tried, settled, ended, expired, last, providers }
    }
}

/// Somebody is due at a time: with those who are due about then and fare alike, the last of whom counts.
fn come(due: &mut Dues, site: usize, at: f64, cohort: Cohort) {
    let Cohort { failures, to_come, is_greylisted, .. } = cohort;
    let nobody = (at, Cohort { count: 0.0, ..cohort });
    let (latest, with) = due.entry((slot(at), site, failures, to_come, is_greylisted)).or_insert(nobody);
    (*latest, with.count) = (latest.max(at), with.count + cohort.count);
}

/// The number of the portion that a time is in.
fn slot(at: f64) -> u64 {
    const EVEN: f64 = PORTION_MIN / PORTION;
    let number = if at < EVEN { at / PORTION_MIN } else { (1.0 + (at / EVEN).ln()) / PORTION };
    number as u64
}

impl ProviderState {
    /// What most waited for, for the longest; waits between attempts, where those are longer than all else.
    fn binds(&self) -> Vec<(Binds, Option<usize>)> {
        if self.settled > 2.0 * self.tried.max(PORTION_MIN) {
            return vec![(Binds::Retry, None)];
        }
        let all: f64 = self.waited.values().sum();
        let mut held: Vec<_> = self.waited.iter().filter(|(_, waited)| **waited >= MUCH * all).collect();
        held.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
        held.into_iter().map(|(binds, _)| *binds).collect()
    }
}
