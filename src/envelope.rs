//! What SMTP carries beside the message: the return path and the recipient of one transaction.
//!
//! One recipient a transaction, because every message is its recipient's own. The return path is
//! VERP: it names run and recipient, so that a bounce names its cause. Built from parsed parts only,
//! so nothing here can hold a line end.

use std::fmt::Write as _;

use crate::address::{AddressRef, Domain};
use crate::outcome::SourceId;

/// A recipient within a run: the segment and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecipientId {
    pub segment: u32,
    pub index: u32,
}

impl RecipientId {
    pub const fn new(segment: u32, index: u32) -> Self {
        Self { segment, index }
    }

    pub const fn to_u64(self) -> u64 {
        (self.segment as u64) << 32 | self.index as u64
    }

    pub const fn from_u64(id: u64) -> Self {
        Self { segment: (id >> 32) as u32, index: id as u32 }
    }
}

/// A recipient whose turn it is, and which attempt this will be (the first is 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub recipient: RecipientId,
    pub attempt: u16,
    /// The source that has to make this attempt: a greylisting server waits for the one it knows.
    pub bound: Option<SourceId>,
}

impl Entry {
    /// An attempt that any source may make.
    pub const fn new(recipient: RecipientId, attempt: u16) -> Self {
        Self { recipient, attempt, bound: None }
    }

    /// The attempt after this one.
    pub const fn next(self, bound: Option<SourceId>) -> Self {
        Self { attempt: self.attempt.saturating_add(1), bound, ..self }
    }
}

/// The return path and recipient of one transaction; reused from message to message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    return_path: String,
    recipient: String,
    needs_smtputf8: bool,
}

impl Envelope {
    /// For MAIL FROM, without angle brackets.
    pub fn return_path(&self) -> &str {
        &self.return_path
    }

    /// For RCPT TO, without angle brackets.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    pub fn needs_smtputf8(&self) -> bool {
        self.needs_smtputf8
    }
}

/// Makes return paths such as `bounce+k3f9a2.0.1c@bounces.sender.example`.
#[derive(Debug, Clone)]
pub struct Verp {
    run_token: Box<str>,
    domain: Domain,
}

impl Verp {
    /// `run_token` keeps only ASCII letters and digits.
    pub fn new(run_token: &str, domain: Domain) -> Self {
        let run_token: String = run_token.chars().filter(char::is_ascii_alphanumeric).collect();
        Self { run_token: run_token.into(), domain }
    }

    /// Writes the envelope of one recipient over `envelope`.
    pub fn address(&self, recipient: RecipientId, to: &AddressRef<'_>, envelope: &mut Envelope) {
        let Envelope { return_path, recipient: forward_path, needs_smtputf8 } = envelope;
        return_path.clear();
        let (token, domain) = (&self.run_token, &self.domain);
        write!(return_path, "bounce+{token}.{:x}.{:x}@{domain}", recipient.segment, recipient.index)
            .expect("writing to a String does not fail");
        forward_path.clear();
        forward_path.push_str(to.local());
        forward_path.push('@');
        forward_path.push_str(to.domain());
        *needs_smtputf8 = to.needs_smtputf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn the_return_path_names_run_and_recipient() {
        let verp = Verp::new("k3f\r\n9", Domain::parse("bounces.sender.example").unwrap());
        let mut envelope = Envelope::default();
        let to = Address::parse("Ann@example.test").unwrap();
        verp.address(RecipientId::new(1, 0x2a), &to.as_ref(), &mut envelope);
        assert_eq!(envelope.return_path(), "bounce+k3f9.1.2a@bounces.sender.example");
        assert_eq!(envelope.recipient(), "Ann@example.test");
        assert!(!envelope.needs_smtputf8());
    }

    #[test]
    fn ids_survive_the_round_trip() {
        let id = RecipientId::new(7, u32::MAX);
        assert_eq!(RecipientId::from_u64(id.to_u64()), id);
    }
}
