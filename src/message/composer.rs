//! From an entry to what SMTP carries: the recipient out of the spool, cleared once more, rendered,
//! signed and addressed. Called by a session at the moment it has room, never before; a file that the row
//! names is read beside the other sessions' tasks.

use std::sync::Arc;

use crate::address::AddressRef;
use crate::blocking::beside_other_tasks;
use crate::campaign::spool::Spool;
use crate::campaign::variants::Assignment;
use crate::envelope::{Entry, Verp};
use crate::message::{Content, Merge, Scratch, Signer};
use crate::smtp::{ComposeFailure, Composed};
use crate::suppression::Suppression;

/// What is sent: the same to all, or to each recipient the variant that is given to it.
pub enum Contents {
    Same(Box<Content>),
    /// In the manifest's order.
    Each(Vec<Content>, Arc<Assignment>),
}

impl Contents {
    /// One for all, or one a variant.
    pub fn all(&self) -> &[Content] {
        match self {
            Self::Same(content) => std::slice::from_ref(content),
            Self::Each(contents, _) => contents,
        }
    }

    /// What signs them all.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.all().first().into_iter().flat_map(Content::signers)
    }

    /// `None` while a test has no winner and the address is outside its slice.
    pub fn of(&self, address: &AddressRef<'_>) -> Option<&Content> {
        match self {
            Self::Same(content) => Some(content),
            Self::Each(contents, assignment) => contents.get(assignment.given(address.key())?.place()),
        }
    }
}

/// Everything that makes messages of a run; shared by all sessions.
pub struct Composer {
    spool: Arc<Spool>,
    suppression: Arc<Suppression>,
    contents: Contents,
    verp: Verp,
}

impl Composer {
    pub fn new(spool: Arc<Spool>, suppression: Arc<Suppression>, contents: Contents, verp: Verp) -> Self {
        Self { spool, suppression, contents, verp }
    }

    /// Buffers for one session.
    pub fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    /// Writes the envelope and the message of `entry` over `composed`.
    ///
    /// # Errors
    /// The recipient is suppressed by now, or its row cannot be read or rendered.
    pub fn compose(
        &self,
        entry: Entry,
        scratch: &mut Scratch,
        composed: &mut Composed,
    ) -> Result<(), ComposeFailure> {
        let id = entry.recipient;
        let unrenderable = |reason: &dyn std::fmt::Display| ComposeFailure::Unrenderable(reason.to_string());
        let segment =
            self.spool.segment(id.segment).ok_or_else(|| unrenderable(&"its segment is missing"))?;
        let recipient = segment.recipient(id.index).map_err(|damage| unrenderable(&damage))?;
        let cleared = self.suppression.clear(recipient).map_err(|_| ComposeFailure::Suppressed)?;
        let row = cleared.row;
        let fields: Vec<&str> = cleared.fields().collect();
        let merge = Merge { recipient: id, address: &cleared.address, fields: &fields };
        composed.content.clear();
        let content =
            self.contents.of(&cleared.address).ok_or_else(|| unrenderable(&"no variant has won yet"))?;
        let mut render = || content.render(&merge, scratch, &mut composed.content);
        let rendered = if content.reads_files() { beside_other_tasks(render) } else { render() };
        rendered.map_err(|error| unrenderable(&format_args!("row {row}: {error}")))?;
        self.verp.address(id, &cleared.address, &mut composed.envelope);
        Ok(())
    }
}
