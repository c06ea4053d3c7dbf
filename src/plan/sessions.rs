//! What the sessions of a path carry, at a round trip that somebody assumed.

use crate::egress::SESSION_SPREAD;
use crate::shaping::Limits;

/// Round trips to open a session: connection, greeting, EHLO, STARTTLS, the handshake, EHLO again.
const OPENING: f64 = 6.0;
/// Round trips of a message whose commands go out together with the content of the one before (RFC 2920).
const A_MESSAGE: f64 = 1.0;
/// As many as a peer takes is not for ever.
const MESSAGES_MAX: f64 = 1e6;

/// One session, again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Session {
    /// Messages before it is closed and another opened.
    pub messages: f64,
    /// Messages a second, openings included.
    pub per_second: f64,
}

impl Session {
    pub fn new(limits: &Limits, round_trip: f64) -> Self {
        let messages = limits.messages_per_session.map_or(MESSAGES_MAX, f64::from);
        let seconds = round_trip.max(1e-4) * (messages * A_MESSAGE + OPENING);
        Self { messages, per_second: messages / seconds }
    }
}

/// Sessions that a path wants with so many waiting at its site: one, and another for each `SESSION_SPREAD`;
/// where it is paced, no more than find work.
pub(super) fn wanted(most: u32, ready: f64, per_second: Option<f64>) -> f64 {
    let by_work = 1.0 + (ready / SESSION_SPREAD as f64).floor();
    let by_pace = per_second.map_or(f64::INFINITY, |rate| (rate * 5.0).ceil().max(1.0));
    f64::from(most).min(by_work).min(by_pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_carries_a_message_a_round_trip_and_pays_for_its_opening() {
        let limits = Limits { messages_per_session: Some(24), ..Limits::default() };
        // 24 messages and the opening are 30 round trips, three seconds.
        let session = Session::new(&limits, 0.1);
        assert!((session.per_second - 8.0).abs() < 1e-9, "{session:?}");
        let endless = Session::new(&Limits::default(), 0.1);
        assert!((endless.per_second - 10.0).abs() < 1e-3, "{endless:?}");
    }

    #[test]
    fn few_recipients_and_slow_paces_want_few_sessions() {
        assert_eq!(wanted(10, 63.0, None), 1.0);
        assert_eq!(wanted(10, 64.0 * 3.0, None), 4.0);
        assert_eq!(wanted(10, 1e6, None), 10.0);
        assert_eq!(wanted(10, 1e6, Some(0.5)), 3.0);
    }
}
