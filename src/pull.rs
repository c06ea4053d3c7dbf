//! What paths, feedback and the scheduler say to each other: work is pulled, never pushed.
//!
//! A path says how much room it has, and is given so much or less; what it did not attempt it gives back.
//! Words only: who acts on them is [`crate::scheduler`] and [`crate::egress`].

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::envelope::Entry;
use crate::outcome::{SiteId, SourceId};
use crate::site::Site;

/// Which path: from where to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathKey {
    pub site: SiteId,
    pub source: SourceId,
}

/// What a path is given to send.
#[derive(Debug)]
pub struct Work {
    pub entries: Vec<Entry>,
    /// Entries that wait at the site behind these.
    pub behind: u64,
}

/// What the scheduler is told.
#[derive(Debug)]
pub enum Message {
    /// A path has room for so many entries more; replaces what it said before.
    Wants { path: PathKey, room: usize },
    /// Given, but not attempted.
    Returned(Vec<Entry>),
    /// To be attempted again from then on.
    Deferred(Vec<(Entry, SystemTime)>),
    /// The path cannot reach its site for now; its next `Wants` takes this back.
    Suspended(PathKey),
    /// The path has nothing to do and ends once its channel is closed.
    Retire(PathKey),
    /// Nothing more is to be sent: everything waiting is settled as cancelled.
    Cancel,
    /// The test has a winner: the rest of the recipients may go.
    Decided,
    /// Somebody wants to know; answered at once, from what is there.
    Ask(Question),
}

/// What somebody wants to know of the queues, and where the answer goes.
#[derive(Debug)]
pub enum Question {
    Domain(Box<str>, oneshot::Sender<DomainQueue>),
    All(oneshot::Sender<AllQueues>),
}

/// One domain's queue.
#[derive(Debug, Clone)]
pub struct DomainQueue {
    /// Entries that could go now; those that wait for their time are not among them.
    pub waiting: u64,
    pub place: QueuePlace,
}

/// Where a domain's queue is.
#[derive(Debug, Clone)]
pub enum QueuePlace {
    /// There is none: nobody of the domain waits to be sent to.
    Nowhere,
    /// The route is being looked up.
    LookedUp,
    /// It could not be, so many times; it is tried again then.
    Held {
        until: Instant,
        failures: u32,
        reason: Arc<str>,
    },
    Site(SiteId, Arc<Site>),
}

/// All queues together.
#[derive(Debug, Clone, Default)]
pub struct AllQueues {
    /// Sites with entries that could go now, and how many.
    pub sites: Vec<(SiteId, u64)>,
    /// Entries of domains without a route.
    pub unrouted: u64,
    /// Domains whose route could not be looked up, and when the first of them is tried again.
    pub held: usize,
    pub held_until: Option<Instant>,
    /// Entries that wait for their next attempt's time, and the first such time.
    pub deferred: usize,
    pub next_due: Option<SystemTime>,
}

/// Where paths and feedback reach the scheduler.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
}

impl Handle {
    pub fn new(inbox: mpsc::Sender<Message>) -> Self {
        Self { inbox }
    }

    /// Waits for room; a message to a scheduler that has stopped is dropped, as the journal knows all
    /// that matters. Cancel safe: the message is either sent or not.
    pub async fn send(&self, message: Message) {
        let _ = self.inbox.send(message).await;
    }

    /// What waits for a domain; `None` where the scheduler has stopped.
    pub async fn domain(&self, domain: &str) -> Option<DomainQueue> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Question::Domain(domain.into(), answer))).await;
        answered.await.ok()
    }

    /// What waits in all queues; `None` where the scheduler has stopped.
    pub async fn all(&self) -> Option<AllQueues> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask(Question::All(answer))).await;
        answered.await.ok()
    }
}
