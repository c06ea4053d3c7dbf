//! Classifying replies: the shipped rules, and as many again as nobody will ever write.
//!
//! `cargo bench --bench classify`. The promise is 2 us a reply, whatever the number of rules.

use std::fmt::Write as _;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postroad::classify::Rules;
use postroad::outcome::Stage;
use postroad::reply::Reply;

/// Rules of the synthetic set, and providers they are for in turn.
const RULES: usize = 4000;
const PROVIDERS: usize = 40;

/// Words of replies.
const WORDS: [&str; 24] = [
    "message",
    "rejected",
    "mailbox",
    "blocked",
    "policy",
    "temporarily",
    "deferred",
    "unusual",
    "volume",
    "recipient",
    "sender",
    "address",
    "listed",
    "spam",
    "reputation",
    "connection",
    "limit",
    "exceeded",
    "quota",
    "disabled",
    "unknown",
    "domain",
    "network",
    "denied",
];

/// One reply that a rule knows, one that none does, the longest of both, and one without any text.
fn replies() -> Vec<(&'static str, Reply)> {
    let reply = |code, text: &str| Reply::new(code, text).unwrap();
    let long =
        "4.7.28 Our system has detected an unusual rate of mail originating from your network. ".repeat(8);
    vec![
        (
            "known",
            reply(
                550,
                "5.1.1 <joe@b.example>: Recipient address rejected: User unknown in local recipient table",
            ),
        ),
        (
            "unknown",
            reply(550, "the weather over the harbour is not what it was when this server was young, so no"),
        ),
        ("512 octets", reply(421, &long)),
        ("hostile", reply(550, &"user unknow spam rate limit block list mail ".repeat(12))),
        ("words of rules", reply(550, &WORDS.join(" ").repeat(3))),
        ("no text", reply(451, "")),
    ]
}

/// Texts of three words each out of the words of replies, so that many fragments begin alike.
fn synthetic() -> String {
    let word = |number: usize| WORDS[number % WORDS.len()];
    let mut file = String::new();
    for number in 0..RULES {
        let text = format!(
            "{} {} {} z{number}*code #",
            word(number),
            word(number / 24 + number * 7),
            word(number / 576 + number * 11),
        );
        let sample = text.replace('*', " and ").replace('#', "12");
        let _ = writeln!(
            file,
            "[[rule]]\nname = \"r{number}\"\nprovider = \"p{}\"\ntext = \"{text}\"\nclass = \"policy\"\nsamples = [\"550 {sample}\"]",
            number % PROVIDERS,
        );
    }
    file
}

fn classify(criterion: &mut Criterion) {
    let synthetic = synthetic();
    let many = Rules::alone(Path::new("synthetic.toml"), &synthetic).expect("no faults");
    let shipped = Rules::shipped();
    for (name, rules, provider) in [("shipped", &shipped, "google"), ("synthetic", &many, "p7")] {
        println!("{name}: {} rules", rules.rules().count());
        let mut group = criterion.benchmark_group(format!("classify/{name}"));
        group.throughput(Throughput::Elements(1));
        for (kind, reply) in replies() {
            group.bench_function(kind, |bencher| {
                bencher.iter(|| rules.classify(Some(provider), Stage::Rcpt, std::hint::black_box(&reply)));
            });
        }
        let samples: Vec<_> = rules.rules().flat_map(|rule| rule.samples.iter()).collect();
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function("every sample", |bencher| {
            bencher.iter(|| {
                for sample in &samples {
                    std::hint::black_box(rules.classify(Some(provider), sample.stage, &sample.reply));
                }
            });
        });
        group.finish();
    }
    criterion.bench_function("classify/load shipped", |bencher| bencher.iter(Rules::shipped));
}

criterion_group!(benches, classify);
criterion_main!(benches);
