//! What one source did at one provider, in all and by slices of time; live, bounded.

use std::time::Duration;

use super::counts::{SLICE, SliceCounts, Tally};

/// Slices kept of one source at one provider: an hour without a pause, 1.7 MB.
const SLICES_MAX: usize = 36_000;

#[derive(Default)]
pub(crate) struct Series {
    pub open: u32,
    pub peak: u32,
    pub total: Tally,
    pub slices: Vec<SliceCounts>,
}

impl Series {
    /// Notes something in the total and in the slice of the world's age.
    pub fn note(&mut self, age: Duration, what: impl Fn(&mut Tally)) {
        what(&mut self.total);
        let slice = (age.as_nanos() / SLICE.as_nanos()) as u32;
        if self.slices.last().is_none_or(|last| last.slice != slice) {
            if self.slices.len() >= SLICES_MAX {
                return;
            }
            self.slices.push(SliceCounts { slice, tally: Tally::default() });
        }
        if let Some(last) = self.slices.last_mut() {
            what(&mut last.tally);
        }
    }

    pub fn opened(&mut self, age: Duration) {
        self.open += 1;
        self.peak = self.peak.max(self.open);
        self.note(age, |tally| tally.connections += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fall_into_the_slice_of_their_time_and_all_into_the_total() {
        let mut series = Series::default();
        for at in [0, 99, 100, 250, 299] {
            series.note(Duration::from_millis(at), |tally| tally.transactions += 1);
        }
        let slices: Vec<(u32, u32)> =
            series.slices.iter().map(|slice| (slice.slice, slice.tally.transactions)).collect();
        assert_eq!(slices, [(0, 2), (1, 1), (2, 2)]);
        assert_eq!(series.total.transactions, 5);
    }

    #[test]
    fn a_long_series_keeps_its_total_and_no_more_slices() {
        let mut series = Series::default();
        for slice in 0..SLICES_MAX as u32 + 10 {
            series.note(SLICE * slice, |tally| tally.accepted += 1);
        }
        assert_eq!((series.slices.len(), series.total.accepted), (SLICES_MAX, SLICES_MAX as u32 + 10));
        assert_eq!(series.slices.last().unwrap().tally.accepted, 1);
    }
}
