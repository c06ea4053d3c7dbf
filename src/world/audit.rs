//! After a run: did every address of the list come to the world as it should have?

use serde::Serialize;

use super::World;
use super::fate::{Expectation, Fate};
use crate::address::AddressRef;

/// Examples kept of each kind.
const EXAMPLES_MAX: usize = 20;

/// What the world should have accepted of a list, against what it did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub expected: Expectation,
    /// Should have been delivered and never came.
    pub missing: u64,
    pub missing_examples: Vec<String>,
    /// Came although they should have bounced or expired.
    pub unexpected: u64,
    pub unexpected_examples: Vec<String>,
    /// Came more often than once and once for each acceptance left unanswered.
    pub repeated: u64,
    pub repeated_examples: Vec<String>,
}

impl Audit {
    /// Whether all came as it should. What the engine reports of recipients in doubt is not known here.
    pub fn is_clean(&self) -> bool {
        self.missing + self.unexpected + self.repeated == 0
    }
}

impl World {
    /// Goes through a list without repeats and compares; costs a look-up an address.
    pub fn audit<'a>(&self, addresses: impl IntoIterator<Item = AddressRef<'a>>) -> Audit {
        let mut audit = Audit::default();
        for address in addresses {
            self.expect_into(&address, &mut audit.expected);
            let record = self.shared.ledger().record(address.key());
            let wanted = self.expect(&address) == Fate::Delivered;
            if wanted && record.accepted == 0 {
                note(&mut audit.missing, &mut audit.missing_examples, &address);
            }
            if !wanted && record.accepted > 0 {
                note(&mut audit.unexpected, &mut audit.unexpected_examples, &address);
            }
            if record.accepted > 1 + record.unanswered {
                note(&mut audit.repeated, &mut audit.repeated_examples, &address);
            }
        }
        audit
    }
}

fn note(count: &mut u64, examples: &mut Vec<String>, address: &AddressRef<'_>) {
    *count += 1;
    if examples.len() < EXAMPLES_MAX {
        examples.push(address.to_string());
    }
}
