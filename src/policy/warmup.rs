//! Warm-up: how much a new source, or sending domain, may send to a provider in this hour or day. Pure.
//!
//! A *stage* is the number of sending days so far: days (UTC) on which something was sent from this party
//! to this provider. Days in between do not count, nor does a day that is *held* after bad signals. Each
//! stage has a cap for an hour or for a day; after the last stage the party is warm and nothing is capped.
//! Sites without a known provider share one account ([`OTHER`]): a party nobody knows is new to all of
//! them, and they are too many to be ramped one by one.
//!
//! # A cap is a ceiling, across restarts too
//! Messages are spent from *lots*, a hundredth of the cap, each written to the ledger ([`super::store`])
//! before its first message starts. What a crash leaves of a lot counts as spent; a process that ends as it
//! should writes what was really spent, so that the cap is then used to the last message. A clock that is
//! set back, but for more than a day, gives nothing again.

mod account;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::Tempo;
use super::calendar::{Calendar, DAY};
use super::party::{OTHER, Party};
use crate::config::Node;
use crate::config::policy::{Period, Schedule, WarmupUse};

use account::Plan;
pub use account::{Account, State};

/// Parts of a cap that are written ahead.
const LOTS: u64 = 100;

/// One account: a party that is warmed up and a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// A message was counted against every cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Within lots that are in the ledger.
    Covered,
    /// From a lot that the ledger may not have yet: it must be written before the message starts.
    NewLot,
}

/// No message may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Whose cap it is; of several, the one that is longest.
    pub slot: Slot,
    /// When its next period begins.
    pub until: SystemTime,
}

/// A cap and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    pub cap: u64,
    pub spent: u64,
    /// When the next period begins.
    pub until: SystemTime,
    pub per: Period,
    /// Sending days before today.
    pub day: u32,
    /// Today does not count as a sending day.
    pub held: bool,
}

#[derive(Debug)]
struct Entry {
    party: Party,
    provider: String,
    /// `None`: no longer warmed up by the settings; kept for when it is again.
    plan: Option<Arc<Plan>>,
    state: State,
}

/// Every account of this machine.
#[derive(Debug)]
pub struct Warmup {
    calendar: Calendar,
    schedules: BTreeMap<String, Schedule>,
    parties: HashMap<Party, WarmupUse>,
    entries: Vec<Entry>,
    index: HashMap<(Party, String), Slot>,
    /// Something changed that the ledger does not have; a spent message alone is no change.
    is_dirty: bool,
}

impl Warmup {
    /// `accounts` as the ledger has them: what was reserved counts as spent.
    pub fn new(node: &Node, tempo: Tempo, accounts: Vec<Account>) -> Self {
        let sources = node
            .sources
            .iter()
            .filter_map(|(name, source)| Some((Party::Source(name.clone()), source.warmup.clone()?)));
        let domains =
            node.warmup.domains.iter().map(|(name, usage)| (Party::Domain(name.clone()), usage.clone()));
        let mut warmup = Self {
            calendar: Calendar::new(tempo),
            schedules: node.warmup.schedules.clone(),
            parties: sources.chain(domains).collect(),
            entries: Vec::new(),
            index: HashMap::new(),
            is_dirty: false,
        };
        for Account { party, provider, state } in accounts {
            let slot = warmup.insert(party, provider);
            warmup.entries[slot.0 as usize].state =
                State { reserved: state.spent, covered: state.spent, ..state };
        }
        warmup
    }

    /// Whether `party` is to be warmed up at all.
    pub fn warms(&self, party: &Party) -> bool {
        self.parties.contains_key(party)
    }

    /// The account of `party` with `provider`, `None` for a site of no known one; `None` if the party is
    /// not warmed up.
    pub fn slot(&mut self, party: &Party, provider: Option<&str>) -> Option<Slot> {
        self.warms(party).then(|| self.insert(party.clone(), provider.unwrap_or(OTHER).to_owned()))
    }

    /// Counts one message against every account of `slots`, or against none.
    ///
    /// # Errors
    /// A cap is used up.
    pub fn take(&mut self, slots: &[Slot], now: SystemTime) -> Result<Taken, Full> {
        let hour = self.calendar.hour(now);
        let mut full: Option<Full> = None;
        for slot in slots {
            let Entry { plan: Some(plan), state, .. } = &mut self.entries[slot.0 as usize] else { continue };
            self.is_dirty |= state.roll(plan, hour);
            if state.room(plan) == 0 {
                let until = self.calendar.start(state.period + plan.hours());
                if full.is_none_or(|full| full.until < until) {
                    full = Some(Full { slot: *slot, until });
                }
            }
        }
        if let Some(full) = full {
            return Err(full);
        }
        let mut taken = Taken::Covered;
        for slot in slots {
            let Entry { plan: Some(plan), state, .. } = &mut self.entries[slot.0 as usize] else { continue };
            if let Some(cap) = state.cap(plan) {
                if state.spent == state.reserved {
                    state.reserved = cap.min(state.reserved + (cap / LOTS).max(1));
                    self.is_dirty = true;
                }
                state.spent += 1;
                if state.spent > state.covered {
                    taken = Taken::NewLot;
                }
            }
            // The first message of a day makes it a sending day.
            self.is_dirty |= state.sent == 0;
            state.sent += 1;
        }
        Ok(taken)
    }

    /// Takes back a message that was counted at `taken` and never started. One of a period that is over
    /// is no gain for this one.
    pub fn give_back(&mut self, slots: &[Slot], taken: SystemTime, now: SystemTime) {
        let (hour, taken) = (self.calendar.hour(now), self.calendar.hour(taken));
        for slot in slots {
            let Entry { plan: Some(plan), state, .. } = &mut self.entries[slot.0 as usize] else { continue };
            self.is_dirty |= state.roll(plan, hour);
            if taken >= state.period {
                state.spent = state.spent.saturating_sub(1);
            }
            if taken / DAY >= state.day {
                state.sent = state.sent.saturating_sub(1);
            }
        }
    }

    /// As [`Self::give_back`], and what was reserved ahead is forgotten: its ledger could not be written.
    pub fn revoke(&mut self, slots: &[Slot], now: SystemTime) {
        self.give_back(slots, now, now);
        for slot in slots {
            let state = &mut self.entries[slot.0 as usize].state;
            state.reserved = state.spent.max(state.covered);
        }
    }

    /// The cap that holds now; `None`: warm, or not warmed up.
    pub fn cap(&self, slot: Slot, now: SystemTime) -> Option<Cap> {
        let &Entry { plan: Some(ref plan), mut state, .. } = &self.entries[slot.0 as usize] else {
            return None;
        };
        state.roll(plan, self.calendar.hour(now));
        let until = self.calendar.start(state.period + plan.hours());
        let (day, held) = (state.stage, state.held);
        Some(Cap { cap: state.cap(plan)?, spent: state.spent, until, per: plan.per, day, held })
    }

    /// Whether mail over the cap may go over other, warm sources.
    pub fn overflows(&self, slot: Slot) -> bool {
        self.entries[slot.0 as usize].plan.as_ref().is_none_or(|plan| plan.overflow)
    }

    /// A bad signal: today does not count as a sending day. Says whether that is new.
    pub fn hold(&mut self, slot: Slot, now: SystemTime) -> bool {
        let Some(state) = self.warming(slot, now) else { return false };
        let is_new = !std::mem::replace(&mut state.held, true);
        self.is_dirty |= is_new;
        is_new
    }

    /// A worse one: a stage down, at most one a day, and today does not count. Says whether it was taken.
    /// Who is warm stays so: what is then too much is for the rates to say.
    pub fn step_back(&mut self, slot: Slot, now: SystemTime) -> bool {
        let Some(state) = self.warming(slot, now) else { return false };
        if state.stepped {
            return false;
        }
        state.stage = state.stage.saturating_sub(1);
        (state.stepped, state.held) = (true, true);
        self.is_dirty = true;
        true
    }

    /// Counts so many messages, or as many as there is room for, at a moment that may never come: for plans,
    /// which no ledger hears of. How many.
    pub fn spend(&mut self, slot: Slot, messages: u64, now: SystemTime) -> u64 {
        let hour = self.calendar.hour(now);
        let Entry { plan: Some(plan), state, .. } = &mut self.entries[slot.0 as usize] else {
            return messages;
        };
        state.roll(plan, hour);
        let count = state.room(plan).min(messages);
        state.spent += count;
        state.sent += count;
        count
    }

    /// When the last of so many messages could start, if all go through these accounts, nothing else does,
    /// and no day is held.
    pub fn forecast(&self, slots: &[Slot], messages: u64, now: SystemTime) -> SystemTime {
        let mut accounts: Vec<(&Plan, State)> = Vec::new();
        for slot in slots {
            match &self.entries[slot.0 as usize] {
                Entry { plan: Some(plan), state, .. } => accounts.push((plan, *state)),
                _ => return now,
            }
        }
        let (mut left, first) = (messages, self.calendar.hour(now));
        let mut hour = first;
        // Ends: every cap is above 0, so that a day passes a stage, and the stages end.
        while left > 0 && !accounts.is_empty() {
            for (plan, state) in &mut accounts {
                state.roll(plan, hour);
                let count = state.room(plan).min(left);
                state.spent += count;
                state.sent += count;
                left -= count;
            }
            if left > 0 {
                hour += 1;
            }
        }
        if hour == first { now } else { self.calendar.start(hour) }
    }

    /// The day from which nothing is capped any more if every day from now on counts; `None`: warm.
    pub fn warm_on(&self, slot: Slot, now: SystemTime) -> Option<SystemTime> {
        let cap = self.cap(slot, now)?;
        let plan = self.entries[slot.0 as usize].plan.as_ref()?;
        let days = plan.caps.len() as u64 - u64::from(cap.day) + u64::from(cap.held);
        Some(self.calendar.start((self.calendar.hour(now) / DAY + days) * DAY))
    }

    /// Every account that is warmed up by the settings, with the name of its schedule.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, &Party, &str, &str)> {
        self.entries.iter().zip(0..).filter_map(|(entry, at)| {
            let plan = entry.plan.as_ref()?;
            Some((Slot(at), &entry.party, entry.provider.as_str(), plan.schedule.as_str()))
        })
    }

    /// Parties that are warmed up by the settings.
    pub fn parties(&self) -> impl Iterator<Item = &Party> {
        self.parties.keys()
    }

    /// For the ledger: lots count as spent, and an account without a past is none.
    pub fn accounts(&self) -> Vec<Account> {
        let account = |entry: &Entry| Account {
            party: entry.party.clone(),
            provider: entry.provider.clone(),
            state: entry.state.written(),
        };
        self.entries.iter().filter(|entry| !entry.state.is_blank()).map(account).collect()
    }

    /// Lets go of what was reserved ahead: before [`Self::accounts`] when nothing is sent any more, so that
    /// the cap can be used to the last message.
    pub fn release(&mut self) {
        for entry in &mut self.entries {
            entry.state.reserved = entry.state.spent;
        }
    }

    /// For the ledger, which is being written from now on until [`Self::written`] or, if it could not be,
    /// [`Self::mark_dirty`].
    pub fn to_write(&mut self) -> Vec<Account> {
        for Entry { state, .. } in &mut self.entries {
            // Where less is written than before, what is taken meanwhile has to wait for the next time.
            (state.writing, state.covered) = (state.reserved, state.covered.min(state.reserved));
        }
        self.accounts()
    }

    /// The ledger has what there was at [`Self::to_write`].
    pub fn written(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.state.covered = entry.state.writing);
    }

    /// Whether the ledger lacks something; asked once, the answer is given once.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    /// The ledger could not be written.
    pub fn mark_dirty(&mut self) {
        self.is_dirty = true;
    }

    fn insert(&mut self, party: Party, provider: String) -> Slot {
        let key = (party, provider);
        if let Some(slot) = self.index.get(&key) {
            return *slot;
        }
        let slot = Slot(u32::try_from(self.entries.len()).expect("accounts are parties times providers"));
        let (party, provider) = key.clone();
        let plan = self.plan(&party, &provider);
        self.entries.push(Entry { party, provider, plan, state: State::default() });
        self.index.insert(key, slot);
        slot
    }

    fn plan(&self, party: &Party, provider: &str) -> Option<Arc<Plan>> {
        let usage = self.parties.get(party)?;
        let schedule = self.schedules.get(&usage.schedule)?;
        let (per, caps) = schedule.towards(provider);
        Some(Arc::new(Plan {
            schedule: usage.schedule.clone(),
            per,
            caps: caps.to_vec(),
            rewarm: Calendar::days(schedule.rewarm),
            overflow: usage.overflow && matches!(party, Party::Source(_)),
        }))
    }

    /// The state of an account that is still capped, up to date.
    fn warming(&mut self, slot: Slot, now: SystemTime) -> Option<&mut State> {
        let hour = self.calendar.hour(now);
        let Entry { plan: Some(plan), state, .. } = &mut self.entries[slot.0 as usize] else { return None };
        self.is_dirty |= state.roll(plan, hour);
        state.cap(plan).is_some().then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    // date -u -d '2026-11-23' +%s
    const MIDNIGHT: u64 = 1_795_392_000;

    fn at(day: u64, hour: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(MIDNIGHT + day * 86_400 + hour * 3_600)
    }

    fn node() -> Node {
        let text = r#"
            [sources.new]
            warmup = "mine"
            [sources.slow]
            warmup = { schedule = "hours", overflow = false }
            [sources.old]
            [warmup.domains]
            "news.sender.example" = "mine"
            [warmup.schedules.mine]
            per = "day"
            caps = [10, 20, 400]
            [warmup.schedules.mine.providers.google]
            per = "hour"
            caps = [3]
            [warmup.schedules.hours]
            per = "hour"
            caps = [2, 5]
        "#;
        Node::parse(Path::new("f"), text).unwrap()
    }

    fn source(name: &str) -> Party {
        Party::Source(name.to_owned())
    }

    fn new(accounts: Vec<Account>) -> Warmup {
        Warmup::new(&node(), Tempo(1.0), accounts)
    }

    /// Takes until the cap is used up.
    fn drain(warmup: &mut Warmup, slot: Slot, now: SystemTime) -> (u64, Option<SystemTime>) {
        for taken in 0..1_000 {
            if let Err(full) = warmup.take(&[slot], now) {
                return (taken, Some(full.until));
            }
        }
        (1_000, None)
    }

    #[test]
    fn caps_grow_by_sending_day_and_end() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        assert_eq!(drain(&mut warmup, slot, at(0, 9)), (10, Some(at(1, 0))));
        assert_eq!(drain(&mut warmup, slot, at(0, 23)), (0, Some(at(1, 0))));
        // Four days without mail: the next is the second sending day all the same.
        assert_eq!(drain(&mut warmup, slot, at(5, 0)), (20, Some(at(6, 0))));
        assert_eq!(drain(&mut warmup, slot, at(6, 12)), (400, Some(at(7, 0))));
        assert_eq!(warmup.cap(slot, at(6, 12)).unwrap().day, 2);
        assert_eq!(warmup.cap(slot, at(7, 0)), None);
        assert_eq!(drain(&mut warmup, slot, at(7, 0)), (1_000, None));
    }

    #[test]
    fn an_hours_cap_comes_again_each_hour_of_the_day() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("slow"), Some("yahoo")).unwrap();
        for hour in 9..12 {
            assert_eq!(drain(&mut warmup, slot, at(0, hour)), (2, Some(at(0, hour + 1))));
        }
        assert_eq!(drain(&mut warmup, slot, at(1, 0)), (5, Some(at(1, 1))));
        assert!(!warmup.overflows(slot));
    }

    #[test]
    fn providers_have_accounts_of_their_own_and_strangers_share_one() {
        let mut warmup = new(Vec::new());
        let party = source("new");
        let google = warmup.slot(&party, Some("google")).unwrap();
        let yahoo = warmup.slot(&party, Some("yahoo")).unwrap();
        assert_eq!(drain(&mut warmup, google, at(0, 0)), (3, Some(at(0, 1))));
        assert_eq!(drain(&mut warmup, yahoo, at(0, 0)), (10, Some(at(1, 0))));
        assert_eq!(warmup.slot(&party, None), warmup.slot(&party, Some(OTHER)));
        assert_eq!(warmup.slot(&source("old"), Some("google")), None);
        assert!(warmup.overflows(google));
    }

    #[test]
    fn a_message_counts_against_source_and_domain_or_against_neither() {
        let mut warmup = new(Vec::new());
        let source = warmup.slot(&source("slow"), Some("yahoo")).unwrap();
        let domain = warmup.slot(&Party::Domain("news.sender.example".to_owned()), Some("yahoo")).unwrap();
        assert!(!warmup.overflows(domain), "a domain has no other to go over to");
        assert!(warmup.take(&[domain, source], at(0, 0)).is_ok());
        assert!(warmup.take(&[domain, source], at(0, 0)).is_ok());
        assert_eq!(warmup.take(&[domain, source], at(0, 0)), Err(Full { slot: source, until: at(0, 1) }));
        assert_eq!(warmup.cap(domain, at(0, 0)).unwrap().spent, 2);
    }

    #[test]
    fn what_is_given_back_of_a_day_that_is_over_is_no_gain_for_the_next() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        assert_eq!(drain(&mut warmup, slot, at(0, 23)).0, 10);
        assert_eq!(drain(&mut warmup, slot, at(1, 0)).0, 20);
        warmup.give_back(&[slot], at(0, 23), at(1, 0));
        assert_eq!(drain(&mut warmup, slot, at(1, 0)).0, 0);
        warmup.give_back(&[slot], at(1, 0), at(1, 1));
        assert_eq!(drain(&mut warmup, slot, at(1, 1)).0, 1);
    }

    #[test]
    fn a_day_on_which_all_was_given_back_is_no_sending_day() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        warmup.take(&[slot], at(0, 9)).unwrap();
        warmup.give_back(&[slot], at(0, 9), at(0, 9));
        assert_eq!(warmup.cap(slot, at(1, 0)).unwrap().day, 0);
        assert_eq!(drain(&mut warmup, slot, at(1, 0)).0, 10);
    }

    #[test]
    fn bad_signals_hold_the_day_or_cost_a_stage_once() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        drain(&mut warmup, slot, at(0, 0));
        drain(&mut warmup, slot, at(1, 0));
        assert!(warmup.hold(slot, at(1, 1)) && !warmup.hold(slot, at(1, 2)));
        assert_eq!(warmup.cap(slot, at(2, 0)).unwrap().cap, 20);
        warmup.take(&[slot], at(2, 0)).unwrap();
        assert!(warmup.step_back(slot, at(2, 1)) && !warmup.step_back(slot, at(2, 2)));
        let cap = warmup.cap(slot, at(2, 3)).unwrap();
        assert_eq!((cap.cap, cap.spent, cap.held), (10, 1, true));
        assert_eq!(warmup.cap(slot, at(3, 0)).unwrap().cap, 10);
        // What is over the lower cap is not taken back, and nothing more goes.
        drain(&mut warmup, slot, at(3, 0));
        drain(&mut warmup, slot, at(4, 0));
        assert!(warmup.step_back(slot, at(4, 1)));
        assert_eq!(drain(&mut warmup, slot, at(4, 2)), (0, Some(at(5, 0))));
    }

    #[test]
    fn the_warm_stay_warm_until_they_have_been_idle_for_long() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("google")).unwrap();
        drain(&mut warmup, slot, at(0, 0));
        assert_eq!(drain(&mut warmup, slot, at(1, 0)), (1_000, None));
        assert!(!warmup.hold(slot, at(1, 0)) && !warmup.step_back(slot, at(1, 0)));
        // Thirty days without mail: days 2 to 31.
        assert_eq!(warmup.cap(slot, at(31, 0)), None);
        assert_eq!(warmup.cap(slot, at(32, 0)).unwrap().day, 0);
    }

    #[test]
    fn lots_are_written_ahead_and_a_crash_loses_no_more_than_one() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        drain(&mut warmup, slot, at(0, 0));
        drain(&mut warmup, slot, at(1, 0));
        // A cap of 400: lots of 4.
        let mut take = || {
            let taken = warmup.take(&[slot], at(2, 0)).unwrap();
            if taken == Taken::NewLot {
                let _ = warmup.to_write();
                warmup.written();
            }
            taken
        };
        let lots: Vec<Taken> = (0..6).map(|_| take()).collect();
        use Taken::{Covered, NewLot};
        assert_eq!(lots, [NewLot, Covered, Covered, Covered, NewLot, Covered]);
        let mut crashed = new(warmup.accounts());
        let again = crashed.slot(&source("new"), Some("yahoo")).unwrap();
        assert_eq!(drain(&mut crashed, again, at(2, 1)).0, 400 - 8);
        warmup.release();
        let mut ended = new(warmup.accounts());
        let again = ended.slot(&source("new"), Some("yahoo")).unwrap();
        assert_eq!(drain(&mut ended, again, at(2, 1)).0, 400 - 6);
    }

    #[test]
    fn a_ledger_that_could_not_be_written_covers_nothing() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        assert_eq!(warmup.take(&[slot], at(0, 0)), Ok(Taken::NewLot));
        warmup.revoke(&[slot], at(0, 0));
        assert_eq!(warmup.take(&[slot], at(0, 0)), Ok(Taken::NewLot));
        assert_eq!(warmup.cap(slot, at(0, 0)).unwrap().spent, 1);
    }

    #[test]
    fn nothing_of_a_lot_is_covered_before_it_is_written() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        drain(&mut warmup, slot, at(0, 0));
        drain(&mut warmup, slot, at(1, 0));
        let take = |warmup: &mut Warmup| warmup.take(&[slot], at(2, 0)).unwrap();
        assert_eq!([take(&mut warmup), take(&mut warmup)], [Taken::NewLot; 2]);
        let _ = warmup.to_write();
        assert_eq!(take(&mut warmup), Taken::NewLot);
        warmup.written();
        assert_eq!(take(&mut warmup), Taken::Covered);
        assert_eq!(take(&mut warmup), Taken::NewLot);
        let _ = warmup.to_write();
        warmup.written();
        // What is left of the lot is given back, and so the ledger is to say less.
        warmup.release();
        let _ = warmup.to_write();
        assert_eq!(take(&mut warmup), Taken::NewLot);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_again() {
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("slow"), Some("yahoo")).unwrap();
        drain(&mut warmup, slot, at(1, 0));
        assert_eq!(drain(&mut warmup, slot, at(0, 22)), (0, Some(at(1, 1))));
        // By a month: the clock was wrong before.
        let mut warmup = new(Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        drain(&mut warmup, slot, at(40, 0));
        assert_eq!(drain(&mut warmup, slot, at(10, 0)), (10, Some(at(11, 0))));
        assert_eq!(drain(&mut warmup, slot, at(11, 0)), (20, Some(at(12, 0))));
    }

    #[test]
    fn the_forecast_says_when_a_list_is_through() {
        let mut warmup = new(Vec::new());
        let yahoo = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        let slow = warmup.slot(&source("slow"), Some("yahoo")).unwrap();
        assert_eq!(warmup.forecast(&[yahoo], 10, at(0, 9)), at(0, 9));
        assert_eq!(warmup.forecast(&[yahoo], 11, at(0, 9)), at(1, 0));
        assert_eq!(warmup.forecast(&[yahoo], 430, at(0, 9)), at(2, 0));
        assert_eq!(warmup.forecast(&[yahoo], 2_000_000, at(0, 9)), at(3, 0));
        assert_eq!(warmup.forecast(&[slow], 5, at(0, 9)), at(0, 11));
        assert_eq!(warmup.forecast(&[yahoo, slow], 13, at(0, 9)), at(0, 10));
        assert_eq!(warmup.warm_on(yahoo, at(0, 9)), Some(at(3, 0)));
        warmup.take(&[yahoo], at(0, 9)).unwrap();
        warmup.hold(yahoo, at(0, 9));
        assert_eq!(warmup.warm_on(yahoo, at(0, 9)), Some(at(4, 0)));
        assert_eq!(warmup.forecast(&[yahoo], 9, at(0, 9)), at(0, 9));
        assert_eq!(warmup.forecast(&[yahoo], 20, at(0, 9)), at(2, 0));
    }

    #[test]
    fn a_rehearsals_day_passes_in_a_second() {
        let mut warmup = Warmup::new(&node(), Tempo(86_400.0), Vec::new());
        let slot = warmup.slot(&source("new"), Some("yahoo")).unwrap();
        let now = at(0, 0);
        assert_eq!(drain(&mut warmup, slot, now), (10, Some(now + Duration::from_secs(1))));
        assert_eq!(drain(&mut warmup, slot, now + Duration::from_secs(1)).0, 20);
    }

    proptest::proptest! {
        /// Against a count of every message by its period; with crashes and graceful ends in between.
        #[test]
        fn a_cap_is_never_exceeded(steps in proptest::collection::vec((0u64..40, 0u8..12), 1..400)) {
            let mut warmup = new(Vec::new());
            let party = source("new");
            let (mut hour, mut lost) = (0, false);
            let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
            for (hours, step) in steps {
                let slot = warmup.slot(&party, Some("yahoo")).unwrap();
                let now = at(0, hour);
                match step {
                    0 => { warmup = new(warmup.accounts()); lost = true }
                    1 => { warmup.release(); warmup = new(warmup.accounts()) }
                    2 => hour += hours,
                    3 => { warmup.hold(slot, now); }
                    _ => for _ in 0..hours * 4 {
                        let day = hour / 24;
                        // Sending days so far, none of them held in this count: the largest cap there may be.
                        let stage = sent.range(..day).count();
                        let cap = [10, 20, 400].get(stage).copied().unwrap_or(u64::MAX);
                        let so_far = sent.get(&day).copied().unwrap_or(0);
                        match warmup.take(&[slot], now) {
                            Ok(_) => { assert!(so_far < cap); *sent.entry(day).or_default() += 1; }
                            // Without a crash and with no day held the cap is used to the last message.
                            Err(full) => {
                                assert_eq!(full.until, at(day + 1, 0));
                                let held = warmup.cap(slot, now).unwrap().day < stage as u32;
                                assert!(lost || held || so_far == cap, "{so_far} of {cap}");
                                break;
                            }
                        }
                    },
                }
            }
        }
    }
}
