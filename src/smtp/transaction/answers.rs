//! Answers folded to outcomes: the half of a [`Pipeline`] that listens.
//!
//! The first verdict about a message stands and what follows from it (503 to DATA after a refused
//! RCPT) is no second outcome. Scopes by default: 421 or a broken stream reach the session, RCPT the
//! recipient, MAIL and the end of the content the message; feedback may know better.

use super::{Awaited, Event, Flight, Pipeline, Verdict};
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::reply::{Reply, Severity};
use crate::smtp::replies::Answer;
use crate::smtp::{Quirk, SessionEnd, Trust};

impl Pipeline {
    /// Takes the next answer of the server.
    pub fn answer(&mut self, answer: &Answer<'_>) {
        if self.end.is_some() {
            return;
        }
        let Some(awaited) = self.awaited.pop_front() else {
            return if answer.is_closing() {
                self.closed(None, answer)
            } else {
                self.out_of_step(None, answer)
            };
        };
        if answer.is_closing() {
            return self.closed(Some(awaited), answer);
        }
        match awaited {
            Awaited::Rset => self.rset_answered(answer),
            Awaited::Mail => self.mail_answered(answer),
            Awaited::Rcpt => self.rcpt_answered(answer),
            Awaited::Data => self.data_answered(answer),
            Awaited::End => self.end_answered(answer),
            Awaited::Quit => self.end = Some(SessionEnd::Quit),
        }
        self.advance();
    }

    /// The connection failed: timeout, close, error, or octets that are no reply.
    pub fn broke(&mut self, failure: Failure) {
        if self.end.is_some() {
            return;
        }
        let was_closed = matches!(failure, Failure::Closed | Failure::Io(_));
        if was_closed && self.flights.is_empty() {
            return self.finish(SessionEnd::Gone);
        }
        // In the middle of a window it leaves all of them in doubt, and may do so again.
        let in_window = self.mode == Trust::Window && self.flights.len() > 1;
        if matches!(failure, Failure::Garbage(_)) || in_window {
            self.distrust();
        }
        let mut stage = self.awaited.front().map_or(Stage::Mail, |awaited| awaited.stage());
        let finding = Finding::Failed { stage, scope: Scope::Session, failure: failure.clone() };
        while let Some(flight) = self.flights.pop_front() {
            let finding = match flight.verdict {
                Some(_) => None,
                None if !self.outbox.has_begun(flight.begin) => None,
                None if flight.content_end.is_some_and(|end| self.outbox.has_written(end)) => {
                    Some(Finding::InDoubt { failure: failure.clone() })
                }
                None => Some(Finding::Failed { stage, scope: Scope::Session, failure: failure.clone() }),
            };
            self.settle(flight, finding);
            stage = Stage::Mail;
        }
        self.finish(SessionEnd::Broken(finding));
    }

    fn rset_answered(&mut self, answer: &Answer<'_>) {
        match answer.severity() {
            Severity::Success => self.open = false,
            Severity::Intermediate => return self.out_of_step(Some(Awaited::Rset), answer),
            // What rides behind it is under way; its own answers will tell what it was worth.
            Severity::Transient | Severity::Permanent => {
                self.distrust();
                self.stop_starting();
            }
        }
        if self.mode == Trust::Lockstep {
            self.send_mail();
        }
    }

    fn mail_answered(&mut self, answer: &Answer<'_>) {
        match answer.severity() {
            Severity::Success => {
                self.open = true;
                if self.mode == Trust::Lockstep {
                    self.send_rcpt();
                }
            }
            Severity::Intermediate => self.out_of_step(Some(Awaited::Mail), answer),
            Severity::Transient | Severity::Permanent => {
                let reply = answer.to_reply();
                if self.accepted > 0 && is_session_limit(&reply) {
                    self.learn_messages_max();
                    self.judge(Verdict::Returned);
                } else if answer.code() == 503 && self.mode == Trust::Window && self.started > 1 {
                    // "Bad sequence" of what we sent in a legal one: the server lost its place. The
                    // message is not to blame; with less trust it is tried again.
                    self.distrust();
                    self.stop_starting();
                    self.judge(Verdict::Returned);
                } else {
                    self.judge(Verdict::Refused { stage: Stage::Mail, scope: Scope::Message, reply });
                }
                if self.mode == Trust::Lockstep {
                    self.settle_front(None);
                }
            }
        }
    }

    fn rcpt_answered(&mut self, answer: &Answer<'_>) {
        match answer.severity() {
            Severity::Success => {
                if let Some(flight) = self.flights.front_mut() {
                    flight.rcpt_accepted = true;
                }
                if self.mode == Trust::Lockstep {
                    self.outbox.data();
                    self.awaited.push_back(Awaited::Data);
                }
            }
            Severity::Intermediate => self.out_of_step(Some(Awaited::Rcpt), answer),
            Severity::Transient | Severity::Permanent => {
                let reply = answer.to_reply();
                self.judge(Verdict::Refused { stage: Stage::Rcpt, scope: Scope::Recipient, reply });
                if self.mode == Trust::Lockstep {
                    self.settle_front(None);
                }
            }
        }
    }

    fn data_answered(&mut self, answer: &Answer<'_>) {
        match answer.severity() {
            Severity::Success => self.out_of_step(Some(Awaited::Data), answer),
            Severity::Intermediate => self.send_content(),
            Severity::Transient | Severity::Permanent => {
                let reply = answer.to_reply();
                self.judge(Verdict::Refused { stage: Stage::Data, scope: Scope::Message, reply });
                self.settle_front(None);
            }
        }
    }

    fn end_answered(&mut self, answer: &Answer<'_>) {
        let chunked = self.mode == Trust::Window;
        let Some(flight) = self.flights.front() else { return };
        let is_early = flight.content_end.is_some_and(|end| !self.outbox.has_written(end));
        match answer.severity() {
            Severity::Intermediate => self.out_of_step(Some(Awaited::End), answer),
            Severity::Success if is_early => self.out_of_step(Some(Awaited::End), answer),
            Severity::Success => {
                self.open = false;
                let taken = flight.content_end.is_some() && flight.rcpt_accepted;
                match flight.verdict {
                    None => self.settle_front(Some(Finding::Accepted(answer.to_reply()))),
                    // MAIL was refused, recipient and content were not: the server has the message.
                    Some(_) if taken => {
                        self.distrust();
                        self.stop_starting();
                        self.settle_front(Some(Finding::Accepted(answer.to_reply())));
                    }
                    // A content without a recipient, or a lone dot: nothing was accepted.
                    Some(_) => self.settle_front(None),
                }
            }
            Severity::Transient | Severity::Permanent => {
                // RFC 5321 §4.1.1.4: the end of DATA clears the transaction either way; a failed
                // BDAT does not, nor need a lone dot.
                self.open = chunked || flight.content_end.is_none();
                let reply = answer.to_reply();
                self.judge(Verdict::Refused { stage: Stage::Content, scope: Scope::Message, reply });
                self.settle_front(None);
                if is_early && !chunked {
                    // In the middle of DATA there is no telling what the server reads next as a
                    // command. A chunk has a length, so there it goes on (RFC 3030 §2).
                    self.broke(Failure::Closed);
                }
            }
        }
    }

    /// 421: the message it answers is refused, those behind it were never come to.
    fn closed(&mut self, awaited: Option<Awaited>, answer: &Answer<'_>) {
        let reply = answer.to_reply();
        let limited = awaited == Some(Awaited::Mail) && self.accepted > 0 && is_session_limit(&reply);
        if limited {
            self.learn_messages_max();
        }
        if let Some(awaited) = awaited
            && !limited
            && self.flights.front().is_some_and(|flight| self.outbox.has_begun(flight.begin))
        {
            let verdict =
                Verdict::Refused { stage: awaited.stage(), scope: Scope::Session, reply: reply.clone() };
            self.judge(verdict);
            self.settle_front(None);
        }
        while let Some(mut flight) = self.flights.pop_front() {
            // Not one octet of it was sent, as when 421 and our MAIL cross.
            if limited || !self.outbox.has_begun(flight.begin) {
                flight.verdict.get_or_insert(Verdict::Returned);
            }
            let failure = Failure::ClosedEarlier;
            let finding = Finding::Failed { stage: Stage::Mail, scope: Scope::Session, failure };
            let finding = flight.verdict.is_none().then_some(finding);
            self.settle(flight, finding);
        }
        self.finish(SessionEnd::Closing(reply));
    }

    /// An answer that cannot belong to `awaited`: from here on nothing can be matched any more.
    fn out_of_step(&mut self, awaited: Option<Awaited>, answer: &Answer<'_>) {
        if let Some(awaited) = awaited {
            self.awaited.push_front(awaited);
        }
        self.broke(Failure::Garbage(format!("out of step: {}", answer.to_reply())));
    }

    fn finish(&mut self, end: SessionEnd) {
        self.awaited.clear();
        self.stop_starting();
        self.arming.clear();
        self.end = Some(end);
    }

    fn distrust(&mut self) {
        let lower = self.mode.lower();
        if lower < self.mode && !self.distrusted {
            self.distrusted = true;
            self.events.push_back(Event::Learned(Quirk::Trust(lower)));
        }
    }

    fn learn_messages_max(&mut self) {
        if !self.full {
            self.full = true;
            self.events.push_back(Event::Learned(Quirk::MessagesMax(self.accepted)));
        }
        self.stop_starting();
    }

    /// The first verdict about the oldest message stands: what follows is its consequence.
    fn judge(&mut self, verdict: Verdict) {
        if let Some(flight) = self.flights.front_mut() {
            flight.verdict.get_or_insert(verdict);
        }
    }

    fn settle_front(&mut self, finding: Option<Finding>) {
        if let Some(flight) = self.flights.pop_front() {
            self.settle(flight, finding);
        }
    }

    /// Ends a message with `finding`, or else with its verdict.
    fn settle(&mut self, flight: Flight, finding: Option<Finding>) {
        let Flight { entry, slot, armed, composed, verdict, .. } = flight;
        self.spare.extend(composed);
        let finding = match (finding, verdict) {
            (Some(finding), _) => finding,
            (None, Some(Verdict::Refused { stage, scope, reply })) => {
                Finding::Refused { stage, scope, reply }
            }
            (None, Some(Verdict::Returned) | None) => {
                return self.events.push_back(Event::Returned { entry, slot });
            }
        };
        self.accepted += u32::from(matches!(finding, Finding::Accepted(_)));
        self.events.push_back(Event::Settled { entry, slot, armed, finding });
    }
}

/// Whether a refusal of MAIL means that this connection has carried enough: "too many messages in
/// this session", "max message per connection", and what else receivers call it.
fn is_session_limit(reply: &Reply) -> bool {
    const WHOLE: [&str; 3] = ["session", "connection", "smtp transaction"];
    const ENOUGH: [&str; 9] = [
        "too many messages",
        "too many mails",
        "too many emails",
        "too many transactions",
        "too much mail",
        "max message",
        "maximum messages",
        "maximum number of messages",
        "message limit",
    ];
    let text = reply.text().to_ascii_lowercase();
    ENOUGH.iter().any(|words| text.contains(words)) && WHOLE.iter().any(|words| text.contains(words))
}
