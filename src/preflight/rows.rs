//! Every row's message: rendered, taken apart and checked, by as many threads as there are cores.
//!
//! Messages are made unsigned: a signature costs more than all the rest and is the same kind of thing in
//! each; some are signed afterwards, as samples. Memory is a message and what was found a thread.

use std::fmt::Display;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::campaign::draft::Draft;
use crate::campaign::segment::{Recipient, Segment, SegmentError};
use crate::config::Check;
use crate::message::composer::Contents;
use crate::message::{Content, Merge, RenderError, Scratch};

use super::anatomy::{self, Parts};
use super::domains::{self, Role};
use super::finding::Severity;
use super::links::Links;
use super::tally::{Flaw, Tally};
use super::{body, header};

/// Recipients that a thread takes at a time.
const SHARE: u32 = 2_048;
/// Octets of a line of a message without its end (RFC 5322 §2.1.1).
const LINE_MAX: usize = 998;
/// Files that Gmail and Outlook refuse whatever is in them.
const REFUSED_FILES: [&str; 22] = [
    "ade", "apk", "bat", "cab", "chm", "cmd", "com", "cpl", "dll", "exe", "hta", "iso", "jar", "js", "lnk",
    "msi", "ps1", "scr", "sys", "vb", "vbs", "wsf",
];

/// What messages are held to.
#[derive(Debug)]
pub(super) struct Facts {
    /// How bad it is to miss what large providers demand of bulk mail.
    pub demanded: Severity,
    pub html_size: u64,
    pub message_size: u64,
    pub growth: Growth,
    pub shorteners: Vec<String>,
}

/// Octets that a message gets when it is sent, besides those that are looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    pub message: u64,
    pub html: u64,
}

impl Facts {
    pub fn new(settings: &Check, demanded: Severity, growth: Growth) -> Self {
        Self {
            demanded,
            html_size: settings.html_size.0,
            message_size: settings.message_size.0,
            growth,
            shorteners: settings.shorteners.clone(),
        }
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self::new(&Check::default(), Severity::Warning, Growth::default())
    }
}

/// Whose message it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub row: u64,
    pub address: &'a dyn Display,
}

impl Place<'_> {
    /// An example: the row, its address, and what stands there.
    pub fn shown(&self, what: &str) -> String {
        let Self { row, address } = self;
        if what.is_empty() {
            format!("row {row}, {address}")
        } else {
            format!("row {row}, {address}: {what}")
        }
    }
}

/// The greatest message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Largest {
    /// As it is sent, with its signatures.
    pub octets: u64,
    pub row: u64,
    pub address: String,
}

/// What all rows came to.
#[derive(Default)]
pub(super) struct Seen {
    pub tally: Tally,
    pub links: Links,
    pub rendered: u64,
    pub unrenderable: u64,
    pub largest: Option<Largest>,
    /// By column: rows that have nothing there.
    pub empty: Vec<u64>,
}

/// Makes and checks the message of every recipient of the draft, or each it may get where a test decides;
/// counts them in `looked_at`. Blocks.
///
/// # Errors
/// A segment that can no longer be read.
pub(super) fn check(
    contents: &Contents,
    draft: &Draft,
    facts: &Facts,
    looked_at: &AtomicU64,
) -> Result<Seen, SegmentError> {
    let shares: Vec<(Arc<Segment>, Range<u32>)> = draft
        .spool
        .iter()
        .flat_map(|segment| {
            let len = segment.len();
            let starts = (0..len).step_by(SHARE as usize);
            starts.map(move |start| (Arc::clone(&segment), start..len.min(start.saturating_add(SHARE))))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut examiner = Examiner::new(contents, facts, draft.columns.len());
        while let Some((segment, range)) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
            for index in range.clone() {
                examiner.row(&segment.recipient(index)?);
            }
            looked_at.fetch_add(u64::from(range.end - range.start), Ordering::Relaxed);
        }
        Ok(examiner.seen)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(shares.len());
    let parts: Vec<Result<Seen, SegmentError>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(joined).collect()
    });
    let mut all = Seen { empty: vec![0; draft.columns.len()], ..Seen::default() };
    for part in parts {
        all.merge(part?);
    }
    Ok(all)
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.links.merge(other.links);
        self.rendered += other.rendered;
        self.unrenderable += other.unrenderable;
        for (ours, theirs) in self.empty.iter_mut().zip(other.empty) {
            *ours += theirs;
        }
        self.largest = [self.largest.take(), other.largest]
            .into_iter()
            .flatten()
            .max_by_key(|largest| (largest.octets, std::cmp::Reverse(largest.row)));
    }
}

/// One thread's work.
struct Examiner<'a> {
    contents: &'a Contents,
    facts: &'a Facts,
    scratch: Scratch,
    message: Vec<u8>,
    parts: Parts,
    seen: Seen,
}

impl<'a> Examiner<'a> {
    fn new(contents: &'a Contents, facts: &'a Facts, columns: usize) -> Self {
        let seen = Seen { empty: vec![0; columns], ..Seen::default() };
        Self {
            contents,
            facts,
            scratch: Scratch::default(),
            message: Vec::new(),
            parts: Parts::default(),
            seen,
        }
    }

    fn row(&mut self, recipient: &Recipient<'_>) {
        let fields: Vec<&str> = recipient.fields().collect();
        for (empty, field) in self.seen.empty.iter_mut().zip(&fields) {
            *empty += u64::from(field.trim().is_empty());
        }
        let place = Place { row: recipient.row, address: &recipient.address };
        role(recipient.address.local(), place, &mut self.seen.tally);
        let merge = Merge { recipient: recipient.id, address: &recipient.address, fields: &fields };
        for content in possible(self.contents, recipient) {
            match content.render(&merge, &mut self.scratch, &mut self.message) {
                Ok(()) => {
                    self.seen.rendered += 1;
                    self.message(place);
                }
                Err(error) => {
                    self.seen.unrenderable += 1;
                    unrenderable(&error, place, &mut self.seen.tally);
                }
            }
        }
    }

    fn message(&mut self, place: Place<'_>) {
        let Self { message, facts, parts, seen, .. } = self;
        size(message, facts, place, seen);
        let (fields, body) = anatomy::fields(message);
        parts.read(&fields, body);
        let head = header::check(&fields, facts, place, &mut seen.tally);
        if let Some(url) = &head.unsubscribe {
            seen.links.check(url, facts, place, &mut seen.tally);
        }
        if let Some(text) = parts.text() {
            body::check_text(&text, &head, &mut seen.links, facts, place, &mut seen.tally);
        }
        if let Some(html) = parts.html() {
            let octets = html.len() as u64 + facts.growth.html;
            if octets > facts.html_size {
                let what = format!("the HTML is larger than {} octets", facts.html_size);
                let advice = "shorten it: Gmail hides what comes after, the unsubscribe link with it";
                let flaw =
                    Flaw { severity: Severity::Warning, check: "message-clipped", what: &what, advice };
                seen.tally.add(place.row, flaw, || place.shown(&format!("{octets} octets")));
            }
            body::check_html(&html, &head, &mut seen.links, facts, place, &mut seen.tally);
        }
        files(&parts.files, place, &mut seen.tally);
    }
}

/// What a recipient may get: one content, or any while a winner decides.
pub(super) fn possible<'a>(contents: &'a Contents, recipient: &Recipient<'_>) -> &'a [Content] {
    contents.of(&recipient.address).map_or_else(|| contents.all(), std::slice::from_ref)
}

fn role(local: &str, place: Place<'_>, tally: &mut Tally) {
    let flaw = match domains::role(local) {
        None => return,
        Some(Role::Harmful) => Flaw {
            severity: Severity::Warning,
            check: "role-accounts",
            what: "addresses stand for a task nobody subscribes for, like abuse@ or noreply@",
            advice: "take them off the list: mail to them ends as a complaint or in a trap",
        },
        Some(Role::Shared) => Flaw {
            severity: Severity::Note,
            check: "role-shared",
            what: "addresses are read by several people, like info@ or sales@",
            advice: "see that each of them was subscribed by somebody who may",
        },
    };
    tally.add(place.row, flaw, || place.shown(""));
}

fn unrenderable(error: &RenderError, place: Place<'_>, tally: &mut Tally) {
    let what = format!("a message cannot be made: {error}");
    let advice = "mend the template or the rows; such a row is rejected and gets no message";
    let flaw = Flaw { severity: Severity::Error, check: "render", what: &what, advice };
    tally.add(place.row, flaw, || place.shown(""));
}

fn size(message: &[u8], facts: &Facts, place: Place<'_>, seen: &mut Seen) {
    let octets = message.len() as u64 + facts.growth.message;
    let known = seen.largest.as_ref().map_or((0, 0), |largest| (largest.octets, largest.row));
    if octets > known.0 || (octets == known.0 && place.row < known.1) {
        seen.largest = Some(Largest { octets, row: place.row, address: place.address.to_string() });
    }
    if octets > facts.message_size {
        let what = format!("a message is larger than {} octets", facts.message_size);
        let advice = "link to files instead of attaching them, or raise [check] message_size in the settings";
        let flaw = Flaw { severity: Severity::Error, check: "message-size", what: &what, advice };
        seen.tally.add(place.row, flaw, || place.shown(&format!("{octets} octets")));
    }
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', message) {
        if end - start > LINE_MAX + 1 {
            let what = format!("a line is longer than {LINE_MAX} octets");
            let advice = "this is a bug of the program: keep the campaign and report it";
            let flaw = Flaw { severity: Severity::Error, check: "line-long", what: &what, advice };
            return seen.tally.add(place.row, flaw, || place.shown(""));
        }
        start = end + 1;
    }
}

fn files(names: &[String], place: Place<'_>, tally: &mut Tally) {
    for name in names {
        let Some((_, end)) = name.rsplit_once('.') else { continue };
        if !REFUSED_FILES.iter().any(|refused| refused.eq_ignore_ascii_case(end)) {
            continue;
        }
        let what = format!("an attachment ends in .{}", end.to_ascii_lowercase());
        let advice = "link to it instead: Gmail and Outlook refuse such files whatever is in them";
        let flaw = Flaw { severity: Severity::Error, check: "attachment-refused", what: &what, advice };
        tally.add(place.row, flaw, || place.shown(name));
    }
}
