//! The scheduler: one task that owns every queue and gives recipients to the paths that ask.
//!
//! Segments come in as domains with ranges; a domain's route is looked up once and puts it under its
//! site; paths say how much room they have and get recipients in fair turn over the site's domains.
//! Nothing is pushed: a site whose paths are parked simply waits. Deferred recipients wait in a heap of
//! timers, 24 octets each. The task never waits for anyone but its own inboxes, so nobody that waits for
//! it can be waited for. It knows neither sockets nor messages: entries, domains, times.

mod asked;
mod intake;
pub mod queue;
mod timers;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::address::Domain;
use crate::campaign::segment::Segment;
use crate::campaign::spool::Spool;
use crate::egress::Egress;
use crate::envelope::Entry;
use crate::feedback::Feedback;
use crate::outcome::{Disposition, Evidence, SiteId, SourceId, Stage};
use crate::pull::{Handle, Message, PathKey, Work};
use crate::reply::EnhancedCode;
use crate::retry::Schedule;
use crate::site::{Resolver, Route, Routed};
use queue::Queues;
pub use queue::Skip;
use timers::Timers;

/// Messages that may wait for the scheduler: a few for each session of a busy node.
const INBOX: usize = 4096;
/// Sealed segments that may wait to be read in; the list waits in its file.
const SEGMENTS: usize = 4;
/// Look-ups under way at once; the resolver bounds its queries further.
const LOOKUPS: usize = 256;
/// Ranges in memory, 12 octets each, past which no further segment is read in.
const SPANS_MAX: usize = 4_000_000;
/// Settlements under way past which no further segment is read in: each holds its ranges in memory.
const SETTLING_MAX: usize = 1024;
/// Entries of one grant.
const GRANT: usize = 64;
/// Entries waiting at a site for each further source that is put to work on it.
pub(crate) const SOURCE_SPREAD: u64 = 64;
/// How often domains with a queue are checked for a route past its time to live.
const ROUTE_CHECK: Duration = Duration::from_secs(30);
/// How long an expiry is put off between looks at the clock of the wall.
const WALL_CHECK: Duration = Duration::from_secs(1);

/// The inboxes of a scheduler to be.
#[derive(Debug)]
pub struct Inboxes {
    inbox: mpsc::Receiver<Message>,
    segments: mpsc::Receiver<Arc<Segment>>,
}

/// Makes the handle, the way in for sealed segments, and the other ends of both.
pub fn channel() -> (Handle, mpsc::Sender<Arc<Segment>>, Inboxes) {
    let (inbox, inbox_end) = mpsc::channel(INBOX);
    let (segments, segments_end) = mpsc::channel(SEGMENTS);
    (Handle::new(inbox), segments, Inboxes { inbox: inbox_end, segments: segments_end })
}

/// What a scheduler works with.
pub struct Setup {
    pub spool: Arc<Spool>,
    pub resolver: Arc<Resolver>,
    pub egress: Arc<Egress>,
    pub feedback: Feedback,
    pub schedule: Arc<Schedule>,
    /// Not to be handed out of their segments.
    pub skip: Skip,
    /// Deferred before a restart: the attempt that is due next, and when.
    pub waiting: Vec<(Entry, SystemTime)>,
    /// Nothing is given out before.
    pub start: Instant,
    /// Only the test slice goes, until [`Message::Decided`].
    pub is_undecided: bool,
    pub stop: CancellationToken,
}

struct PathState {
    source: SourceId,
    work: mpsc::Sender<Work>,
    room: usize,
    suspended: bool,
    /// Entries given, over the source's weight: whose turn it is when several want the last entries.
    served: f64,
}

/// The task's state; see the head of the file.
struct Scheduler {
    setup: Setup,
    handle: Handle,
    queues: Queues,
    timers: Timers,
    paths: HashMap<SiteId, Vec<PathState>>,
    lookups: JoinSet<(Arc<str>, Routed)>,
    to_look_up: VecDeque<Arc<str>>,
    /// Domains whose look-up is queued, under way or held.
    asked: HashSet<Arc<str>>,
    /// The first to be asked for again on top.
    held: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    /// How often in a row, and why the last time.
    dns_failures: HashMap<Arc<str>, (u32, Arc<str>)>,
    settling: JoinSet<()>,
    /// Segments of which the rest, outside the test slice, is still to be read in.
    rest: VecDeque<u32>,
    started: bool,
    /// How everything that is not in flight ends: the run expired or was cancelled.
    swept: Option<Disposition>,
}

/// Runs the scheduler until it is told to stop.
pub async fn run(setup: Setup, handle: Handle, inboxes: Inboxes) {
    let Inboxes { mut inbox, mut segments } = inboxes;
    let mut scheduler = Scheduler::new(setup, handle);
    let stop = scheduler.setup.stop.clone();
    let mut messages = Vec::with_capacity(64);
    let mut importing = true;
    let mut next_route_check = Instant::now() + ROUTE_CHECK;
    loop {
        let wake = scheduler.next_wake(next_route_check);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = inbox.recv_many(&mut messages, 64) => {
                for message in messages.drain(..) {
                    scheduler.message(message);
                }
            }
            Some(found) = scheduler.lookups.join_next() => {
                if let Ok((domain, routed)) = found {
                    scheduler.routed(&domain, routed);
                }
            }
            Some(_) = scheduler.settling.join_next() => {}
            segment = segments.recv(), if importing && scheduler.has_room() => match segment {
                Some(segment) => scheduler.segment(&segment),
                None => importing = false,
            },
            () = sleep_until(wake) => {}
        }
        let now = Instant::now();
        if now >= next_route_check {
            next_route_check = now + ROUTE_CHECK;
            scheduler.refresh_routes(now);
        }
        scheduler.tick(now);
    }
}

impl Scheduler {
    fn new(mut setup: Setup, handle: Handle) -> Self {
        let queues = Queues::new(std::mem::take(&mut setup.skip));
        let timers = Timers::new(std::mem::take(&mut setup.waiting));
        Self {
            setup,
            handle,
            queues,
            timers,
            paths: HashMap::new(),
            lookups: JoinSet::new(),
            to_look_up: VecDeque::new(),
            asked: HashSet::new(),
            held: BinaryHeap::new(),
            dns_failures: HashMap::new(),
            settling: JoinSet::new(),
            rest: VecDeque::new(),
            started: false,
            swept: None,
        }
    }

    /// Whether another segment may be read in.
    fn has_room(&self) -> bool {
        self.queues.spans() < SPANS_MAX && self.settling.len() < SETTLING_MAX
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Wants { path, room } => {
                if let Some(state) = self.path(path) {
                    state.room = room;
                    state.suspended = false;
                    self.feed(path.site);
                }
            }
            Message::Suspended(path) => {
                if let Some(state) = self.path(path) {
                    state.suspended = true;
                    state.room = 0;
                    self.feed(path.site);
                }
            }
            Message::Returned(entries) => self.back(entries),
            Message::Deferred(entries) => match self.swept {
                Some(disposition) => {
                    let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
                    self.settle(entries, disposition, swept_evidence(disposition));
                }
                None => entries.into_iter().for_each(|(entry, due)| self.timers.add(entry, due)),
            },
            Message::Retire(path) => {
                if let Some(paths) = self.paths.get_mut(&path.site) {
                    paths.retain(|state| state.source != path.source);
                    if paths.is_empty() {
                        self.paths.remove(&path.site);
                    }
                }
                self.feed(path.site);
            }
            Message::Cancel => self.sweep(Disposition::Cancelled),
            Message::Decided => self.setup.is_undecided = false,
            Message::Ask(question) => self.asked(question),
        }
    }

    fn path(&mut self, key: PathKey) -> Option<&mut PathState> {
        self.paths.get_mut(&key.site)?.iter_mut().find(|state| state.source == key.source)
    }

    /// Puts entries back into their domains' queues, and feeds the sites they belong to.
    fn back(&mut self, entries: Vec<Entry>) {
        if let Some(disposition) = self.swept {
            self.settle(entries, disposition, swept_evidence(disposition));
            return;
        }
        let mut sites = HashSet::new();
        let mut lost = Vec::new();
        for entry in entries {
            let segment = self.setup.spool.segment(entry.recipient.segment);
            let Some(domain) = segment.as_ref().and_then(|segment| segment.domain_of(entry.recipient.index))
            else {
                lost.push(entry);
                continue;
            };
            if self.queues.add_entry(domain, entry) {
                self.ask_route(domain);
            } else if let Some(site) = self.queues.site_of_domain(domain) {
                sites.insert(site);
            }
        }
        if !lost.is_empty() {
            let text = "its segment's directory cannot be read".into();
            let evidence = Evidence { stage: Stage::Local, code: 0, enhanced: None, text };
            self.settle(lost, Disposition::Invalid, evidence);
        }
        sites.into_iter().for_each(|site| self.feed(site));
    }

    fn ask_route(&mut self, domain: &str) {
        if !self.asked.contains(domain) {
            let domain: Arc<str> = Arc::from(domain);
            self.asked.insert(domain.clone());
            self.to_look_up.push_back(domain);
        }
    }

    fn look_up_more(&mut self) {
        while self.lookups.len() < LOOKUPS
            && let Some(domain) = self.to_look_up.pop_front()
        {
            let resolver = self.setup.resolver.clone();
            self.lookups.spawn(async move {
                let routed = match Domain::parse(&domain) {
                    Ok(name) => resolver.route(&name).await,
                    Err(_) => Routed {
                        route: Route::NoDomain { reason: "it is no domain name" },
                        expires: Instant::now(),
                    },
                };
                (domain, routed)
            });
        }
    }

    fn routed(&mut self, domain: &Arc<str>, Routed { route, expires }: Routed) {
        self.asked.remove(domain);
        match route {
            Route::Site(site) => {
                self.dns_failures.remove(domain);
                let (id, is_new) = self.queues.site(&site);
                if is_new {
                    self.setup.feedback.name_site(id, &site);
                }
                self.queues.place(domain, id, expires);
                self.feed(id);
            }
            Route::NullMx => {
                // RFC 7505 §4.2: 5.1.10.
                self.give_up(domain, EnhancedCode::new(5, 1, 10), "the domain accepts no mail (null MX)");
            }
            Route::NoDomain { reason } => self.give_up(domain, EnhancedCode::new(5, 1, 2), reason),
            Route::Unresolved { reason } => {
                if !self.queues.is_unrouted(domain) {
                    return; // A refresh failed; what was known goes on serving.
                }
                let before = self.dns_failures.get(domain).map_or(0, |(failures, _)| *failures);
                let failures = before + 1;
                self.dns_failures.insert(domain.clone(), (failures, reason.clone()));
                let until = Instant::now() + self.setup.schedule.delay(failures);
                tracing::info!(%domain, %reason, failures, "held: the domain cannot be resolved");
                self.asked.insert(domain.clone());
                self.held.push(Reverse((until, domain.clone())));
            }
        }
    }

    fn give_up(&mut self, domain: &str, enhanced: EnhancedCode, text: &str) {
        if let Some(drained) = self.queues.drain(domain) {
            let evidence =
                Evidence { stage: Stage::Route, code: 0, enhanced: Some(enhanced), text: text.into() };
            self.settle(drained, Disposition::Bounced, evidence);
        }
    }

    /// Gives what a site has to the paths that want it, and puts further sources to work on it.
    fn feed(&mut self, site: SiteId) {
        if !self.started || self.swept.is_some() || self.queues.site_ready(site) == 0 {
            return;
        }
        let paths = self.paths.entry(site).or_default();
        let queues = &mut self.queues;
        for path in paths.iter().filter(|path| path.suspended) {
            queues.unbind(site, path.source);
        }
        while let Some(path) = paths
            .iter_mut()
            .filter(|path| path.room > 0 && queues.ready_for(site, path.source) > 0)
            .min_by(|a, b| a.served.total_cmp(&b.served))
        {
            let mut entries = Vec::with_capacity(path.room.min(GRANT));
            queues.take(site, path.source, path.room.min(GRANT), &mut entries);
            path.room = 0;
            path.served += entries.len() as f64 / f64::from(self.setup.egress.weight(path.source));
            let behind = queues.ready_for(site, path.source);
            if let Err(refused) = path.work.try_send(Work { entries, behind }) {
                // The path has died: what it would have got waits for the next one.
                let source = path.source;
                paths.retain(|path| path.source != source);
                let entries = refused.into_inner().entries;
                self.back(entries);
                return;
            }
        }
        let ready = self.queues.site_ready(site);
        let suspended = paths.iter().filter(|path| path.suspended).count();
        let wanted = 1 + suspended + (ready / SOURCE_SPREAD) as usize;
        let used: Vec<SourceId> = paths.iter().map(|path| path.source).collect();
        let mut further: Vec<SourceId> =
            self.queues.bound_sources(site).filter(|source| !used.contains(source)).collect();
        if further.is_empty() && ready > 0 && paths.len() < wanted {
            further.extend(self.setup.egress.next_source(self.queues.site_of(site), &used));
        }
        for source in further {
            let key = PathKey { site, source };
            let work = self.setup.egress.spawn_path(key, self.queues.site_of(site), self.handle.clone());
            let served = paths.iter().map(|path| path.served).fold(f64::INFINITY, f64::min);
            let served = if served.is_finite() { served } else { 0.0 };
            paths.push(PathState { source, work, room: 0, suspended: false, served });
        }
    }

    /// When something is due without anyone saying so.
    fn next_wake(&self, route_check: Instant) -> Instant {
        let mut wake = route_check;
        if self.has_rest() {
            wake = Instant::now();
        }
        if !self.started {
            wake = wake.min(self.setup.start);
        }
        if let Some(due) = self.timers.next_due() {
            wake = wake.min(wall_to_instant(due));
        }
        if let Some(Reverse((until, _))) = self.held.peek() {
            wake = wake.min(*until);
        }
        if self.swept.is_none() {
            wake = wake.min(wall_to_instant(self.setup.schedule.expires()));
        }
        // A wall clock may be set; look again now and then.
        wake.min(Instant::now() + WALL_CHECK).max(Instant::now() + Duration::from_millis(1))
    }

    fn tick(&mut self, now: Instant) {
        if !self.started && now >= self.setup.start {
            self.started = true;
            self.queues.sites().for_each(|site| self.feed(site));
        }
        let wall = SystemTime::now();
        if self.swept.is_none() && wall >= self.setup.schedule.expires() {
            self.sweep(Disposition::Expired);
        }
        if self.started {
            let due = self.timers.take_due(wall);
            if !due.is_empty() {
                self.back(due);
            }
        }
        if self.has_rest() {
            self.release_rest();
        }
        while let Some(Reverse((until, _))) = self.held.peek()
            && *until <= now
            && let Some(Reverse((_, domain))) = self.held.pop()
        {
            self.to_look_up.push_back(domain);
        }
        self.look_up_more();
    }

    fn refresh_routes(&mut self, now: Instant) {
        for domain in self.queues.stale_routes(now) {
            self.ask_route(&domain);
        }
    }

    /// Ends all that is not in flight.
    fn sweep(&mut self, disposition: Disposition) {
        if self.swept.is_some() {
            return;
        }
        self.swept = Some(disposition);
        // Let go of, paths let what is in flight finish and give the rest back: a slow pace would
        // otherwise go on with what it had been given.
        self.paths.clear();
        self.to_look_up.clear();
        self.held.clear();
        let all = self.queues.drain_all().into_iter().flatten().chain(self.timers.take_all());
        self.settle(all, disposition, swept_evidence(disposition));
    }

    /// Settles entries that no attempt will be made for, in a task, since there may be millions.
    fn settle(
        &mut self,
        entries: impl IntoIterator<Item = Entry, IntoIter: Send> + Send + 'static,
        disposition: Disposition,
        evidence: Evidence,
    ) {
        let feedback = self.setup.feedback.clone();
        self.settling.spawn(async move { feedback.settle(entries, disposition, evidence).await });
    }
}

fn swept_evidence(disposition: Disposition) -> Evidence {
    let text = match disposition {
        Disposition::Cancelled => "the run was cancelled",
        _ => "the run's expiry passed before the recipient could be tried again",
    };
    Evidence { stage: Stage::Local, code: 0, enhanced: None, text: text.into() }
}

fn wall_to_instant(at: SystemTime) -> Instant {
    Instant::now()
        + at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).min(Duration::from_secs(86_400))
}
