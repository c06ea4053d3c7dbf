//! Variants: who gets which is a matter of campaign and address alone, whatever happens to the run; a test
//! slice goes first, and nobody else before a variant has won.
//!
//! Campaign folders in `tests/variants/`, each with what it must produce in its `expected.toml`: `refused`
//! and the line, or who gets which variant (worked out by another implementation of the hash), what each
//! variant looks like, and who is in the slice. Messages are read by mail-parser from the world's maildir.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use mail_parser::MessageParser;
use postroad::address::AddressRef;
use postroad::campaign::decision::Decision;
use postroad::campaign::manifest::{Manifest, ManifestError, Winner};
use postroad::campaign::run::Run;
use postroad::campaign::spool::Spool;
use postroad::envelope::RecipientId;
use postroad::journal::{self, Line};
use postroad::metrics::{Report, VariantLine};
use postroad::world::{self, Fate};
use serde::Deserialize;
use support::ends::endings;
use support::{PATIENCE, Stage, list, until};
use tempfile::TempDir;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    refused: Option<String>,
    line: Option<usize>,
    #[serde(default)]
    variant: BTreeMap<String, Looks>,
    /// By address.
    #[serde(default)]
    recipients: BTreeMap<String, String>,
    test: Option<Slice>,
}

/// `{name}` stands for the recipient's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Looks {
    subject: String,
    from: String,
    contains: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slice {
    slice: BTreeSet<String>,
}

const WORLD: &str = "[[provider]]\nname = \"p\"\ndomains = [\"one.test\", \"two.test\"]\n\
    extensions = [\"pipelining\", \"chunking\"]\n[[provider.mx]]\nhost = \"mx.one.test\"\n";
const SETTINGS: &str =
    "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\ngreylist = \"1s\"\n";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/variants")
}

fn expected(folder: &Path) -> Expected {
    toml::from_str(&std::fs::read_to_string(folder.join("expected.toml")).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// A stage whose world keeps what it accepts.
fn stage(world: &str) -> (Stage, TempDir) {
    let mail = tempfile::tempdir().unwrap();
    let maildir = Some(mail.path().to_owned());
    let options = world::Options { capture: true, maildir, ..world::Options::default() };
    (Stage::with_options(world, SETTINGS, options), mail)
}

/// A message as a mail program shows it.
#[derive(Debug)]
struct Seen {
    subject: String,
    from: String,
    from_address: String,
    text: String,
}

/// What each address has, one by one.
fn mail(maildir: &Path) -> BTreeMap<String, Vec<Seen>> {
    let mut mail = BTreeMap::<String, Vec<Seen>>::new();
    for file in std::fs::read_dir(maildir.join("new")).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        let message = MessageParser::default().parse(&octets).unwrap();
        let to = message.header_raw("Delivered-To").unwrap().trim().to_owned();
        let from = message.from().unwrap().first().unwrap();
        let text = [message.body_text(0), message.body_html(0)].into_iter().flatten();
        mail.entry(to).or_default().push(Seen {
            subject: message.subject().unwrap().to_owned(),
            from: from.name.as_deref().unwrap_or_default().to_owned(),
            from_address: from.address.as_deref().unwrap_or_default().to_owned(),
            text: text.collect::<Vec<_>>().join("\n"),
        });
    }
    mail
}

fn names(folder: &Path) -> BTreeMap<String, String> {
    let list = std::fs::read_to_string(folder.join("recipients.csv")).unwrap();
    let rows = list.lines().skip(1).map(|row| row.split_once(',').unwrap());
    rows.map(|(address, name)| (address.to_owned(), name.to_owned())).collect()
}

/// Sees that everyone has exactly one message, of the variant that `of` says.
fn assert_mail(folder: &Path, expected: &Expected, maildir: &Path, of: impl Fn(&str) -> String) {
    let (mail, names) = (mail(maildir), names(folder));
    assert_eq!(mail.len(), names.len());
    for (address, seen) in &mail {
        let [seen] = seen.as_slice() else { panic!("{address} has {} messages", seen.len()) };
        let variant = of(address);
        let looks = &expected.variant[&variant];
        let filled = |text: &str| text.replace("{name}", &names[address]);
        let place = format!("{}: {address}, {variant}: {seen:?}", folder.display());
        assert_eq!(seen.subject, filled(&looks.subject), "{place}");
        assert_eq!((&seen.from, &*seen.from_address), (&looks.from, "news@sender.test"), "{place}");
        for part in &looks.contains {
            assert!(seen.text.contains(&filled(part)), "{place}");
        }
    }
}

/// The table of results says of every variant what `of` says of everyone delivered.
fn assert_results(report: &Report, of: impl Fn(&str) -> String, addresses: impl Iterator<Item = String>) {
    let mut counts = BTreeMap::<String, u64>::new();
    addresses.for_each(|address| *counts.entry(of(&address)).or_default() += 1);
    let results = report.variants.as_ref().expect("a campaign with variants has results");
    for line in &results.variants {
        let count = counts.get(&line.name).copied().unwrap_or(0);
        assert_eq!((line.recipients, line.delivered), (count, count), "{}", line.name);
    }
    assert_eq!(results.none, VariantLine::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_campaign_of_the_corpus_is_refused_or_gives_everyone_what_it_must() {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 20);
    for folder in folders {
        let expected = expected(&folder);
        if let Some(refused) = &expected.refused {
            let Err(ManifestError::Fault(fault)) = Manifest::open(&folder) else {
                panic!("{} was taken", folder.display())
            };
            assert!(fault.to_string().contains(refused), "{}: {fault}", folder.display());
            assert_eq!(Some(fault.line), expected.line, "{fault}");
            continue;
        }
        if expected.test.is_some() {
            continue;
        }
        let (stage, maildir) = stage(WORLD);
        let report = stage.send_all(stage.run(&folder)).await;
        assert_eq!(report.totals.delivered, expected.recipients.len() as u64, "{:?}", report.totals);
        let of = |address: &str| expected.recipients[address].clone();
        assert_mail(&folder, &expected, maildir.path(), of);
        assert_results(&report, of, expected.recipients.keys().cloned());
    }
}

fn decision(variant: &str) -> Decision {
    let because = "the test says so".to_owned();
    Decision { variant: variant.to_owned(), at: Timestamp::now(), by: Winner::Manual, because }
}

/// The address and the time of every attempt.
fn attempts(run: &Run) -> Vec<(String, SystemTime)> {
    let spool = Spool::open(&run.spool_folder()).unwrap();
    let address = |id: RecipientId| {
        let segment = spool.segment(id.segment).unwrap();
        segment.recipient(id.index).unwrap().address.to_string()
    };
    let lines = journal::read(&run.journal_folder()).unwrap();
    let lines = lines.filter_map(|line| match line.unwrap() {
        Line::Attempt(record) => Some((address(record.recipient), record.at)),
        _ => None,
    });
    lines.collect()
}

fn events(run: &Run) -> Vec<String> {
    let lines = journal::read(&run.journal_folder()).unwrap();
    let lines = lines.filter_map(|line| match line.unwrap() {
        Line::Event { text, .. } => Some(text.into()),
        _ => None,
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slice_goes_first_and_the_rest_gets_the_winner() {
    let folder = corpus().join("test");
    let expected = expected(&folder);
    let slice = &expected.test.as_ref().unwrap().slice;
    let (stage, maildir) = stage(WORLD);
    let run = stage.run(&folder);
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let finished = tokio::spawn(running.finished());
    let rest = expected.recipients.len() - slice.len();
    let waits = format!("{rest} wait for the winner: `postroad winner {} NAME`", run.id);
    until("it says what it waits for", PATIENCE, || {
        let progress = watch.progress();
        progress.waiting_for.as_deref() == Some(&waits) && progress.totals.delivered == slice.len() as u64
    })
    .await;
    for address in expected.recipients.keys() {
        assert_eq!(stage.attempts(address), u32::from(slice.contains(address)), "{address}");
    }
    assert_eq!(watch.progress().totals.waiting, rest as u64);
    // In every domain of a segment, the slice and nobody else comes first.
    for segment in Spool::open(&run.spool_folder()).unwrap().iter() {
        for span in segment.spans() {
            let recipients: Vec<_> = (span.first..span.first + span.count)
                .map(|index| segment.recipient(index).unwrap())
                .collect();
            let (tested, others) = recipients.split_at(span.tested as usize);
            assert!(tested.iter().all(|recipient| slice.contains(&recipient.address.to_string())));
            assert!(!others.iter().any(|recipient| slice.contains(&recipient.address.to_string())));
            assert!([tested, others].iter().all(|part| part.is_sorted_by_key(|recipient| recipient.row)));
        }
    }

    let winner = run.decide(decision("C")).unwrap();
    let report = tokio::time::timeout(PATIENCE, finished).await.expect("it ends").unwrap().unwrap();
    assert_eq!((report.totals.delivered, report.finished), (expected.recipients.len() as u64, true));
    let of = |address: &str| match slice.contains(address) {
        true => expected.recipients[address].clone(),
        false => "C".to_owned(),
    };
    assert_mail(&folder, &expected, maildir.path(), of);
    assert_results(&report, of, expected.recipients.keys().cloned());
    let won = report.variants.unwrap().winner.unwrap();
    assert_eq!((&*won.variant, &*won.by, won.at), ("C", "manual", winner.at.to_string()));
    assert_eq!(events(&run).iter().filter(|event| event.starts_with("the winner is C since")).count(), 1);
    let decided = SystemTime::from(winner.at);
    for (address, at) in attempts(&run) {
        assert!(slice.contains(&address) || at >= decided, "{address} was mailed before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_the_same_variant_whatever_has_won_meanwhile() {
    let folder = corpus().join("test");
    let expected = expected(&folder);
    let slice = &expected.test.as_ref().unwrap().slice;
    let trouble = "trouble = [{ fault = \"4yz\", stage = \"rcpt\", attempts = [1] }]\n";
    let world = WORLD.replace("extensions", &format!("{trouble}extensions"));
    let (stage, maildir) = stage(&world);
    let run = stage.run(&folder);
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let finished = tokio::spawn(running.finished());
    until("the slice is deferred", PATIENCE, || watch.progress().deferrals == slice.len() as u64).await;
    run.decide(decision("B")).unwrap();
    let report = tokio::time::timeout(PATIENCE, finished).await.expect("it ends").unwrap().unwrap();
    assert_eq!(report.deferrals, expected.recipients.len() as u64);
    let of = |address: &str| match slice.contains(address) {
        true => expected.recipients[address].clone(),
        false => "B".to_owned(),
    };
    assert_mail(&folder, &expected, maildir.path(), of);
    assert_results(&report, of, expected.recipients.keys().cloned());
    let results = report.variants.unwrap();
    assert_eq!(results.variants.iter().map(|line| line.deferrals).sum::<u64>(), report.deferrals);
}

/// As the head of `campaign::variants` describes it.
fn hash(campaign: &str, purpose: &str, address: &str) -> u64 {
    let (local, domain) = address.rsplit_once('@').unwrap();
    let key = xxh3_128(format!("{}@{domain}", local.to_lowercase()).as_bytes());
    xxh3_64_with_seed(&key.to_le_bytes(), xxh3_64(format!("{campaign}{purpose}").as_bytes()))
}

/// Of two variants of the same weight in the campaign `test`.
fn is_first(address: &str) -> bool {
    hash("test", "/variant", address) < 1 << 63
}

/// Half of the campaign `test`.
fn is_in_half(address: &str) -> bool {
    hash("test", "/test", address) < 1 << 63
}

const TWO: &str = "[[variants]]\nname = \"A\"\n[[variants]]\nname = \"B\"\nsubject = \"B for {{ name }}\"\n";

fn address(number: usize) -> String {
    format!("u{number}@{}", domain(number))
}

fn domain(number: usize) -> String {
    ["one.test", "two.test"][number % 2].to_owned()
}

/// Subjects of the campaign `test` under [`TWO`], of which `winner` has won.
fn assert_subjects(maildir: &Path, count: usize, winner: &str) {
    let mail = mail(maildir);
    assert_eq!(mail.len(), count);
    for number in 0..count {
        let address = address(number);
        let of_slice = if is_first(&address) { "A" } else { "B" };
        let variant = if is_in_half(&address) { of_slice } else { winner };
        let subject = match variant {
            "A" => format!("Hello Person {number}"),
            _ => format!("B for Person {number}"),
        };
        for seen in &mail[&address] {
            assert_eq!(seen.subject, subject, "{address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_while_the_list_is_still_read_is_for_all_of_it() {
    let (stage, maildir) = stage(WORLD);
    let campaign = stage.campaign("email,name\n", &format!("{TWO}[test]\nshare = \"50%\"\n"));
    let pipe = campaign.join("recipients.csv");
    std::fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let rows: Vec<String> = list(400, domain).lines().map(|row| format!("{row}\n")).collect();
    let (go_on, until_told) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        pipe.write_all(rows[..201].concat().as_bytes()).unwrap();
        until_told.recv().unwrap();
        pipe.write_all(rows[201..].concat().as_bytes()).unwrap();
    });
    let half = (0..200).map(address).filter(|address| is_in_half(address)).count() as u64;
    let run = stage.run(&campaign);
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let finished = tokio::spawn(running.finished());
    until("the slice so far is sent", PATIENCE, || watch.progress().totals.delivered == half).await;
    assert!(!watch.progress().import_done);
    run.decide(decision("B")).unwrap();
    until("the rest so far is sent", PATIENCE, || watch.progress().totals.delivered == 200).await;
    go_on.send(()).unwrap();
    writer.join().unwrap();
    let report = tokio::time::timeout(PATIENCE, finished).await.expect("it ends").unwrap().unwrap();
    assert_eq!(report.totals.delivered, 400);
    assert_subjects(maildir.path(), 400, "B");
}

#[test]
fn killed_before_and_after_the_decision_everyone_gets_the_right_variant_once() {
    // Two segments.
    const COUNT: usize = 6_000;
    let (stage, maildir) = stage(WORLD);
    let slice: BTreeSet<String> = (0..COUNT).map(address).filter(|address| is_in_half(address)).collect();
    let campaign = stage.campaign(&list(COUNT, domain), &format!("{TWO}[test]\nshare = \"50%\"\n"));
    // Killed within the slice, and again once it is all that has been sent.
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    assert!(program.wait_until("a part is sent", || stage.counts().accepted as usize > slice.len() / 2));
    assert!(program.kill());
    let run = stage.only_run().unwrap();
    let mut program = stage.spawn(&["resume", &run.id]);
    let accepted = || stage.counts().addresses as usize;
    assert!(program.wait_until("the slice is sent", || accepted() == slice.len()));
    assert!(program.kill());

    // Nothing but the decision lets anybody else go, and it needs no engine.
    let mut program = stage.spawn(&["resume", &run.id]);
    assert!(program.wait_until("the engine is asked", || {
        let why = stage.call(&["why", "campaign"]);
        String::from_utf8_lossy(&why.stdout).contains("wait for the winner")
    }));
    assert_eq!(accepted(), slice.len());
    assert!((0..COUNT).map(address).all(|address| stage.accepted(&address) == 0 || slice.contains(&address)));
    assert!(program.kill());
    let decided = stage.call(&["winner", &run.id, "B"]);
    assert!(decided.status.success(), "{decided:?}");
    let mut program = stage.spawn(&["resume", &run.id]);
    assert!(program.wait_until("a part of the rest is sent", || accepted() > slice.len() + COUNT / 8));
    assert!(program.kill());
    let (code, errors) = stage.spawn(&["resume", &run.id]).end();
    assert_eq!(code, Some(0), "{errors}");

    let report = stage.report();
    let totals = report.totals;
    assert_eq!((totals.delivered, totals.rows), (COUNT as u64, COUNT as u64), "{totals:?}");
    assert_subjects(maildir.path(), COUNT, "B");
    let doubted: BTreeSet<&str> = report.in_doubt.iter().map(|line| &*line.address).collect();
    for address in (0..COUNT).map(address) {
        let copies = stage.accepted(&address);
        assert!(copies == 1 || (copies > 1 && doubted.contains(&*address)), "{address}: {copies}");
    }
    let results = report.variants.unwrap();
    let firsts = slice.iter().filter(|address| is_first(address)).count() as u64;
    let delivered: Vec<u64> = results.variants.iter().map(|line| line.delivered).collect();
    assert_eq!((delivered, results.none.recipients), (vec![firsts, COUNT as u64 - firsts], 0));
}

#[test]
fn a_winner_is_taken_while_the_engine_runs_and_for_good() {
    let (stage, maildir) = stage(WORLD);
    let half = (0..200).map(address).filter(|address| is_in_half(address)).count() as u64;
    let campaign = stage.campaign(&list(200, domain), &format!("{TWO}[test]\nshare = \"50%\"\n"));
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    assert!(program.wait_until("the slice is sent", || stage.counts().accepted == half));
    let run = stage.only_run().unwrap();
    let said = |arguments: &[&str]| {
        let output = stage.call(arguments);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let outside = (0..200).map(address).find(|address| !is_in_half(address)).unwrap();
    let (code, text) = said(&["why", &outside]);
    assert!(code == Some(0) && text.contains("waits for the winner"), "{text}");
    assert!(text.contains(&format!("`postroad winner {} NAME`", run.id)), "{text}");
    let (_, text) = said(&["status", &run.id]);
    assert!(
        text.contains(&format!("the rest waits for the winner: `postroad winner {} NAME`", run.id)),
        "{text}"
    );
    let (code, text) = said(&["winner", &run.id, "C"]);
    assert!(code == Some(1) && text.contains("no variant `C`; it has A, B"), "{text}");
    let (code, text) = said(&["winner", &run.id]);
    assert!(code == Some(0) && text.contains("no winner yet"), "{text}");

    let (code, text) = said(&["winner", &run.id, "A"]);
    assert!(code == Some(0) && text.contains("the engine at work lets the rest go"), "{text}");
    let (code, text) = said(&["winner", &run.id, "B"]);
    assert!(code == Some(1) && text.contains("A has won in"), "{text}");
    assert_eq!(said(&["winner", &run.id, "A"]).0, Some(0), "the same once more changes nothing");
    let (code, errors) = program.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_subjects(maildir.path(), 200, "A");
    let (_, text) = said(&["winner", &run.id, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let report = stage.report();
    assert_eq!(told["variants"], serde_json::to_value(report.variants.unwrap()).unwrap());
    assert_eq!(told["variants"]["winner"]["variant"], "A");
    let (_, text) = said(&["why", &outside]);
    assert!(text.contains("delivered") && text.contains("variant   A"), "{text}");
    let html = std::fs::read_to_string(run.report_path().with_extension("html")).unwrap();
    assert!(html.contains("<th>variant</th>") && html.contains("The winner is A since"), "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_can_be_cancelled_and_accounts_for_the_rest() {
    let (stage, _mail) = stage(WORLD);
    let half = (0..400).map(address).filter(|address| is_in_half(address)).count() as u64;
    let run = stage.run(&stage.campaign(&list(400, domain), &format!("{TWO}[test]\nshare = \"50%\"\n")));
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let finished = tokio::spawn(running.finished());
    until("the slice is sent", PATIENCE, || watch.progress().totals.delivered == half).await;
    run.cancel().unwrap();
    let report = tokio::time::timeout(PATIENCE, finished).await.expect("it ends").unwrap().unwrap();
    assert_eq!((report.totals.delivered, report.totals.cancelled), (half, 400 - half));
    assert_eq!((report.totals.waiting, report.finished), (0, true));
    for (address, ending) in endings(&run) {
        assert_eq!((ending.finals.len(), stage.accepted(&address) == 1), (1, is_in_half(&address)));
    }
    // They were never to be sent anything, so they are no variant's.
    let results = report.variants.unwrap();
    assert_eq!((results.none.recipients, results.none.cancelled), (400 - half, 400 - half));
    assert_eq!(results.variants.iter().map(|line| line.recipients).sum::<u64>(), half);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_waits_on_and_a_decision_starts_the_expiry_anew() {
    let (stage, maildir) = stage(WORLD);
    let half = (0..200).map(address).filter(|address| is_in_half(address)).count() as u64;
    let manifest = format!("{TWO}[test]\nshare = \"50%\"\n[retry]\nexpiry = \"20s\"\n");
    let mut run = stage.run(&stage.campaign(&list(200, domain), &manifest));
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let finished = tokio::spawn(running.finished());
    until("the slice is sent", PATIENCE, || watch.progress().totals.delivered == half).await;
    watch.stop();
    let report = finished.await.unwrap().unwrap();
    assert_eq!((report.totals.delivered, report.totals.waiting), (half, 200 - half));
    run.decide(decision("B")).unwrap();
    // As if the decision had come when the run would have expired.
    run.created -= Duration::from_secs(3600);
    let report = stage.send_all(run).await;
    assert_eq!((report.totals.delivered, report.totals.expired), (200, 0));
    assert_subjects(maildir.path(), 200, "B");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_winner_who_never_comes_expires_with_the_run() {
    let (stage, _mail) = stage(WORLD);
    let half = (0..200).map(address).filter(|address| is_in_half(address)).count() as u64;
    let manifest = format!("{TWO}[test]\nshare = \"50%\"\n[retry]\nexpiry = \"5s\"\n");
    let report = stage.send(&list(200, domain), &manifest).await;
    assert_eq!((report.totals.delivered, report.totals.expired), (half, 200 - half));
    assert_eq!(report.variants.unwrap().none.expired, 200 - half);
    // Nobody is left for a winner to be sent to.
    let run = stage.only_run().unwrap();
    let output = stage.call(&["winner", &run.id, "A"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("nobody waits for a winner"), "{told}");
    assert_eq!(run.decision().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_in_the_slice_nobody_waits_for_a_winner() {
    let (stage, _mail) = stage(WORLD);
    let run = stage.run(&stage.campaign(&list(20, domain), &format!("{TWO}[test]\nshare = \"100%\"\n")));
    let output = stage.call(&["status", &run.id]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("stopped") && !told.contains("winner"), "{told}");
    let report = stage.send_all(run).await;
    assert_eq!((report.totals.delivered, report.variants.unwrap().none.recipients), (20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_takes_the_winner_by_what_was_delivered_when_it_is_time() {
    let world =
        WORLD.replace("extensions", "trouble = [{ fault = \"unknown-user\", share = 0.2 }]\nextensions");
    let (stage, _mail) = stage(&world);
    let test = "[test]\nshare = \"50%\"\nwinner = \"delivered\"\nafter = \"6s\"\n";
    let run = stage.run(&stage.campaign(&list(400, domain), &format!("{TWO}{test}")));
    let fate = |address: &String| stage.world.expect(&AddressRef::parse(address).unwrap());
    let slice: Vec<String> = (0..400).map(address).filter(|address| is_in_half(address)).collect();
    let share = |is_wanted: bool| {
        let of: Vec<_> = slice.iter().filter(|address| is_first(address) == is_wanted).collect();
        (of.iter().filter(|address| fate(address) == Fate::Delivered).count(), of.len())
    };
    let (first, second) = (share(true), share(false));
    let winner = if first.0 * second.1 >= second.0 * first.1 { "A" } else { "B" };
    let created = run.created;
    let report = stage.send_all(run.clone()).await;
    let results = report.variants.unwrap();
    let won = results.winner.unwrap();
    assert_eq!((&*won.variant, &*won.by), (winner, "delivered"), "{first:?} {second:?}");
    let because = format!("delivered: A {} of {}, B {} of {}", first.0, first.1, second.0, second.1);
    assert_eq!(won.because, because);
    let at: Timestamp = won.at.parse().unwrap();
    assert!(SystemTime::from(at) >= created + Duration::from_secs(6));
    let bounced = (0..400).map(address).filter(|address| fate(address) == Fate::Bounced).count() as u64;
    assert_eq!((report.totals.bounced, report.totals.delivered), (bounced, 400 - bounced));
    assert_eq!(results.variants.iter().map(|line| line.bounced).sum::<u64>(), bounced);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clicks_or_enough_results_the_engine_waits_for_a_person() {
    for (count, metric) in [(20, "delivered"), (200, "clicks")] {
        let (stage, maildir) = stage(WORLD);
        let test = format!("[test]\nshare = \"50%\"\nwinner = \"{metric}\"\nafter = \"100ms\"\n");
        let run = stage.run(&stage.campaign(&list(count, domain), &format!("{TWO}{test}")));
        let running = stage.start(run.clone()).await.unwrap();
        let watch = running.watch();
        let finished = tokio::spawn(running.finished());
        until("it says that it cannot tell", PATIENCE, || {
            let waiting_for = watch.progress().waiting_for.unwrap_or_default();
            waiting_for.contains(&format!("by {metric} none can be told yet"))
        })
        .await;
        assert_eq!(run.decision().unwrap(), None);
        let warned = run.manifest.warnings().iter().any(|warning| warning.contains("which nothing reports"));
        assert_eq!(warned, metric == "clicks");
        run.decide(decision("A")).unwrap();
        let report = tokio::time::timeout(PATIENCE, finished).await.expect("it ends").unwrap().unwrap();
        assert_eq!(report.totals.delivered, count as u64);
        assert_subjects(maildir.path(), count, "A");
    }
}

#[test]
fn a_rehearsal_decides_by_itself_and_comes_out_as_expected() {
    for (test, by) in [("", "manual"), ("winner = \"clicks\"\nafter = \"7s\"\n", "delivered")] {
        // Of a slice with such domains in it some only ever expire, and the rest must not expire with them.
        let world = "[[provider]]\nname = \"slow\"\ndomains = [\"slow.test\"]\ngreylist = { delay = \"500ms\" }\n\
            mx = [{ host = \"mx.slow.test\" }]\n[[provider]]\nname = \"lost\"\ndomains = [\"lost.test\"]\n\
            dns = \"servfail\"\n";
        let (stage, _mail) = stage(WORLD);
        let file = stage.folder.path().join("world.toml");
        std::fs::write(&file, [WORLD, world].concat()).unwrap();
        let rows = list(300, |number| format!("{}.test", ["one", "two", "slow", "lost"][number % 4]));
        let retry = "[retry]\nschedule = [\"1s\"]\nexpiry = \"8s\"\n";
        let campaign = stage.campaign(&rows, &format!("{TWO}[test]\nshare = \"30%\"\n{test}{retry}"));
        let world = file.to_str().unwrap();
        let output = stage.call(&["rehearse", campaign.to_str().unwrap(), "--world", world, "--json"]);
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{out}{}", String::from_utf8_lossy(&output.stderr));
        let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        let rehearsal = &last["rehearsal"];
        assert_eq!(rehearsal["as_expected"], true, "{rehearsal}");
        let totals = &rehearsal["report"]["totals"];
        assert_eq!((&totals["delivered"], &totals["expired"]), (&225.into(), &75.into()), "{totals}");
        let results = &rehearsal["report"]["variants"];
        assert_eq!(results["winner"]["by"], by, "{results}");
        let counted = results["variants"].as_array().unwrap().iter();
        let counted: u64 = counted.map(|line| line["recipients"].as_u64().unwrap()).sum();
        assert_eq!(counted, 300, "{results}");
    }
}

#[test]
fn a_preview_shows_the_variant_that_would_be_sent() {
    let folder = corpus().join("subject");
    let expected = expected(&folder);
    let (stage, _mail) = stage(WORLD);
    let list = std::fs::read_to_string(folder.join("recipients.csv")).unwrap();
    for address in names(&folder).keys().take(6) {
        let number = list.lines().position(|line| line.starts_with(address.as_str())).unwrap();
        let output = stage.call(&["preview", folder.to_str().unwrap(), "--row", &number.to_string()]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let variant = &expected.recipients[address];
        assert!(said.contains(&format!("variant {variant}")), "{said}");
        let message = MessageParser::default().parse(&output.stdout).unwrap();
        let is_question = message.subject().unwrap().contains("ready for the summer");
        assert_eq!(is_question, variant == "question", "{address}");
    }
    let output = stage.call(&["preview", folder.to_str().unwrap(), "--variant", "question"]);
    let message = MessageParser::default().parse(&output.stdout).unwrap();
    assert!(message.subject().unwrap().contains("ready for the summer"));
    let output = stage.call(&["preview", folder.to_str().unwrap(), "--variant", "answer"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the campaign has control, question"));
}
