//! The SMTP state machine alone: messages in, octets out, replies in, outcomes out; no socket.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postroad::address::{AddressRef, Domain};
use postroad::envelope::{Entry, RecipientId, Verp};
use postroad::outcome::Slot;
use postroad::smtp::replies::ReplyReader;
use postroad::smtp::transaction::Pipeline;
use postroad::smtp::{Capabilities, Composed, Trust};
use postroad::token::{Key, RunToken};

const MESSAGES: u32 = 1_000;
const CONTENT_OCTETS: usize = 10_240;

fn message() -> Composed {
    let domain = Domain::parse("sender.test").expect("a domain");
    let verp = Verp::new(RunToken::new("k3f9"), domain, Key::new(1, &[7; 32]));
    let to = AddressRef::parse("pat@a.test").expect("an address");
    let mut composed = Composed::default();
    verp.address(RecipientId::new(0, 1), &to, &mut composed.envelope);
    composed.content = b"a line of some sixty characters, as people would write it....\r\n"
        .repeat(CONTENT_OCTETS / 63)
        .clone();
    composed
}

/// Carries messages as a socket would that takes all and answers at once.
fn carry(offers: &[&[u8]], trust: Trust, message: &Composed) {
    let mut pipeline = Pipeline::new(Capabilities::read(offers.iter().copied()), trust, 32, None);
    let mut replies = ReplyReader::default();
    let (mut submitted, mut settled) = (0, 0);
    while settled < MESSAGES {
        while submitted < MESSAGES && pipeline.wants_message() {
            let mut composed = pipeline.blank();
            composed.clone_from(message);
            let entry = Entry::new(RecipientId::new(0, submitted), 1);
            pipeline.submit(entry, Slot(0), composed);
            submitted += 1;
        }
        while pipeline.take_arming().is_some() {}
        let said = answers(pipeline.unwritten());
        let octets = pipeline.unwritten().len();
        black_box(pipeline.unwritten());
        pipeline.wrote(octets);
        let room = replies.spare();
        let count = said.len().min(room.len());
        room[..count].copy_from_slice(&said[..count]);
        replies.filled(count);
        while let Ok(Some(answer)) = replies.next() {
            pipeline.answer(&answer);
        }
        while pipeline.take_event().is_some() {
            settled += 1;
        }
    }
}

/// One reply for each command in what was written; contents start with "a line".
fn answers(written: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let mut rest = written;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.starts_with(b"DATA") {
            said.extend_from_slice(b"354 go ahead\r\n");
        } else if let Some(size) = line.strip_prefix(b"BDAT ") {
            let digits: String =
                size.iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
            rest = &rest[digits.parse::<usize>().expect("a size")..];
            said.extend_from_slice(b"250 2.0.0 queued\r\n");
        } else if line.starts_with(b"MAIL") || line.starts_with(b"RCPT") || line.starts_with(b"RSET") {
            said.extend_from_slice(b"250 2.1.0 ok\r\n");
        } else if line == b".\r" {
            said.extend_from_slice(b"250 2.0.0 queued\r\n");
        }
    }
    said
}

fn transaction(criterion: &mut Criterion) {
    let message = message();
    let mut group = criterion.benchmark_group("transaction");
    group.throughput(Throughput::Elements(u64::from(MESSAGES))).sample_size(20);
    group.bench_function("round trip, 10 KB", |bencher| {
        bencher.iter(|| carry(&[b"mx.test", b"PIPELINING"], Trust::RoundTrip, &message));
    });
    group.bench_function("window, 10 KB", |bencher| {
        bencher.iter(|| carry(&[b"mx.test", b"PIPELINING", b"CHUNKING"], Trust::Window, &message));
    });
    group.finish();
}

criterion_group!(benches, transaction);
criterion_main!(benches);
