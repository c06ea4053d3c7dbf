//! Journal lines as octets: a frame with length, checksum and sequence around one of four kinds.
//!
//! All numbers are little-endian.
//!
//! | octets | every line |
//! |---|---|
//! | 0–3 | CRC32C of what follows |
//! | 4–5 | length of the whole line |
//! | 6 | kind: 1 attempt, 2 name, 3 event, 4 synced |
//! | 7 | attempt: disposition; name: what is named; else 0 |
//! | 8–15 | sequence, counted without gaps over all files of a run |
//!
//! | octets | attempt |
//! |---|---|
//! | 16–23 | recipient (segment in the high half) |
//! | 24–31 | when, in ms since 1970 |
//! | 32–39 | deferred until, in ms since 1970; else 0 |
//! | 40–43, 44–45 | site, source |
//! | 46–47 | attempt, the first is 1 |
//! | 48–49 | reply code, 0 without a reply |
//! | 50, 51 | class, stage |
//! | 52 | class of the enhanced code, 0 without one |
//! | 53 | variant, 0 for none |
//! | 54–55, 56–57 | subject and detail of the enhanced code |
//! | 58– | reply text, UTF-8, at most 512 octets |
//!
//! A name holds its number (4 octets) and text, an event its time (8) and text; a synced line is a bare
//! frame and says that everything before it had reached the device. Pure: octets in, octets out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::envelope::RecipientId;
use crate::outcome::{Disposition, Evidence, InDoubtPolicy, SiteId, Slot, SourceId, Stage};
use crate::reply::{EnhancedCode, REPLY_TEXT_OCTETS_MAX};

/// Octets before the body of any line.
pub(super) const FRAME_OCTETS: usize = 16;
/// Octets of an attempt before its text.
const ATTEMPT_OCTETS: usize = 58;
/// No line is longer.
pub(super) const LINE_OCTETS_MAX: usize = ATTEMPT_OCTETS + REPLY_TEXT_OCTETS_MAX;
/// Octets of a name or an event's text at most; the rest is cut.
const TEXT_OCTETS_MAX: usize = 512;

/// One attempt, or the end of a recipient that none was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub recipient: RecipientId,
    /// The first is 1.
    pub attempt: u16,
    /// Kept to the millisecond.
    pub at: SystemTime,
    pub disposition: Disposition,
    /// The reply's class as feedback numbers it; 0 is none.
    pub class: u8,
    /// [`crate::campaign::variants::VariantId::number`]; 0 is none.
    pub variant: u8,
    /// Text beyond 512 octets is cut.
    pub evidence: Evidence,
    pub source: SourceId,
    pub site: SiteId,
    /// Not stored: released once the record is written.
    pub slot: Option<Slot>,
}

/// What a name record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum NameKind {
    Site = 0,
    Source = 1,
    Provider = 2,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Attempt(Record),
    /// From here on `id` stands for `name`; a later line may say otherwise.
    Name {
        kind: NameKind,
        id: u32,
        name: Box<str>,
    },
    /// Something about the run as a whole, for people: started, resumed, stopped, a site that failed.
    Event {
        at: SystemTime,
        text: Box<str>,
    },
    /// All before this line had reached the device when it was written.
    Synced,
}

/// What a line with a right checksum can still have wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    #[error("the line has a kind this version does not know")]
    Kind,
    #[error("the line is too short for its kind")]
    Short,
    #[error("the line has a value this version does not know")]
    Value,
    #[error("the file does not start like a journal")]
    Magic,
}

const KIND_ATTEMPT: u8 = 1;
const KIND_NAME: u8 = 2;
const KIND_EVENT: u8 = 3;
const KIND_SYNCED: u8 = 4;

/// Appends `line` to `out`.
pub fn encode(line: &Line, sequence: u64, out: &mut Vec<u8>) {
    match line {
        Line::Attempt(record) => encode_attempt(record, sequence, out),
        Line::Name { kind, id, name } => frame(KIND_NAME, *kind as u8, sequence, out, |out| {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(cut(name, TEXT_OCTETS_MAX).as_bytes());
        }),
        Line::Event { at, text } => frame(KIND_EVENT, 0, sequence, out, |out| {
            out.extend_from_slice(&to_millis(*at).to_le_bytes());
            out.extend_from_slice(cut(text, TEXT_OCTETS_MAX).as_bytes());
        }),
        Line::Synced => frame(KIND_SYNCED, 0, sequence, out, |_| {}),
    }
}

pub(super) fn encode_attempt(record: &Record, sequence: u64, out: &mut Vec<u8>) {
    let (disposition, until) = disposition_number(record.disposition);
    let evidence = &record.evidence;
    let enhanced = evidence.enhanced.unwrap_or(EnhancedCode::new(0, 0, 0));
    let mut fixed = [0u8; ATTEMPT_OCTETS - FRAME_OCTETS];
    fixed[0..8].copy_from_slice(&record.recipient.to_u64().to_le_bytes());
    fixed[8..16].copy_from_slice(&to_millis(record.at).to_le_bytes());
    fixed[16..24].copy_from_slice(&until.to_le_bytes());
    fixed[24..28].copy_from_slice(&record.site.0.to_le_bytes());
    fixed[28..30].copy_from_slice(&record.source.0.to_le_bytes());
    fixed[30..32].copy_from_slice(&record.attempt.to_le_bytes());
    fixed[32..34].copy_from_slice(&evidence.code.to_le_bytes());
    fixed[34] = record.class;
    fixed[35] = evidence.stage as u8;
    fixed[36] = enhanced.class;
    fixed[37] = record.variant;
    fixed[38..40].copy_from_slice(&enhanced.subject.to_le_bytes());
    fixed[40..42].copy_from_slice(&enhanced.detail.to_le_bytes());
    frame(KIND_ATTEMPT, disposition, sequence, out, |out| {
        out.extend_from_slice(&fixed);
        out.extend_from_slice(cut(&evidence.text, REPLY_TEXT_OCTETS_MAX).as_bytes());
    });
}

fn frame(kind: u8, detail: u8, sequence: u64, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, kind, detail]);
    out.extend_from_slice(&sequence.to_le_bytes());
    body(out);
    let length = out.len() - start;
    debug_assert!(length <= LINE_OCTETS_MAX);
    out[start + 4..start + 6].copy_from_slice(&(length as u16).to_le_bytes());
    let checksum = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// What starts at the given octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    /// A line of so many octets with a right checksum.
    Whole(usize),
    /// More octets are needed to tell.
    Short,
    Bad,
}

impl Framed {
    pub(super) fn at(octets: &[u8]) -> Self {
        let Some(head) = octets.first_chunk::<FRAME_OCTETS>() else { return Self::Short };
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        if !(FRAME_OCTETS..=LINE_OCTETS_MAX).contains(&length) {
            return Self::Bad;
        }
        let Some(line) = octets.get(..length) else { return Self::Short };
        let checksum = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if crc32c::crc32c(&line[4..]) == checksum { Self::Whole(length) } else { Self::Bad }
    }
}

/// A line whose checksum was found right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    /// `octets` are one line for which [`Framed::at`] said `Whole`.
    pub(super) fn of(octets: &'a [u8]) -> Self {
        debug_assert_eq!(Framed::at(octets), Framed::Whole(octets.len()));
        Self(octets)
    }

    pub(super) fn sequence(self) -> u64 {
        self.u64(8)
    }

    pub(super) fn is_attempt(self) -> bool {
        self.0[6] == KIND_ATTEMPT
    }

    pub(super) fn is_synced(self) -> bool {
        self.0[6] == KIND_SYNCED
    }

    /// The fixed part of an attempt; the text is not looked at.
    pub(super) fn attempt(self) -> Result<Attempt, Unreadable> {
        if self.0.len() < ATTEMPT_OCTETS {
            return Err(Unreadable::Short);
        }
        Ok(Attempt {
            recipient: self.u64(16),
            at_millis: self.u64(24),
            attempt: self.u16(46),
            disposition: disposition(self.0[7], self.u64(32)).ok_or(Unreadable::Value)?,
            class: self.0[50],
            variant: self.0[53],
            source: SourceId(self.u16(44)),
        })
    }

    pub(super) fn line(self) -> Result<Line, Unreadable> {
        match self.0[6] {
            KIND_ATTEMPT => self.record().map(Line::Attempt),
            KIND_NAME => {
                let kind = match self.0[7] {
                    0 => NameKind::Site,
                    1 => NameKind::Source,
                    2 => NameKind::Provider,
                    _ => return Err(Unreadable::Value),
                };
                let id = self.0.get(16..20).ok_or(Unreadable::Short)?;
                let id = u32::from_le_bytes(id.try_into().map_err(|_| Unreadable::Short)?);
                Ok(Line::Name { kind, id, name: self.text(20)? })
            }
            KIND_EVENT if self.0.len() < 24 => Err(Unreadable::Short),
            KIND_EVENT => Ok(Line::Event { at: from_millis(self.u64(16)), text: self.text(24)? }),
            KIND_SYNCED => Ok(Line::Synced),
            _ => Err(Unreadable::Kind),
        }
    }

    fn record(self) -> Result<Record, Unreadable> {
        let Attempt { recipient, at_millis, attempt, disposition, class, variant, source } =
            self.attempt()?;
        let enhanced = (self.0[52] != 0).then(|| EnhancedCode::new(self.0[52], self.u16(54), self.u16(56)));
        Ok(Record {
            recipient: RecipientId::from_u64(recipient),
            attempt,
            at: from_millis(at_millis),
            disposition,
            class,
            variant,
            evidence: Evidence {
                stage: stage(self.0[51]).ok_or(Unreadable::Value)?,
                code: self.u16(48),
                enhanced,
                text: self.text(ATTEMPT_OCTETS)?,
            },
            source,
            site: SiteId(self.u32(40)),
            slot: None,
        })
    }

    fn text(self, from: usize) -> Result<Box<str>, Unreadable> {
        let octets = self.0.get(from..).ok_or(Unreadable::Short)?;
        std::str::from_utf8(octets).map(Into::into).map_err(|_| Unreadable::Value)
    }

    // Callers have checked the length of the fixed part.
    fn u64(self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }
}

/// What replay needs of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) recipient: u64,
    pub(super) at_millis: u64,
    pub(super) attempt: u16,
    pub(super) disposition: Disposition,
    pub(super) class: u8,
    pub(super) variant: u8,
    pub(super) source: SourceId,
}

/// Reads the line at the start of `octets`: the line, its sequence and its length in octets. `None`
/// when no whole line with a right checksum starts there.
///
/// # Errors
/// A right checksum over something this version does not know.
pub fn decode(octets: &[u8]) -> Result<Option<(Line, u64, usize)>, Unreadable> {
    match Framed::at(octets) {
        Framed::Whole(length) => {
            let frame = Frame::of(&octets[..length]);
            Ok(Some((frame.line()?, frame.sequence(), length)))
        }
        Framed::Short | Framed::Bad => Ok(None),
    }
}

fn disposition_number(disposition: Disposition) -> (u8, u64) {
    match disposition {
        Disposition::Delivered => (1, 0),
        Disposition::Deferred { until } => (2, to_millis(until)),
        Disposition::Bounced => (3, 0),
        Disposition::Expired => (4, 0),
        Disposition::Suppressed => (5, 0),
        Disposition::Cancelled => (6, 0),
        Disposition::Invalid => (7, 0),
        Disposition::InDoubt(InDoubtPolicy::Resend) => (8, 0),
        Disposition::InDoubt(InDoubtPolicy::Skip) => (9, 0),
        Disposition::InDoubt(InDoubtPolicy::Hold) => (10, 0),
    }
}

fn disposition(number: u8, until: u64) -> Option<Disposition> {
    Some(match number {
        1 => Disposition::Delivered,
        2 => Disposition::Deferred { until: from_millis(until) },
        3 => Disposition::Bounced,
        4 => Disposition::Expired,
        5 => Disposition::Suppressed,
        6 => Disposition::Cancelled,
        7 => Disposition::Invalid,
        8 => Disposition::InDoubt(InDoubtPolicy::Resend),
        9 => Disposition::InDoubt(InDoubtPolicy::Skip),
        10 => Disposition::InDoubt(InDoubtPolicy::Hold),
        _ => return None,
    })
}

fn stage(number: u8) -> Option<Stage> {
    const STAGES: [Stage; 11] = [
        Stage::Route,
        Stage::Connect,
        Stage::Greeting,
        Stage::Ehlo,
        Stage::StartTls,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Content,
        Stage::Local,
        Stage::Auth,
    ];
    STAGES.get(usize::from(number)).copied()
}

/// Milliseconds since 1970; what lies before is 0.
pub(super) fn to_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(super) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn cut(text: &str, octets_max: usize) -> &str {
    &text[..text.floor_char_boundary(octets_max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dispositions() -> impl Strategy<Value = Disposition> {
        prop_oneof![
            Just(Disposition::Delivered),
            (0u64..1 << 48).prop_map(|millis| Disposition::Deferred { until: from_millis(millis) }),
            Just(Disposition::Bounced),
            Just(Disposition::Expired),
            Just(Disposition::Suppressed),
            Just(Disposition::Cancelled),
            Just(Disposition::Invalid),
            Just(Disposition::InDoubt(InDoubtPolicy::Resend)),
            Just(Disposition::InDoubt(InDoubtPolicy::Skip)),
            Just(Disposition::InDoubt(InDoubtPolicy::Hold)),
        ]
    }

    prop_compose! {
        fn evidence()(
            number in 0u8..11,
            code in any::<u16>(),
            enhanced in proptest::option::of((1u8.., any::<u16>(), any::<u16>())),
            text in "\\PC{0,120}",
        ) -> Evidence {
            Evidence {
                stage: stage(number).unwrap(),
                code,
                enhanced: enhanced.map(|(class, subject, detail)| EnhancedCode::new(class, subject, detail)),
                text: text.into(),
            }
        }
    }

    prop_compose! {
        fn records()(
            (id, attempt, class, variant) in any::<(u64, u16, u8, u8)>(),
            (source, site) in any::<(u16, u32)>(),
            at in 0u64..1 << 48,
            disposition in dispositions(),
            evidence in evidence(),
        ) -> Record {
            Record {
                recipient: RecipientId::from_u64(id),
                attempt,
                at: from_millis(at),
                disposition,
                class,
                variant,
                evidence,
                source: SourceId(source),
                site: SiteId(site),
                slot: None,
            }
        }
    }

    fn lines() -> impl Strategy<Value = Line> {
        prop_oneof![
            records().prop_map(Line::Attempt),
            (any::<u32>(), "\\PC{0,60}").prop_map(|(id, name)| Line::Name {
                kind: NameKind::Provider,
                id,
                name: name.into()
            }),
            (0u64..1 << 48, "\\PC{0,60}")
                .prop_map(|(at, text)| Line::Event { at: from_millis(at), text: text.into() }),
            Just(Line::Synced),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(line in lines(), sequence in any::<u64>()) {
            let mut octets = Vec::new();
            encode(&line, sequence, &mut octets);
            let length = octets.len();
            prop_assert!(length <= LINE_OCTETS_MAX);
            octets.extend_from_slice(b"what follows");
            prop_assert_eq!(decode(&octets), Ok(Some((line, sequence, length))));
            prop_assert_eq!(decode(&octets[..length - 1]), Ok(None));
        }

        #[test]
        fn no_octets_make_decoding_panic(mut octets in proptest::collection::vec(any::<u8>(), 16..600)) {
            let _ = decode(&octets);
            // With length and checksum made right, so that the rest is reached.
            let length = octets.len().min(LINE_OCTETS_MAX);
            octets.truncate(length);
            octets[4..6].copy_from_slice(&(length as u16).to_le_bytes());
            octets[6] %= 5;
            let checksum = crc32c::crc32c(&octets[4..]);
            octets[..4].copy_from_slice(&checksum.to_le_bytes());
            let _ = decode(&octets);
        }
    }

    #[test]
    fn the_octets_are_as_documented() {
        let record = Record {
            recipient: RecipientId::new(2, 0x0102_0304),
            attempt: 3,
            at: UNIX_EPOCH + Duration::from_millis(1000),
            disposition: Disposition::Deferred { until: UNIX_EPOCH + Duration::from_millis(2000) },
            class: 9,
            variant: 3,
            evidence: Evidence {
                stage: Stage::Rcpt,
                code: 451,
                enhanced: Some(EnhancedCode::new(4, 7, 1)),
                text: "later".into(),
            },
            source: SourceId(5),
            site: SiteId(6),
            slot: Some(Slot(1)),
        };
        let mut octets = Vec::new();
        encode(&Line::Attempt(record), 7, &mut octets);
        #[rustfmt::skip]
        let expected = [
            63, 0, 1, 2, 7, 0, 0, 0, 0, 0, 0, 0,
            4, 3, 2, 1, 2, 0, 0, 0,
            0xe8, 3, 0, 0, 0, 0, 0, 0,
            0xd0, 7, 0, 0, 0, 0, 0, 0,
            6, 0, 0, 0, 5, 0, 3, 0, 0xc3, 1, 9, 6, 4, 3, 7, 0, 1, 0,
            b'l', b'a', b't', b'e', b'r',
        ];
        assert_eq!(octets[4..], expected);
        // RFC 3720 §B.4: the check value of CRC32C.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(octets[..4], crc32c::crc32c(&expected).to_le_bytes());
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = format!("x{}", "é".repeat(400));
        let mut octets = Vec::new();
        encode(&Line::Event { at: UNIX_EPOCH, text: text.into() }, 1, &mut octets);
        let Ok(Some((Line::Event { text, .. }, ..))) = decode(&octets) else { panic!() };
        assert_eq!(text.len(), 511);
    }
}
