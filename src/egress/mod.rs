//! The way out: sources, and a path for each (source, site) that has work.
//!
//! `Egress` is what all paths share: the pool of sources, shaping, permits, the resolver, and where
//! outcomes go. A path is a task of its own and owns everything else; see `path`.

mod opening;
mod path;
mod pool;
mod relay;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::config::Rate;
use crate::feedback::Feedback;
use crate::journal::Inflight;
use crate::message::composer::Composer;
use crate::outcome::{SiteId, SourceId};
use crate::policy::Policy;
use crate::pull::{Handle, PathKey, Work};
use crate::shaping::rate::{Credit, Pace, recovery};
use crate::shaping::{self, Ceilings, Limits, Shaping};
use crate::site::{Resolver, Site};
use crate::smtp::tls::TlsConnectors;
use crate::smtp::{Reach, Trust};
pub(crate) use path::SESSION_SPREAD;
pub use pool::{Pool, Source};
pub use relay::Relay;

/// Grants that may wait for a path: it asks for one at a time.
const WORK: usize = 2;

/// What a path's own rate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Paced {
    Messages,
    Connections,
}

/// Whom a path speaks to, whatever it is that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    Site(SiteId),
    /// The relay of a source, for all sites.
    Relay(SourceId),
}

/// What was found out about a peer and outlives its paths.
#[derive(Debug, Clone, Copy)]
struct PeerMemory {
    trust: Trust,
    messages_max: Option<u32>,
    tls_broken: bool,
}

impl Default for PeerMemory {
    fn default() -> Self {
        Self { trust: Trust::Window, messages_max: None, tls_broken: false }
    }
}

/// What an egress is made of.
pub struct Setup {
    pub pool: Pool,
    pub shaping: Arc<shaping::Live>,
    pub resolver: Arc<Resolver>,
    pub connectors: TlsConnectors,
    pub reach: Reach,
    pub smtp_port: u16,
    pub inflight: Arc<Inflight>,
    pub composer: Arc<Composer>,
    pub feedback: Feedback,
    pub policy: Arc<Policy>,
    pub sessions_total: usize,
    pub sessions_per_source: usize,
    /// The campaign's own ceiling over all paths.
    pub campaign_pace: Option<Arc<Pace>>,
    pub credit: Credit,
}

/// What all paths share.
pub struct Egress {
    setup: Setup,
    sessions: Arc<Semaphore>,
    source_sessions: Vec<Arc<Semaphore>>,
    /// Sessions that wait for a permit; while there are any, idle ones are closed.
    waiting: AtomicUsize,
    /// What a session would have connected to and must not: outside the world.
    escape: OnceLock<SocketAddr>,
    memory: Mutex<HashMap<Peer, PeerMemory>>,
    /// Paces of paths, also of those that sleep, where one takes longer to recover than a path lingers:
    /// slow rates only, some 200 octets each.
    paces: Mutex<HashMap<(PathKey, Paced, Rate), Arc<Pace>>>,
    tracker: TaskTracker,
}

impl Egress {
    pub fn new(setup: Setup) -> Self {
        let per_source = |id| {
            let of_account = setup.pool.source(id).relay.as_ref().and_then(|relay| relay.sessions);
            let sessions = of_account.map_or(setup.sessions_per_source, |sessions| sessions as usize);
            Arc::new(Semaphore::new(sessions.max(1)))
        };
        Self {
            sessions: Arc::new(Semaphore::new(setup.sessions_total.max(1))),
            source_sessions: setup.pool.ids().map(per_source).collect(),
            waiting: AtomicUsize::new(0),
            escape: OnceLock::new(),
            memory: Mutex::default(),
            paces: Mutex::default(),
            tracker: TaskTracker::new(),
            setup,
        }
    }

    /// The source to put to work on a site besides those `used`: whose turn it is by weight and standing
    /// there, of those that do not rest there, or of all where all do.
    pub fn next_source(&self, site: &Site, used: &[SourceId]) -> Option<SourceId> {
        let resting = self.setup.policy.resting(site);
        // Standing at one provider says nothing of another, and turns are kept for all sites together: so
        // only differences count.
        let standing = |source| self.setup.policy.share(source, site);
        let fit = self.setup.pool.next(&[used, &resting].concat(), standing);
        fit.or_else(|| self.setup.pool.next(used, standing))
    }

    pub fn weight(&self, source: SourceId) -> u32 {
        self.setup.pool.source(source).weight.max(1)
    }

    /// Starts a path; it ends, its sessions with it, once the sender is dropped.
    pub fn spawn_path(
        self: &Arc<Self>,
        key: PathKey,
        site: &Arc<Site>,
        scheduler: Handle,
    ) -> mpsc::Sender<Work> {
        let (work, work_end) = mpsc::channel(WORK);
        let path = path::Path::new(self.clone(), key, site.clone(), scheduler);
        self.tracker.spawn(path.run(work_end));
        work
    }

    /// An address outside the world that a rehearsal was led to, if there was one.
    pub fn escape(&self) -> Option<SocketAddr> {
        self.escape.get().copied()
    }

    /// Waits until every path has ended; the scheduler must have let go of them.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// What shaping says of a path, and where its source is a relay, what that says of its account.
    fn limits(&self, key: PathKey, site: &Site, shaping: &Shaping) -> (Arc<Limits>, Arc<Ceilings>) {
        let source = self.setup.pool.source(key.source);
        let shaped = shaping.limits(site, &source.name);
        let Some(relay) = &source.relay else {
            let sessions = self.setup.pool.share(key.source, shaped.sessions);
            let limits = if sessions == shaped.sessions {
                shaped
            } else {
                Arc::new(Limits { sessions, ..(*shaped).clone() })
            };
            return (limits, shaping.ceilings(site.provider.as_deref()));
        };
        (Arc::new(relay.limits((*shaped).clone())), shaping.ceilings(relay.provider.as_deref()))
    }

    /// A path's own pace. What a former life of the path has spent stays spent.
    fn pace(&self, key: PathKey, paced: Paced, rate: &Rate, credit: Credit) -> Arc<Pace> {
        let new = || Arc::new(Pace::new(rate, credit));
        if recovery(rate) <= LINGER {
            return new();
        }
        let mut paces = self.paces.lock().expect("no panic while the paces are held");
        paces.entry((key, paced, *rate)).or_insert_with(new).clone()
    }

    fn peer(&self, path: PathKey) -> Peer {
        match self.setup.pool.source(path.source).relay {
            Some(_) => Peer::Relay(path.source),
            None => Peer::Site(path.site),
        }
    }

    fn remembered(&self, path: PathKey) -> PeerMemory {
        let memory = self.memory.lock().expect("no panic while the memory is held");
        memory.get(&self.peer(path)).copied().unwrap_or_default()
    }

    fn remember(&self, path: PathKey, change: impl FnOnce(&mut PeerMemory)) -> PeerMemory {
        let mut memory = self.memory.lock().expect("no panic while the memory is held");
        let entry = memory.entry(self.peer(path)).or_default();
        change(entry);
        *entry
    }

    /// Whether sessions wait for the permits that idle ones hold.
    fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// A path with neither work nor sessions ends after this time.
const LINGER: Duration = Duration::from_secs(1);
/// How often a path with idle sessions looks whether another path waits for their permits.
const CONTENTION_CHECK: Duration = Duration::from_millis(200);
