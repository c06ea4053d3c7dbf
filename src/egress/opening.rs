//! Opening one session of a path: permits, addresses, connection; then the session runs.
//!
//! A permit is moved into the task it allows, so a session that ends in any way gives it back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Egress;
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::policy::{Binding, Standing};
use crate::pull::PathKey;
use crate::shaping::rate::Gate;
use crate::shaping::{Ceilings, Limits};
use crate::site::Site;
use crate::smtp::{self, Dial, Endpoint, Link, OpenFailure, SessionEnd, SessionEvent, TlsPolicy, Trust};

/// Messages unanswered in one session with CHUNKING: 200 a second at a round trip of 150 ms.
const WINDOW: usize = 32;

/// How one session ended.
pub(super) enum Ended {
    Session(SessionEnd),
    Unopened(OpenFailure),
}

/// Everything one session needs.
pub(super) struct Opening {
    pub(super) egress: Arc<Egress>,
    pub(super) key: PathKey,
    pub(super) site: Arc<Site>,
    pub(super) ceilings: Arc<Ceilings>,
    pub(super) session: u32,
    pub(super) tls: TlsPolicy,
    pub(super) trust: Trust,
    pub(super) messages_max: Option<u32>,
    pub(super) limits: Arc<Limits>,
    pub(super) standing: Arc<Standing>,
    pub(super) messages: Arc<Gate>,
    pub(super) orders: mpsc::Receiver<Vec<Entry>>,
    pub(super) events: mpsc::UnboundedSender<(u32, SessionEvent)>,
    pub(super) stop: CancellationToken,
}

/// Counts a wait for as long as it lasts, also when it is cancelled.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opening {
    /// Waits for permits, opens the session and runs it to its end.
    pub(super) async fn run(self) -> Ended {
        let stop = self.stop.clone();
        let (permits, session) = tokio::select! {
            // Boxed, as is the session: thousands may wait for a permit, and those need next to nothing.
            opened = Box::pin(self.open()) => match opened {
                Ok(opened) => opened,
                Err(failure) => return Ended::Unopened(failure),
            },
            () = stop.cancelled() => return Ended::Session(SessionEnd::Stopped),
        };
        let setup = &self.egress.setup;
        let composer = setup.composer.clone();
        let mut scratch = composer.scratch();
        let link = Link {
            orders: self.orders,
            events: self.events,
            outcomes: setup.feedback.outcomes(),
            inflight: setup.inflight.clone(),
            site: self.key.site,
            source: self.key.source,
            session: self.session,
            compose: move |entry, composed: &mut smtp::Composed| {
                composer.compose(entry, &mut scratch, composed)
            },
            admit: {
                let gate = self.messages.clone();
                move || gate.pass()
            },
            unspent: {
                let gate = self.messages;
                move |at| gate.unspent(at)
            },
            messages_max: self.messages_max,
            idle: self.limits.idle,
            window: WINDOW,
            stop: self.stop,
        };
        let end = Box::pin(session.run(link)).await;
        drop(permits);
        Ended::Session(end)
    }

    async fn open(&self) -> Result<(Vec<OwnedSemaphorePermit>, smtp::Session), OpenFailure> {
        let permits = self.permits().await;
        let setup = &self.egress.setup;
        let endpoints = self.endpoints().await?;
        let source = setup.pool.source(self.key.source);
        let dial = Dial {
            source: &source.end,
            via: &source.via,
            submission: source.relay.as_ref().map(|relay| &relay.submission),
            endpoints: &endpoints,
            tls: self.tls,
            connectors: &setup.connectors,
            timeouts: &self.limits.timeouts,
            trust: self.trust,
            reach: &setup.reach,
        };
        Ok((permits, smtp::open(dial).await?))
    }

    /// The provider's, the source's and the node's, in this order everywhere, so that nobody who holds
    /// one waits for somebody who waits for it.
    async fn permits(&self) -> Vec<OwnedSemaphorePermit> {
        let egress = &self.egress;
        let of_source = &egress.source_sessions[usize::from(self.key.source.0)];
        let mut permits = Vec::with_capacity(3);
        let wanted = [
            (self.ceilings.sessions.as_ref(), Binding::ProviderSessions),
            (Some(of_source), Binding::SourceSessions),
            (Some(&egress.sessions), Binding::NodeSessions),
        ];
        for (semaphore, binding) in wanted {
            if let Some(semaphore) = semaphore {
                permits.push(self.permit(semaphore, binding).await);
            }
        }
        permits
    }

    async fn permit(&self, semaphore: &Arc<Semaphore>, binding: Binding) -> OwnedSemaphorePermit {
        if let Ok(permit) = semaphore.clone().try_acquire_owned() {
            return permit;
        }
        let _waiting = Waiting::new(&self.egress.waiting);
        let _wanting = self.standing.wants(binding);
        semaphore.clone().acquire_owned().await.expect("no permits are ever closed")
    }

    /// The relay's addresses, or those of the site's hosts by preference, equal ones in an order that
    /// differs from session to session (RFC 5321 §5.1).
    async fn endpoints(&self) -> Result<Vec<Endpoint>, OpenFailure> {
        let setup = &self.egress.setup;
        if let Some(relay) = &setup.pool.source(self.key.source).relay {
            return relay
                .endpoints(&setup.resolver)
                .await
                .map_err(|failure| unrouted(Scope::Source, failure));
        }
        let mut exchanges: Vec<_> = self.site.exchanges.iter().enumerate().collect();
        let count = exchanges.len().max(1);
        exchanges
            .sort_by_key(|(place, exchange)| (exchange.preference, (place + self.session as usize) % count));
        let mut endpoints = Vec::with_capacity(exchanges.len());
        let mut failure = None;
        for (_, exchange) in exchanges {
            match setup.resolver.addresses(&exchange.host).await {
                Ok(addresses) => {
                    let v4 = addresses.v4.iter().copied().map(IpAddr::V4);
                    let v6 = addresses.v6.iter().copied().map(IpAddr::V6);
                    endpoints.extend(v6.chain(v4).map(|address| Endpoint {
                        host: exchange.host.as_str().into(),
                        address: (address, setup.smtp_port).into(),
                    }));
                }
                Err(why) => failure = Some(Failure::from(why)),
            }
        }
        if endpoints.is_empty() {
            let failure = failure.unwrap_or_else(|| Failure::NoAddress(self.site.name.clone()));
            return Err(unrouted(Scope::Path, failure));
        }
        Ok(endpoints)
    }
}

fn unrouted(scope: Scope, failure: Failure) -> OpenFailure {
    let finding = Finding::Failed { stage: Stage::Route, scope, failure };
    OpenFailure { tried: Vec::new(), finding, scope, learned: Vec::new() }
}
