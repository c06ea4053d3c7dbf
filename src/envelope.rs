//! What SMTP carries beside the message: the return path and the recipient of one transaction.
//!
//! One recipient a transaction, because every message is its recipient's own. The return path is
//! VERP: it names run and recipient, so that a bounce names its cause, and is signed, so that a forged one
//! does not. Built from parsed parts only, so nothing here can hold a line end.

use crate::address::{AddressRef, Domain};
use crate::outcome::SourceId;
use crate::token::{Key, RunToken, bounce};

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

/// Makes return paths such as `bounce+k3f9.0.1c.aeqx3uw4plmz5rty@bounces.sender.example`; [`bounce::read`]
/// reads them.
#[derive(Debug, Clone)]
pub struct Verp {
    run: RunToken,
    domain: Domain,
    key: Key,
}

impl Verp {
    pub fn new(run: RunToken, domain: Domain, key: Key) -> Self {
        Self { run, domain, key }
    }

    /// Writes the envelope of one recipient over `envelope`.
    pub fn address(&self, recipient: RecipientId, to: &AddressRef<'_>, envelope: &mut Envelope) {
        let Envelope { return_path, recipient: forward_path, needs_smtputf8 } = envelope;
        return_path.clear();
        bounce::write(&self.key, self.run, recipient, return_path);
        return_path.push('@');
        return_path.push_str(self.domain.as_str());
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
        let key = Key::new(1, &[7; 32]);
        let domain = Domain::parse("bounces.sender.example").unwrap();
        let verp = Verp::new(RunToken::new("k3f\r\n9"), domain, key.clone());
        let mut envelope = Envelope::default();
        let to = Address::parse("Ann@example.test").unwrap();
        verp.address(RecipientId::new(1, 0x2a), &to.as_ref(), &mut envelope);
        let (start, end) = ("bounce+k3f9.1.2a.", "@bounces.sender.example");
        let signature = envelope.return_path().strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        assert_eq!(signature.map(str::len), Some(16));
        let read = bounce::read(envelope.return_path(), &key).unwrap();
        assert_eq!((read.run.as_str(), read.recipient), ("k3f9", RecipientId::new(1, 0x2a)));
        assert_eq!(envelope.recipient(), "Ann@example.test");
        assert!(!envelope.needs_smtputf8());
    }

    #[test]
    fn ids_survive_the_round_trip() {
        let id = RecipientId::new(7, u32::MAX);
        assert_eq!(RecipientId::from_u64(id.to_u64()), id);
    }
}
