//! The live counts of a world, behind one lock that all its servers share.
//!
//! They run on one thread, so the lock is never contended but by a reader of snapshots. Grows with
//! the addresses seen (33 octets each, more where they are greylisted) and the seconds of each path.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::{
    Breach, Counts, Greylisting, Limit, PathCounts, ProviderCounts, Repeat, SecondCounts, SourceCounts, Tally,
};
use super::file::GreylistBy;
use super::greylist::{Asked, Greylister};
use super::series::Series;

/// Examples kept of what should not happen; the counts beside them go on.
const EXAMPLES_MAX: usize = 1_000;
/// Message-IDs remembered to find repeats: 24 octets each.
const MESSAGE_IDS_MAX: usize = 2_000_000;

/// What is remembered of one address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AddressRecord {
    /// RCPT TO that were neither greylisted nor undone by a block.
    pub attempts: u32,
    pub accepted: u32,
    pub unanswered: u32,
}

#[derive(Default)]
struct Path {
    open: u32,
    peak: u32,
    seconds: Vec<SecondCounts>,
}

/// The live state; see the head of this file.
pub(crate) struct Ledger {
    started: Instant,
    addresses: hashbrown::HashMap<u128, AddressRecord>,
    message_ids: hashbrown::HashMap<u64, u128>,
    greylister: Greylister,
    paths: BTreeMap<(IpAddr, usize), Path>,
    /// By source and provider.
    series: BTreeMap<(IpAddr, usize), Series>,
    breaches: BTreeMap<(usize, IpAddr, Limit), u64>,
    /// Kept with the address so that a snapshot has the final counts.
    repeat_keys: Vec<(u128, String)>,
    open: Vec<u32>,
    /// Host name and provider's number, by host.
    hosts: Vec<(String, usize)>,
    /// Accepted messages, for the sample.
    messages: u64,
    counts: Counts,
}

impl Ledger {
    pub fn new(
        started: Instant,
        providers: impl Iterator<Item = String>,
        hosts: Vec<(String, usize)>,
    ) -> Self {
        let providers: Vec<ProviderCounts> =
            providers.map(|name| ProviderCounts { name, ..ProviderCounts::default() }).collect();
        Self {
            started,
            addresses: hashbrown::HashMap::new(),
            message_ids: hashbrown::HashMap::new(),
            greylister: Greylister::default(),
            paths: BTreeMap::new(),
            series: BTreeMap::new(),
            breaches: BTreeMap::new(),
            repeat_keys: Vec::new(),
            open: vec![0; providers.len()],
            hosts,
            messages: 0,
            counts: Counts { providers, ..Counts::default() },
        }
    }

    pub fn snapshot(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.repeats = self
            .repeat_keys
            .iter()
            .map(|(key, address)| {
                let record = self.record(*key);
                Repeat { address: address.clone(), times: record.accepted, unanswered: record.unanswered }
            })
            .collect();
        counts.paths = self
            .paths
            .iter()
            .map(|((source, host), path)| PathCounts {
                source: *source,
                host: self.hosts[*host].0.clone(),
                provider: counts.providers[self.hosts[*host].1].name.clone(),
                connections_peak: path.peak,
                seconds: path.seconds.clone(),
            })
            .collect();
        counts.sources = self
            .series
            .iter()
            .map(|((source, provider), series)| SourceCounts {
                source: *source,
                provider: counts.providers[*provider].name.clone(),
                connections_peak: series.peak,
                total: series.total,
                slices: series.slices.clone(),
            })
            .collect();
        counts.breaches = self
            .breaches
            .iter()
            .map(|((provider, source, limit), times)| Breach {
                provider: counts.providers[*provider].name.clone(),
                source: *source,
                limit: *limit,
                times: *times,
            })
            .collect();
        counts
    }

    pub fn record(&self, key: u128) -> AddressRecord {
        self.addresses.get(&key).copied().unwrap_or_default()
    }

    pub fn provider(&mut self, number: usize) -> &mut ProviderCounts {
        &mut self.counts.providers[number]
    }

    pub fn dns_query(&mut self) {
        self.counts.dns_queries += 1;
    }

    /// Whether the greylist lets a RCPT TO in.
    pub fn passes_greylist(
        &mut self,
        asked: Asked<'_>,
        provider: usize,
        by: GreylistBy,
        delay: Duration,
    ) -> bool {
        let passes = self.greylister.passes(asked, by, delay, Instant::now());
        if !passes {
            self.counts.providers[provider].greylisted += 1;
            self.note(asked.source, provider, |tally| tally.greylisted += 1);
        }
        passes
    }

    pub fn greylisting(&self, key: u128) -> Option<Greylisting> {
        self.greylister.of(key)
    }

    /// Counts a RCPT TO and says which attempt it is.
    pub fn attempt(&mut self, key: u128) -> u32 {
        let record = self.addresses.entry(key).or_default();
        record.attempts += 1;
        record.attempts
    }

    /// Takes an attempt back: it came to nothing for a reason that is not the address's.
    pub fn undo_attempt(&mut self, key: u128) {
        if let Some(record) = self.addresses.get_mut(&key) {
            record.attempts -= 1;
        }
    }

    /// Notes what a source did at a provider just now.
    pub fn note(&mut self, source: IpAddr, provider: usize, what: impl Fn(&mut Tally)) {
        self.note_at(Instant::now(), source, provider, what);
    }

    fn note_at(&mut self, now: Instant, source: IpAddr, provider: usize, what: impl Fn(&mut Tally)) {
        self.series.entry((source, provider)).or_default().note(now - self.started, what);
    }

    /// Counts a refusal of a blocked source.
    pub fn blocked(&mut self, source: IpAddr, provider: usize, now: Instant) {
        self.counts.providers[provider].blocked += 1;
        self.note_at(now, source, provider, |tally| tally.blocked += 1);
    }

    /// The number that the next MAIL of a source at a provider will have.
    pub fn next_transaction(&self, source: IpAddr, provider: usize) -> u32 {
        self.series.get(&(source, provider)).map_or(0, |series| series.total.transactions) + 1
    }

    /// Counts a refusal on purpose, by the class of its reply.
    pub fn refused(&mut self, provider: usize, reply: &str) {
        let counts = &mut self.counts.providers[provider];
        if reply.starts_with('5') { counts.permanent += 1 } else { counts.temporary += 1 }
    }

    pub fn misrouted(&mut self, address: &str) {
        self.counts.misrouted += 1;
        keep(&mut self.counts.misrouted_examples, address);
    }

    /// Counts a refusal by a limit, in the slice of the MAIL it answers if it has the same `now`.
    pub fn breach(&mut self, provider: usize, source: IpAddr, limit: Limit, now: Instant) {
        *self.breaches.entry((provider, source, limit)).or_default() += 1;
        match limit {
            Limit::MessageRate => self.note_at(now, source, provider, |tally| tally.limited += 1),
            Limit::Penalty => self.note_at(now, source, provider, |tally| tally.penalized += 1),
            Limit::ConnectionsPerSource
            | Limit::Connections
            | Limit::ConnectionRate
            | Limit::MessagesPerConnection => {}
        }
    }

    pub fn opened(&mut self, source: IpAddr, host: usize) {
        let provider = self.hosts[host].1;
        self.open[provider] += 1;
        let open = self.open[provider];
        let counts = &mut self.counts.providers[provider];
        counts.connections += 1;
        counts.connections_peak = counts.connections_peak.max(open);
        let path = self.paths.entry((source, host)).or_default();
        path.open += 1;
        path.peak = path.peak.max(path.open);
        path.second(self.started).connections += 1;
        self.series.entry((source, provider)).or_default().opened(self.started.elapsed());
    }

    /// Whether another connection would be more than this path, this source or this provider ever had
    /// at once.
    pub fn is_peak(&self, source: IpAddr, host: usize) -> bool {
        let provider = self.hosts[host].1;
        let is_peak = |open: u32, peak: u32| open > 0 && open >= peak;
        is_peak(self.open[provider], self.counts.providers[provider].connections_peak)
            || self.paths.get(&(source, host)).is_some_and(|path| is_peak(path.open, path.peak))
            || self.series.get(&(source, provider)).is_some_and(|series| is_peak(series.open, series.peak))
    }

    pub fn violation(&mut self, what: &str) {
        self.counts.violations += 1;
        keep(&mut self.counts.violation_examples, what);
    }

    pub fn closed(&mut self, source: IpAddr, host: usize) {
        let provider = self.hosts[host].1;
        self.open[provider] -= 1;
        if let Some(series) = self.series.get_mut(&(source, provider)) {
            series.open -= 1;
        }
        if let Some(path) = self.paths.get_mut(&(source, host)) {
            path.open -= 1;
        }
    }

    /// Counts a MAIL and says which of its source at the provider it is.
    pub fn transaction(&mut self, source: IpAddr, host: usize, now: Instant) -> u32 {
        let provider = self.hosts[host].1;
        self.counts.providers[provider].transactions += 1;
        let number = self.next_transaction(source, provider);
        self.note_at(now, source, provider, |tally| tally.transactions += 1);
        let started = self.started;
        self.paths.entry((source, host)).or_default().second(started).transactions += 1;
        number
    }

    /// Counts one recipient of an accepted message; `answered`: whether the world will say so.
    pub fn accepted(
        &mut self,
        source: IpAddr,
        host: usize,
        recipient: (&str, u128),
        answered: bool,
        tls: bool,
    ) {
        let (address, key) = recipient;
        self.counts.accepted += 1;
        let number = self.hosts[host].1;
        self.note(source, number, |tally| tally.accepted += 1);
        let provider = &mut self.counts.providers[number];
        provider.accepted += 1;
        provider.accepted_over_tls += u64::from(tls);
        let started = self.started;
        self.paths.entry((source, host)).or_default().second(started).accepted += 1;
        let record = self.addresses.entry(key).or_default();
        record.accepted += 1;
        match record.accepted {
            1 => self.counts.addresses += 1,
            2 => {
                self.counts.repeated += 1;
                if self.repeat_keys.len() < EXAMPLES_MAX {
                    self.repeat_keys.push((key, address.to_owned()));
                }
            }
            _ => {}
        }
        if !answered {
            record.unanswered += 1;
            self.counts.accepted_unanswered += 1;
            keep(&mut self.counts.unanswered, address);
        }
    }

    /// Remembers whose message has this Message-ID; another address with the same one is a repeat.
    pub fn message_id(&mut self, id: &[u8], key: u128) {
        let hash = xxhash_rust::xxh3::xxh3_64(id);
        if let Some(owner) = self.message_ids.get(&hash) {
            if *owner != key {
                self.counts.message_id_repeats += 1;
                keep(&mut self.counts.message_id_examples, &String::from_utf8_lossy(id));
            }
        } else if self.message_ids.len() < MESSAGE_IDS_MAX {
            self.message_ids.insert(hash, key);
        }
    }

    /// Counts the content of an accepted message; whether it is in the sample to be verified.
    pub fn content(&mut self, provider: usize, octets: usize, sample: u32) -> bool {
        self.counts.providers[provider].content_octets += octets as u64;
        let sampled = sample > 0 && self.messages.is_multiple_of(u64::from(sample));
        self.messages += 1;
        sampled
    }

    pub fn signature(&mut self, address: &str, finding: Result<bool, String>) {
        match finding {
            Ok(true) => self.counts.dkim.verified += 1,
            Ok(false) => self.counts.dkim.unsigned += 1,
            Err(reason) => {
                self.counts.dkim.failed += 1;
                keep(&mut self.counts.dkim.failures, &format!("{address}: {reason}"));
            }
        }
    }
}

impl Path {
    fn second(&mut self, started: Instant) -> &mut SecondCounts {
        let second = started.elapsed().as_secs() as u32;
        if self.seconds.last().is_none_or(|last| last.second != second) {
            self.seconds.push(SecondCounts { second, ..SecondCounts::default() });
        }
        self.seconds.last_mut().expect("one was pushed if there was none")
    }
}

fn keep(examples: &mut Vec<String>, text: &str) {
    if examples.len() < EXAMPLES_MAX {
        examples.push(text.to_owned());
    }
}
