//! A path: the task that owns the sessions of one (source, site).
//!
//! It asks the scheduler for recipients when its sessions have room, and opens and closes sessions
//! within its limits and the terms that policy has set for it. Its sessions pass its gate before every
//! message, so that a rate holds where it is spent; a paced path holds no more than it may soon send.
//! While its terms hold it, it has no sessions and gives back what it has; then a single message probes.
//! It knows neither message contents nor what an outcome means for a recipient.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::opening::{Ended, Opening};
use super::{CONTENTION_CHECK, Egress, LINGER, Paced};
use crate::config::Rate;
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::policy::{Binding, Entrance, Resting, Terms};
use crate::pull::{Handle, Message, PathKey, Work};
use crate::shaping::rate::{Credit, Gate, Limit, Meter, Pace};
use crate::shaping::{Ceilings, Limits, Shaping};
use crate::site::Site;
use crate::smtp::{OpenFailure, Quirk, SessionEnd, SessionEvent, TlsPolicy};

/// Entries a path holds for its sessions: enough that they never wait for the scheduler.
const QUEUE: usize = 64;
/// Entries handed to a session at once.
const BATCH: usize = 32;
/// Batches that may wait in a session.
const ORDERS: usize = 2;
/// A batch that shrinks below this part leaves too much in the hands of sessions: at the new rate it would
/// be minutes before it is sent, or could go another way.
const MUCH_LESS: usize = 4;
/// Between two probes, if the first left without a word.
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// Entries waiting for each session beyond the first: below it a connection is not worth its price, which,
/// look-ups, greeting and farewell included, is that of some ten messages.
pub(crate) const SESSION_SPREAD: u64 = 64;

/// How much a path takes on at once: all it can use, or where it is paced what it may soon send, so that
/// the rest stays free for other sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Whether anything goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// No further session is opened; those there are go on.
    NoMore {
        until: Option<Instant>,
    },
    /// Nothing, for now; `until` is when to look again, `overflows` whether others may take its work.
    Held {
        until: Option<Instant>,
        overflows: bool,
    },
    /// One message alone; `None` before it has gone, then when another may be tried.
    Probing {
        again: Option<Instant>,
    },
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
    entrance: Entrance,
    /// What the limits are from.
    shaping: watch::Receiver<Arc<Shaping>>,
    limits: Arc<Limits>,
    ceilings: Arc<Ceilings>,
    /// Messages a second of the slowest pace that is not adapted.
    fixed: Option<f64>,
    appetite: Appetite,
    /// Passed by a session before each message.
    messages: Arc<Gate>,
    connections: Gate,
    flow: Flow,
    queue: VecDeque<Entry>,
    /// Entries at the site behind those in `queue`, as of the last grant.
    behind: u64,
    asked: bool,
    sessions: HashMap<u32, Open>,
    next_session: u32,
    tasks: JoinSet<(u32, Ended)>,
    events: mpsc::UnboundedSender<(u32, SessionEvent)>,
    stop: CancellationToken,
    /// No connection is opened before: the pace of connections.
    connect_after: Option<Instant>,
    idle_since: Option<Instant>,
    retiring: bool,
}

impl Path {
    pub(super) fn new(egress: Arc<Egress>, key: PathKey, site: Arc<Site>, scheduler: Handle) -> Self {
        let mut shaping = egress.setup.shaping.subscribe();
        let (limits, ceilings) = egress.limits(key, &site, &shaping.borrow_and_update());
        let entrance = egress.setup.policy.enter(key, &site, limits.clone());
        let credit = egress.setup.credit;
        let mut path = Self {
            fixed: None,
            appetite: Appetite::new(limits.sessions, None),
            messages: Arc::default(),
            connections: Gate::default(),
            flow: Flow::Open,
            egress,
            key,
            site,
            scheduler,
            entrance,
            shaping,
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
            idle_since: None,
            retiring: false,
        };
        path.limited(credit);
        path.entrance.standing.paced_by(&path.messages);
        path
    }

    /// Takes on its limits: at birth, and when they have been read anew. `credit` is that of paces of its
    /// own which are new.
    fn limited(&mut self, credit: Credit) {
        let egress = &self.egress;
        let own = |paced, rates: &[Rate]| -> Vec<Arc<Pace>> {
            rates.iter().map(|rate| egress.pace(self.key, paced, rate, credit)).collect()
        };
        let messages = own(Paced::Messages, &self.limits.messages);
        let account = egress.setup.pool.source(self.key.source).relay.as_ref();
        let account = account.map_or(Vec::new(), |relay| relay.messages.clone());
        let campaign = egress.setup.campaign_pace.clone();
        let shared = self.ceilings.messages.iter().chain(&account).chain(&campaign);
        self.fixed = messages.iter().chain(shared).map(|pace| pace.per_second()).min_by(f64::total_cmp);
        self.appetite = self.appetite_now();
        let label = |limit| move |pace: Arc<Pace>| (limit, pace as Arc<dyn Meter>);
        let adapted: [(Limit, Arc<dyn Meter>); 2] = [
            (Limit::AdaptedPath, self.entrance.pace.clone()),
            (Limit::AdaptedDomain, self.entrance.domain_pace.clone()),
        ];
        let gate = messages.into_iter().map(label(Limit::Path)).chain(adapted);
        let gate = gate.chain(self.ceilings.messages.iter().cloned().map(label(Limit::Provider)));
        let gate = gate.chain(account.into_iter().map(label(Limit::Account)));
        let gate = gate.chain(campaign.into_iter().map(label(Limit::Campaign)));
        // Last, so that none of a cap is lost in a hand.
        let gate = gate.chain(self.entrance.warm_up.iter().map(|meter| (Limit::WarmUp, meter.clone())));
        self.messages.replace(gate);
        let connections = own(Paced::Connections, &self.limits.connections);
        let gate = connections.into_iter().map(label(Limit::Path));
        let shared = self.ceilings.connections.iter().cloned().map(label(Limit::Provider));
        self.connections.replace(gate.chain(shared));
    }

    fn appetite_now(&self) -> Appetite {
        let adapted = [self.entrance.pace.per_second(), self.entrance.domain_pace.per_second()];
        let paces = adapted.into_iter().chain([self.fixed]).flatten();
        Appetite::new(self.limits.sessions, paces.min_by(f64::total_cmp))
    }

    /// Follows what paces are adapted to. Where much less goes than before, what is in hand is let go of.
    async fn adapt_appetite(&mut self) {
        let (before, now) = (self.appetite, self.appetite_now());
        if now == before {
            return;
        }
        self.appetite = now;
        if self.appetite.batch < before.batch / MUCH_LESS {
            self.let_go();
        }
        self.end_surplus();
        if self.queue.len() > self.appetite.queue {
            let surplus = self.queue.split_off(self.appetite.queue);
            self.scheduler.send(Message::Returned(surplus.into())).await;
        }
    }

    /// Ends sessions beyond the number there may be, once they have done what they have.
    fn end_surplus(&mut self) {
        let surplus = self.sessions.len().saturating_sub(self.appetite.sessions);
        let ending: Vec<u32> = self.sessions.keys().copied().take(surplus).collect();
        ending.iter().for_each(|session| drop(self.sessions.remove(session)));
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
                Ok(()) = self.shaping.changed(), if !closing => self.shaping.mark_changed(),
                Some(ended) = self.tasks.join_next() => {
                    // Whatever a session said comes before its end.
                    while let Ok((session, event)) = events_end.try_recv() {
                        self.event(session, event).await;
                    }
                    match ended {
                        Ok((session, ended)) => self.ended(session, ended),
                        Err(panic) => tracing::error!(site = self.site.name, %panic, "a session died"),
                    }
                }
                Ok(()) = self.entrance.terms.changed(), if !closing => {}
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
        self.look_at_terms(now).await;
        self.adapt_appetite().await;
        if self.connect_after.is_some_and(|until| until <= now) {
            self.connect_after = None;
        }
        match self.flow {
            Flow::Held { overflows: true, .. } => self.give_back().await,
            Flow::Held { overflows: false, .. } => {}
            Flow::Open | Flow::NoMore { .. } | Flow::Probing { .. } => {
                self.hand_on();
                self.open_sessions();
                self.ask().await;
            }
        }
        if self.queue.is_empty() && self.egress.is_contended() {
            // Another path waits for the permits of sessions that have nothing to do here.
            self.sessions.retain(|_, open| open.wants == 0);
        }
        self.retire(now).await;
        self.explain();
    }

    /// Does what the terms say: holds, probes, or lets all go.
    async fn look_at_terms(&mut self, now: Instant) {
        if self.shaping.has_changed().unwrap_or(false) {
            self.relimited();
        }
        let terms = self.entrance.terms.borrow_and_update().clone();
        let flow = self.flow_of(&terms, now);
        if flow == self.flow {
            return;
        }
        let before = std::mem::replace(&mut self.flow, flow);
        let was_held = matches!(before, Flow::Held { .. });
        if matches!(flow, Flow::Held { .. }) && !was_held || matches!(flow, Flow::Probing { .. }) {
            // What is in flight finishes, all else comes back and may go another way.
            self.let_go();
        }
        let overflows = |flow| matches!(flow, Flow::Held { overflows: true, .. });
        if overflows(flow) && !overflows(before) {
            self.asked = false;
            self.scheduler.send(Message::Suspended(self.key)).await;
        } else if overflows(before) && matches!(flow, Flow::Held { .. }) {
            // Others are to take over no longer.
            self.scheduler.send(Message::Wants { path: self.key, room: 0 }).await;
        }
    }

    /// Takes over limits that have changed. Sessions that are open go on with the new rates, and those
    /// beyond the new number end once they have done what they have.
    fn relimited(&mut self) {
        let (limits, ceilings) = self.egress.limits(self.key, &self.site, &self.shaping.borrow_and_update());
        if *limits == *self.limits && Arc::ptr_eq(&ceilings, &self.ceilings) {
            return;
        }
        self.egress.setup.policy.relimited(self.key, limits.clone());
        (self.limits, self.ceilings) = (limits, ceilings);
        // Nothing on credit: what was spent of the old rates is not known to the new ones.
        self.limited(Credit::Empty);
        self.end_surplus();
        // A wait may have been for a rate that is no more.
        self.connect_after = None;
    }

    fn flow_of(&self, terms: &Terms, now: Instant) -> Flow {
        let Some(hold) = &terms.hold else { return Flow::Open };
        if !hold.is_over(now) {
            if hold.resting == Resting::Unreachable && !self.tasks.is_empty() {
                return Flow::NoMore { until: hold.until };
            }
            return Flow::Held { until: hold.until, overflows: hold.overflows };
        }
        if !hold.then_probe {
            return Flow::Open;
        }
        match self.flow {
            // One that is under way may take its time.
            Flow::Probing { again } if again.is_none_or(|again| again > now) || !self.tasks.is_empty() => {
                self.flow
            }
            // Also one that was held for longer: what held it may have been ended early.
            _ => match self.egress.setup.policy.probe(self.key) {
                Ok(()) => Flow::Probing { again: None },
                Err(until) => Flow::Held { until: Some(until), overflows: hold.overflows },
            },
        }
    }

    /// Ends every session once what it has in flight is through.
    fn let_go(&mut self) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        self.sessions.clear();
    }

    /// Hands entries to the sessions that want them.
    fn hand_on(&mut self) {
        let batch = if self.is_probing() { 1 } else { self.appetite.batch };
        for open in self.sessions.values_mut().filter(|open| open.wants > 0) {
            let count = open.wants.min(self.queue.len()).min(batch);
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
        let waiting = self.queue.len() as u64 + self.behind;
        match self.flow {
            Flow::Open => {
                self.tasks.len() < self.sessions_max() && self.tasks.len() as u64 <= waiting / SESSION_SPREAD
            }
            Flow::Probing { again } => again.is_none() && self.tasks.is_empty(),
            Flow::NoMore { .. } | Flow::Held { .. } => false,
        }
    }

    fn sessions_max(&self) -> usize {
        (self.entrance.terms.borrow().sessions as usize).min(self.appetite.sessions)
    }

    fn is_probing(&self) -> bool {
        matches!(self.flow, Flow::Probing { .. })
    }

    /// Where the pace lets nothing through for longer than a session is kept idle: when one would be in
    /// time again.
    fn opens_after(&self) -> Option<Instant> {
        self.messages.closed()?.1.checked_sub(self.limits.idle)
    }

    fn open_session(&mut self) {
        let session = self.next_session;
        self.next_session += 1;
        let memory = self.egress.remembered(self.key);
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
            messages_max: [
                self.limits.messages_per_session,
                memory.messages_max,
                self.is_probing().then_some(1),
            ]
            .into_iter()
            .flatten()
            .min(),
            limits: self.limits.clone(),
            standing: self.entrance.standing.clone(),
            messages: self.messages.clone(),
            orders: orders_end,
            events: self.events.clone(),
            stop: self.stop.clone(),
        };
        if let Flow::Probing { again } = &mut self.flow {
            *again = Some(Instant::now() + PROBE_AGAIN);
        }
        self.tasks.spawn(async move { (session, opening.run().await) });
        self.sessions.insert(session, Open { orders, wants: 0, asked: 0 });
    }

    /// Asks the scheduler for as much as the sessions could soon use.
    async fn ask(&mut self) {
        let most = if self.is_probing() { 1 } else { self.appetite.queue };
        if !self.asked && !self.retiring && self.queue.len() <= most / 2 {
            self.asked = true;
            let room = most - self.queue.len();
            self.scheduler.send(Message::Wants { path: self.key, room }).await;
        }
    }

    /// Ends a path that has had neither work nor sessions for a while.
    async fn retire(&mut self, now: Instant) {
        let is_held = self.connect_after.is_some() || matches!(self.flow, Flow::Held { .. });
        if !self.queue.is_empty() || !self.tasks.is_empty() || is_held || self.retiring {
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
        self.egress.remember(self.key, |memory| match quirk {
            Quirk::Trust(trust) => memory.trust = trust,
            Quirk::MessagesMax(max) => memory.messages_max = Some(max),
            Quirk::TlsBroken => memory.tls_broken = true,
        });
    }

    fn ended(&mut self, session: u32, ended: Ended) {
        // One that was let go of had its work and is no longer judged.
        let asked = self.sessions.remove(&session).map_or(u32::MAX, |open| open.asked);
        match ended {
            Ended::Unopened(failure) => self.unopened(&failure),
            Ended::Session(SessionEnd::Closing(reply)) if asked < 2 => {
                let (stage, scope) = (Stage::Mail, Scope::Path);
                self.stuck(&Finding::Refused { stage, scope, reply });
            }
            Ended::Session(SessionEnd::Broken(finding)) if asked < 2 => self.stuck(&finding),
            // It closed on work that waited: the next session would fare no better.
            Ended::Session(SessionEnd::Gone) if asked < 2 && !self.queue.is_empty() => {
                let (stage, scope) = (Stage::Mail, Scope::Path);
                self.stuck(&Finding::Failed { stage, scope, failure: Failure::Closed });
            }
            Ended::Session(SessionEnd::Abandoned) => self.stop.cancel(),
            Ended::Session(_) => {}
        }
    }

    fn unopened(&mut self, failure: &OpenFailure) {
        failure.learned.iter().for_each(|quirk| self.learned(*quirk));
        if let Finding::Failed { failure: Failure::Escape(address), .. } = failure.finding {
            // The first is as good as any.
            let _ = self.egress.escape.set(address);
        }
        let working = self.sessions.values().filter(|open| open.asked > 0).count();
        self.egress.setup.policy.unopened(self.key, &failure.finding, working);
    }

    /// A session ended on the first work it had. While another gets on that is no more than a mishap.
    fn stuck(&mut self, finding: &Finding) {
        if !self.sessions.values().any(|open| open.asked > 1) {
            self.egress.setup.policy.unopened(self.key, finding, 0);
        }
    }

    /// Says what binds the path, for whoever asks; rates and permits are looked at then.
    fn explain(&self) {
        let standing = &self.entrance.standing;
        standing.count(self.tasks.len(), self.queue.len());
        let is_idle = self.queue.is_empty() && self.sessions.values().all(|open| open.wants > 0);
        let (binding, until) = match self.flow {
            Flow::Held { until, .. } => (Binding::Hold, until),
            Flow::Probing { .. } => (Binding::Probe, None),
            Flow::Open | Flow::NoMore { .. } if is_idle => (Binding::Work, None),
            Flow::Open | Flow::NoMore { .. } if self.connect_after.is_some() => {
                (Binding::Connections, self.connect_after)
            }
            Flow::Open | Flow::NoMore { .. } => {
                let are_opening = self.sessions.values().all(|open| open.asked == 0);
                let binding = match self.sessions_max() {
                    _ if are_opening => Binding::Opening,
                    most if self.tasks.len() < most => Binding::Site,
                    most if most < self.appetite.sessions => Binding::Window,
                    _ => Binding::Sessions,
                };
                (binding, None)
            }
        };
        standing.binds(binding, until);
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
        let flow = match self.flow {
            Flow::NoMore { until } | Flow::Held { until, .. } => until,
            Flow::Probing { again } => again.filter(|_| self.tasks.is_empty()),
            Flow::Open => None,
        };
        [self.connect_after, contention, linger, opens, flow].into_iter().flatten().min()
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.egress.setup.policy.leave(self.key);
    }
}
