//! The warm-up ledger: [`Warmup`] with its file, `warmup.json`, so that caps hold across restarts.
//!
//! [`Ledger::take`] writes the file before it lets the first message of a lot go: a sync to the disk at most
//! a hundred times for each account and period, and with small caps for each message. Everything else is
//! written by [`Ledger::sync`], from time to time, and by [`Ledger::end`]. Nobody waits for the disk but
//! whoever needs a lot that is not there yet.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Tempo;
use super::store::{self, Store, StoreError};
use super::warmup::{Account, Full, Slot, Taken, Warmup};
use crate::blocking::beside_other_tasks;
use crate::config::Node;
use crate::config::policy::{CAP_MAX, CAPS_MAX};

const FILE: &str = "warmup.json";
/// Days and hours of any calendar stay far below, also a rehearsal's.
const TIME_MAX: u64 = 1 << 60;
/// A day in a tenth of a microsecond.
const TEMPO_MAX: f64 = 1e12;

/// Why no message may start.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the warm-up cap is used up")]
    Full(Full),
    /// Until it can be written again, nothing that warms up may be sent.
    #[error("the warm-up ledger cannot be written, so that its caps could not be kept: {0}")]
    Unwritten(#[from] StoreError),
}

/// `warmup.json`.
#[derive(Serialize, Deserialize)]
struct Written {
    /// How much faster than the clock days pass: what the numbers of days and hours are worth.
    tempo: f64,
    accounts: Vec<Account>,
}

/// The warm-up of this machine, kept.
#[derive(Debug)]
pub struct Ledger {
    /// Held for microseconds.
    warmup: Mutex<Warmup>,
    /// Held while the file is written, so that what is newer is written later; taken before `warmup`.
    file: Mutex<()>,
    tempo: Tempo,
    store: Arc<Store>,
}

impl Ledger {
    /// # Errors
    /// As [`read`]; or the file was written at another tempo.
    pub fn open(store: Arc<Store>, node: &Node, tempo: Tempo) -> Result<Self, StoreError> {
        let accounts = match load(store.folder())? {
            None => Vec::new(),
            // Written and read again, a number may differ in its last digit.
            Some(written) if (written.tempo / tempo.0 - 1.0).abs() < 1e-9 => written.accounts,
            Some(Written { tempo: written, .. }) => {
                let file = store.folder().join(FILE);
                return Err(StoreError::OtherTempo { file, written, asked: tempo.0 });
            }
        };
        let warmup = Mutex::new(Warmup::new(node, tempo, accounts));
        Ok(Self { warmup, file: Mutex::default(), tempo, store })
    }

    /// Counts one message against every account of `slots`, or against none. Blocks while it writes.
    ///
    /// # Errors
    /// A cap is used up, or the ledger cannot be written.
    pub fn take(&self, slots: &[Slot], now: SystemTime) -> Result<(), Refused> {
        let taken = self.warmup().take(slots, now).map_err(Refused::Full)?;
        match taken {
            Taken::Covered => Ok(()),
            Taken::NewLot => beside_other_tasks(|| self.sync()).map_err(|error| {
                self.warmup().revoke(slots, now);
                Refused::Unwritten(error)
            }),
        }
    }

    /// Takes back a message that was counted at `taken` and never started.
    pub fn give_back(&self, slots: &[Slot], taken: SystemTime, now: SystemTime) {
        self.warmup().give_back(slots, taken, now);
    }

    /// For everything but taking, which must go through the ledger. Not to be kept.
    pub fn warmup(&self) -> MutexGuard<'_, Warmup> {
        self.warmup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what has changed, if anything has.
    ///
    /// # Errors
    /// It cannot be written; the next call tries again.
    pub fn sync(&self) -> Result<(), StoreError> {
        let file = self.file();
        // Whoever had the file before may have written all there is.
        let accounts = {
            let mut warmup = self.warmup();
            if !warmup.take_dirty() {
                return Ok(());
            }
            warmup.to_write()
        };
        self.write(&file, accounts)
    }

    /// Gives back what is left of every lot. Messages may still be taken afterwards, from new ones.
    ///
    /// # Errors
    /// It cannot be written: then what is left of the lots counts as spent.
    pub fn end(&self) -> Result<(), StoreError> {
        let file = self.file();
        let accounts = {
            let mut warmup = self.warmup();
            warmup.release();
            warmup.to_write()
        };
        self.write(&file, accounts)
    }

    fn file(&self) -> MutexGuard<'_, ()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, _file: &MutexGuard<'_, ()>, accounts: Vec<Account>) -> Result<(), StoreError> {
        let written = self.store.write(FILE, &Written { tempo: self.tempo.0, accounts });
        let mut warmup = self.warmup();
        match written {
            Ok(()) => warmup.written(),
            Err(_) => warmup.mark_dirty(),
        }
        written
    }
}

/// The warm-up as it is on disk, at the tempo it was written at, to be looked at only: also while a process
/// sends.
///
/// # Errors
/// A file that cannot be read, is damaged, or was written by a newer program.
pub fn read(state: &Path, node: &Node) -> Result<Warmup, StoreError> {
    let none = Written { tempo: 1.0, accounts: Vec::new() };
    let written = load(&store::folder_of(state))?.unwrap_or(none);
    Ok(Warmup::new(node, Tempo(written.tempo), written.accounts))
}

fn load(folder: &Path) -> Result<Option<Written>, StoreError> {
    let file = folder.join(FILE);
    let written: Option<Written> = store::read_file(&file)?;
    match written.as_ref().map(Written::check) {
        Some(Err(reason)) => Err(StoreError::Damaged { file, reason }),
        _ => Ok(written),
    }
}

impl Written {
    fn check(&self) -> Result<(), String> {
        if !(f64::MIN_POSITIVE..=TEMPO_MAX).contains(&self.tempo) {
            return Err(format!("a tempo of {}", self.tempo));
        }
        check(&self.accounts)
    }
}

fn check(accounts: &[Account]) -> Result<(), String> {
    if accounts.len() > store::ENTRIES_MAX {
        return Err(format!("{} accounts", accounts.len()));
    }
    accounts.iter().try_for_each(|Account { party, provider, state }| {
        store::check_account(party, provider)?;
        let numbers = [
            ("stage", u64::from(state.stage), CAPS_MAX as u64),
            ("day", state.day, TIME_MAX),
            ("last day", state.last, state.day),
            ("period", state.period, TIME_MAX),
            ("spent", state.spent, CAP_MAX),
            ("sent", state.sent, TIME_MAX),
        ];
        match numbers.iter().find(|(_, number, most)| number > most) {
            Some((what, number, _)) => Err(format!("the {what} of {party} at {provider} is {number}")),
            None => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Party;

    fn node() -> Node {
        let text = "[sources.new]\nwarmup = \"mine\"\n[warmup.schedules.mine]\nper = \"day\"\ncaps = [1_000, 2_000]\n";
        Node::parse(Path::new("f"), text).unwrap()
    }

    fn party() -> Party {
        Party::Source("new".to_owned())
    }

    fn at(hour: u64) -> SystemTime {
        // date -u -d '2026-11-23' +%s
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000 + hour * 3_600)
    }

    fn open(state: &Path) -> (Ledger, Slot) {
        let ledger = Ledger::open(Arc::new(Store::open(state).unwrap()), &node(), Tempo(1.0)).unwrap();
        let slot = ledger.warmup().slot(&party(), Some("google")).unwrap();
        (ledger, slot)
    }

    fn drain(ledger: &Ledger, slot: Slot, hour: u64) -> u64 {
        (0..).take_while(|_| ledger.take(&[slot], at(hour)).is_ok()).count() as u64
    }

    #[test]
    fn a_cap_is_used_to_the_last_message_over_any_number_of_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut sent = 0;
        for hour in 0..7 {
            let (ledger, slot) = open(folder.path());
            for _ in 0..123 {
                ledger.take(&[slot], at(hour)).unwrap();
                sent += 1;
            }
            ledger.end().unwrap();
        }
        let (ledger, slot) = open(folder.path());
        assert_eq!(sent + drain(&ledger, slot, 8), 1_000);
    }

    #[test]
    fn a_process_that_is_killed_loses_at_most_what_it_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let (mut sent, mut kills) = (0, 0);
        loop {
            // Dropped without an end, as by a signal: nothing is written then.
            let (ledger, slot) = open(folder.path());
            let count = (0..77).take_while(|_| ledger.take(&[slot], at(0)).is_ok()).count() as u64;
            sent += count;
            if count < 77 {
                break;
            }
            kills += 1;
        }
        assert!(sent <= 1_000 && sent + kills * 10 >= 1_000, "{sent} sent, {kills} kills");
        let (ledger, slot) = open(folder.path());
        assert_eq!(drain(&ledger, slot, 24), 2_000);
    }

    #[test]
    fn nothing_is_sent_that_could_not_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, slot) = open(folder.path());
        let file = folder.path().join("policy").join(FILE);
        // A folder cannot be replaced by a file, not by root either.
        std::fs::create_dir(&file).unwrap();
        let refused = ledger.take(&[slot], at(0)).expect_err("nothing was written").to_string();
        assert!(refused.contains("cannot be written") && refused.contains("warmup.json"), "{refused}");
        std::fs::remove_dir(&file).unwrap();
        assert_eq!(drain(&ledger, slot, 0), 1_000);
    }

    #[test]
    fn only_who_needs_a_new_lot_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, slot) = open(folder.path());
        ledger.take(&[slot], at(0)).unwrap();
        // As while somebody writes.
        let writing = ledger.file();
        (1..10).for_each(|_| ledger.take(&[slot], at(0)).unwrap());
        assert_eq!(ledger.warmup().cap(slot, at(0)).unwrap().spent, 10);
        drop(writing);
        ledger.take(&[slot], at(0)).unwrap();
        drop(ledger);
        let (ledger, slot) = open(folder.path());
        assert_eq!(ledger.warmup().cap(slot, at(0)).unwrap().spent, 20, "two lots are written");
    }

    #[test]
    fn days_of_rehearsals_are_not_mixed_with_real_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, slot) = open(folder.path());
        ledger.take(&[slot], at(0)).unwrap();
        drop(ledger);
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let error = Ledger::open(store, &node(), Tempo(86_400.0)).expect_err("another tempo").to_string();
        assert!(error.contains("--state"), "{error}");
        let seen = read(folder.path(), &node()).unwrap();
        let (slot, ..) = seen.slots().next().unwrap();
        assert_eq!(seen.cap(slot, at(0)).unwrap().spent, 10, "a lot is written ahead");
    }

    #[test]
    fn numbers_that_cannot_be_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("policy")).unwrap();
        let file = folder.path().join("policy").join(FILE);
        let account = |state: &str| {
            format!(
                "{{\"version\":1,\"tempo\":1.0,\"accounts\":[{{\"party\":{{\"source\":\"new\"}},\"provider\":\"google\",{state}}}]}}"
            )
        };
        for (state, is_sound) in [
            ("\"stage\":1,\"day\":20780,\"last\":20779,\"spent\":5", true),
            ("\"stage\":1,\"day\":20780,\"last\":20781", false),
            ("\"spent\":18446744073709551615", false),
            ("\"spent\":-1", false),
            ("\"stage\":4000000000", false),
            ("\"period\":1e30", false),
        ] {
            std::fs::write(&file, account(state)).unwrap();
            match read(folder.path(), &node()) {
                Ok(_) => assert!(is_sound, "{state}"),
                Err(error) => {
                    assert!(!is_sound && matches!(error, StoreError::Damaged { .. }), "{state}: {error}")
                }
            }
        }
    }

    proptest::proptest! {
        /// Whatever is read can be used.
        #[test]
        fn no_sound_account_breaks_the_arithmetic(
            stage in 0..=CAPS_MAX as u32, day in 0..TIME_MAX, last in 0..TIME_MAX, period in 0..TIME_MAX,
            spent in 0..CAP_MAX, sent in 0..TIME_MAX, held: bool, now in 0u64..1 << 40,
        ) {
            let text = serde_json::json!({
                "party": { "source": "new" }, "provider": "google", "stage": stage, "day": day,
                "last": last.min(day), "held": held, "period": period, "spent": spent, "sent": sent,
            });
            let account: Account = serde_json::from_value(text).unwrap();
            assert_eq!(check(std::slice::from_ref(&account)), Ok(()));
            let mut warmup = Warmup::new(&node(), Tempo(1.0), vec![account]);
            let slot = warmup.slot(&party(), Some("google")).unwrap();
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let _ = (warmup.cap(slot, now), warmup.warm_on(slot, now), warmup.forecast(&[slot], 1_000_000, now));
            let _ = warmup.take(&[slot], now);
            warmup.hold(slot, now);
            warmup.step_back(slot, now);
            assert_eq!(check(&warmup.accounts()), Ok(()));
        }
    }
}
