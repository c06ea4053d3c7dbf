//! Invitations: one event for one recipient as iCalendar (RFC 5545), to be answered (RFC 5546, RFC 6047).
//!
//! Times are written in UTC, so that no reader needs a time zone's rules; a date without a time is a whole
//! day. Values are escaped, so that none can add a line.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Date;

use super::filters::{Region, moment};
use super::template::{Template, Templates};
use super::{ContentError, Merge, RenderError, Scratch};

/// Octets of a line at most (RFC 5545 §3.1).
const LINE_MAX: usize = 75;

/// An event as a campaign describes it; every text is a template.
#[derive(Debug, Clone, Copy)]
pub struct Calendar<'a> {
    /// A date with or without a time, without an offset in the campaign's time zone.
    pub start: &'a str,
    pub end: Option<&'a str>,
    /// Instead of `end`; without both, an event is an hour or a day long.
    pub duration: Option<Duration>,
    pub summary: &'a str,
    pub location: Option<&'a str>,
    pub description: Option<&'a str>,
    pub url: Option<&'a str>,
    /// The same in a later message changes the event; `None`: one of its own for each recipient.
    pub uid: Option<&'a str>,
    /// Higher than in the message that is to be replaced.
    pub sequence: u32,
}

/// The event, compiled.
#[derive(Debug)]
pub(super) struct Invite {
    start: Template,
    end: Option<Template>,
    duration: Option<Duration>,
    uid: Option<Template>,
    /// `SUMMARY` and others.
    texts: Vec<(&'static str, Template)>,
    /// Lines that are the same for all.
    fixed: String,
    /// Right of the recipient's part of a UID.
    uid_end: String,
    region: Region,
}

/// Who invites.
pub(super) struct Organizer<'a> {
    pub name: &'a str,
    pub address: &'a str,
}

impl Invite {
    /// # Errors
    /// A template that is wrong.
    pub fn compile(
        calendar: &Calendar<'_>,
        organizer: &Organizer<'_>,
        stamp: &str,
        uid_end: String,
        region: &Region,
        templates: &mut Templates,
    ) -> Result<Self, ContentError> {
        let mut fixed = String::new();
        line(&format!("DTSTAMP:{stamp}"), &mut fixed);
        line(&format!("SEQUENCE:{}", calendar.sequence), &mut fixed);
        let name = if organizer.name.is_empty() { organizer.address } else { organizer.name };
        line(&format!("ORGANIZER;CN={}:mailto:{}", quoted(name), organizer.address), &mut fixed);
        line("STATUS:CONFIRMED", &mut fixed);
        let mut texts = Vec::new();
        for (property, name, source) in [
            ("SUMMARY", "calendar summary", Some(calendar.summary)),
            ("LOCATION", "calendar location", calendar.location),
            ("DESCRIPTION", "calendar description", calendar.description),
            ("URL", "calendar url", calendar.url),
        ] {
            if let Some(source) = source {
                texts.push((property, templates.value(name, source)?));
            }
        }
        let mut compile =
            |name: &str, source: Option<&str>| source.map(|source| templates.value(name, source)).transpose();
        Ok(Self {
            end: compile("calendar end", calendar.end)?,
            uid: compile("calendar uid", calendar.uid)?,
            start: templates.value("calendar start", calendar.start)?,
            duration: calendar.duration,
            texts,
            fixed,
            uid_end,
            region: region.clone(),
        })
    }

    /// Writes the invitation for one recipient into `scratch.invite`.
    ///
    /// # Errors
    /// A template that fails, a time that is none, an end before the start.
    pub fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), RenderError> {
        let mut said = |template: &Template| -> Result<String, RenderError> {
            templates.text(template, merge, scratch)?;
            Ok(String::from_utf8_lossy(&scratch.text).trim().to_owned())
        };
        let refuse = |template: &Template, reason| {
            Err(RenderError::Template { template: template.name.clone(), line: 1, reason })
        };
        let mut out = String::with_capacity(1024);
        out.push_str("BEGIN:VCALENDAR\r\nPRODID:-//Postroad//Postroad//EN\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\n");
        let uid = match &self.uid {
            Some(uid) => escaped(&said(uid)?),
            None => format!("{:x}.{:x}{}", merge.recipient.segment, merge.recipient.index, self.uid_end),
        };
        line(&format!("UID:{uid}"), &mut out);
        let read = |template: &Template, text: &str| match When::read(text, &self.region) {
            Ok(when) => Ok(when),
            Err(reason) => Err(RenderError::Template { template: template.name.clone(), line: 1, reason }),
        };
        let start = read(&self.start, &said(&self.start)?)?;
        let end = match &self.end {
            Some(template) => read(template, &said(template)?)?,
            None => match start.after(self.duration) {
                Some(end) => end,
                None => return refuse(&self.start, "the event ends after all calendars".to_owned()),
            },
        };
        let (Some(starts), Some(ends)) = (start.property("DTSTART"), end.property("DTEND")) else {
            return refuse(&self.start, "outside of the years 0 to 9999".to_owned());
        };
        if !start.is_before(&end) {
            let template = self.end.as_ref().unwrap_or(&self.start);
            return refuse(
                template,
                "the event ends before it starts, or only one of both has a time".to_owned(),
            );
        }
        line(&starts, &mut out);
        line(&ends, &mut out);
        for (property, template) in &self.texts {
            let text = said(template)?;
            if text.is_empty() {
                continue;
            }
            // A URL is no text: nothing in it is escaped, and it holds no blanks.
            let text =
                if *property == "URL" { text.split_whitespace().collect::<String>() } else { escaped(&text) };
            line(&format!("{property}:{}", without_controls(&text)), &mut out);
        }
        out.push_str(&self.fixed);
        let attendee = format!("{}@{}", merge.address.local(), merge.address.domain());
        line(
            &format!(
                "ATTENDEE;CN={};ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:{attendee}",
                quoted(&attendee)
            ),
            &mut out,
        );
        out.push_str("END:VEVENT\r\nEND:VCALENDAR\r\n");
        scratch.invite.clear();
        scratch.invite.extend_from_slice(out.as_bytes());
        Ok(())
    }
}

/// A moment, or a whole day.
enum When {
    Moment(Zoned),
    Day(Date),
}

impl When {
    fn read(text: &str, region: &Region) -> Result<Self, String> {
        match text.parse::<Date>() {
            Ok(day) if text.len() == 10 => Ok(Self::Day(day)),
            _ => moment(text, region.zone()).map(Self::Moment),
        }
    }

    fn after(&self, duration: Option<Duration>) -> Option<Self> {
        match self {
            Self::Moment(start) => {
                let span =
                    jiff::SignedDuration::try_from(duration.unwrap_or(Duration::from_secs(3600))).ok()?;
                start.checked_add(span).ok().map(Self::Moment)
            }
            Self::Day(start) => {
                let days = duration.map_or(1, |duration| duration.as_secs().div_ceil(86_400).max(1));
                let span = jiff::Span::new().try_days(i64::try_from(days).ok()?).ok()?;
                start.checked_add(span).ok().map(Self::Day)
            }
        }
    }

    fn is_before(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Moment(start), Self::Moment(end)) => start < end,
            (Self::Day(start), Self::Day(end)) => start < end,
            _ => false,
        }
    }

    fn property(&self, name: &str) -> Option<String> {
        Some(match self {
            Self::Moment(at) => format!("{name}:{}", stamp(at.timestamp())?),
            Self::Day(day) if day.year() >= 0 => format!("{name};VALUE=DATE:{}", day.strftime("%Y%m%d")),
            Self::Day(_) => return None,
        })
    }
}

/// A moment as iCalendar has it, in UTC.
pub(super) fn stamp(at: jiff::Timestamp) -> Option<String> {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    (at.year() >= 0).then(|| at.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// Of type TEXT (RFC 5545 §3.3.11).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\\' | ';' | ',' => {
                out.push('\\');
                out.push(character);
            }
            other => out.push(other),
        }
    }
    without_controls(&out)
}

fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As a parameter's value, which can hold no quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", without_controls(text).replace('"', "'"))
}

/// Writes a content line, folded between characters.
fn line(text: &str, out: &mut String) {
    let mut rest = text;
    let mut room = LINE_MAX;
    while rest.len() > room {
        let end = rest.floor_char_boundary(room);
        let _ = write!(out, "{}\r\n ", &rest[..end]);
        rest = &rest[end..];
        room = LINE_MAX - 1;
    }
    let _ = write!(out, "{rest}\r\n");
}
