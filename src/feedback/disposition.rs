//! What becomes of a recipient: the one place that decides. Pure: `now` is an argument.
//!
//! What a reply means is [`crate::classify`]'s to say, and whether it is held against the recipient; here
//! that becomes a disposition, with the time of the next attempt, until the run expires.

use std::time::SystemTime;

use crate::classify::RecipientAction;
use crate::outcome::{Disposition, Evidence, Failure, Finding, InDoubtPolicy, Outcome, Stage};
use crate::policy::Recourse;
use crate::reply::{EnhancedCode, Reply};
use crate::retry::Schedule;

/// What becomes of the outcome's recipient, and why.
pub fn decide(
    outcome: &Outcome,
    recourse: &Recourse,
    now: SystemTime,
    schedule: &Schedule,
    in_doubt: InDoubtPolicy,
) -> (Disposition, Evidence) {
    let fate = || {
        let due = match recourse.action {
            RecipientAction::Delivered => return Disposition::Delivered,
            RecipientAction::Bounce | RecipientAction::Suppress => return Disposition::Bounced,
            RecipientAction::Retry => schedule.due(outcome.entry, now, recourse.limits.as_deref()),
            RecipientAction::RetryAfter(wait) => {
                schedule.due_after(outcome.entry, now, wait, recourse.limits.as_deref())
            }
        };
        due.map_or(Disposition::Expired, |until| Disposition::Deferred { until })
    };
    match &outcome.finding {
        Finding::Accepted(reply) => (fate(), replied(Stage::Content, reply)),
        Finding::Refused { stage, reply, .. } => (fate(), replied(*stage, reply)),
        Finding::Failed { stage, failure, .. } => (fate(), failed(*stage, failure, local_code(failure))),
        Finding::InDoubt { failure } => {
            (Disposition::InDoubt(in_doubt), failed(Stage::Content, failure, None))
        }
        Finding::Suppressed => (Disposition::Suppressed, local("suppressed just before sending")),
        Finding::Unrenderable { reason } => (Disposition::Invalid, local(reason)),
    }
}

/// What the peer has announced that it will never take (RFC 6531 §3.5, RFC 1870 §6.2).
fn local_code(failure: &Failure) -> Option<EnhancedCode> {
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

    fn decided(finding: Finding, action: RecipientAction) -> Disposition {
        let outcome = Outcome {
            entry: Entry::new(RecipientId::new(0, 0), 1),
            finding,
            slot: None,
            site: SiteId(0),
            source: SourceId(0),
        };
        let now = SystemTime::UNIX_EPOCH;
        let schedule = Schedule::new(vec![MINUTES_5], 0.0, now, Duration::from_secs(1000));
        let recourse = Recourse { action, is_bound: false, limits: None };
        decide(&outcome, &recourse, now, &schedule, InDoubtPolicy::Hold).0
    }

    const MINUTES_5: Duration = Duration::from_secs(300);

    fn refused(action: RecipientAction) -> Disposition {
        let reply = Reply::new(550, "no").unwrap();
        decided(Finding::Refused { stage: Stage::Rcpt, scope: Scope::Recipient, reply }, action)
    }

    #[test]
    fn what_is_to_be_done_becomes_a_disposition() {
        let deferred =
            |secs| Disposition::Deferred { until: SystemTime::UNIX_EPOCH + Duration::from_secs(secs) };
        assert_eq!(refused(RecipientAction::Retry), deferred(300));
        assert_eq!(refused(RecipientAction::RetryAfter(Duration::from_secs(60))), deferred(60));
        assert_eq!(refused(RecipientAction::RetryAfter(Duration::from_secs(2000))), Disposition::Expired);
        assert_eq!(refused(RecipientAction::Bounce), Disposition::Bounced);
        assert_eq!(refused(RecipientAction::Suppress), Disposition::Bounced);
    }

    #[test]
    fn a_lost_reply_is_in_doubt_and_a_lost_connection_is_not() {
        let failure = Failure::Closed;
        assert_eq!(
            decided(Finding::InDoubt { failure: failure.clone() }, RecipientAction::Retry),
            Disposition::InDoubt(InDoubtPolicy::Hold)
        );
        let lost = Finding::Failed { stage: Stage::Data, scope: Scope::Session, failure };
        assert!(matches!(decided(lost, RecipientAction::Retry), Disposition::Deferred { .. }));
    }
}
