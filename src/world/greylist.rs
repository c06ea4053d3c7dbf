//! Who was told to come again, and when he may: by recipient, or by source, return path and recipient.
//!
//! Pure over `now`. Whoever has passed stays let in. Grows with the addresses greylisted.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::Greylisting;
use super::file::GreylistBy;

/// Who asks, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub source: IpAddr,
    pub return_path: &'a str,
    /// Of the recipient.
    pub key: u128,
}

#[derive(Default)]
pub(crate) struct Greylister {
    recipients: hashbrown::HashMap<u128, Recipient>,
    /// First seen; the return path as a hash.
    triplets: hashbrown::HashMap<(IpAddr, u64, u128), Instant>,
}

struct Recipient {
    first_seen: Instant,
    said: Greylisting,
}

impl Greylister {
    /// Whether a RCPT TO is let in.
    pub fn passes(&mut self, asked: Asked<'_>, by: GreylistBy, delay: Duration, now: Instant) -> bool {
        let recipient = self.recipients.entry(asked.key).or_insert_with(|| Recipient {
            first_seen: now,
            said: Greylisting { attempts: 0, first_source: asked.source, passed_from: None },
        });
        let first_seen = match by {
            GreylistBy::Recipient => recipient.first_seen,
            GreylistBy::Triplet => {
                let return_path = xxhash_rust::xxh3::xxh3_64(asked.return_path.as_bytes());
                *self.triplets.entry((asked.source, return_path, asked.key)).or_insert(now)
            }
        };
        let passes = now >= first_seen + delay;
        if recipient.said.passed_from.is_none() {
            recipient.said.attempts += 1;
            recipient.said.passed_from = passes.then_some(asked.source);
        }
        passes
    }

    /// What came of the address so far; `None`: nobody asked, or it is not greylisted.
    pub fn of(&self, key: u128) -> Option<Greylisting> {
        self.recipients.get(&key).map(|recipient| recipient.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(300);

    fn asked(source: u8, return_path: &str, key: u128) -> Asked<'_> {
        Asked { source: IpAddr::from([127, 30, 0, source]), return_path, key }
    }

    #[test]
    fn a_recipient_opens_to_all_after_the_delay() {
        let (mut greylister, start) = (Greylister::default(), Instant::now());
        let mut passes = |asked, now| greylister.passes(asked, GreylistBy::Recipient, DELAY, now);
        assert!(!passes(asked(1, "a@sender.test", 7), start));
        assert!(!passes(asked(1, "a@sender.test", 7), start + DELAY - Duration::from_millis(1)));
        assert!(passes(asked(2, "b@sender.test", 7), start + DELAY));
        assert!(!passes(asked(2, "b@sender.test", 8), start + DELAY));
        let said = greylister.of(7).unwrap();
        assert_eq!((said.attempts, said.first_source), (3, IpAddr::from([127, 30, 0, 1])));
        assert_eq!(said.passed_from, Some(IpAddr::from([127, 30, 0, 2])));
        assert_eq!(greylister.of(8).unwrap().passed_from, None);
    }

    #[test]
    fn a_triplet_opens_only_to_the_same_source_and_return_path() {
        let (mut greylister, start) = (Greylister::default(), Instant::now());
        let mut passes = |asked, now| greylister.passes(asked, GreylistBy::Triplet, DELAY, now);
        assert!(!passes(asked(1, "a@sender.test", 7), start));
        assert!(!passes(asked(2, "a@sender.test", 7), start + DELAY), "another source");
        assert!(!passes(asked(1, "b@sender.test", 7), start + DELAY), "another return path");
        assert!(passes(asked(1, "a@sender.test", 7), start + DELAY));
        assert!(passes(asked(2, "a@sender.test", 7), start + DELAY * 2));
        let said = greylister.of(7).unwrap();
        let first = IpAddr::from([127, 30, 0, 1]);
        assert_eq!((said.attempts, said.first_source, said.passed_from), (4, first, Some(first)));
    }
}
