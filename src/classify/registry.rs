//! The registry of enhanced status codes, and what is known without any: by reply code and stage.
//!
//! The codes are IANA's "SMTP Enhanced Status Codes": RFC 3463, RFC 3886, RFC 4468, RFC 4865, RFC 4954,
//! RFC 5248, RFC 6531, RFC 6710, RFC 7293, RFC 7372, RFC 7504, RFC 7505, RFC 8617, RFC 8689. A code that
//! says "other or undefined" (X.0.0, X.1.0, X.2.0, X.6.0) says no more than the reply code does.

use super::Class;
use crate::outcome::{Scope, Stage};
use crate::reply::{EnhancedCode, Reply, Severity};

/// Whether nothing was said about a recipient yet.
pub(super) fn is_before_rcpt(stage: Stage) -> bool {
    stage < Stage::Rcpt || stage == Stage::Auth
}

/// What an enhanced code means, whatever the class digit; `None`: nothing, or not registered.
///
/// The codes of RFC 4954 are about user name and password only where those are asked for; some servers say
/// 5.7.9 of a message that they do not like.
pub(super) fn class_of(stage: Stage, code: EnhancedCode) -> Option<Class> {
    Some(match (code.subject, code.detail) {
        // Addresses
        (1, 1 | 3) => Class::UnknownUser,
        (1, 4) => Class::RecipientRefuses,
        (1, 2 | 10) => Class::BadDomain,
        (1, 6) => Class::InactiveMailbox,
        (1, 7 | 8) => Class::SenderRefused,
        // Mailboxes
        (2, 1) => Class::InactiveMailbox,
        (2, 2) => Class::MailboxFull,
        (2, 3) => Class::MessageTooLarge,
        (2, 4) => Class::SystemTrouble,
        // Mail systems
        (3, 0 | 1 | 2 | 5) => Class::SystemTrouble,
        (3, 3) => Class::NotOffered,
        (3, 4) => Class::MessageTooLarge,
        // Network and routing
        (4, 0 | 1 | 2 | 3 | 5 | 7) => Class::SystemTrouble,
        (4, 4) => Class::BadDomain,
        (4, 6) => Class::RoutingLoop,
        // Protocol
        (5, 3) => Class::TooManyRecipients,
        (5, 0..=2 | 4..=6) => Class::Protocol,
        // Content
        (6, 1..=5) => Class::ForbiddenContent,
        (6, 6) => Class::SystemTrouble,
        (6, 7..=10) => Class::NotOffered,
        // Security and policy
        (7, 0 | 1) => Class::Policy,
        (7, 2) => Class::RecipientRefuses,
        (7, 3..=7 | 15) => Class::Policy,
        (7, 8 | 9 | 12 | 13 | 14) if is_before_rcpt(stage) => Class::CredentialsRefused,
        (7, 8 | 9 | 12 | 13 | 14) => Class::Policy,
        (7, 10 | 11 | 30) => Class::TlsRequired,
        (7, 16) => Class::MessageTooLarge,
        // The owner has changed: there is nobody left who asked for this mail.
        (7, 17) => Class::InactiveMailbox,
        (7, 18) => Class::BadDomain,
        (7, 19) => Class::SystemTrouble,
        (7, 20..=24 | 26 | 29) => Class::Authentication,
        (7, 25) => Class::ReverseDns,
        (7, 27) => Class::SenderRefused,
        (7, 28) => Class::RateLimited,
        _ => return None,
    })
}

/// What reply code and stage say by themselves (RFC 5321 §4.2.2, RFC 4954 §6, RFC 7504).
pub(super) fn class_of_code(stage: Stage, reply: &Reply) -> Class {
    match (reply.code(), stage) {
        (421, _) => Class::Closing,
        (500 | 502 | 503, _) => Class::Protocol,
        (454, Stage::StartTls) => Class::TlsFailed,
        (432 | 534 | 535 | 538, _) if is_before_rcpt(stage) => Class::CredentialsRefused,
        (521 | 556, Stage::Rcpt) => Class::BadDomain,
        _ => match reply.severity() {
            Severity::Permanent => Class::UnclassifiedPermanent,
            Severity::Transient => Class::UnclassifiedTransient,
            // Not a refusal, and not what was due.
            Severity::Success | Severity::Intermediate => Class::Protocol,
        },
    }
}

/// How far a refusal reaches of which only the stage is known.
pub(super) fn scope_of_stage(stage: Stage) -> Scope {
    match stage {
        Stage::Route | Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls => Scope::Path,
        Stage::Auth => Scope::Source,
        Stage::Mail | Stage::Data | Stage::Content => Scope::Message,
        Stage::Rcpt | Stage::Local => Scope::Recipient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_reads_as_its_rfcs_say() {
        for (subject, detail, class) in [
            (1, 1, Class::UnknownUser),       // RFC 3463 §3.2: bad destination mailbox address
            (1, 2, Class::BadDomain),         // bad destination system address
            (1, 10, Class::BadDomain),        // RFC 7505 §4.2: recipient address has null MX
            (2, 1, Class::InactiveMailbox),   // mailbox disabled, not accepting messages
            (2, 2, Class::MailboxFull),       // mailbox full
            (3, 4, Class::MessageTooLarge),   // message too big for system
            (4, 6, Class::RoutingLoop),       // routing loop detected
            (5, 3, Class::TooManyRecipients), // too many recipients
            (6, 7, Class::NotOffered),        // RFC 6531 §3.5: non-ASCII addresses not permitted
            (7, 17, Class::InactiveMailbox),  // RFC 7293 §10: mailbox owner has changed
            (7, 23, Class::Authentication),   // RFC 7372 §3.2: SPF validation failed
            (7, 25, Class::ReverseDns),       // RFC 7372 §3.3: reverse DNS validation failed
            (7, 30, Class::TlsRequired),      // RFC 8689 §5: REQUIRETLS support required
        ] {
            for class_digit in [4, 5] {
                let code = EnhancedCode::new(class_digit, subject, detail);
                assert_eq!(class_of(Stage::Rcpt, code), Some(class), "{code}");
            }
        }
        // RFC 4954 §6: authentication credentials invalid.
        for stage in [Stage::Auth, Stage::Mail] {
            assert_eq!(class_of(stage, EnhancedCode::new(5, 7, 8)), Some(Class::CredentialsRefused));
        }
        assert_eq!(class_of(Stage::Content, EnhancedCode::new(5, 7, 9)), Some(Class::Policy));
        for (subject, detail) in [(0, 0), (1, 0), (1, 5), (2, 0), (6, 0), (7, 606), (9, 1)] {
            let code = EnhancedCode::new(5, subject, detail);
            assert_eq!(class_of(Stage::Rcpt, code), None, "{code}");
        }
    }
}
