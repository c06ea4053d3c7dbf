//! The live counts of a world, behind one lock that all its servers share.
//!
//! They run on one thread, so the lock is never contended but by a reader of snapshots. Grows with
//! the addresses seen (48 octets each); everything else is bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::{Breach, Counts, Limit, PathCounts, ProviderCounts, Repeat, SecondCounts};

/// Examples kept of what should not happen; the counts beside them go on.
const EXAMPLES_MAX: usize = 1_000;
/// Message-IDs remembered to find repeats: 24 octets each.
const MESSAGE_IDS_MAX: usize = 2_000_000;

/// What is remembered of one address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AddressRecord {
    /// RCPT TO that were not greylisted.
    pub attempts: u32,
    pub accepted: u32,
    pub unanswered: u32,
    first_seen: Option<Instant>,
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
    paths: BTreeMap<(IpAddr, usize), Path>,
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
    pub fn new(providers: impl Iterator<Item = String>, hosts: Vec<(String, usize)>) -> Self {
        let providers: Vec<ProviderCounts> =
            providers.map(|name| ProviderCounts { name, ..ProviderCounts::default() }).collect();
        Self {
            started: Instant::now(),
            addresses: hashbrown::HashMap::new(),
            message_ids: hashbrown::HashMap::new(),
            paths: BTreeMap::new(),
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

    /// Counts a RCPT TO and says which attempt it is; `None` while the address is greylisted.
    pub fn attempt(&mut self, key: u128, greylist: Option<Duration>) -> Option<u32> {
        let record = self.addresses.entry(key).or_default();
        if let Some(delay) = greylist {
            let now = Instant::now();
            if now < *record.first_seen.get_or_insert(now) + delay {
                return None;
            }
        }
        record.attempts += 1;
        Some(record.attempts)
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

    pub fn breach(&mut self, provider: usize, source: IpAddr, limit: Limit) {
        *self.breaches.entry((provider, source, limit)).or_default() += 1;
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
    }

    /// Whether another connection would be more than this path ever had at once.
    pub fn is_peak(&self, source: IpAddr, host: usize) -> bool {
        self.paths.get(&(source, host)).is_some_and(|path| path.open > 0 && path.open >= path.peak)
    }

    pub fn violation(&mut self, what: &str) {
        self.counts.violations += 1;
        keep(&mut self.counts.violation_examples, what);
    }

    pub fn closed(&mut self, source: IpAddr, host: usize) {
        self.open[self.hosts[host].1] -= 1;
        if let Some(path) = self.paths.get_mut(&(source, host)) {
            path.open -= 1;
        }
    }

    pub fn transaction(&mut self, source: IpAddr, host: usize) {
        self.counts.providers[self.hosts[host].1].transactions += 1;
        let started = self.started;
        self.paths.entry((source, host)).or_default().second(started).transactions += 1;
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
        let provider = &mut self.counts.providers[self.hosts[host].1];
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
