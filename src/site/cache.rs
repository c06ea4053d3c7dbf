//! What is known of names, for how long, and who is asking just now.
//!
//! Pure but for the hand-over between those who wait: `now` is an argument. An answer holds for its time.
//! A positive one that ran out goes on being given while somebody asks anew, and while asking fails, for
//! a day (RFC 8767); a negative one does not, so that nobody bounces on old news. However many want to
//! know, one asks: the first is told to, the others wait for it.

use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::address::Domain;

/// How long a positive answer may be given after its time, at most.
pub(super) const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// After asking failed, the old answer is given for so long before somebody asks again (RFC 8767 §5).
pub(super) const RECHECK: Duration = Duration::from_secs(30);
/// A stale answer is said to hold for so long.
pub(super) const STALE_HOLDS: Duration = Duration::from_secs(1);

/// How an answer ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Positive,
    Negative,
    /// Nothing was learned; never replaces a positive answer that may still be given.
    Failure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact<V> {
    pub(super) value: V,
    pub(super) kind: Kind,
    pub(super) expires: Instant,
}

/// What whoever wants to know should do.
#[derive(Debug)]
pub(super) enum Look<V> {
    Known(Fact<V>),
    /// Use this, and ask anew in the background.
    Refresh(Fact<V>, Asker<V>),
    /// Ask, and tell.
    Ask(Asker<V>),
    /// Somebody is asking: the value comes.
    Wait(watch::Receiver<Option<Fact<V>>>),
}

/// The duty to ask; dropping it untold lets another ask.
#[derive(Debug)]
pub(super) struct Asker<V>(watch::Sender<Option<Fact<V>>>);

impl<V> Asker<V> {
    pub(super) fn listen(&self) -> watch::Receiver<Option<Fact<V>>> {
        self.0.subscribe()
    }
}

#[derive(Debug)]
struct Held<V> {
    fact: Option<Fact<V>>,
    asked: Option<watch::Receiver<Option<Fact<V>>>>,
    /// Not before.
    ask_again: Option<Instant>,
}

impl<V> Held<V> {
    fn is_asked(&self) -> Option<&watch::Receiver<Option<Fact<V>>>> {
        // A closed channel is an asker that died.
        self.asked.as_ref().filter(|asked| asked.has_changed().is_ok())
    }

    fn usable(&self, now: Instant) -> Option<&Fact<V>> {
        self.fact.as_ref().filter(|fact| {
            now < fact.expires || fact.kind == Kind::Positive && now < fact.expires + STALE_MAX
        })
    }
}

#[derive(Debug)]
pub(super) struct Cache<V> {
    held: DashMap<Domain, Held<V>>,
    entries_max: usize,
}

impl<V: Clone> Cache<V> {
    /// Holds about `entries_max` names; past it the expired are dropped, then some.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { held: DashMap::new(), entries_max }
    }

    pub(super) fn look(&self, name: &Domain, now: Instant) -> Look<V> {
        if let Some(held) = self.held.get(name)
            && let Some(fact) = held.fact.as_ref().filter(|fact| now < fact.expires)
        {
            return Look::Known(fact.clone());
        }
        if self.held.len() >= self.entries_max {
            self.make_room(now);
        }
        let mut held = match self.held.entry(name.clone()) {
            Entry::Occupied(held) => held.into_ref(),
            Entry::Vacant(space) => space.insert(Held { fact: None, asked: None, ask_again: None }),
        };
        let asked = held.is_asked().cloned();
        match held.usable(now).cloned() {
            Some(fact) if now < fact.expires => Look::Known(fact),
            Some(fact) => {
                let fact = Fact { expires: now + STALE_HOLDS, ..fact };
                if asked.is_some() || held.ask_again.is_some_and(|at| now < at) {
                    Look::Known(fact)
                } else {
                    Look::Refresh(fact, ask(&mut held))
                }
            }
            None => match asked {
                Some(asked) => Look::Wait(asked),
                None => Look::Ask(ask(&mut held)),
            },
        }
    }

    /// Keeps what `asker` found out and tells those who wait.
    pub(super) fn tell(&self, name: &Domain, asker: Asker<V>, fact: Fact<V>, now: Instant) {
        let mut held =
            self.held.entry(name.clone()).or_insert(Held { fact: None, asked: None, ask_again: None });
        held.asked = None;
        let old = held.usable(now).filter(|old| old.kind == Kind::Positive && fact.kind == Kind::Failure);
        let given = match old.cloned() {
            Some(old) => {
                held.ask_again = Some(now + RECHECK);
                Fact { expires: old.expires.max(now + STALE_HOLDS), ..old }
            }
            None => {
                held.ask_again = None;
                held.fact.insert(fact).clone()
            }
        };
        drop(held);
        // Nobody may be waiting.
        asker.0.send_replace(Some(given));
    }

    fn make_room(&self, now: Instant) {
        self.held.retain(|_, held| held.is_asked().is_some() || held.usable(now).is_some());
        if self.held.len() >= self.entries_max {
            self.held.retain(|_, held| {
                held.is_asked().is_some() || held.fact.as_ref().is_some_and(|fact| now < fact.expires)
            });
        }
        if self.held.len() >= self.entries_max {
            // Every other one, whichever: they are asked for again when they are wanted.
            let mut keep = false;
            self.held.retain(|_, held| {
                keep = !keep;
                keep || held.is_asked().is_some()
            });
        }
    }
}

fn ask<V>(held: &mut Held<V>) -> Asker<V> {
    let (asker, asked) = watch::channel(None);
    held.asked = Some(asked);
    Asker(asker)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn name() -> Domain {
        Domain::parse("example.test").unwrap()
    }

    fn fact(value: u32, kind: Kind, expires: Instant) -> Fact<u32> {
        Fact { value, kind, expires }
    }

    fn asker(look: Look<u32>) -> Asker<u32> {
        match look {
            Look::Ask(asker) | Look::Refresh(_, asker) => asker,
            other => panic!("not told to ask: {other:?}"),
        }
    }

    fn known(look: Look<u32>) -> u32 {
        match look {
            Look::Known(fact) => fact.value,
            other => panic!("not known: {other:?}"),
        }
    }

    #[test]
    fn one_asks_and_the_others_wait() {
        let (cache, now) = (Cache::new(10), Instant::now());
        let asker = asker(cache.look(&name(), now));
        let Look::Wait(waiting) = cache.look(&name(), now) else { panic!() };
        cache.tell(&name(), asker, fact(1, Kind::Positive, now + TTL), now);
        assert_eq!(waiting.borrow().as_ref().unwrap().value, 1);
        assert_eq!(known(cache.look(&name(), now)), 1);
        assert_eq!(known(cache.look(&name(), now + TTL - Duration::from_millis(1))), 1);
    }

    #[test]
    fn an_asker_that_dies_is_replaced() {
        let (cache, now) = (Cache::new(10), Instant::now());
        drop(asker(cache.look(&name(), now)));
        let again = asker(cache.look(&name(), now));
        cache.tell(&name(), again, fact(1, Kind::Positive, now + TTL), now);
        assert_eq!(known(cache.look(&name(), now)), 1);
    }

    #[test]
    fn a_positive_answer_is_given_while_one_asks_anew() {
        let (cache, now) = (Cache::new(10), Instant::now());
        let first = asker(cache.look(&name(), now));
        cache.tell(&name(), first, fact(1, Kind::Positive, now + TTL), now);
        let later = now + TTL;
        let Look::Refresh(stale, second) = cache.look(&name(), later) else { panic!() };
        assert_eq!((stale.value, stale.expires), (1, later + STALE_HOLDS));
        assert_eq!(known(cache.look(&name(), later)), 1, "one refreshes, not all");
        cache.tell(&name(), second, fact(2, Kind::Positive, later + TTL), later);
        assert_eq!(known(cache.look(&name(), later)), 2);
    }

    #[test]
    fn a_failure_to_refresh_keeps_the_old_answer_for_a_day() {
        let (cache, now) = (Cache::new(10), Instant::now());
        let first = asker(cache.look(&name(), now));
        cache.tell(&name(), first, fact(1, Kind::Positive, now + TTL), now);
        let later = now + TTL;
        let second = asker(cache.look(&name(), later));
        cache.tell(&name(), second, fact(9, Kind::Failure, later + TTL), later);
        assert_eq!(known(cache.look(&name(), later)), 1);
        assert!(matches!(cache.look(&name(), later + RECHECK), Look::Refresh(..)));
        let end = now + TTL + STALE_MAX;
        assert!(matches!(cache.look(&name(), end), Look::Ask(_)));
    }

    #[test]
    fn negative_answers_and_failures_are_not_given_after_their_time() {
        for kind in [Kind::Negative, Kind::Failure] {
            let (cache, now) = (Cache::new(10), Instant::now());
            let first = asker(cache.look(&name(), now));
            cache.tell(&name(), first, fact(1, kind, now + TTL), now);
            assert_eq!(known(cache.look(&name(), now)), 1);
            assert!(matches!(cache.look(&name(), now + TTL), Look::Ask(_)));
        }
    }

    #[test]
    fn it_does_not_grow_past_its_bound() {
        let (cache, now) = (Cache::new(100), Instant::now());
        for n in 0..1000 {
            let name = Domain::parse(&format!("d{n}.test")).unwrap();
            let asker = asker(cache.look(&name, now));
            cache.tell(&name, asker, fact(n, Kind::Positive, now + TTL), now);
            assert!(cache.held.len() <= 100);
            assert_eq!(known(cache.look(&name, now)), n);
        }
    }
}
