//! How a run ended, told by three that must agree: its report, its journal, and the world.

use std::collections::BTreeMap;

use postroad::address::AddressRef;
use postroad::campaign::run::Run;
use postroad::campaign::spool::Spool;
use postroad::envelope::RecipientId;
use postroad::journal::{Line, read};
use postroad::metrics::Report;
use postroad::outcome::Disposition;
use postroad::world::Fate;

use super::Stage;

/// What the journal says of each recipient, by address.
#[derive(Default)]
pub struct Ending {
    /// Final records, of which there must be one.
    pub finals: Vec<Disposition>,
    /// How often it was in doubt.
    pub doubts: u32,
    pub attempts: u32,
    /// Reply code and text of the last record.
    pub code: u16,
    pub text: String,
}

/// Reads the run's journal.
pub fn endings(run: &Run) -> BTreeMap<String, Ending> {
    let spool = Spool::open(&run.spool_folder()).unwrap();
    let mut endings = BTreeMap::<String, Ending>::new();
    let mut addresses = BTreeMap::<RecipientId, String>::new();
    for segment in spool.iter() {
        for index in 0..segment.len() {
            let recipient = segment.recipient(index).unwrap();
            endings.insert(recipient.address.to_string(), Ending::default());
            addresses.insert(recipient.id, recipient.address.to_string());
        }
    }
    for line in read(&run.journal_folder()).unwrap() {
        let Line::Attempt(record) = line.unwrap() else { continue };
        let ending = endings.get_mut(&addresses[&record.recipient]).unwrap();
        ending.attempts += 1;
        ending.code = record.evidence.code;
        ending.text = record.evidence.text.to_string();
        ending.doubts += u32::from(matches!(record.disposition, Disposition::InDoubt(_)));
        if record.disposition.is_final() {
            ending.finals.push(record.disposition);
        }
    }
    endings
}

/// Holds a finished run with policy `resend` to what the world said beforehand: one final disposition a
/// recipient, the right one; a copy for each that was delivered and none for others, but for those
/// that the report names in doubt.
pub fn assert_right(stage: &Stage, run: &Run, report: &Report) {
    let mut sums = (0, 0, 0);
    let mut wrong = Vec::new();
    for (address, ending) in endings(run) {
        let fate = stage.world.expect(&AddressRef::parse(&address).unwrap());
        let disposition = match fate {
            Fate::Delivered => Disposition::Delivered,
            Fate::Bounced => Disposition::Bounced,
            Fate::Expired => Disposition::Expired,
        };
        let named = report.in_doubt.iter().filter(|line| line.address == address).count() as u32;
        let copies = stage.accepted(&address);
        let wanted = u32::from(fate == Fate::Delivered);
        let is_right = ending.finals == [disposition]
            && named == ending.doubts
            && copies >= wanted
            && copies <= wanted + named;
        if !is_right {
            wrong.push(format!(
                "{address}: expected {fate:?}, ended {:?} after {} attempts with {} {:?}; {copies} copies, {named} named in doubt",
                ending.finals, ending.attempts, ending.code, ending.text
            ));
        }
        match fate {
            Fate::Delivered => sums.0 += 1,
            Fate::Bounced => sums.1 += 1,
            Fate::Expired => sums.2 += 1,
        }
    }
    let some = wrong.len().min(20);
    assert!(wrong.is_empty(), "{} wrong, such as\n{}", wrong.len(), wrong[..some].join("\n"));
    let totals = report.totals;
    assert_eq!((totals.delivered, totals.bounced, totals.expired), sums);
    assert_eq!((totals.waiting, totals.in_doubt, totals.cancelled), (0, 0, 0));
    assert_eq!(totals.check(), Ok(()));
    assert!(report.in_doubt.iter().all(|line| line.policy == "resend"));
    let counts = stage.counts();
    assert_eq!(counts.violations, 0, "{:?}", counts.violation_examples);
    assert_eq!(counts.misrouted, 0, "{:?}", counts.misrouted_examples);
    assert_eq!(counts.message_id_repeats, 0, "{:?}", counts.message_id_examples);
    assert!(counts.breaches.is_empty(), "{:?}", counts.breaches);
}
