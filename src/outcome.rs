//! What an attempt learned and what became of its recipient.
//!
//! An [`Outcome`] is a value, never an error: a refusal is data. The session reports findings with
//! their scope; [`crate::feedback`] alone turns them into a [`Disposition`].

use std::time::SystemTime;

use crate::envelope::Entry;
use crate::reply::{EnhancedCode, Reply};

/// Where in a session something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    Route = 0,
    Connect = 1,
    Greeting = 2,
    Ehlo = 3,
    StartTls = 4,
    Mail = 5,
    Rcpt = 6,
    Data = 7,
    /// From the first octet of the content to the reply to its end (final dot or last chunk).
    Content = 8,
    /// Before anything was sent: rendering, suppression, expiry.
    Local = 9,
    /// Saying who we are to a relay.
    Auth = 10,
}

/// How far an outcome reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    Recipient,
    Message,
    Session,
    /// From one source to one site.
    Path,
    /// From one source to all sites of the provider.
    Source,
    /// From the domain of `From:`, over all sources.
    SendingDomain,
    Campaign,
}

impl Scope {
    /// As rules and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Session => "session",
            Self::Path => "path",
            Self::Source => "source",
            Self::SendingDomain => "sending-domain",
            Self::Campaign => "campaign",
        }
    }
}

/// A failure without a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    #[error("no answer within {}s", .0.as_secs())]
    Timeout(std::time::Duration),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(String),
    #[error("the peer answered with something that is no SMTP reply: {0:?}")]
    Garbage(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("the proxy {proxy} failed: {reason}")]
    Proxy { proxy: std::net::SocketAddr, reason: String },
    #[error("no login: {0}")]
    Login(String),
    #[error("the peer does not offer {0}")]
    NotOffered(&'static str),
    #[error("the message is larger than the {limit} octets that the peer takes")]
    TooLarge { limit: u64 },
    #[error("no address of {0} could be reached")]
    NoAddress(String),
    #[error("the server said 421 before it came to this message")]
    ClosedEarlier,
    #[error("the message cannot be made: {0}")]
    Compose(String),
    #[error("this engine was told to reach only the world, and {0} is outside it")]
    Escape(std::net::SocketAddr),
}

/// What one attempt learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The server took responsibility (2yz to the end of the content).
    Accepted(Reply),
    /// 4yz, 5yz, or a reply that does not belong at `stage`.
    Refused { stage: Stage, scope: Scope, reply: Reply },
    /// No reply, and the content's end had not been sent: the recipient has no copy.
    Failed { stage: Stage, scope: Scope, failure: Failure },
    /// The end of the content went out and its reply never came (RFC 1047).
    InDoubt { failure: Failure },
    /// Suppressed just before sending.
    Suppressed,
    /// The message could not be made for this recipient.
    Unrenderable { reason: String },
}

/// A slot of the in-doubt map that is set while a content's end is unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u32);

/// A site's number within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A source's number within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u16);

/// What an attempt learned, for whom, over which path.
#[derive(Debug)]
pub struct Outcome {
    pub entry: Entry,
    pub finding: Finding,
    /// Cleared once the journal has the outcome.
    pub slot: Option<Slot>,
    pub site: SiteId,
    pub source: SourceId,
}

/// What the manifest says to do with a recipient in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InDoubtPolicy {
    /// Try again: at least once.
    #[default]
    Resend,
    /// Do not try again: at most once.
    Skip,
    /// Wait for a person.
    Hold,
}

/// What happens to a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    Delivered,
    /// Tried again from `until` on.
    Deferred {
        until: SystemTime,
    },
    Bounced,
    Expired,
    Suppressed,
    Cancelled,
    /// The row cannot be made into a message.
    Invalid,
    /// Final under `skip` and `hold`; under `resend` the recipient waits for another attempt.
    InDoubt(InDoubtPolicy),
}

impl Disposition {
    /// Whether no attempt will follow.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Deferred { .. } | Self::InDoubt(InDoubtPolicy::Resend))
    }
}

/// The reply or failure of an attempt as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub stage: Stage,
    /// 0 where no reply came.
    pub code: u16,
    pub enhanced: Option<EnhancedCode>,
    pub text: Box<str>,
}
