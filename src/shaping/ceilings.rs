//! What holds for a provider over all its sites and all our sources: limiters that many paths share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::key::{Key, Value};
use super::limits::limited;
use super::rate::{Credit, Pace};
use super::tables::Layer;
use crate::config::Rate;

/// What holds for a provider over all its sites and all our sources.
#[derive(Debug, Default)]
pub struct Ceilings {
    pub sessions: Option<Arc<Semaphore>>,
    /// All of them hold.
    pub messages: Vec<Arc<Pace>>,
    pub connections: Vec<Arc<Pace>>,
    pub(super) said: Totals,
}

/// What ceilings were made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Totals {
    sessions: Option<u32>,
    messages: Vec<Rate>,
    connections: Vec<Rate>,
}

impl Totals {
    pub(super) fn of(layer: &Layer) -> Self {
        let rates = |key| match layer.value(key) {
            Some(Value::Rates(rates)) => limited(rates),
            _ => Vec::new(),
        };
        let sessions = match layer.value(Key::SessionsTotal) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        };
        Self { sessions, messages: rates(Key::MessagesTotal), connections: rates(Key::ConnectionsTotal) }
    }
}

impl Ceilings {
    pub(super) fn new(said: Totals, credit: Credit) -> Self {
        Self::default().changed(said, credit)
    }

    /// These with other totals. What was spent of a rate that stays is spent; a new one gives nothing on
    /// credit unless `credit` says so; sessions that are open count against the new number, but for those
    /// that were opened while there was none.
    pub(super) fn changed(&self, said: Totals, credit: Credit) -> Self {
        let paces = |rates: &[Rate], before: &[Rate], paces: &[Arc<Pace>]| {
            let pace = |rate: &Rate| match before.iter().position(|other| other == rate) {
                Some(at) => paces[at].clone(),
                None => Arc::new(Pace::new(rate, credit)),
            };
            rates.iter().map(pace).collect()
        };
        Self {
            sessions: said.sessions.map(|count| match (&self.sessions, self.said.sessions) {
                (Some(permits), Some(before)) => resized(permits, before, count),
                _ => Arc::new(Semaphore::new(count as usize)),
            }),
            messages: paces(&said.messages, &self.said.messages, &self.messages),
            connections: paces(&said.connections, &self.said.connections, &self.connections),
            said,
        }
    }
}

/// The same permits, more or fewer of them. Those that are out and too many are taken back as they come.
fn resized(permits: &Arc<Semaphore>, before: u32, count: u32) -> Arc<Semaphore> {
    if count > before {
        permits.add_permits((count - before) as usize);
    }
    let surplus = before.saturating_sub(count) as usize;
    let owed = surplus - permits.forget_permits(surplus);
    if let (1.., Ok(owed)) = (owed, u32::try_from(owed)) {
        let permits = permits.clone();
        tokio::spawn(async move {
            if let Ok(returned) = permits.acquire_many_owned(owed).await {
                returned.forget();
            }
        });
    }
    permits.clone()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::rate::Meter;
    use super::super::{Shaping, Tables};
    use super::*;

    fn tables(text: &str) -> Tables {
        Tables::read(Path::new("s.toml"), text, None).unwrap()
    }

    fn shaping(text: &str) -> Shaping {
        Shaping::new(tables(text), None, Credit::Full)
    }

    const P: &str = "[provider.p]\nmx = [\".p.test\"]\n";

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_of_a_total_that_stays_is_spent() {
        let before =
            shaping(&format!("{P}messages_total = [\"1/h\", \"5/day burst 5\"]\nsessions_total = 2\n"));
        let old = before.ceilings(Some("p"));
        old.messages[0].take().unwrap();
        let after = before.changed(tables(&format!(
            "{P}messages_total = [\"1/h\", \"7/day burst 5\"]\nsessions_total = 2\n"
        )));
        let new = after.ceilings(Some("p"));
        assert!(Arc::ptr_eq(&new.messages[0], &old.messages[0]));
        assert!(Arc::ptr_eq(new.sessions.as_ref().unwrap(), old.sessions.as_ref().unwrap()));
        new.messages[0].take().unwrap_err();
        new.messages[1].take().expect_err("a new rate gives nothing on credit");
        let same = after.changed(tables(&format!(
            "{P}messages_total = [\"1/h\", \"7/day burst 5\"]\nsessions_total = 2\nidle = \"1s\"\n"
        )));
        assert!(Arc::ptr_eq(&same.ceilings(Some("p")), &new), "nothing was said about totals");
    }

    #[tokio::test]
    async fn open_sessions_count_against_a_total_that_has_changed() {
        let total = |count: u32| tables(&format!("{P}sessions_total = {count}\n"));
        let four = Shaping::new(total(4), None, Credit::Full);
        let permits = four.ceilings(Some("p")).sessions.clone().unwrap();
        let mut open: Vec<_> = (0..3).map(|_| permits.clone().try_acquire_owned().unwrap()).collect();
        let two = four.changed(total(2));
        let permits = two.ceilings(Some("p")).sessions.clone().unwrap();
        assert_eq!(permits.available_permits(), 0);
        for free in [0, 1, 2] {
            open.pop();
            // The one that is owed is taken back by a task.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert_eq!(permits.available_permits(), free);
        }
        let three = two.changed(total(3));
        assert_eq!(three.ceilings(Some("p")).sessions.as_ref().unwrap().available_permits(), 3);
    }
}
