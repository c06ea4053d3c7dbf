//! Delivery policy: what signals change about the limits, for how long, and why.
//!
//! Three loops, all pure over `now`: the window (sessions of a path), the rate (additive up,
//! multiplicative down, with a ceiling that is learned), the breaker (campaign, sending domain or source
//! paused on bounce, complaint or deferral rates).

/// How much faster than the clock time passes: 1, but for rehearsals, whose days pass in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempo(pub f64);

impl Tempo {
    /// A span of the rules' time in the clock's.
    pub fn of(self, span: std::time::Duration) -> std::time::Duration {
        span.div_f64(self.0.max(f64::MIN_POSITIVE))
    }
}
