//! Golden dialogs: `tests/dialogs/*.smtp` played against a [`Pipeline`].
//!
//! A dialog sets the scene (`mode`, `offers`, `window`, `messages`, `messages_max`), then lists what
//! is said in order: `C:` must come out of the pipeline next, `S:` goes in. `[return path k]` is message
//! k's, `[content k]` its content as its mode carries it, `[half of content k]` its first half, `[nothing]` says that the
//! pipeline has nothing to say now, `[close]`, `[timeout]` and `[garbage]` are what they say. Messages
//! are submitted as soon as they are wanted. `=>` lists what became of each, in order, and what was
//! learned. Message k goes to `k@dk.test`, and reads `Subject: k`, an empty line, `.dot`.

use std::fmt::Write as _;
use std::time::Duration;

use super::replies::ReplyReader;
use super::transaction::{Event, Pipeline};
use super::{Capabilities, Composed, SessionEnd, Trust};
use crate::address::{Address, Domain};
use crate::envelope::{Entry, RecipientId, Verp};
use crate::outcome::{Failure, Finding, Slot};
use crate::token::{Key, RunToken};

pub(super) fn message(number: u32, local: &str) -> Composed {
    let verp = Verp::new(RunToken::new("t"), Domain::parse("s.example").unwrap(), Key::new(1, &[7; 32]));
    let to = Address::parse(&format!("{local}@d{number}.test")).unwrap();
    let mut composed = Composed::default();
    verp.address(RecipientId::new(1, number), &to.as_ref(), &mut composed.envelope);
    composed.content = format!("Subject: {number}\r\n\r\n.dot\r\n").into_bytes();
    composed
}

pub(super) fn entry(number: u32) -> Entry {
    Entry::new(RecipientId::new(1, number), 1)
}

/// Feeds what a server says and hands the answers on.
pub(super) fn hear(pipeline: &mut Pipeline, reader: &mut ReplyReader, octets: &[u8]) {
    reader.spare()[..octets.len()].copy_from_slice(octets);
    reader.filled(octets.len());
    while pipeline.end().is_none() {
        match reader.next() {
            Ok(Some(answer)) => pipeline.answer(&answer),
            Ok(None) => break,
            Err(garbage) => pipeline.broke(Failure::Garbage(garbage.0)),
        }
    }
}

pub(super) fn describe(event: &Event) -> String {
    let text = |finding: &Finding| match finding {
        Finding::Accepted(reply) => format!("accepted {}", reply.code()),
        Finding::Refused { stage, scope, reply } => {
            format!("refused {stage:?} {scope:?} {}", reply.code()).to_lowercase()
        }
        Finding::Failed { stage, scope, failure } => {
            let failure = format!("{failure:?}");
            let name = failure.split(['(', ' ']).next().unwrap_or_default();
            format!("failed {stage:?} {scope:?} {name}").to_lowercase()
        }
        Finding::InDoubt { .. } => "in doubt".to_owned(),
        other => format!("{other:?}"),
    };
    match event {
        Event::Settled { entry, finding, .. } => format!("{} {}", entry.recipient.index, text(finding)),
        Event::Returned { entry, .. } => format!("{} returned", entry.recipient.index),
        Event::Learned(quirk) => format!("learned {quirk:?}"),
    }
}

struct Play<'a> {
    name: &'a str,
    pipeline: Pipeline,
    reader: ReplyReader,
    mode: Trust,
    unsubmitted: std::ops::RangeInclusive<u32>,
    locals: Vec<&'a str>,
    seen: Vec<String>,
}

impl<'a> Play<'a> {
    fn set(name: &'a str, text: &'a str) -> Self {
        let field = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let trust = match field("mode") {
            Some("window") => Trust::Window,
            Some("round trip") => Trust::RoundTrip,
            Some("lockstep") => Trust::Lockstep,
            other => panic!("{name}: mode {other:?}"),
        };
        let offers = field("offers").unwrap_or("PIPELINING, CHUNKING");
        let offers = std::iter::once("greets").chain(offers.split(", ")).map(str::as_bytes);
        let number = |key| field(key).map(|value| value.parse::<u32>().unwrap());
        let window = number("window").unwrap_or(4) as usize;
        let pipeline = Pipeline::new(Capabilities::read(offers), trust, window, number("messages_max"));
        assert_eq!(pipeline.mode(), trust, "{name}: the mode is what is offered");
        let locals = field("locals").map(|locals| locals.split(' ').collect()).unwrap_or_default();
        let messages = number("messages").unwrap_or(1);
        let mut play = Self {
            name,
            pipeline,
            reader: ReplyReader::default(),
            mode: trust,
            unsubmitted: 1..=messages,
            locals,
            seen: Vec::new(),
        };
        play.submit();
        play
    }

    fn submit(&mut self) {
        while self.pipeline.wants_message() {
            let Some(number) = self.unsubmitted.next() else { break };
            let local =
                self.locals.get(number as usize - 1).copied().map_or(number.to_string(), str::to_owned);
            self.pipeline.submit(entry(number), Slot(number), message(number, &local));
        }
        while self.pipeline.take_arming().is_some() {}
        while let Some(event) = self.pipeline.take_event() {
            self.seen.push(describe(&event));
        }
    }

    fn content(&self, number: &str) -> String {
        match self.mode {
            Trust::Window => format!("Subject: {number}\r\n\r\n.dot\r\n"),
            _ => format!("Subject: {number}\r\n\r\n..dot\r\n.\r\n"),
        }
    }

    fn client(&mut self, line: &str) {
        let expected = match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some("nothing") => {
                let rest = String::from_utf8_lossy(self.pipeline.unwritten()).into_owned();
                return assert_eq!(rest, "", "{}: nothing is to be said", self.name);
            }
            Some(what) => match what.strip_prefix("half of content ") {
                Some(number) => {
                    let content = self.content(number);
                    content[..content.len() / 2].to_owned()
                }
                None => self.content(what.strip_prefix("content ").expect("a content")),
            },
            None => match line.split_once("[return path ") {
                Some((before, after)) => {
                    let (number, after) = after.split_once(']').expect("a number");
                    let message = message(number.parse().unwrap(), "x");
                    format!("{before}{}{after}\r\n", message.envelope.return_path())
                }
                None => format!("{line}\r\n"),
            },
        };
        let said = self.pipeline.unwritten();
        let said = String::from_utf8_lossy(&said[..said.len().min(expected.len())]).into_owned();
        assert_eq!(said, expected, "{}: C: {line}", self.name);
        self.pipeline.wrote(expected.len());
    }

    fn server(&mut self, line: &str) {
        match line {
            "[close]" => self.pipeline.broke(Failure::Closed),
            "[timeout]" => self.pipeline.broke(Failure::Timeout(Duration::from_secs(1))),
            "[garbage]" => hear(&mut self.pipeline, &mut self.reader, b"what?\r\n"),
            reply => hear(&mut self.pipeline, &mut self.reader, format!("{reply}\r\n").as_bytes()),
        }
    }
}

fn play(name: &str, text: &str) {
    let mut play = Play::set(name, text);
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("C: ") {
            play.client(line);
        } else if let Some(line) = line.strip_prefix("S: ") {
            play.server(line);
        }
        play.submit();
    }
    let end = match play.pipeline.end() {
        Some(SessionEnd::Closing(reply)) => format!("closing {}", reply.code()),
        Some(SessionEnd::Broken(_)) => "broken".to_owned(),
        Some(other) => format!("{other:?}").to_lowercase(),
        None => "open".to_owned(),
    };
    let mut seen = String::new();
    for event in &play.seen {
        writeln!(seen, "=> {event}").unwrap();
    }
    writeln!(seen, "=> {end}").unwrap();
    let expected: String =
        text.lines().filter(|line| line.starts_with("=>")).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(seen, expected, "{name}: what became of it");
}

#[test]
fn golden_dialogs_go_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogs");
    let mut played = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "smtp") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            play(&name, &std::fs::read_to_string(&path).unwrap());
            played += 1;
        }
    }
    assert!(played >= 20, "only {played} dialogs found");
}
