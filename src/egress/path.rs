//! A path: the task that owns all state of one (source, site).
//!
//! It asks the scheduler for recipients when its sessions have room, and opens and closes sessions
//! within its limits. Its sessions pass its gate before every message, so that a rate holds where it is
//! spent; a paced path holds no more than it may soon send. A site that cannot be reached suspends the
//! path by the retry schedule, and then a single session probes. It knows neither message contents nor
//! what an outcome means for a recipient.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::opening::{Ended, Opening};
use super::{CONTENTION_CHECK, Egress, LINGER, Paced};
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding};
use crate::pull::{Handle, Message, PathKey, Work};
use crate::shaping::rate::Gate;
use crate::shaping::{Ceilings, Limits};
use crate::site::Site;
use crate::smtp::{OpenFailure, Quirk, SessionEnd, SessionEvent, TlsPolicy};

/// Entries a path holds for its sessions: enough that they never wait for the scheduler.
const QUEUE: usize = 64;
/// Entries handed to a session at once.
const BATCH: usize = 32;
/// Batches that may wait in a session.
const ORDERS: usize = 2;
/// Entries waiting for each session beyond the first: below it a connection is not worth its price, which,
/// look-ups, greeting and farewell included, is that of some ten messages.
const SESSION_SPREAD: u64 = 64;

/// How much a path takes on at once: all it can use, or where it is paced what it may soon send, so that
/// the rest stays free for other sources.
#[derive(Debug, Clone, Copy)]
struct Appetite {
    queue: usize,
    batch: usize,
    sessions: usize,
}

impl Appetite {
    /// `per_second`: messages of the slowest pace, if there is one.
    fn new(sessions: u32, per_second: Option<f64>) -> Self {
        let sessions = sessions as usize;
        match per_second {
            None => Self { queue: QUEUE, batch: BATCH, sessions },
            Some(rate) => Self {
                queue: (rate as usize).clamp(2, QUEUE),
                batch: ((rate / 10.0) as usize).clamp(1, BATCH),
                // Five seconds a message is slow already; more sessions would only stand idle.
                sessions: ((rate * 5.0).ceil() as usize).clamp(1, sessions),
            },
        }
    }
}

struct Open {
    orders: mpsc::Sender<Vec<Entry>>,
    /// Entries it asked for and has not got.
    wants: usize,
    /// How often it asked; more than once means that it began what it was given.
    asked: u32,
}

/// The path's state; see the head of the file.
pub(super) struct Path {
    egress: Arc<Egress>,
    key: PathKey,
    site: Arc<Site>,
    scheduler: Handle,
    limits: Limits,
    ceilings: Arc<Ceilings>,
    appetite: Appetite,
    /// Passed by a session before each message.
    messages: Arc<Gate>,
    connections: Gate,
    queue: VecDeque<Entry>,
    /// Entries at the site behind those in `queue`, as of the last grant.
    behind: u64,
    asked: bool,
    sessions: HashMap<u32, Open>,
    next_session: u32,
    tasks: JoinSet<(u32, Ended)>,
    events: mpsc::UnboundedSender<(u32, SessionEvent)>,
    stop: CancellationToken,
    /// No connection is opened before.
    connect_after: Option<Instant>,
    /// Attempts to get on with the site that failed since one succeeded.
    failures: u32,
    /// Sessions the site was seen to take at once, and until when that is believed.
    sessions_seen: Option<(usize, Instant)>,
    idle_since: Option<Instant>,
    retiring: bool,
}

impl Path {
    pub(super) fn new(egress: Arc<Egress>, key: PathKey, site: Arc<Site>, scheduler: Handle) -> Self {
        let (mut limits, ceilings) = egress.setup.shaping.of(site.provider.as_deref());
        limits.sessions = egress.setup.pool.share(key.source, limits.sessions);
        let own = |paced, rate: &Option<_>| rate.as_ref().map(|rate| egress.pace(key, paced, rate));
        let campaign = egress.setup.campaign_pace.clone();
        let messages = [own(Paced::Messages, &limits.messages), ceilings.messages.clone(), campaign];
        let connections = [own(Paced::Connections, &limits.connections), ceilings.connections.clone()];
        let slowest = messages.iter().flatten().map(|pace| pace.per_second()).min_by(f64::total_cmp);
        Self {
            appetite: Appetite::new(limits.sessions, slowest),
            messages: Arc::new(Gate::new(messages.into_iter().flatten())),
            connections: Gate::new(connections.into_iter().flatten()),
            egress,
            key,
            site,
            scheduler,
            limits,
            ceilings,
            queue: VecDeque::with_capacity(QUEUE),
            behind: 0,
            asked: false,
            sessions: HashMap::new(),
            next_session: 0,
            tasks: JoinSet::new(),
            events: mpsc::unbounded_channel().0,
            stop: CancellationToken::new(),
            connect_after: None,
            failures: 0,
            sessions_seen: None,
            idle_since: None,
            retiring: false,
        }
    }

    /// Runs until `work` closes; then every session finishes what is in flight, and all else goes back.
    pub(super) async fn run(mut self, mut work: mpsc::Receiver<Work>) {
        // Bound: a handful of events for each batch a session is given.
        let (events, mut events_end) = mpsc::unbounded_channel();
        self.events = events;
        let mut closing = false;
        loop {
            if !closing {
                self.pump().await;
            } else if self.tasks.is_empty() {
                while let Ok((session, event)) = events_end.try_recv() {
                    self.event(session, event).await;
                }
                return self.give_back().await;
            }
            let wake = self.next_wake();
            tokio::select! {
                grant = work.recv(), if !closing => match grant {
                    Some(grant) => self.granted(grant).await,
                    None => {
                        closing = true;
                        self.stop.cancel();
                        self.sessions.clear();
                    }
                },
                Some((session, event)) = events_end.recv() => self.event(session, event).await,
                Some(ended) = self.tasks.join_next() => {
                    // Whatever a session said comes before its end.
                    while let Ok((session, event)) = events_end.try_recv() {
                        self.event(session, event).await;
                    }
                    match ended {
                        Ok((session, ended)) => self.ended(session, ended).await,
                        Err(panic) => tracing::error!(site = self.site.name, %panic, "a session died"),
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() && !closing => {}
            }
        }
    }

    async fn granted(&mut self, Work { entries, behind }: Work) {
        self.asked = false;
        self.behind = behind;
        self.queue.extend(entries);
        if self.retiring {
            self.give_back().await;
        }
    }

    /// Does all that can be done now: hands on entries, opens sessions, asks for more, or retires.
    async fn pump(&mut self) {
        let now = Instant::now();
        let is_past = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        if is_past(&self.connect_after) {
            self.connect_after = None;
        }
        if self.sessions_seen.is_some_and(|(_, until)| until <= now) {
            self.sessions_seen = None;
        }
        self.hand_on();
        if self.is_unreachable() {
            self.give_back().await;
        }
        self.open_sessions();
        self.ask().await;
        if self.queue.is_empty() && self.egress.is_contended() {
            // Another path waits for the permits of sessions that have nothing to do here.
            self.sessions.retain(|_, open| open.wants == 0);
        }
        self.retire(now).await;
    }

    /// Whether there is neither a session nor the chance of one now.
    fn is_unreachable(&self) -> bool {
        self.connect_after.is_some() && self.tasks.is_empty()
    }

    /// Hands entries to the sessions that want them.
    fn hand_on(&mut self) {
        for open in self.sessions.values_mut().filter(|open| open.wants > 0) {
            let count = open.wants.min(self.queue.len()).min(self.appetite.batch);
            if count == 0 {
                return;
            }
            open.wants = 0;
            if let Err(refused) = open.orders.try_send(self.queue.drain(..count).collect()) {
                // The session is ending.
                refused.into_inner().into_iter().rev().for_each(|entry| self.queue.push_front(entry));
            }
        }
    }

    /// Opens sessions while the work waiting is worth them and the limits allow.
    fn open_sessions(&mut self) {
        while self.is_session_wanted() {
            match self.connections.pass() {
                Ok(()) => self.open_session(),
                Err(until) => {
                    self.connect_after = Some(until);
                    return;
                }
            }
        }
    }

    fn is_session_wanted(&self) -> bool {
        let is_held = self.connect_after.is_some() || self.retiring;
        if is_held || self.queue.is_empty() || self.sessions.values().any(|open| open.wants > 0) {
            return false;
        }
        if self.opens_after().is_some_and(|at| at > Instant::now()) {
            return false;
        }
        let limit = match (self.failures, self.sessions_seen) {
            (0, None) => self.appetite.sessions,
            (0, Some((seen, _))) => seen.min(self.appetite.sessions),
            _ => 1, // A probe: more only once it got through.
        };
        let waiting = self.queue.len() as u64 + self.behind;
        self.tasks.len() < limit && self.tasks.len() as u64 <= waiting / SESSION_SPREAD
    }

    /// Where the pace lets nothing through for longer than a session is kept idle: when one would be in
    /// time again.
    fn opens_after(&self) -> Option<Instant> {
        self.messages.closed_until()?.checked_sub(self.limits.idle)
    }

    fn open_session(&mut self) {
        let session = self.next_session;
        self.next_session += 1;
        let memory = self.egress.remembered(self.key.site);
        let (orders, orders_end) = mpsc::channel(ORDERS);
        let opening = Opening {
            egress: self.egress.clone(),
            key: self.key,
            site: self.site.clone(),
            ceilings: self.ceilings.clone(),
            session,
            tls: match self.limits.tls {
                TlsPolicy::Opportunistic if memory.tls_broken => TlsPolicy::Off,
                policy => policy,
            },
            trust: memory.trust,
            messages_max: [self.limits.messages_per_session, memory.messages_max].into_iter().flatten().min(),
            idle: self.limits.idle,
            messages: self.messages.clone(),
            orders: orders_end,
            events: self.events.clone(),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(async move { (session, opening.run().await) });
        self.sessions.insert(session, Open { orders, wants: 0, asked: 0 });
    }

    /// Asks the scheduler for as much as the sessions could soon use.
    async fn ask(&mut self) {
        let is_held = self.retiring || self.is_unreachable();
        if !self.asked && !is_held && self.queue.len() <= self.appetite.queue / 2 {
            self.asked = true;
            let room = self.appetite.queue - self.queue.len();
            self.scheduler.send(Message::Wants { path: self.key, room }).await;
        }
    }

    /// Ends a path that has had neither work nor sessions for a while.
    async fn retire(&mut self, now: Instant) {
        if !self.queue.is_empty() || !self.tasks.is_empty() || self.connect_after.is_some() || self.retiring {
            self.idle_since = None;
        } else if now >= *self.idle_since.get_or_insert(now) + LINGER {
            self.retiring = true;
            self.scheduler.send(Message::Retire(self.key)).await;
        }
    }

    async fn event(&mut self, session: u32, event: SessionEvent) {
        match event {
            SessionEvent::Wants(room) => {
                if let Some(open) = self.sessions.get_mut(&session) {
                    open.wants = room;
                    open.asked += 1;
                    if open.asked > 1 {
                        self.got_through();
                    }
                }
            }
            SessionEvent::Returned(entries) => {
                entries.into_iter().for_each(|entry| self.queue.push_back(entry));
                if self.queue.len() > QUEUE || self.retiring {
                    self.give_back().await;
                }
            }
            SessionEvent::Learned(quirk) => self.learned(quirk),
        }
    }

    fn learned(&self, quirk: Quirk) {
        tracing::info!(site = self.site.name, ?quirk, "learned");
        self.egress.remember(self.key.site, |memory| match quirk {
            Quirk::Trust(trust) => memory.trust = trust,
            Quirk::MessagesMax(max) => memory.messages_max = Some(max),
            Quirk::TlsBroken => memory.tls_broken = true,
        });
    }

    async fn ended(&mut self, session: u32, ended: Ended) {
        // One that was let go of had its work and is no longer judged.
        let asked = self.sessions.remove(&session).map_or(u32::MAX, |open| open.asked);
        match ended {
            Ended::Unopened(failure) => self.unopened(failure).await,
            Ended::Session(SessionEnd::Closing(_) | SessionEnd::Broken(_)) if asked < 2 => {
                self.back_off().await
            }
            // It closed on work that waited: the next session would fare no better.
            Ended::Session(SessionEnd::Gone) if asked < 2 && !self.queue.is_empty() => self.back_off().await,
            Ended::Session(SessionEnd::Abandoned) => self.stop.cancel(),
            Ended::Session(_) => {}
        }
    }

    async fn unopened(&mut self, failure: OpenFailure) {
        failure.learned.iter().for_each(|quirk| self.learned(*quirk));
        self.egress.setup.feedback.unreachable(self.key, &failure);
        if let Finding::Failed { failure: Failure::Escape(address), .. } = failure.finding {
            // The first is as good as any.
            let _ = self.egress.escape.set(address);
        }
        let others = self.sessions.values().filter(|open| open.asked > 0).count();
        if others > 0 {
            // It takes these and no more: "too many connections" is said in many ways.
            let until = Instant::now() + self.egress.setup.schedule.delay(1);
            self.sessions_seen = Some((others, until));
        } else {
            self.back_off().await;
        }
    }

    /// Ends a suspension: a session gets on. Where it does so while others were refused, the site takes
    /// those there are and no more.
    fn got_through(&mut self) {
        if std::mem::take(&mut self.failures) > 0
            && let Some(until) = self.connect_after.take()
        {
            self.sessions_seen = Some((self.sessions.len(), until));
        }
    }

    /// Suspends the path by the retry schedule, and lets the scheduler put others to work.
    async fn back_off(&mut self) {
        if self.sessions.values().any(|open| open.asked > 1) {
            return;
        }
        if self.failures > 0 && self.connect_after.is_some() {
            // Opened together with the one whose failure suspended the path: the same news again.
            return;
        }
        self.failures += 1;
        let until = Instant::now() + self.egress.setup.schedule.delay(self.failures);
        self.connect_after = self.connect_after.max(Some(until));
        self.scheduler.send(Message::Suspended(self.key)).await;
    }

    async fn give_back(&mut self) {
        let entries: Vec<Entry> = self.queue.drain(..).collect();
        if !entries.is_empty() {
            self.scheduler.send(Message::Returned(entries)).await;
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let has_idle = self.queue.is_empty() && self.sessions.values().any(|open| open.wants > 0);
        let contention = has_idle.then(|| Instant::now() + CONTENTION_CHECK);
        let linger = self.idle_since.map(|since| since + LINGER).filter(|_| !self.retiring);
        let opens = self.opens_after().filter(|_| self.tasks.is_empty() && !self.queue.is_empty());
        [self.connect_after, contention, linger, opens].into_iter().flatten().min()
    }
}
