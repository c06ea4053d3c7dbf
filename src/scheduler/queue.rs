//! The queues: one a domain, domains in fair turn within their site. Pure: no clock, no tasks.
//!
//! A domain's recipients wait as ranges of a sealed segment, 12 octets however many they are; only
//! those that came back (deferred and due again, or returned unsent) wait one by one. A domain's queue
//! goes when it is empty. Invariant: an entry is in one domain's queue or out, never in two.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use roaring::RoaringBitmap;
use tokio::time::Instant;

use crate::envelope::{Entry, RecipientId};
use crate::outcome::{SiteId, SourceId};
use crate::site::Site;

/// Recipients that a domain may give before the next domain of its site has its turn.
const TURN: usize = 8;

/// Recipients not to be handed out from their segment: settled before a restart, or waiting in a timer.
#[derive(Debug, Default)]
pub struct Skip {
    by_segment: HashMap<u32, RoaringBitmap>,
}

impl Skip {
    pub fn new(by_segment: HashMap<u32, RoaringBitmap>) -> Self {
        Self { by_segment }
    }

    /// Recipients of `first..end` in `segment` that are to be handed out.
    fn remaining(&self, segment: u32, first: u32, end: u32) -> u64 {
        let skipped = match self.by_segment.get(&segment) {
            Some(bitmap) if first < end => bitmap.range_cardinality(first..end),
            _ => 0,
        };
        u64::from(end - first) - skipped
    }
}

/// A run of recipients of one domain in one segment, consumed from the front.
#[derive(Debug, Clone, Copy)]
struct Span {
    segment: u32,
    next: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The route is being looked up, or the domain is held after a failed look-up.
    Unrouted,
    Site(SiteId),
}

#[derive(Debug)]
struct DomainQueue {
    name: Arc<str>,
    spans: VecDeque<Span>,
    /// Out of their segment before: due again or returned.
    back: VecDeque<Entry>,
    /// Of those, the ones that only one source may take.
    bound: VecDeque<Entry>,
    /// Entries in `spans`, `back` and `bound`.
    ready: u64,
    place: Place,
    route_expires: Option<Instant>,
    in_turn: bool,
}

#[derive(Debug)]
struct SiteQueue {
    site: Arc<Site>,
    /// Domains with entries, the next in turn first.
    turn: VecDeque<usize>,
    ready: u64,
    /// Entries in `ready` that only this source may take.
    bound: HashMap<SourceId, u64>,
}

impl SiteQueue {
    /// Counts bound entries in (or, negative, out).
    fn count_bound(&mut self, bound: &VecDeque<Entry>, sign: i64) {
        for source in bound.iter().filter_map(|entry| entry.bound) {
            let count = self.bound.entry(source).or_default();
            *count = count.saturating_add_signed(sign);
            if *count == 0 {
                self.bound.remove(&source);
            }
        }
    }
}

/// What is left of a domain when its queue is dissolved.
#[derive(Debug)]
pub struct Drained {
    spans: VecDeque<Span>,
    back: VecDeque<Entry>,
    bound: VecDeque<Entry>,
    skip: Arc<Skip>,
}

impl Drained {
    fn new(queue: DomainQueue, skip: Arc<Skip>) -> Self {
        Self { spans: queue.spans, back: queue.back, bound: queue.bound, skip }
    }
}

impl Iterator for Drained {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let back = self.bound.pop_front().or_else(|| self.back.pop_front());
        back.or_else(|| next_of_spans(&mut self.spans, &self.skip))
    }
}

/// All queues of a run.
#[derive(Debug)]
pub struct Queues {
    by_name: HashMap<Arc<str>, usize>,
    domains: Vec<Option<DomainQueue>>,
    free: Vec<usize>,
    sites: Vec<SiteQueue>,
    /// By the place of the site in memory: the resolver gives one MX set one `Arc`, and `sites` keeps it.
    site_ids: HashMap<usize, SiteId>,
    skip: Arc<Skip>,
    spans: usize,
}

impl Queues {
    pub fn new(skip: Skip) -> Self {
        Self {
            by_name: HashMap::new(),
            domains: Vec::new(),
            free: Vec::new(),
            sites: Vec::new(),
            site_ids: HashMap::new(),
            skip: Arc::new(skip),
            spans: 0,
        }
    }

    /// Empty queues that pass over the same recipients as these.
    pub fn empty_like(&self) -> Self {
        let mut queues = Self::new(Skip::default());
        queues.skip = self.skip.clone();
        queues
    }

    /// Entries in all queues.
    #[cfg(test)]
    fn ready(&self) -> u64 {
        self.domains.iter().flatten().map(|queue| queue.ready).sum()
    }

    /// Ranges in all queues: what their memory grows with.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Adds a domain's recipients of one segment; `true` when the domain now needs a route.
    pub fn add_span(&mut self, domain: &str, segment: u32, first: u32, count: u32) -> bool {
        let added = self.skip.remaining(segment, first, first + count);
        if added == 0 {
            return false;
        }
        let (key, is_new) = self.domain(domain);
        self.queue_mut(key).spans.push_back(Span { segment, next: first, end: first + count });
        self.spans += 1;
        self.grown(key, added);
        is_new
    }

    /// Puts an entry back at the front of its domain; `true` when the domain now needs a route.
    pub fn add_entry(&mut self, domain: &str, entry: Entry) -> bool {
        let (key, is_new) = self.domain(domain);
        let queue = self.queue_mut(key);
        match entry.bound {
            Some(source) => {
                queue.bound.push_back(entry);
                if let Place::Site(site) = queue.place {
                    *self.sites[site.0 as usize].bound.entry(source).or_default() += 1;
                }
            }
            None => queue.back.push_back(entry),
        }
        self.grown(key, 1);
        is_new
    }

    /// Lets every source take what was bound to `source`, which cannot now.
    pub fn unbind(&mut self, site: SiteId, source: SourceId) {
        if self.sites[site.0 as usize].bound.remove(&source).is_none() {
            return;
        }
        for place in 0..self.sites[site.0 as usize].turn.len() {
            let key = self.sites[site.0 as usize].turn[place];
            let queue = self.queue_mut(key);
            let (freed, kept) = queue.bound.drain(..).partition(|entry| entry.bound == Some(source));
            queue.bound = kept;
            let freed: VecDeque<Entry> = freed;
            queue.back.extend(freed.into_iter().map(|entry| Entry { bound: None, ..entry }));
        }
    }

    /// Sources that entries of the site wait for.
    pub fn bound_sources(&self, site: SiteId) -> impl Iterator<Item = SourceId> + '_ {
        self.sites[site.0 as usize].bound.keys().copied()
    }

    /// Gives a site its number; the same MX set has the same one.
    pub fn site(&mut self, site: &Arc<Site>) -> (SiteId, bool) {
        let key = Arc::as_ptr(site) as usize;
        if let Some(id) = self.site_ids.get(&key) {
            return (*id, false);
        }
        let id = SiteId(u32::try_from(self.sites.len()).expect("fewer than 2^32 sites"));
        self.site_ids.insert(key, id);
        self.sites.push(SiteQueue {
            site: site.clone(),
            turn: VecDeque::new(),
            ready: 0,
            bound: HashMap::new(),
        });
        (id, true)
    }

    /// Puts a domain under a site (again); nothing happens when its queue is gone.
    pub fn place(&mut self, domain: &str, site: SiteId, route_expires: Instant) {
        let Some(&key) = self.by_name.get(domain) else { return };
        self.queue_mut(key).route_expires = Some(route_expires);
        if self.queue_mut(key).place == Place::Site(site) {
            return;
        }
        self.leave_site(key);
        let queue = self.domains[key].as_mut().expect("a named domain has a queue");
        queue.place = Place::Site(site);
        let site = &mut self.sites[site.0 as usize];
        site.ready += queue.ready;
        site.count_bound(&queue.bound, 1);
        self.join_turn(key);
    }

    /// Whether the domain has a queue that waits for a route.
    pub fn is_unrouted(&self, domain: &str) -> bool {
        self.queue(domain).is_some_and(|queue| queue.place == Place::Unrouted)
    }

    /// The site of a domain with entries, once it has a route.
    pub fn site_of_domain(&self, domain: &str) -> Option<SiteId> {
        match self.queue(domain)?.place {
            Place::Site(site) => Some(site),
            Place::Unrouted => None,
        }
    }

    /// Entries of a domain; `None` where it has no queue.
    pub fn domain_ready(&self, domain: &str) -> Option<u64> {
        self.queue(domain).map(|queue| queue.ready)
    }

    /// Entries of all domains without a route.
    pub fn unrouted(&self) -> u64 {
        let unrouted = self.domains.iter().flatten().filter(|queue| queue.place == Place::Unrouted);
        unrouted.map(|queue| queue.ready).sum()
    }

    /// Domains with entries whose route has outlived its time.
    pub fn stale_routes(&self, now: Instant) -> Vec<Arc<str>> {
        let stale = |queue: &&DomainQueue| queue.route_expires.is_some_and(|expires| expires <= now);
        self.domains.iter().flatten().filter(stale).map(|queue| queue.name.clone()).collect()
    }

    /// All sites that were ever named.
    pub fn sites(&self) -> impl Iterator<Item = SiteId> + use<> {
        (0..u32::try_from(self.sites.len()).unwrap_or(u32::MAX)).map(SiteId)
    }

    pub fn site_ready(&self, site: SiteId) -> u64 {
        self.sites[site.0 as usize].ready
    }

    /// Of those, the entries that `source` may take.
    pub fn ready_for(&self, site: SiteId, source: SourceId) -> u64 {
        let site = &self.sites[site.0 as usize];
        let of_others = site.bound.iter().filter(|(other, _)| **other != source).map(|(_, count)| count);
        site.ready - of_others.sum::<u64>()
    }

    pub fn site_of(&self, site: SiteId) -> &Arc<Site> {
        &self.sites[site.0 as usize].site
    }

    /// Takes up to `want` entries of a site that `source` may send, in fair turn over its domains.
    pub fn take(&mut self, site: SiteId, source: SourceId, want: usize, out: &mut Vec<Entry>) {
        let skip = self.skip.clone();
        let goal = out.len() + want;
        // Domains in a row that had nothing for this source.
        let mut barren = 0;
        while out.len() < goal && barren < self.sites[site.0 as usize].turn.len().max(1) {
            let Some(key) = self.sites[site.0 as usize].turn.pop_front() else { return };
            let queue = self.domains[key].as_mut().expect("a domain in turn has a queue");
            let before = (out.len(), queue.spans.len());
            if !queue.bound.is_empty() {
                let mine = take_bound(&mut queue.bound, source, goal.min(before.0 + TURN) - before.0);
                self.sites[site.0 as usize].count_bound(&mine, -1);
                out.extend(mine);
            }
            while out.len() < goal.min(before.0 + TURN) {
                let next = queue.back.pop_front().or_else(|| next_of_spans(&mut queue.spans, &skip));
                match next {
                    Some(entry) => out.push(entry),
                    None => break,
                }
            }
            let taken = (out.len() - before.0) as u64;
            queue.ready -= taken;
            self.spans -= before.1 - queue.spans.len();
            let left = queue.ready;
            self.sites[site.0 as usize].ready -= taken;
            barren = if taken == 0 { barren + 1 } else { 0 };
            if left > 0 {
                self.sites[site.0 as usize].turn.push_back(key);
            } else {
                self.dissolve(key);
            }
        }
    }

    /// Dissolves a domain's queue, giving what was in it.
    pub fn drain(&mut self, domain: &str) -> Option<Drained> {
        let key = *self.by_name.get(domain)?;
        self.leave_site(key);
        let queue = self.dissolve(key);
        self.spans -= queue.spans.len();
        Some(Drained::new(queue, self.skip.clone()))
    }

    /// Dissolves every queue, giving what was in each.
    pub fn drain_all(&mut self) -> Vec<Drained> {
        self.by_name.clear();
        self.free.clear();
        self.spans = 0;
        for site in &mut self.sites {
            site.turn.clear();
            site.bound.clear();
            site.ready = 0;
        }
        let queues = std::mem::take(&mut self.domains).into_iter().flatten();
        queues.map(|queue| Drained::new(queue, self.skip.clone())).collect()
    }

    fn domain(&mut self, name: &str) -> (usize, bool) {
        if let Some(&key) = self.by_name.get(name) {
            return (key, false);
        }
        let name: Arc<str> = Arc::from(name);
        let queue = DomainQueue {
            name: name.clone(),
            spans: VecDeque::new(),
            back: VecDeque::new(),
            bound: VecDeque::new(),
            ready: 0,
            place: Place::Unrouted,
            route_expires: None,
            in_turn: false,
        };
        let key = match self.free.pop() {
            Some(key) => key,
            None => {
                self.domains.push(None);
                self.domains.len() - 1
            }
        };
        self.domains[key] = Some(queue);
        self.by_name.insert(name, key);
        (key, true)
    }

    fn queue(&self, domain: &str) -> Option<&DomainQueue> {
        self.by_name.get(domain).and_then(|&key| self.domains[key].as_ref())
    }

    fn queue_mut(&mut self, key: usize) -> &mut DomainQueue {
        self.domains[key].as_mut().expect("a named domain has a queue")
    }

    fn grown(&mut self, key: usize, by: u64) {
        let queue = self.queue_mut(key);
        queue.ready += by;
        if let Place::Site(site) = queue.place {
            self.sites[site.0 as usize].ready += by;
            self.join_turn(key);
        }
    }

    fn join_turn(&mut self, key: usize) {
        let queue = self.queue_mut(key);
        if let Place::Site(site) = queue.place
            && queue.ready > 0
            && !std::mem::replace(&mut queue.in_turn, true)
        {
            self.sites[site.0 as usize].turn.push_back(key);
        }
    }

    fn leave_site(&mut self, key: usize) {
        let queue = self.domains[key].as_mut().expect("a named domain has a queue");
        let place = std::mem::replace(&mut queue.place, Place::Unrouted);
        queue.in_turn = false;
        if let Place::Site(site) = place {
            let site = &mut self.sites[site.0 as usize];
            site.turn.retain(|other| *other != key);
            site.ready -= queue.ready;
            site.count_bound(&queue.bound, -1);
        }
    }

    fn dissolve(&mut self, key: usize) -> DomainQueue {
        let queue = self.domains[key].take().expect("a domain is dissolved once");
        self.by_name.remove(&queue.name);
        self.free.push(key);
        queue
    }
}

/// Takes up to `most` entries bound to `source`, the first first.
fn take_bound(bound: &mut VecDeque<Entry>, source: SourceId, most: usize) -> VecDeque<Entry> {
    let mut mine = VecDeque::new();
    bound.retain(|entry| {
        let is_mine = entry.bound == Some(source) && mine.len() < most;
        if is_mine {
            mine.push_back(*entry);
        }
        !is_mine
    });
    mine
}

fn next_of_spans(spans: &mut VecDeque<Span>, skip: &Skip) -> Option<Entry> {
    while let Some(span) = spans.front_mut() {
        let skipped = skip.by_segment.get(&span.segment);
        while span.next < span.end {
            let index = span.next;
            span.next += 1;
            if skipped.is_none_or(|bitmap| !bitmap.contains(index)) {
                let entry = Entry::new(RecipientId::new(span.segment, index), 1);
                if span.next == span.end {
                    spans.pop_front();
                }
                return Some(entry);
            }
        }
        spans.pop_front();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site {
            name: name.into(),
            exchanges: Vec::new(),
            provider: None,
            implicit: false,
            own_limits_of: None,
        })
    }

    fn take(queues: &mut Queues, site: SiteId, want: usize) -> Vec<Entry> {
        let mut out = Vec::new();
        queues.take(site, SourceId(0), want, &mut out);
        out
    }

    #[test]
    fn domains_of_a_site_take_turns() {
        let mut queues = Queues::new(Skip::default());
        let (id, _) = queues.site(&site("mx"));
        for (domain, first, count) in [("large.test", 0, 1000), ("small.test", 1000, 3)] {
            assert!(queues.add_span(domain, 0, first, count));
            queues.place(domain, id, Instant::now());
        }
        let out = take(&mut queues, id, 2 * TURN);
        let small = out.iter().filter(|entry| entry.recipient.index >= 1000).count();
        assert_eq!((out.len(), small), (2 * TURN, 3));
        assert_eq!(queues.site_ready(id), 1003 - out.len() as u64);
    }

    #[test]
    fn what_was_settled_before_a_restart_is_not_handed_out() {
        let skip = Skip::new(HashMap::from([(0, RoaringBitmap::from_iter([0, 2, 3]))]));
        let mut queues = Queues::new(skip);
        let (id, _) = queues.site(&site("mx"));
        assert!(queues.add_span("a.test", 0, 0, 5));
        assert!(!queues.add_span("b.test", 0, 2, 2));
        queues.place("a.test", id, Instant::now());
        let indexes: Vec<u32> = take(&mut queues, id, 9).iter().map(|entry| entry.recipient.index).collect();
        assert_eq!(indexes, [1, 4]);
        assert_eq!((queues.ready(), queues.spans()), (0, 0));
        assert!(queues.drain_all().is_empty());
    }

    #[test]
    fn a_bound_entry_waits_for_its_source_alone() {
        let mut queues = Queues::new(Skip::default());
        let (id, _) = queues.site(&site("mx"));
        let bound = |index, source| Entry {
            bound: Some(SourceId(source)),
            ..Entry::new(RecipientId::new(0, index), 2)
        };
        for entry in [bound(1, 1), bound(2, 0), Entry::new(RecipientId::new(0, 3), 2)] {
            queues.add_entry("a.test", entry);
        }
        queues.place("a.test", id, Instant::now());
        assert_eq!((queues.ready_for(id, SourceId(0)), queues.ready_for(id, SourceId(7))), (2, 1));
        let indexes = |out: Vec<Entry>| out.iter().map(|entry| entry.recipient.index).collect::<Vec<_>>();
        assert_eq!(indexes(take(&mut queues, id, 9)), [2, 3]);
        assert_eq!(queues.bound_sources(id).collect::<Vec<_>>(), [SourceId(1)]);
        queues.unbind(id, SourceId(1));
        assert_eq!(indexes(take(&mut queues, id, 9)), [1], "its source cannot: anyone may");
        assert_eq!((queues.ready(), queues.site_ready(id)), (0, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Span { domain: usize, count: u32 },
        Place { domain: usize, site: usize },
        Take { site: usize, source: u16, want: usize },
        Return { bound: Option<u16> },
        Unbind { site: usize, source: u16 },
        Drain { domain: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6usize, 1..40u32).prop_map(|(domain, count)| Step::Span { domain, count }),
            (0..6usize, 0..3usize).prop_map(|(domain, site)| Step::Place { domain, site }),
            (0..3usize, 0..2u16, 1..50usize).prop_map(|(site, source, want)| Step::Take {
                site,
                source,
                want
            }),
            proptest::option::of(0..2u16).prop_map(|bound| Step::Return { bound }),
            (0..3usize, 0..2u16).prop_map(|(site, source)| Step::Unbind { site, source }),
            (0..6usize).prop_map(|domain| Step::Drain { domain }),
        ]
    }

    proptest! {
        #[test]
        fn no_entry_is_lost_or_doubled(steps in proptest::collection::vec(step(), 1..60)) {
            let mut queues = Queues::new(Skip::default());
            let sites: Vec<SiteId> = ["x", "y", "z"].iter().map(|name| queues.site(&site(name)).0).collect();
            let name = |domain: usize| format!("d{domain}.test");
            let mut owner: HashMap<u32, usize> = HashMap::new();
            let mut added = 0u32;
            let mut out: Vec<Entry> = Vec::new();
            for step in steps {
                match step {
                    Step::Span { domain, count } => {
                        queues.add_span(&name(domain), 0, added, count);
                        owner.extend((added..added + count).map(|index| (index, domain)));
                        added += count;
                    }
                    Step::Place { domain, site } => queues.place(&name(domain), sites[site], Instant::now()),
                    Step::Take { site, source, want } => {
                        let before = out.len();
                        let ready = queues.ready_for(sites[site], SourceId(source));
                        queues.take(sites[site], SourceId(source), want, &mut out);
                        prop_assert_eq!((out.len() - before) as u64, ready.min(want as u64));
                        let mut taken = out[before..].iter();
                        prop_assert!(taken.all(|entry| entry.bound.is_none_or(|bound| bound.0 == source)));
                    }
                    Step::Return { bound } => if let Some(entry) = out.pop() {
                        let entry = Entry { bound: bound.map(SourceId), ..entry };
                        queues.add_entry(&name(owner[&entry.recipient.index]), entry);
                    },
                    Step::Unbind { site, source } => queues.unbind(sites[site], SourceId(source)),
                    Step::Drain { domain } => out.extend(queues.drain(&name(domain)).into_iter().flatten()),
                }
                let distinct: HashSet<_> = out.iter().map(|entry| entry.recipient).collect();
                prop_assert_eq!(distinct.len(), out.len());
                prop_assert_eq!(queues.ready() + out.len() as u64, u64::from(added));
            }
            out.extend(queues.drain_all().into_iter().flatten());
            let distinct: HashSet<_> = out.iter().map(|entry| entry.recipient).collect();
            prop_assert_eq!((distinct.len(), out.len()), (added as usize, added as usize));
            prop_assert_eq!((queues.ready(), queues.spans()), (0, 0));
            prop_assert!(sites.iter().all(|site| queues.site_ready(*site) == 0));
            prop_assert!(sites.iter().all(|site| queues.bound_sources(*site).next().is_none()));
        }
    }
}
