//! A server in a few lines, to hold a [`Pipeline`] against: it obeys the RFCs, decides by chance, and
//! knows what it accepted. What the pipeline believes must agree with that, however octets were cut
//! and wherever the connection ended.

use proptest::prelude::*;

use super::dialogs::{describe, entry, hear, message};
use super::replies::ReplyReader;
use super::transaction::{Event, Phase, Pipeline};
use super::{Capabilities, SessionEnd, Trust};
use crate::outcome::{Failure, Finding, Slot};

/// What the server does when it may choose; `chance` is 0..=99.
fn reply_to(stage: Phase, chance: u8) -> &'static str {
    match (stage, chance) {
        (_, 0) => "421 4.3.2 shutting down",
        (Phase::Mail, 1) => "452 4.5.3 too many messages in this session",
        (_, 2..=5) => "450 4.2.0 not now",
        (_, 6..=9) => "550 5.0.0 never",
        (Phase::DataStart, _) => "354 go ahead",
        (_, 10..=19) => "250-2.0.0 with\r\n250 2.0.0 pleasure",
        _ => "250 ok",
    }
}

#[derive(Default)]
struct Server {
    input: Vec<u8>,
    output: Vec<u8>,
    chances: Vec<u8>,
    /// Return path of the open transaction, and its recipient.
    mail: Option<String>,
    rcpt: Option<String>,
    in_data: bool,
    chunk: Option<usize>,
    /// Numbers of the messages it took responsibility for.
    accepted: Vec<u32>,
    closed: bool,
}

impl Server {
    fn chance(&mut self) -> u8 {
        self.chances.pop().unwrap_or(99)
    }

    fn say(&mut self, reply: &str) {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.closed |= reply.starts_with("421");
    }

    /// Says what chance decides; whether that was a yes.
    fn decide(&mut self, stage: Phase) -> bool {
        let chance = self.chance();
        let reply = reply_to(stage, chance);
        self.say(reply);
        reply.starts_with(['2', '3'])
    }

    fn take(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        while !self.closed && self.step() {}
    }

    fn step(&mut self) -> bool {
        if let Some(length) = self.chunk {
            if self.input.len() < length {
                return false;
            }
            let content: Vec<u8> = self.input.drain(..length).collect();
            self.chunk = None;
            self.end_of_content(&content);
            return true;
        }
        if self.in_data {
            let input = String::from_utf8(self.input.clone()).unwrap();
            let Some(end) =
                (if input.starts_with(".\r\n") { Some(0) } else { input.find("\r\n.\r\n").map(|at| at + 2) })
            else {
                return false;
            };
            let content: String = input[..end]
                .split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line))
                .collect();
            self.input.drain(..end + 3);
            self.in_data = false;
            self.end_of_content(content.as_bytes());
            return true;
        }
        let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") else { return false };
        let line: Vec<u8> = self.input.drain(..end + 2).collect();
        let line = String::from_utf8(line).unwrap().trim_end().to_owned();
        self.command(&line);
        true
    }

    fn command(&mut self, line: &str) {
        if let Some(path) = line.strip_prefix("MAIL FROM:<") {
            if self.mail.is_some() {
                self.say("503 5.5.1 nested MAIL command");
            } else if self.decide(Phase::Mail) {
                self.mail = path.split('>').next().map(str::to_owned);
            }
        } else if let Some(path) = line.strip_prefix("RCPT TO:<") {
            if self.mail.is_none() {
                self.say("503 5.5.1 need MAIL");
            } else if self.decide(Phase::Rcpt) {
                self.rcpt = path.split('>').next().map(str::to_owned);
            }
        } else if line == "DATA" {
            let is_lenient = self.mail.is_some() && self.chance() < 50;
            if self.rcpt.is_none() && !is_lenient {
                self.say("503 5.5.1 no valid recipients");
            } else if self.decide(Phase::DataStart) {
                self.in_data = true;
            }
        } else if let Some(length) = line.strip_prefix("BDAT ") {
            self.chunk = Some(length.strip_suffix(" LAST").unwrap().parse().unwrap());
        } else if line == "RSET" {
            (self.mail, self.rcpt) = (None, None);
            self.say("250 reset");
        } else {
            panic!("the server does not know {line:?}");
        }
    }

    /// BDAT without a recipient is refused and leaves the transaction open, as Postfix does it; DATA
    /// without one accepts nothing.
    fn end_of_content(&mut self, content: &[u8]) {
        let Some(rcpt) = self.rcpt.take() else {
            return self.say("503 5.5.1 no valid recipients");
        };
        let path = self.mail.take().unwrap();
        let number: u32 = rcpt.split('@').next().unwrap().parse().unwrap();
        let expected = message(number, &number.to_string());
        assert!(path.starts_with(&format!("bounce+t.1.{number:x}.")), "another message's return path");
        assert_eq!(path, expected.envelope.return_path(), "another message's return path");
        assert_eq!(content, expected.content, "another message's content");
        if self.decide(Phase::ContentEnd) {
            self.accepted.push(number);
        }
    }
}

fn offers(trust: Trust) -> Capabilities {
    let keywords: &[&str] = match trust {
        Trust::Window => &["x", "PIPELINING", "CHUNKING"],
        Trust::RoundTrip => &["x", "PIPELINING"],
        Trust::Lockstep => &["x"],
    };
    Capabilities::read(keywords.iter().map(|keyword| keyword.as_bytes()))
}

fn trusts() -> impl Strategy<Value = Trust> {
    prop_oneof![Just(Trust::Window), Just(Trust::RoundTrip), Just(Trust::Lockstep)]
}

struct Count {
    submitted: u32,
    events: Vec<Event>,
}

impl Count {
    fn submit(&mut self, pipeline: &mut Pipeline, messages: u32) {
        while pipeline.wants_message() && self.submitted < messages {
            self.submitted += 1;
            let number = self.submitted;
            pipeline.submit(entry(number), Slot(number), message(number, &number.to_string()));
        }
        while pipeline.take_arming().is_some() {}
        self.events.extend(std::iter::from_fn(|| pipeline.take_event()));
    }

    fn of(&self, number: u32) -> Vec<&Event> {
        let of = |event: &&Event| match event {
            Event::Settled { entry, .. } | Event::Returned { entry, .. } => entry.recipient.index == number,
            Event::Learned(_) => false,
        };
        self.events.iter().filter(of).collect()
    }
}

proptest! {
    /// No loss, no duplicate, no surprise: what is believed accepted was; what was accepted is
    /// believed so, or in doubt.
    #[test]
    fn belief_agrees_with_an_honest_server(
        trust in trusts(),
        window in 1usize..5,
        chances in prop::collection::vec(0u8..100, 0..60),
        steps in prop::collection::vec((0usize..120, 0usize..60), 1..200),
        closes in prop::bool::weighted(0.5),
    ) {
        let messages = 6;
        let mut pipeline = Pipeline::new(offers(trust), trust, window, None);
        let mut server = Server { chances, ..Server::default() };
        let mut reader = ReplyReader::default();
        let mut count = Count { submitted: 0, events: Vec::new() };
        let quiet_steps = std::iter::repeat_n((usize::MAX, usize::MAX), if closes { 0 } else { 100 });
        for (sent, received) in steps.into_iter().chain(quiet_steps) {
            count.submit(&mut pipeline, messages);
            if pipeline.end().is_some() {
                break;
            }
            if !server.closed {
                let octets = pipeline.unwritten();
                let octets = octets[..octets.len().min(sent)].to_vec();
                pipeline.wrote(octets.len());
                server.take(&octets);
            }
            let received = server.output.len().min(received).min(1000);
            let octets: Vec<u8> = server.output.drain(..received).collect();
            hear(&mut pipeline, &mut reader, &octets);
        }
        count.submit(&mut pipeline, messages);
        if closes {
            pipeline.broke(Failure::Closed);
            count.submit(&mut pipeline, messages);
        }
        prop_assert!(pipeline.is_quiet(), "all is answered or the connection is over: {:?}", pipeline);
        for number in 1..=count.submitted {
            let of = count.of(number);
            prop_assert_eq!(of.len(), 1, "{:?}", of);
            let is_accepted = matches!(of[0], Event::Settled { finding: Finding::Accepted(_), .. });
            let is_in_doubt = matches!(of[0], Event::Settled { finding: Finding::InDoubt { .. }, .. });
            match server.accepted.iter().filter(|&&accepted| accepted == number).count() {
                0 => prop_assert!(!is_accepted, "{:?} and the server has no copy", of),
                1 => prop_assert!(is_accepted || is_in_doubt, "{:?} and the server has a copy", of),
                copies => prop_assert!(false, "{} copies", copies),
            }
        }
        // An honest server gives no cause for distrust, unless it closes in the middle.
        let distrusted = count.events.iter().any(|event| describe(event).starts_with("learned Trust"));
        prop_assert!(!distrusted || closes, "{:?}", count.events);
    }

    /// Whatever a server says, each message ends in one event and nothing panics.
    #[test]
    fn nonsense_still_ends_in_one_event_each(
        trust in trusts(),
        window in 1usize..5,
        steps in prop::collection::vec((0usize..200, prop::sample::select(vec![
            "", "250 ok\r\n", "250 ok\r\n250 ok\r\n", "354 go\r\n", "450 no\r\n", "550 no\r\n", "503 nested\r\n",
            "421 bye\r\n", "what?\r\n", "250-", "452 too many messages in this session\r\n",
        ])), 0..80),
    ) {
        let mut pipeline = Pipeline::new(offers(trust), trust, window, Some(20));
        let mut reader = ReplyReader::default();
        let mut count = Count { submitted: 0, events: Vec::new() };
        for (sent, said) in steps {
            count.submit(&mut pipeline, 30);
            if pipeline.end().is_some() {
                break;
            }
            pipeline.wrote(sent);
            hear(&mut pipeline, &mut reader, said.as_bytes());
        }
        count.submit(&mut pipeline, 30);
        pipeline.broke(Failure::Closed);
        count.submit(&mut pipeline, 30);
        prop_assert!(pipeline.end().is_some() && pipeline.is_quiet());
        for number in 1..=count.submitted {
            prop_assert_eq!(count.of(number).len(), 1);
        }
    }
}

/// Each stage × each fault, in each mode: what becomes of the message it hits, that the connection
/// goes on or ends as it should, and that the message behind it is settled once.
#[test]
fn every_fault_at_every_stage_has_one_outcome() {
    let stages = [
        (Trust::Window, vec![(Phase::Mail, 0), (Phase::Rcpt, 1), (Phase::ContentEnd, 2)]),
        (
            Trust::RoundTrip,
            vec![(Phase::Mail, 0), (Phase::Rcpt, 1), (Phase::DataStart, 2), (Phase::ContentEnd, 3)],
        ),
        (
            Trust::Lockstep,
            vec![(Phase::Mail, 0), (Phase::Rcpt, 1), (Phase::DataStart, 2), (Phase::ContentEnd, 3)],
        ),
    ];
    for (trust, stages) in stages {
        for (phase, step) in stages {
            // STYLE: RCPT reaches the recipient, MAIL and the end of the content the message.
            let (stage, scope) = match phase {
                Phase::Mail => ("mail", "message"),
                Phase::Rcpt => ("rcpt", "recipient"),
                Phase::DataStart => ("data", "message"),
                _ => ("content", "message"),
            };
            let doubtful = trust == Trust::Window || phase == Phase::ContentEnd;
            let misplaced = if phase == Phase::DataStart { "250 ok" } else { "354 go ahead" };
            let broken = |failure: &str| {
                if doubtful { "1 in doubt".to_owned() } else { format!("1 failed {stage} session {failure}") }
            };
            let faults = [
                ("450 4.2.0 no", format!("1 refused {stage} {scope} 450"), "open"),
                ("550 5.1.1 no", format!("1 refused {stage} {scope} 550"), "open"),
                ("250-x\r\n251 y", broken("garbage"), "broken"),
                ("421 4.3.2 bye", format!("1 refused {stage} session 421"), "closing"),
                (misplaced, broken("garbage"), "broken"),
                ("nonsense", broken("garbage"), "broken"),
                ("[close]", broken("closed"), "broken"),
                ("[timeout]", broken("timeout"), "broken"),
                ("[error]", broken("io"), "broken"),
            ];
            for (fault, expected, end) in faults {
                let case = format!("{fault} at {phase:?} in {trust:?}");
                let mut pipeline = Pipeline::new(offers(trust), trust, 2, None);
                let mut reader = ReplyReader::default();
                let mut count = Count { submitted: 0, events: Vec::new() };
                let yes = if trust == Trust::Window {
                    ["250 ok\r\n"; 3]
                } else {
                    ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"]
                };
                for reply in &yes[..step] {
                    count.submit(&mut pipeline, 2);
                    pipeline.wrote(usize::MAX);
                    hear(&mut pipeline, &mut reader, reply.as_bytes());
                }
                count.submit(&mut pipeline, 2);
                pipeline.wrote(usize::MAX);
                assert_eq!(pipeline.phase(), phase, "{case}");
                match fault {
                    "[close]" => pipeline.broke(Failure::Closed),
                    "[timeout]" => pipeline.broke(Failure::Timeout(std::time::Duration::from_secs(1))),
                    "[error]" => pipeline.broke(Failure::Io("no route to host".into())),
                    reply => hear(&mut pipeline, &mut reader, format!("{reply}\r\n").as_bytes()),
                }
                count.submit(&mut pipeline, 2);
                while end == "open" && count.of(1).is_empty() {
                    hear(&mut pipeline, &mut reader, b"503 5.5.1 bad sequence\r\n");
                    count.submit(&mut pipeline, 2);
                }
                let of: Vec<String> = count.of(1).into_iter().map(describe).collect();
                assert_eq!(of, [expected.as_str()], "{case}");
                let was = match pipeline.end() {
                    None => "open",
                    Some(SessionEnd::Closing(_)) => "closing",
                    Some(_) => "broken",
                };
                assert_eq!(was, end, "{case}");
                pipeline.broke(Failure::Closed);
                count.submit(&mut pipeline, 2);
                assert_eq!(count.of(2).len(), 1, "{case}");
            }
        }
    }
}
