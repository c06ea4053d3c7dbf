//! MAIL and RCPT: limits, parameters, who lives here, greylisting, and the trouble an address is in.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::syntax::path;
use super::{Dialog, End, reply_of};
use crate::address::AddressRef;
use crate::world::counts::Limit;
use crate::world::file::{Extension, Stage, TroubleFile};
use crate::world::greylist::Asked;
use crate::world::transaction::Recipient;

/// Recipients of one transaction (RFC 5321 §4.5.3.1.8).
const RECIPIENTS_MAX: usize = 100;

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialog<'a, '_, S> {
    pub(super) async fn mail(&mut self, rest: &str) -> Result<(), End> {
        if !self.session.greeted {
            return self.reply("503 5.5.1 Say hello first", "").await;
        }
        if self.session.transaction.return_path.is_some() {
            return self.reply("503 5.5.1 A transaction is under way", "").await;
        }
        let (visit, number) = (self.visit, self.visit.provider_number());
        let ordinal = visit.shared.hosts[visit.host].transactions.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let transaction = visit.shared.ledger().transaction(visit.source, visit.host, now);
        self.session.messages += 1;
        if let Some(reply) = visit.block(Stage::Mail, transaction, now) {
            return self.reply(reply, "").await;
        }
        if let Some((limit, reply)) = self.limit_reached(now) {
            visit.shared.ledger().breach(number, visit.source, limit, now);
            visit.shared.ledger().refused(number, reply);
            return self.reply(reply, "").await;
        }
        if let Some(trouble) = self.session_trouble(Stage::Mail, ordinal) {
            return self.strike(trouble, "").await;
        }
        let Some((path, parameters)) = path(rest, "FROM:") else {
            return self.reply("501 5.5.4 Syntax: MAIL FROM:<address>", "").await;
        };
        if let Some(reply) = self.parameters_refused(parameters) {
            return self.reply(reply, "").await;
        }
        self.session.smtputf8 = parameters.split(' ').any(|p| p.eq_ignore_ascii_case("SMTPUTF8"));
        self.session.transaction.return_path = Some(path.to_owned());
        self.session.transaction.number = transaction;
        self.reply("250 2.1.0 Sender OK", "").await
    }

    /// The limit that this MAIL command exceeds, if one, and the reply to it.
    fn limit_reached(&self, now: Instant) -> Option<(Limit, &'a str)> {
        let file = &self.visit.provider().file;
        let phrases = file.style.phrases();
        if file.limits.messages_per_connection.is_some_and(|max| self.session.messages > max) {
            let own = file.limits.messages_per_connection_reply.as_deref();
            return Some((Limit::MessagesPerConnection, own.unwrap_or(phrases.messages_per_connection)));
        }
        let mut gate = self.visit.shared.gate(self.visit.host);
        let limit = gate.take_message(self.visit.source, now).err()?;
        let rate = file.limits.rate_reply.as_deref().unwrap_or(phrases.rate);
        let penalty = file.limits.penalty_reply.as_deref().filter(|_| limit == Limit::Penalty);
        Some((limit, penalty.unwrap_or(rate)))
    }

    /// Parameters of extensions that were not offered are errors (RFC 5321 §4.1.1.11).
    fn parameters_refused(&self, parameters: &str) -> Option<&'static str> {
        for parameter in parameters.split(' ').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let offered = match name.to_ascii_uppercase().as_str() {
                "SIZE" => {
                    if value.parse::<usize>().is_ok_and(|size| size > self.visit.provider().file.size) {
                        return Some("552 5.3.4 Message is longer than allowed");
                    }
                    Extension::Size
                }
                "BODY" => Extension::EightBitMime,
                "SMTPUTF8" => Extension::SmtpUtf8,
                "RET" | "ENVID" => Extension::Dsn,
                _ => return Some("555 5.5.4 Unknown parameter"),
            };
            if !self.offers(offered) {
                return Some("555 5.5.4 Parameter of an extension that was not offered");
            }
        }
        None
    }

    pub(super) async fn rcpt(&mut self, rest: &str) -> Result<(), End> {
        if self.session.transaction.return_path.is_none() {
            return self.reply("503 5.5.1 MAIL comes first", "").await;
        }
        let address = path(rest, "TO:").and_then(|(path, _)| AddressRef::parse(path).ok());
        let Some(address) = address else {
            return self.reply("501 5.1.3 Bad recipient address syntax", "").await;
        };
        let text = address.to_string();
        if address.needs_smtputf8() && !self.session.smtputf8 {
            return self.reply("553 5.6.7 Address needs SMTPUTF8", &text).await;
        }
        let (visit, number) = (self.visit, self.visit.provider_number());
        let host = &visit.shared.plan.hosts[visit.host];
        let serves = visit.shared.plan.domains.get(address.domain());
        if !serves.is_some_and(|domain| domain.provider == number && domain.operator == host.operator) {
            visit.shared.ledger().misrouted(&text);
            return self.reply("550 5.7.1 <{address}>: Relay access denied", &text).await;
        }
        if self.session.transaction.recipients.len() >= RECIPIENTS_MAX {
            return self.reply("452 4.5.3 Too many recipients", &text).await;
        }
        if let Some(reply) = visit.block(Stage::Rcpt, self.session.transaction.number, Instant::now()) {
            return self.reply(reply, &text).await;
        }
        let key = address.key();
        if let Some(reply) = self.greylisted(key) {
            return self.reply(reply, &text).await;
        }
        let attempt = visit.shared.ledger().attempt(key);
        let trouble = visit.shared.plan.trouble_of(number, key).filter(|trouble| trouble.strikes(attempt));
        if let Some(trouble) = trouble.filter(|trouble| trouble.stage() == Stage::Rcpt) {
            self.note_refused_recipient(trouble);
            return self.strike(trouble, &text).await;
        }
        visit.shared.ledger().note(visit.source, number, |tally| tally.recipients_taken += 1);
        let transaction = &mut self.session.transaction;
        transaction.trouble = transaction.trouble.or(trouble);
        transaction.recipients.push(Recipient { address: text, key });
        self.reply("250 2.1.5 Recipient OK", "").await
    }

    /// The reply to a recipient who is to come again, if the greylist wants that.
    fn greylisted(&self, key: u128) -> Option<&'a str> {
        let (visit, number) = (self.visit, self.visit.provider_number());
        let provider = visit.provider();
        let greylist = provider.file.greylist.as_ref()?;
        if !visit.shared.plan.is_greylisted(number, key) {
            return None;
        }
        let return_path = self.session.transaction.return_path.as_deref().unwrap_or("");
        let asked = Asked { source: visit.source, return_path, key };
        let passes =
            visit.shared.ledger().passes_greylist(asked, number, greylist.by, provider.greylist_delay);
        let reply = greylist.reply.as_deref().unwrap_or(provider.file.style.phrases().greylist);
        (!passes).then_some(reply)
    }

    /// Counts a RCPT TO that is refused, if it is by a reply.
    fn note_refused_recipient(&self, trouble: &TroubleFile) {
        let Some(reply) = reply_of(trouble, self.visit) else { return };
        let for_good = reply.starts_with('5');
        self.visit.shared.ledger().note(self.visit.source, self.visit.provider_number(), |tally| {
            tally.recipients_refused += u32::from(for_good);
            tally.recipients_deferred += u32::from(!for_good);
        });
    }
}
