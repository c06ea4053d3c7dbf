//! One message on its way into the world: its envelope, the trouble it is in for, and what happens
//! when it is accepted.

use super::file::{Stage, TroubleFile};
use super::server::Visit;
use super::shared::CapturedMessage;

/// An envelope under way; `trouble` is that of the first recipient who has one left.
#[derive(Default)]
pub(crate) struct Transaction<'a> {
    pub return_path: Option<String>,
    /// Which of its source at the provider it is.
    pub number: u32,
    pub recipients: Vec<Recipient>,
    pub trouble: Option<&'a TroubleFile>,
    /// Whether all content so far fitted.
    pub too_long: bool,
}

pub(crate) struct Recipient {
    pub address: String,
    pub key: u128,
}

impl<'a> Transaction<'a> {
    pub fn trouble_at(&self, stage: Stage) -> Option<&'a TroubleFile> {
        self.trouble.filter(|trouble| trouble.stage() == stage)
    }

    /// Counts the message as accepted, keeps it where it is to be kept, checks it if it is sampled.
    pub async fn accept(&self, visit: &Visit, content: &[u8], answered: bool, tls: bool) {
        let Some(first) = self.recipients.first() else { return };
        let sampled = {
            let mut ledger = visit.shared.ledger();
            for recipient in &self.recipients {
                let recipient = (recipient.address.as_str(), recipient.key);
                ledger.accepted(visit.source, visit.host, recipient, answered, tls);
            }
            if let Some(id) = message_id(content) {
                ledger.message_id(id, first.key);
            }
            ledger.content(visit.provider_number(), content.len(), visit.shared.plan.dkim_sample)
        };
        let return_path = self.return_path.as_deref().unwrap_or("");
        visit.shared.keep_message(|| CapturedMessage {
            host: visit.host_name().to_owned(),
            return_path: return_path.to_owned(),
            recipients: self.recipients.iter().map(|recipient| recipient.address.clone()).collect(),
            content: content.to_vec(),
        });
        if let Some(maildir) = &visit.shared.maildir {
            for recipient in &self.recipients {
                if let Err(error) = maildir.write(return_path, &recipient.address, content) {
                    tracing::warn!(%error, "a message was not written to the maildir");
                }
            }
        }
        if sampled {
            let finding = visit.shared.verifier.check(content).await;
            visit.shared.ledger().signature(&first.address, finding);
        }
    }
}

/// The value of the Message-ID header, blanks trimmed.
fn message_id(content: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"message-id:";
    for line in content.split(|octet| *octet == b'\n') {
        if line.trim_ascii_end().is_empty() {
            return None;
        }
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            return Some(line[NAME.len()..].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_id_is_found_in_the_header_only() {
        assert_eq!(message_id(b"To: a\r\nMESSAGE-ID: <x@y>\r\n\r\nbody"), Some(&b"<x@y>"[..]));
        assert_eq!(message_id(b"To: a\r\n\r\nMessage-ID: <x@y>\r\n"), None);
    }
}
