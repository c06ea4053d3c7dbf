//! Sealed segments on their way into the queues: whole, or the test slice first and the rest once a variant
//! has won.
//!
//! Of the rest there is nothing in memory but its segment's number, however many recipients that is; when
//! it may go, or the run is swept, it is read in from the segment's directory, a segment at a time.

use std::collections::HashSet;

use super::{Scheduler, swept_evidence};
use crate::campaign::segment::{Segment, Span};

impl Scheduler {
    /// Takes a sealed segment in: all of it, or while a test has no winner its slice.
    pub(super) fn segment(&mut self, segment: &Segment) {
        if self.setup.is_undecided && self.swept.is_none() {
            if segment.totals().tested < segment.totals().accepted {
                self.rest.push_back(segment.number());
            }
            self.read_in(segment, |span| (span.first, span.tested));
        } else {
            self.read_in(segment, |span| (span.first, span.count));
        }
    }

    /// Whether a held segment's rest can be read in.
    pub(super) fn has_rest(&self) -> bool {
        let is_free = !self.setup.is_undecided || self.swept.is_some();
        is_free && !self.rest.is_empty() && self.has_room()
    }

    /// Takes in what was held of the first such segment.
    pub(super) fn release_rest(&mut self) {
        let number = self.rest.pop_front();
        if let Some(segment) = number.and_then(|number| self.setup.spool.segment(number)) {
            self.read_in(&segment, |span| (span.first + span.tested, span.count - span.tested));
        }
    }

    /// Takes in a part of a segment's recipients: of each span, so many from the first on.
    fn read_in(&mut self, segment: &Segment, part: impl Fn(&Span<'_>) -> (u32, u32)) {
        if let Some(disposition) = self.swept {
            let number = segment.number();
            let mut all = self.queues.empty_like();
            for span in segment.spans() {
                let (first, count) = part(&span);
                all.add_span(span.domain, number, first, count);
            }
            self.settle(all.drain_all().into_iter().flatten(), disposition, swept_evidence(disposition));
            return;
        }
        let mut sites = HashSet::new();
        for span in segment.spans() {
            let (first, count) = part(&span);
            if self.queues.add_span(span.domain, segment.number(), first, count) {
                self.ask_route(span.domain);
            } else if let Some(site) = self.queues.site_of_domain(span.domain) {
                sites.insert(site);
            }
        }
        sites.into_iter().for_each(|site| self.feed(site));
    }
}
