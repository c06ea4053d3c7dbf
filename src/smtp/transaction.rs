//! Transactions in one connection: messages and answers in, octets and outcomes out.
//!
//! A [`Pipeline`] is pure: no I/O and no clock. Its driver submits a message whenever one is wanted,
//! writes what is unwritten, feeds each answer, and collects [`Event`]s. Three modes, by what the
//! server offers and its site is trusted with:
//!
//! - *window* (PIPELINING, CHUNKING): `MAIL RCPT BDAT n LAST` and the content in one go, several
//!   messages unanswered. From the second message on an RSET goes first unless the server is known to
//!   have no transaction open. It costs six octets; without it a recipient refused in the middle of
//!   the window would leave the server's transaction open (RFC 3030 §2 calls its state
//!   indeterminate), where the next MAIL is "nested", and a server that refuses it may still take
//!   the next RCPT and content: under the return path of the one before.
//! - *round trip* (PIPELINING): the content goes first in the next group, `content . MAIL RCPT DATA`
//!   (RFC 2920 §3.1). The group of the next message waits until the answer to DATA is known, so here
//!   the need for RSET is known too.
//! - *lockstep*: one command, one answer.
//!
//! Every message submitted ends in exactly one event. Answers belong to the oldest unsettled message
//! because a server answers in order. What is out of step ends the connection and lowers the trust.

use std::collections::VecDeque;

use super::outbox::{Mark, Outbox};
use super::{Capabilities, Composed, Quirk, SessionEnd, Trust};
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Scope, Slot, Stage};
use crate::reply::Reply;

mod answers;

/// Unwritten octets from which on a window takes no further message: its contents wait in memory.
const UNWRITTEN_OCTETS_MAX: usize = 256 * 1024;

/// What becomes of a message, and what was learned on the way.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// `armed`: the slot was armed, and stays so until the journal has the outcome.
    Settled {
        entry: Entry,
        slot: Slot,
        armed: bool,
        finding: Finding,
    },
    /// The server has no copy and the entry is not to blame.
    Returned {
        entry: Entry,
        slot: Slot,
    },
    Learned(Quirk),
}

/// What the driver waits for, which says how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Mail,
    Rcpt,
    DataStart,
    ContentWrite,
    ContentEnd,
    Quit,
}

/// A command whose answer has not come. All but QUIT belong to the oldest unsettled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Rset,
    Mail,
    Rcpt,
    Data,
    End,
    Quit,
}

/// What is already certain about a message before its last answer.
#[derive(Debug)]
enum Verdict {
    Refused {
        stage: Stage,
        scope: Scope,
        reply: Reply,
    },
    /// Refused through our own doing: to be tried again elsewhere.
    Returned,
}

/// A message under way.
#[derive(Debug)]
struct Flight {
    entry: Entry,
    slot: Slot,
    armed: bool,
    /// Until the content has been put into the outbox.
    composed: Option<Composed>,
    verdict: Option<Verdict>,
    rcpt_accepted: bool,
    /// Where its commands begin in the stream.
    begin: Mark,
    /// End of the content in the stream, once it is there. A lone dot is no content.
    content_end: Option<Mark>,
}

#[derive(Debug)]
struct Staged {
    entry: Entry,
    slot: Slot,
    composed: Composed,
}

/// The transactions of one connection.
#[derive(Debug)]
pub struct Pipeline {
    mode: Trust,
    window: usize,
    capabilities: Capabilities,
    messages_max: u32,
    outbox: Outbox,
    awaited: VecDeque<Awaited>,
    flights: VecDeque<Flight>,
    staged: Option<Staged>,
    /// Slots to be armed before anything more is written.
    arming: Vec<(Slot, Entry)>,
    events: VecDeque<Event>,
    spare: Vec<Composed>,
    /// MAILs sent.
    started: u32,
    accepted: u32,
    /// The server may have a transaction open.
    open: bool,
    draining: bool,
    full: bool,
    distrusted: bool,
    domains: Vec<Box<str>>,
    end: Option<SessionEnd>,
}

impl Pipeline {
    /// `window`: unanswered messages at most; `messages_max`: messages in this connection at most.
    pub fn new(capabilities: Capabilities, trust: Trust, window: usize, messages_max: Option<u32>) -> Self {
        let offered = match (capabilities.pipelining, capabilities.chunking) {
            (true, true) => Trust::Window,
            (true, false) => Trust::RoundTrip,
            (false, _) => Trust::Lockstep,
        };
        let announced = capabilities.mail_max.unwrap_or(u32::MAX);
        Self {
            mode: trust.min(offered),
            window: window.max(1),
            capabilities,
            messages_max: messages_max.unwrap_or(u32::MAX).min(announced),
            outbox: Outbox::default(),
            awaited: VecDeque::new(),
            flights: VecDeque::new(),
            staged: None,
            arming: Vec::new(),
            events: VecDeque::new(),
            spare: Vec::new(),
            started: 0,
            accepted: 0,
            open: false,
            draining: false,
            full: false,
            distrusted: false,
            domains: Vec::new(),
            end: None,
        }
    }

    pub fn mode(&self) -> Trust {
        self.mode
    }

    /// Whether a further message should be made now: one is made ahead while answers are awaited.
    pub fn wants_message(&self) -> bool {
        self.staged.is_none() && self.room() > 0
    }

    /// Messages that this connection may still carry.
    pub fn room(&self) -> u32 {
        if self.draining || self.end.is_some() {
            return 0;
        }
        self.messages_max.saturating_sub(self.started + u32::from(self.staged.is_some()))
    }

    /// Whether the connection has carried all it may.
    pub fn is_full(&self) -> bool {
        self.full || self.started >= self.messages_max
    }

    /// Whether no message is under way.
    pub fn is_quiet(&self) -> bool {
        self.flights.is_empty() && self.staged.is_none()
    }

    /// Why the connection is over; nothing more is to be written or read then.
    pub fn end(&self) -> Option<&SessionEnd> {
        self.end.as_ref()
    }

    /// A message's buffers to fill in.
    pub fn blank(&mut self) -> Composed {
        self.spare.pop().unwrap_or_default()
    }

    pub fn give_back(&mut self, composed: Composed) {
        self.spare.push(composed);
    }

    /// Takes a message, only when one is [wanted](Self::wants_message).
    pub fn submit(&mut self, entry: Entry, slot: Slot, composed: Composed) {
        debug_assert!(self.wants_message());
        if self.exceeds_domains(&composed) {
            // RFC 9422 §4.3: this connection is bound to the domains it has seen.
            self.full = true;
            self.spare.push(composed);
            self.events.push_back(Event::Returned { entry, slot });
            self.stop_starting();
        } else if let Some(finding) = self.impossible(&composed) {
            self.spare.push(composed);
            self.events.push_back(Event::Settled { entry, slot, armed: false, finding });
        } else {
            self.staged = Some(Staged { entry, slot, composed });
            self.advance();
        }
    }

    /// Starts no further transaction; a message made ahead is returned.
    pub fn stop_starting(&mut self) {
        self.draining = true;
        if let Some(Staged { entry, slot, composed }) = self.staged.take() {
            self.spare.push(composed);
            self.events.push_back(Event::Returned { entry, slot });
        }
    }

    /// Asks the server to end. Only when [quiet](Self::is_quiet).
    pub fn quit(&mut self) {
        debug_assert!(self.is_quiet());
        self.draining = true;
        self.outbox.quit();
        self.awaited.push_back(Awaited::Quit);
    }

    /// The next slot to arm. All must be taken before [`unwritten`](Self::unwritten) is looked at.
    pub fn take_arming(&mut self) -> Option<(Slot, Entry)> {
        self.arming.pop()
    }

    pub fn unwritten(&self) -> &[u8] {
        // Invariant: a slot is armed before the end of its content can reach the socket.
        debug_assert!(self.arming.is_empty());
        self.outbox.unwritten()
    }

    /// The socket took so many octets.
    pub fn wrote(&mut self, octets: usize) {
        self.outbox.advance(octets);
        self.advance();
    }

    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn phase(&self) -> Phase {
        match self.awaited.front() {
            None => Phase::Idle,
            Some(Awaited::Rset | Awaited::Mail) => Phase::Mail,
            Some(Awaited::Rcpt) => Phase::Rcpt,
            Some(Awaited::Data) => Phase::DataStart,
            Some(Awaited::End) if self.front_is_written() => Phase::ContentEnd,
            Some(Awaited::End) => Phase::ContentWrite,
            Some(Awaited::Quit) => Phase::Quit,
        }
    }

    fn front_is_written(&self) -> bool {
        let Some(flight) = self.flights.front() else { return false };
        // A lone dot has no content; it is written as good as at once.
        flight.content_end.map_or(flight.verdict.is_some(), |end| self.outbox.has_written(end))
    }

    /// Starts the message made ahead, if its turn has come.
    fn advance(&mut self) {
        let behind_content = |flight: &Flight| flight.composed.is_none();
        let may_start = match self.mode {
            Trust::Window => {
                self.flights.len() < self.window && self.outbox.unwritten().len() < UNWRITTEN_OCTETS_MAX
            }
            Trust::RoundTrip => self.flights.len() < 2 && self.flights.iter().all(behind_content),
            Trust::Lockstep => self.flights.is_empty(),
        };
        if may_start
            && self.end.is_none()
            && let Some(staged) = self.staged.take()
        {
            self.start(staged);
        }
    }

    fn start(&mut self, Staged { entry, slot, composed }: Staged) {
        // In a window what is unanswered may leave a transaction open; see the head of this file.
        let unknown = self.mode == Trust::Window && !self.flights.is_empty();
        let begin = self.outbox.end();
        self.started += 1;
        let (armed, rcpt_accepted) = (false, false);
        let composed = Some(composed);
        self.flights.push_back(Flight {
            entry,
            slot,
            armed,
            composed,
            verdict: None,
            rcpt_accepted,
            begin,
            content_end: None,
        });
        let needs_rset = self.open || unknown;
        if needs_rset {
            self.outbox.rset();
            self.awaited.push_back(Awaited::Rset);
            self.open = false;
        }
        match self.mode {
            Trust::Window => {
                self.send_mail();
                self.send_rcpt();
                self.send_chunk();
            }
            Trust::RoundTrip => {
                self.send_mail();
                self.send_rcpt();
                self.outbox.data();
                self.awaited.push_back(Awaited::Data);
            }
            Trust::Lockstep if needs_rset => {}
            Trust::Lockstep => self.send_mail(),
        }
    }

    /// MAIL of the newest message.
    fn send_mail(&mut self) {
        let Some(composed) = self.flights.back().and_then(|flight| flight.composed.as_ref()) else { return };
        let size = self.capabilities.size.then_some(composed.content.len());
        self.outbox.mail(&composed.envelope, size);
        self.awaited.push_back(Awaited::Mail);
    }

    /// RCPT of the newest message.
    fn send_rcpt(&mut self) {
        let Some(composed) = self.flights.back().and_then(|flight| flight.composed.as_ref()) else { return };
        self.outbox.rcpt(&composed.envelope);
        self.awaited.push_back(Awaited::Rcpt);
    }

    /// The content of the newest message as one chunk.
    fn send_chunk(&mut self) {
        let Some(flight) = self.flights.back_mut() else { return };
        let Some(composed) = flight.composed.take() else { return };
        self.outbox.last_chunk(&composed.content);
        flight.content_end = Some(self.outbox.end());
        flight.armed = true;
        self.arming.push((flight.slot, flight.entry));
        self.awaited.push_back(Awaited::End);
        self.spare.push(composed);
    }

    /// The content of the oldest message after 354, or a lone dot where nobody would get it.
    fn send_content(&mut self) {
        let Some(flight) = self.flights.front_mut() else { return };
        let Some(composed) = flight.composed.take() else { return };
        if flight.verdict.is_none() {
            self.outbox.content(&composed.content);
            flight.content_end = Some(self.outbox.end());
            flight.armed = true;
            self.arming.push((flight.slot, flight.entry));
        } else {
            self.outbox.lone_dot();
        }
        // RFC 5321 §4.1.1.4: the end of DATA clears the transaction. Whether a server that says 354 to
        // nobody keeps to that is not worth finding out: behind a lone dot an RSET goes.
        self.open = flight.content_end.is_none();
        self.spare.push(composed);
        self.awaited.push_back(Awaited::End);
    }

    /// Why the server could never take this message.
    fn impossible(&self, composed: &Composed) -> Option<Finding> {
        let (scope, failure) = match self.capabilities.size_max {
            _ if composed.envelope.needs_smtputf8() && !self.capabilities.smtputf8 => {
                (Scope::Recipient, Failure::NotOffered("SMTPUTF8"))
            }
            Some(limit) if composed.content.len() as u64 > limit => {
                (Scope::Message, Failure::TooLarge { limit })
            }
            _ => return None,
        };
        Some(Finding::Failed { stage: Stage::Mail, scope, failure })
    }

    fn exceeds_domains(&mut self, composed: &Composed) -> bool {
        let Some(domains_max) = self.capabilities.rcpt_domain_max else { return false };
        let recipient = composed.envelope.recipient();
        let domain = recipient.rsplit_once('@').map_or(recipient, |(_, domain)| domain);
        if self.domains.iter().any(|seen| **seen == *domain) {
            return false;
        }
        if self.domains.len() >= domains_max as usize {
            return true;
        }
        self.domains.push(domain.into());
        false
    }
}

impl Awaited {
    fn stage(self) -> Stage {
        match self {
            Self::Rset | Self::Mail | Self::Quit => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::End => Stage::Content,
        }
    }
}
