//! What a reply means: its class, how far it reaches, and what to do about it. Pure.
//!
//! ```text
//! rules      a file of rules → a checked set; the shipped one is data/replies.toml
//!  grammar   the text of a file; its values, and each pattern that a reply's text is compared with
//!  lint      samples that land elsewhere, rules that are never reached
//! matcher    provider, stage, reply → the first rule that fits, whatever their number
//! class      what a class means where a rule says nothing else
//! registry   enhanced status codes (IANA) where no rule fits; then reply code and stage
//! failure    what broke without a reply
//! normal     a reply without what differs from message to message, so that equal ones group
//! line       a reply out of a log's line, and the words for stages
//! ```
//!
//! A rule comes first, then the registry, then reply code and stage. Where the site's provider is not known
//! and no rule for any fits, a rule of some provider counts if its text is met, since large providers stand
//! behind names of others; it pauses no campaign then, and suppresses only with an enhanced code that says so
//! too. What only the last of these knew is
//! counted and listed as unclassified. Failures that were made here, without a reply, never meet a rule.
//! Who acts on a verdict is [`crate::feedback`] (the recipient) and [`crate::policy`] (the sending side).

mod class;
mod failure;
mod grammar;
pub mod line;
mod lint;
mod matcher;
mod normal;
mod pattern;
mod registry;
mod rules;
mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::Scope;

pub use class::Defaults;
pub use failure::of_failure;
pub use normal::normal;
pub use rules::{Place, Rule, Rules, Sample};

/// What kind of answer a reply is. Numbers are stored in journals: never reused, 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Class {
    Accepted = 1,

    // About the recipient.
    /// No such mailbox.
    UnknownUser = 10,
    /// There was one, and it is closed, disabled or abandoned.
    InactiveMailbox = 11,
    MailboxFull = 12,
    /// Full and abandoned: it will not be emptied.
    MailboxFullInactive = 13,
    /// The recipient gets more than the provider lets through to one mailbox now.
    RecipientRate = 14,
    /// The recipient, or a rule of theirs, takes no mail from us.
    RecipientRefuses = 15,
    /// The domain does not exist, takes no mail, or is not served here.
    BadDomain = 16,
    /// Come back from the same source with the same envelope.
    Greylisted = 17,

    // About the message.
    SpamContent = 30,
    /// A virus, an attachment, a link that is not let in.
    ForbiddenContent = 31,
    MessageTooLarge = 32,
    /// Against RFC 5322: headers missing or twice, bare line ends, no unique Message-ID.
    Malformed = 33,

    // About how much.
    RateLimited = 50,
    TooManyConnections = 51,
    TooManyMessagesInSession = 52,
    TooManyRecipients = 53,

    // About who we are.
    /// Held back for the source's standing; comes back by itself.
    PoorReputation = 70,
    /// The source or its network is refused.
    SourceBlocked = 71,
    /// The source is on a DNS block list.
    SourceListed = 72,
    /// Held back or refused for the standing of the sending domain.
    DomainReputation = 73,
    /// SPF, DKIM, DMARC or their alignment.
    Authentication = 74,
    /// No or wrong PTR, or its name does not lead back.
    ReverseDns = 75,
    BadHelo = 76,
    TlsRequired = 77,
    /// The return path's domain is unknown, takes no mail, or is refused.
    SenderRefused = 78,
    /// Not allowed, and not said why.
    Policy = 79,
    RelayDenied = 80,
    /// The relay does not take our user name or password.
    CredentialsRefused = 81,

    // About them, or the way there.
    /// Something there does not work now.
    SystemTrouble = 100,
    Closing = 101,
    /// A command was not understood or out of order.
    Protocol = 102,
    RoutingLoop = 103,
    /// No connection, or it broke: made here.
    ConnectionFailed = 120,
    TlsFailed = 121,
    /// Names could not be looked up: made here.
    DnsFailed = 122,
    /// The peer has said that it takes no such message (size, SMTPUTF8): made here.
    NotOffered = 123,
    /// The reply to the end of the content never came (RFC 1047).
    InDoubt = 124,
    /// Expired, cancelled, suppressed, unrenderable: nobody was asked.
    Local = 125,

    // Known by reply code and stage alone.
    UnclassifiedTransient = 200,
    UnclassifiedPermanent = 201,
}

/// What becomes of the recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientAction {
    Delivered,
    /// Again by the retry schedule.
    Retry,
    /// Again after this time.
    RetryAfter(Duration),
    /// Given up for this campaign.
    Bounce,
    /// Given up for good: never for a reply that is about the sender.
    Suppress,
}

/// What the sending side does about it. How far it reaches is the verdict's scope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// The rate is multiplied by this, above 0 and below 1, and grows back by itself.
    Slow(f32),
    /// Fewer sessions at once.
    Narrow,
    /// This session has carried what it may; go on with another.
    Reconnect,
    /// Nothing for so long, then one message as a probe, then this part of the former rate.
    Suspend { lasting: Duration, resume: f32 },
    /// The source rests for this provider; its mail goes over the others, a probe brings it back.
    TakeOut(Duration),
    /// The sending domain rests, at this provider; then a probe.
    PauseDomain(Duration),
    /// The campaign waits for a person.
    PauseCampaign,
}

/// A rule's number in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// Who knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    Rule(RuleId),
    /// The enhanced status code.
    Registry,
    /// Nothing but reply code and stage: unclassified.
    Code,
    /// Made here, without a reply.
    Engine,
}

/// What a reply means. Small and copied freely: one is made for every refusal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub class: Class,
    pub scope: Scope,
    pub recipient: RecipientAction,
    pub measure: Option<Measure>,
    /// The measure is taken only once so many came within the time; `None`: at the first.
    pub threshold: Option<Threshold>,
    /// A person should hear of it.
    pub alert: bool,
    pub by: By,
}

impl Verdict {
    /// On what was not a server's refusal.
    pub fn made_here(class: Class, recipient: RecipientAction) -> Self {
        Self {
            class,
            scope: Scope::Recipient,
            recipient,
            measure: None,
            threshold: None,
            alert: false,
            by: By::Engine,
        }
    }
}

/// So many within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub count: u32,
    pub within: Duration,
}
