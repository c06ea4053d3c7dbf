//! The domains of a list that lies in segments: each once, in order, whichever segments hold its recipients.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::campaign::segment::{Segment, Span};

/// One domain of the list, over all segments.
#[derive(Debug, Clone, Copy)]
pub struct ListDomain<'a> {
    pub domain: &'a str,
    pub recipients: u64,
    /// The segment with the first of them, and its index there.
    pub first: (&'a Segment, u32),
}

/// Each domain of the segments once, in order of name: what they hold is read in place, nothing kept.
pub fn domains_of(segments: &[Arc<Segment>]) -> impl Iterator<Item = ListDomain<'_>> {
    let mut sources: Vec<_> = segments.iter().map(|segment| segment.spans()).collect();
    let mut heads = BinaryHeap::new();
    for (at, spans) in sources.iter_mut().enumerate() {
        heads.extend(spans.next().map(|span| head(at, span)));
    }
    std::iter::from_fn(move || {
        let Reverse((domain, at, first, count)) = heads.pop()?;
        heads.extend(sources[at].next().map(|span| head(at, span)));
        let mut found = ListDomain { domain, recipients: u64::from(count), first: (&segments[at], first) };
        while let Some(Reverse((next, at, _, count))) = heads.peek().copied()
            && next == domain
        {
            heads.pop();
            heads.extend(sources[at].next().map(|span| head(at, span)));
            found.recipients += u64::from(count);
        }
        Some(found)
    })
}

/// The next span of a segment, to be sorted by domain, then segment.
fn head(segment: usize, span: Span<'_>) -> Reverse<(&str, usize, u32, u32)> {
    Reverse((span.domain, segment, span.first, span.count))
}
