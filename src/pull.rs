//! What paths, feedback and the scheduler say to each other: work is pulled, never pushed.
//!
//! A path says how much room it has, and is given so much or less; what it did not attempt it gives back.
//! Words only: who acts on them is [`crate::scheduler`] and [`crate::egress`].

use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::envelope::Entry;
use crate::outcome::{SiteId, SourceId};

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
}
