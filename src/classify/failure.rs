//! What a failure without a reply means. No rule is ever asked: our own words are not the peer's.

use super::{By, Class, RecipientAction, Verdict};
use crate::outcome::{Failure, Scope, Stage};

/// The verdict on what was learned here. Backing off a path that cannot be reached is its own work and
/// needs no measure; in doubt (the end of the content went out) is told by the finding, not here.
pub fn of_failure(stage: Stage, failure: &Failure) -> Verdict {
    let class = match failure {
        Failure::Timeout(_)
        | Failure::Closed
        | Failure::Io(_)
        | Failure::Escape(_)
        | Failure::Proxy { .. } => Class::ConnectionFailed,
        Failure::Login(_) => Class::CredentialsRefused,
        Failure::Garbage(_) => Class::Protocol,
        // A peer that is to encrypt and does not offer to is no peer that lacks a feature.
        Failure::Tls(_) | Failure::NotOffered("STARTTLS") => Class::TlsFailed,
        Failure::NotOffered(_) => Class::NotOffered,
        Failure::TooLarge { .. } => Class::MessageTooLarge,
        Failure::NoAddress(_) => Class::DnsFailed,
        Failure::ClosedEarlier => Class::Closing,
        Failure::Compose(_) => Class::Local,
    };
    let defaults = class.defaults();
    let scope = match class {
        // Once a session stood, its end says nothing about the next.
        Class::ConnectionFailed if stage >= Stage::Mail && stage != Stage::Auth => Scope::Session,
        _ => defaults.scope,
    };
    Verdict {
        class,
        scope,
        recipient: match class {
            Class::NotOffered | Class::MessageTooLarge | Class::Local => RecipientAction::Bounce,
            _ => RecipientAction::Retry,
        },
        measure: None,
        threshold: None,
        alert: false,
        by: By::Engine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_broke_is_tried_again_and_what_is_never_taken_is_not() {
        let verdict = |stage, failure| {
            let verdict = of_failure(stage, &failure);
            assert_eq!((verdict.by, verdict.measure), (By::Engine, None));
            (verdict.class, verdict.scope, verdict.recipient)
        };
        use RecipientAction::{Bounce, Retry};
        assert_eq!(
            verdict(Stage::Connect, Failure::Timeout(Duration::from_secs(60))),
            (Class::ConnectionFailed, Scope::Path, Retry)
        );
        assert_eq!(
            verdict(Stage::Content, Failure::Closed),
            (Class::ConnectionFailed, Scope::Session, Retry)
        );
        assert_eq!(
            verdict(Stage::StartTls, Failure::NotOffered("STARTTLS")),
            (Class::TlsFailed, Scope::Path, Retry)
        );
        assert_eq!(
            verdict(Stage::Mail, Failure::NotOffered("SMTPUTF8")),
            (Class::NotOffered, Scope::Recipient, Bounce)
        );
        assert_eq!(
            verdict(Stage::Mail, Failure::TooLarge { limit: 1000 }),
            (Class::MessageTooLarge, Scope::Message, Bounce)
        );
        assert_eq!(verdict(Stage::Rcpt, Failure::ClosedEarlier), (Class::Closing, Scope::Session, Retry));
    }
}
