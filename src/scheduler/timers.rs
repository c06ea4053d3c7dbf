//! Deferred recipients, by the time they are due. Pure: `now` is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime};

use crate::envelope::{Entry, RecipientId};
use crate::outcome::SourceId;

/// Milliseconds since 1970, recipient, attempt, bound source: 24 octets a recipient.
type Timer = Reverse<(u64, RecipientId, u16, u16)>;
/// In a timer: any source may make the attempt.
const UNBOUND: u16 = u16::MAX;

/// The retry timers of a run.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Timer>,
}

impl Timers {
    pub fn new(waiting: Vec<(Entry, SystemTime)>) -> Self {
        Self { heap: waiting.into_iter().map(|(entry, due)| timer(entry, due)).collect() }
    }

    pub fn add(&mut self, entry: Entry, due: SystemTime) {
        self.heap.push(timer(entry, due));
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn next_due(&self) -> Option<SystemTime> {
        self.heap.peek().map(|Reverse((ms, ..))| SystemTime::UNIX_EPOCH + Duration::from_millis(*ms))
    }

    /// Takes those due at `now`.
    pub fn take_due(&mut self, now: SystemTime) -> Vec<Entry> {
        // Rounded down, as the times are rounded up.
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        while let Some(timer) = self.heap.peek().copied()
            && timer.0.0 <= now
        {
            self.heap.pop();
            due.push(entry(timer));
        }
        due
    }

    /// Takes all, in no order.
    pub fn take_all(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.heap).into_iter().map(entry).collect()
    }
}

fn timer(entry: Entry, due: SystemTime) -> Timer {
    Reverse((millis(due), entry.recipient, entry.attempt, entry.bound.map_or(UNBOUND, |source| source.0)))
}

fn entry(Reverse((_, recipient, attempt, bound)): Timer) -> Entry {
    Entry { recipient, attempt, bound: (bound != UNBOUND).then_some(SourceId(bound)) }
}

/// Rounded up, so that nothing is due before its time.
fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_due_comes_first_and_none_before_its_time() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let entry = |index| Entry::new(RecipientId::new(0, index), 2);
        let mut timers = Timers::new(vec![(entry(1), at(30)), (entry(2), at(10))]);
        timers.add(entry(3), at(20));
        assert_eq!(timers.next_due(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), []);
        assert_eq!(timers.take_due(at(9) + Duration::from_micros(999)), []);
        assert_eq!(timers.take_due(at(20)), [entry(2), entry(3)]);
        assert_eq!(timers.take_all(), [entry(1)]);
    }
}
