//! What each class means where a rule says nothing else: how far it reaches, and what is done.
//!
//! | class | scope | recipient on 5yz (on 4yz always retried) | measure | alert |
//! |---|---|---|---|---|
//! | unknown-user, inactive-mailbox | recipient | suppress | | |
//! | mailbox-full, mailbox-full-inactive, recipient-refuses, bad-domain, relay-denied, routing-loop | recipient | bounce | | |
//! | recipient-rate | recipient | retry after 30m | | |
//! | greylisted | recipient | retry after 6m | | |
//! | spam-content, forbidden-content, message-too-large, policy | message | bounce | | |
//! | malformed | campaign | bounce | | yes |
//! | rate-limited | path | retry | slow 0.5 | |
//! | too-many-connections | path | retry | narrow | |
//! | too-many-messages-in-session | session | retry | reconnect | |
//! | too-many-recipients | message | retry | | |
//! | poor-reputation | path | retry | suspend 1h resume 0.25 | |
//! | source-blocked, source-listed, reverse-dns, bad-helo | source | retry | take source out 6h | yes |
//! | domain-reputation | sending-domain | retry | suspend 1h resume 0.25 | yes |
//! | authentication, sender-refused | sending-domain | retry | pause domain 1h | yes |
//! | tls-required | path | retry | | yes |
//! | credentials-refused | path | retry | suspend 1h resume 1 | yes |
//! | system-trouble | path; message on 5yz from RCPT on without a rule | retry; bounce on those | | |
//! | closing, protocol | session | retry | | |
//! | unclassified-permanent | by stage; path at MAIL | bounce | slow 0.5 at MAIL | |
//! | unclassified-transient | by stage | retry | | |
//!
//! A 5yz about us defers: it says nothing about the recipient, and often ends with what caused it. No
//! class pauses a campaign by itself: one odd receiver must not stop the mail to all others, so a rule
//! has to say so, with `after`.

use std::time::Duration;

use super::{Class, Measure, RecipientAction};
use crate::outcome::Scope;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// What a class asks for by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    pub scope: Scope,
    /// In reply to RCPT with 5yz. Before RCPT nobody is given up, with 4yz neither, and after RCPT nobody
    /// for good unless the enhanced code is 5.1.x or 5.2.1.
    pub recipient: RecipientAction,
    pub measure: Option<Measure>,
    pub alert: bool,
}

/// Every class with its name, as rules and reports write it.
const NAMES: [(Class, &str); 41] = [
    (Class::Accepted, "accepted"),
    (Class::UnknownUser, "unknown-user"),
    (Class::InactiveMailbox, "inactive-mailbox"),
    (Class::MailboxFull, "mailbox-full"),
    (Class::MailboxFullInactive, "mailbox-full-inactive"),
    (Class::RecipientRate, "recipient-rate"),
    (Class::RecipientRefuses, "recipient-refuses"),
    (Class::BadDomain, "bad-domain"),
    (Class::Greylisted, "greylisted"),
    (Class::SpamContent, "spam-content"),
    (Class::ForbiddenContent, "forbidden-content"),
    (Class::MessageTooLarge, "message-too-large"),
    (Class::Malformed, "malformed"),
    (Class::RateLimited, "rate-limited"),
    (Class::TooManyConnections, "too-many-connections"),
    (Class::TooManyMessagesInSession, "too-many-messages-in-session"),
    (Class::TooManyRecipients, "too-many-recipients"),
    (Class::PoorReputation, "poor-reputation"),
    (Class::SourceBlocked, "source-blocked"),
    (Class::SourceListed, "source-listed"),
    (Class::DomainReputation, "domain-reputation"),
    (Class::Authentication, "authentication"),
    (Class::ReverseDns, "reverse-dns"),
    (Class::BadHelo, "bad-helo"),
    (Class::TlsRequired, "tls-required"),
    (Class::SenderRefused, "sender-refused"),
    (Class::Policy, "policy"),
    (Class::RelayDenied, "relay-denied"),
    (Class::CredentialsRefused, "credentials-refused"),
    (Class::SystemTrouble, "system-trouble"),
    (Class::Closing, "closing"),
    (Class::Protocol, "protocol"),
    (Class::RoutingLoop, "routing-loop"),
    (Class::ConnectionFailed, "connection-failed"),
    (Class::TlsFailed, "tls-failed"),
    (Class::DnsFailed, "dns-failed"),
    (Class::NotOffered, "not-offered"),
    (Class::InDoubt, "in-doubt"),
    (Class::Local, "local"),
    (Class::UnclassifiedTransient, "unclassified-transient"),
    (Class::UnclassifiedPermanent, "unclassified-permanent"),
];

impl Class {
    /// Every class, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(class, _)| *class)
    }

    /// As rules, reports and journals' readers write it: `rate-limited`.
    pub fn name(self) -> &'static str {
        // Sorted by number, which a test holds.
        let place = NAMES.binary_search_by_key(&self.number(), |(class, _)| class.number());
        place.map_or("", |place| NAMES[place].1)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }

    /// As a journal's record holds it; never 0.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// `None` for 0 and for what a later version may have written.
    pub fn from_number(number: u8) -> Option<Self> {
        let place = NAMES.binary_search_by_key(&number, |(class, _)| class.number()).ok()?;
        Some(NAMES[place].0)
    }

    /// Whether a refusal of this class says that the address is no good: what bounce rates count.
    pub fn is_hard_bounce(self) -> bool {
        matches!(self, Self::UnknownUser | Self::InactiveMailbox | Self::BadDomain)
    }

    /// Whether no rule and no enhanced code knew more than reply code and stage.
    pub fn is_unclassified(self) -> bool {
        matches!(self, Self::UnclassifiedTransient | Self::UnclassifiedPermanent)
    }

    /// See the table at the head of this file.
    pub fn defaults(self) -> Defaults {
        use RecipientAction::{Bounce, Delivered, Retry, RetryAfter, Suppress};
        use Scope::{Campaign, Message, Path, Recipient, SendingDomain, Session, Source};
        let plain = |scope, recipient| Defaults { scope, recipient, measure: None, alert: false };
        let with =
            |scope, measure| Defaults { scope, recipient: Retry, measure: Some(measure), alert: false };
        let alerting = |defaults: Defaults| Defaults { alert: true, ..defaults };
        let minutes = |minutes| Duration::from_secs(minutes * MINUTE);
        let hours = |hours| Duration::from_secs(hours * HOUR);
        match self {
            Self::Accepted => plain(Recipient, Delivered),
            Self::UnknownUser | Self::InactiveMailbox => plain(Recipient, Suppress),
            Self::MailboxFull
            | Self::MailboxFullInactive
            | Self::RecipientRefuses
            | Self::BadDomain
            | Self::RelayDenied
            | Self::RoutingLoop
            | Self::NotOffered
            | Self::Local
            | Self::UnclassifiedPermanent => plain(Recipient, Bounce),
            Self::UnclassifiedTransient => plain(Recipient, Retry),
            Self::RecipientRate => plain(Recipient, RetryAfter(minutes(30))),
            // The common implementations let a triplet pass after 5 minutes.
            Self::Greylisted => plain(Recipient, RetryAfter(minutes(6))),
            Self::SpamContent | Self::ForbiddenContent | Self::MessageTooLarge | Self::Policy => {
                plain(Message, Bounce)
            }
            Self::Malformed => alerting(plain(Campaign, Bounce)),
            Self::RateLimited => with(Path, Measure::Slow(0.5)),
            Self::TooManyConnections => with(Path, Measure::Narrow),
            Self::TooManyMessagesInSession => with(Session, Measure::Reconnect),
            Self::TooManyRecipients | Self::InDoubt => plain(Message, Retry),
            Self::PoorReputation => with(Path, Measure::Suspend { lasting: hours(1), resume: 0.25 }),
            Self::SourceBlocked | Self::SourceListed | Self::ReverseDns | Self::BadHelo => {
                alerting(with(Source, Measure::TakeOut(hours(6))))
            }
            Self::DomainReputation => {
                alerting(with(SendingDomain, Measure::Suspend { lasting: hours(1), resume: 0.25 }))
            }
            Self::Authentication | Self::SenderRefused => {
                alerting(with(SendingDomain, Measure::PauseDomain(hours(1))))
            }
            Self::TlsRequired => alerting(plain(Path, Retry)),
            Self::CredentialsRefused => {
                alerting(with(Path, Measure::Suspend { lasting: hours(1), resume: 1.0 }))
            }
            Self::SystemTrouble | Self::ConnectionFailed | Self::TlsFailed | Self::DnsFailed => {
                plain(Path, Retry)
            }
            Self::Closing | Self::Protocol => plain(Session, Retry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_their_class() {
        let mut last = 0;
        for class in Class::all() {
            assert!(class.number() > last, "{class:?} is out of order");
            last = class.number();
            assert_eq!(Class::from_number(class.number()), Some(class));
            assert_eq!(Class::from_name(class.name()), Some(class));
            // The same word as serde's.
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{}\"", class.name()));
        }
        assert_eq!(Class::from_number(0), None);
        assert_eq!((0..=255).filter_map(Class::from_number).count(), NAMES.len());
    }

    #[test]
    fn nothing_about_the_sender_gives_up_on_a_recipient() {
        for class in Class::all() {
            let defaults = class.defaults();
            if defaults.recipient == RecipientAction::Suppress {
                assert_eq!(defaults.scope, Scope::Recipient, "{class:?}");
                assert!(matches!(class, Class::UnknownUser | Class::InactiveMailbox));
            }
            let is_ours =
                matches!(defaults.scope, Scope::Session | Scope::Path | Scope::Source | Scope::SendingDomain);
            if is_ours {
                assert_eq!(defaults.recipient, RecipientAction::Retry, "{class:?}");
            }
        }
    }
}
