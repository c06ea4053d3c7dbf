//! From an entry to what SMTP carries: the recipient out of the spool, cleared once more, rendered,
//! signed and addressed. Called by a session at the moment it has room, never before.

use std::sync::Arc;

use crate::campaign::spool::Spool;
use crate::envelope::{Entry, Verp};
use crate::message::{Content, Merge, Scratch};
use crate::smtp::{ComposeFailure, Composed};
use crate::suppression::Suppression;

/// Everything that makes messages of a run; shared by all sessions.
pub struct Composer {
    spool: Arc<Spool>,
    suppression: Arc<Suppression>,
    content: Content,
    verp: Verp,
}

impl Composer {
    pub fn new(spool: Arc<Spool>, suppression: Arc<Suppression>, content: Content, verp: Verp) -> Self {
        Self { spool, suppression, content, verp }
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
        let rendered = self.content.render(&merge, scratch, &mut composed.content);
        rendered.map_err(|error| unrenderable(&format_args!("row {row}: {error}")))?;
        self.verp.address(id, &cleared.address, &mut composed.envelope);
        Ok(())
    }
}
