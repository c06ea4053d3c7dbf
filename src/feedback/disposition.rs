//! What a finding means for its recipient: the one place that decides. Pure: `now` is an argument.
//!
//! A refusal of the recipient or of the message at RCPT, DATA or the content's end with 5yz is a bounce.
//! A 5yz before that (connection, greeting, EHLO, MAIL) is about us and defers: it is never held against
//! a recipient. Everything else that is not an acceptance defers, until the run expires.

use std::time::SystemTime;

use crate::outcome::{Disposition, Evidence, Failure, Finding, InDoubtPolicy, Outcome, Stage};
use crate::reply::{EnhancedCode, Reply, Severity};
use crate::retry::Schedule;

/// What becomes of the outcome's recipient, and why.
pub fn decide(
    outcome: &Outcome,
    now: SystemTime,
    schedule: &Schedule,
    in_doubt: InDoubtPolicy,
) -> (Disposition, Evidence) {
    let retry = || match schedule.due(outcome.entry, now) {
        Some(until) => Disposition::Deferred { until },
        None => Disposition::Expired,
    };
    match &outcome.finding {
        Finding::Accepted(reply) => (Disposition::Delivered, replied(Stage::Content, reply)),
        Finding::Refused { stage, reply, .. } => {
            let is_final = reply.severity() == Severity::Permanent
                && matches!(stage, Stage::Rcpt | Stage::Data | Stage::Content);
            (if is_final { Disposition::Bounced } else { retry() }, replied(*stage, reply))
        }
        Finding::Failed { stage, failure, .. } => match local_refusal(failure) {
            Some(enhanced) => (Disposition::Bounced, failed(*stage, failure, Some(enhanced))),
            None => (retry(), failed(*stage, failure, None)),
        },
        Finding::InDoubt { failure } => {
            (Disposition::InDoubt(in_doubt), failed(Stage::Content, failure, None))
        }
        Finding::Suppressed => (Disposition::Suppressed, local("suppressed just before sending")),
        Finding::Unrenderable { reason } => (Disposition::Invalid, local(reason)),
    }
}

/// What the peer has announced that it will never take (RFC 6531 §3.5, RFC 1870 §6.2).
fn local_refusal(failure: &Failure) -> Option<EnhancedCode> {
    match failure {
        Failure::NotOffered("SMTPUTF8") => Some(EnhancedCode::new(5, 6, 7)),
        Failure::TooLarge { .. } => Some(EnhancedCode::new(5, 3, 4)),
        _ => None,
    }
}

fn replied(stage: Stage, reply: &Reply) -> Evidence {
    Evidence { stage, code: reply.code(), enhanced: reply.enhanced(), text: reply.text().into() }
}

fn failed(stage: Stage, failure: &Failure, enhanced: Option<EnhancedCode>) -> Evidence {
    Evidence { stage, code: 0, enhanced, text: failure.to_string().into() }
}

fn local(reason: &str) -> Evidence {
    Evidence { stage: Stage::Local, code: 0, enhanced: None, text: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Entry, RecipientId};
    use crate::outcome::{Scope, SiteId, SourceId};
    use std::time::Duration;

    fn decided(finding: Finding) -> Disposition {
        let outcome = Outcome {
            entry: Entry::new(RecipientId::new(0, 0), 1),
            finding,
            slot: None,
            site: SiteId(0),
            source: SourceId(0),
        };
        let now = SystemTime::UNIX_EPOCH;
        let schedule = Schedule::new(vec![Duration::from_secs(300)], 0.0, now + Duration::from_secs(1000));
        decide(&outcome, now, &schedule, InDoubtPolicy::Hold).0
    }

    fn refused(stage: Stage, code: u16) -> Disposition {
        let reply = Reply::new(code, "no").unwrap();
        decided(Finding::Refused { stage, scope: Scope::Recipient, reply })
    }

    #[test]
    fn a_message_about_us_is_never_held_against_the_recipient() {
        let deferred = Disposition::Deferred { until: SystemTime::UNIX_EPOCH + Duration::from_secs(300) };
        for stage in [Stage::Connect, Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Mail] {
            assert_eq!(refused(stage, 550), deferred, "{stage:?}");
        }
        for stage in [Stage::Rcpt, Stage::Data, Stage::Content] {
            assert_eq!(refused(stage, 550), Disposition::Bounced, "{stage:?}");
            assert_eq!(refused(stage, 450), deferred, "{stage:?}");
            assert_eq!(refused(stage, 421), deferred, "{stage:?}");
        }
    }

    #[test]
    fn a_lost_reply_is_in_doubt_and_a_lost_connection_is_not() {
        let failure = Failure::Closed;
        assert_eq!(
            decided(Finding::InDoubt { failure: failure.clone() }),
            Disposition::InDoubt(InDoubtPolicy::Hold)
        );
        let lost = decided(Finding::Failed { stage: Stage::Data, scope: Scope::Session, failure });
        assert!(matches!(lost, Disposition::Deferred { .. }));
    }

    #[test]
    fn what_the_peer_never_takes_bounces() {
        let failed =
            |failure| decided(Finding::Failed { stage: Stage::Mail, scope: Scope::Recipient, failure });
        assert_eq!(failed(Failure::NotOffered("SMTPUTF8")), Disposition::Bounced);
        assert_eq!(failed(Failure::TooLarge { limit: 1000 }), Disposition::Bounced);
    }
}
