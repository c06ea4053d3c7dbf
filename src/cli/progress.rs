//! A run while it goes: bars on a terminal, a line every few seconds elsewhere, JSON lines for machines.
//!
//! Draws [`Progress`] snapshots and knows nothing of where they come from. Bars and lines go to the
//! standard error, JSON to the standard output, so that a report can be piped.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::summary::shortened;
use crate::metrics::Progress;

/// Lines for providers on a terminal.
const PROVIDERS_MAX: usize = 6;
/// What is left of an old speed in the shown one after a second: even, and still follows within seconds.
const OLD_SHARE: f64 = 0.7;

/// Seconds without anyone settled after which the speed foretells nothing: all wait for their next try.
const LULL_SECS: f64 = 5.0;

/// How a person, or a machine, wants to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Bars,
    Lines,
    Json,
}

impl Manner {
    /// JSON if asked for; bars if someone is looking; else lines.
    pub fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if std::io::stderr().is_terminal() {
            Self::Bars
        } else {
            Self::Lines
        }
    }

    fn interval(self) -> Duration {
        match self {
            Self::Bars => Duration::from_millis(125),
            Self::Lines => Duration::from_secs(5),
            Self::Json => Duration::from_secs(1),
        }
    }
}

/// Shows `snapshot` until `end` comes, which it returns.
pub async fn show<T>(manner: Manner, snapshot: impl Fn() -> Progress, end: impl Future<Output = T>) -> T {
    let mut screen = Screen::new(manner);
    let mut ticks = tokio::time::interval(manner.interval());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(end);
    loop {
        tokio::select! {
            result = &mut end => {
                screen.clear();
                return result;
            }
            _ = ticks.tick() => screen.draw(&snapshot()),
        }
    }
}

/// What is on the screen, and the speed between two looks.
struct Screen {
    manner: Manner,
    speed: Speed,
    bars: Option<Bars>,
}

impl Screen {
    fn new(manner: Manner) -> Self {
        Self { manner, speed: Speed::default(), bars: (manner == Manner::Bars).then(Bars::new) }
    }

    fn draw(&mut self, progress: &Progress) {
        self.speed.see(progress);
        match (self.manner, &mut self.bars) {
            (Manner::Json, _) => {
                let mut out = std::io::stdout().lock();
                // Nobody listens any more: the run is what matters.
                let _ = serde_json::to_writer(&mut out, &serde_json::json!({ "progress": progress }));
                let _ = out.write_all(b"\n").and_then(|()| out.flush());
            }
            (_, Some(bars)) => bars.draw(progress, &self.speed),
            (_, None) => super::warn(plain(progress, &self.speed)),
        }
    }

    fn clear(&mut self) {
        if let Some(bars) = &self.bars {
            let _ = bars.all.clear();
        }
    }
}

/// Messages and settled rows a second, smoothed.
#[derive(Debug, Default)]
struct Speed {
    last: Option<(f64, u64, u64)>,
    delivered: f64,
    settled: f64,
    /// Seconds, when someone was last settled.
    moved: f64,
}

impl Speed {
    fn see(&mut self, progress: &Progress) {
        let (now, delivered, settled) =
            (progress.elapsed_secs, progress.totals.delivered, progress.totals.settled());
        let (then, delivered_then, settled_then) = self.last.unwrap_or((0.0, 0, 0));
        if now - then < 0.05 {
            return;
        }
        let smooth = |old: f64, count: u64| {
            let new = count as f64 / (now - then);
            if self.last.is_none() { new } else { new + (old - new) * OLD_SHARE.powf(now - then) }
        };
        self.delivered = smooth(self.delivered, delivered.saturating_sub(delivered_then));
        self.settled = smooth(self.settled, settled.saturating_sub(settled_then));
        if settled > settled_then {
            self.moved = now;
        }
        self.last = Some((now, delivered, settled));
    }

    /// Until nothing waits, if it goes on like this; unknown while the list is read or nothing moves.
    fn time_left(&self, progress: &Progress) -> Option<Duration> {
        let moves = self.settled >= 0.01 && progress.elapsed_secs - self.moved < LULL_SECS;
        let known = progress.import_done && progress.waiting_for.is_none() && moves;
        let secs = progress.totals.waiting as f64 / self.settled;
        (known && secs < 1e9).then(|| Duration::from_secs(secs.ceil() as u64))
    }
}

/// One line with everything that matters.
fn plain(progress: &Progress, speed: &Speed) -> String {
    let rows = if progress.import_done { "rows" } else { "rows so far" };
    format!(
        "{:>6}  {} {rows}  {}",
        clock(progress.elapsed_secs),
        progress.totals.rows,
        counts(progress, speed)
    )
}

fn counts(progress: &Progress, speed: &Speed) -> String {
    let totals = &progress.totals;
    let mut text = format!(
        "{:.0}/s  delivered {}  deferred {}  bounced {}  in flight {}  waiting {}",
        speed.delivered,
        totals.delivered,
        progress.deferrals,
        totals.bounced,
        progress.in_flight,
        totals.waiting,
    );
    if let Some(left) = speed.time_left(progress) {
        text.push_str(&format!("  {} left", clock(left.as_secs_f64())));
    }
    if let Some(reason) = &progress.waiting_for {
        text.push_str(&format!("  {reason}"));
    }
    text
}

/// `m:ss`, or `h:mm:ss` from an hour on.
pub(super) fn clock(secs: f64) -> String {
    let secs = secs as u64;
    let (hours, minutes, secs) = (secs / 3_600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

/// The bars of a terminal.
struct Bars {
    all: MultiProgress,
    rows: ProgressBar,
    counts: ProgressBar,
    providers: Vec<ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let rows = all.add(ProgressBar::new(0));
        let counts = all.add(ProgressBar::new_spinner());
        rows.set_style(
            style("{msg:>6}  [{bar:32}] {human_pos} of {human_len} {prefix}").progress_chars("=> "),
        );
        counts.set_style(style("        {msg}"));
        Self { all, rows, counts, providers: Vec::new() }
    }

    fn draw(&mut self, progress: &Progress, speed: &Speed) {
        self.rows.set_length(progress.totals.rows);
        self.rows.set_position(progress.totals.settled());
        self.rows.set_prefix(if progress.import_done { "settled" } else { "settled, reading" });
        self.rows.set_message(clock(progress.elapsed_secs));
        self.counts.set_message(counts(progress, speed));
        for (at, line) in progress.providers.iter().take(PROVIDERS_MAX).enumerate() {
            if self.providers.len() <= at {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("        {msg:.dim}"));
                self.providers.push(bar);
            }
            self.providers[at].set_message(format!(
                "{:<40} delivered {:>9}  deferred {:>8}  bounced {:>8}",
                shortened(&line.name),
                line.delivered,
                line.deferred,
                line.bounced
            ));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are tested")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ProviderLine, Totals};

    fn progress(secs: f64, delivered: u64, waiting: u64) -> Progress {
        let totals = Totals { rows: delivered + waiting, delivered, waiting, ..Totals::default() };
        let google = ProviderLine { name: "google".into(), delivered, ..ProviderLine::default() };
        Progress {
            totals,
            import_done: true,
            elapsed_secs: secs,
            providers: vec![google],
            ..Progress::default()
        }
    }

    #[test]
    fn speed_and_time_left_follow_the_snapshots() {
        let mut speed = Speed::default();
        speed.see(&progress(1.0, 100, 900));
        assert_eq!(
            plain(&progress(1.0, 100, 900), &speed),
            "  0:01  1000 rows  100/s  delivered 100  deferred 0  bounced 0  in flight 0  waiting 900  0:09 left"
        );
        speed.see(&progress(2.0, 300, 700));
        // 200 + (100 - 200) * 0.7
        assert!((speed.delivered - 130.0).abs() < 1e-9);
        speed.see(&progress(7.0, 300, 700));
        // 130 * 0.7^5: nothing came for five seconds, however often one looked.
        assert!((speed.delivered - 21.849).abs() < 1e-3);
        assert_eq!(speed.time_left(&progress(7.0, 300, 700)), None);
    }

    #[test]
    fn while_a_run_waits_it_says_for_what_and_guesses_no_end() {
        let mut waiting = progress(1.0, 100, 900);
        let mut speed = Speed::default();
        speed.see(&waiting);
        waiting.waiting_for = Some("waiting for 09:00".into());
        let line = plain(&waiting, &speed);
        assert!(line.ends_with("waiting for 09:00") && !line.contains("left"), "{line}");
    }

    #[test]
    fn the_bars_templates_are_well_formed() {
        let mut screen = Screen::new(Manner::Bars);
        screen.draw(&progress(1.0, 1, 2));
        screen.clear();
    }

    #[test]
    fn clocks_show_hours_when_there_are_some() {
        assert_eq!(
            (clock(59.9), clock(61.0), clock(3_661.0)),
            ("0:59".into(), "1:01".into(), "1:01:01".into())
        );
    }
}
