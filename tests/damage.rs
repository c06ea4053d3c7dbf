//! What a device lost or changed while a run was stopped: `resume` says it, and nobody else suffers.

mod support;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postroad::campaign::run::Run;
use postroad::campaign::segment::Segment;
use postroad::campaign::spool::Spool;
use postroad::envelope::RecipientId;
use postroad::journal::{self, Line, Record};
use postroad::metrics::Report;
use postroad::outcome::Disposition;
use support::{PATIENCE, Stage, list};

const WORLD: &str = r#"
[[provider]]
name = "pipelining"
domains = ["a.test", "b.test", "c.test"]
extensions = ["pipelining"]
latency = "3ms"
mx = [{ host = "mx.pipelining.test" }]
"#;
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";

fn domain(number: usize) -> String {
    ["a.test", "b.test", "c.test"][number % 3].into()
}

/// Runs `run` until the list is read and so many are delivered, then stops it politely.
async fn sent_in_part(stage: &Stage, run: &Run, delivered: u64) -> Report {
    let running = stage.start(run.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    let watch = running.watch();
    let stopper = async {
        loop {
            let progress = watch.progress();
            if progress.import_done && progress.totals.delivered >= delivered {
                break watch.stop();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (report, ()) = tokio::join!(running.finished(), stopper);
    report.unwrap_or_else(|error| panic!("{error}"))
}

async fn resumed(stage: &Stage, run: &Run) -> Report {
    let running = stage.start(run.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    finished.expect("the run should have ended").unwrap_or_else(|error| panic!("{error}"))
}

fn records(run: &Run) -> Vec<Record> {
    let lines = journal::read(&run.journal_folder()).unwrap();
    lines
        .filter_map(|line| match line.unwrap() {
            Line::Attempt(record) => Some(record),
            _ => None,
        })
        .collect()
}

fn last_file(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_journal_is_reported_and_only_those_in_the_cut_are_sent_again() {
    let stage = Stage::new(WORLD, SETTINGS);
    let run = stage.run(&stage.campaign(&list(1500, domain), ""));
    let report = sent_in_part(&stage, &run, 300).await;
    assert!(!report.finished && report.totals.delivered >= 300);

    // Power was lost: what had not reached the device is gone, in the middle of a record.
    let file = last_file(&run.journal_folder());
    let octets = std::fs::read(&file).unwrap();
    std::fs::write(&file, &octets[..octets.len() * 3 / 4 - 5]).unwrap();
    let left: HashSet<RecipientId> = records(&run).iter().map(|record| record.recipient).collect();
    let cut = report.totals.delivered - left.len() as u64;
    assert!(cut > 50, "{cut} records were cut");

    let report = resumed(&stage, &run).await;
    let told = report.warnings.iter().find(|warning| warning.contains("torn"));
    let told = told.unwrap_or_else(|| panic!("the cut is not told: {:?}", report.warnings));
    assert!(told.contains(file.to_str().unwrap()), "{told}");
    assert!(report.finished);
    assert_eq!(report.totals.delivered, 1500);
    let counts = stage.counts();
    assert_eq!((counts.addresses, counts.repeated), (1500, cut), "only those in the cut are sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_cut_to_nothing_loses_nobody() {
    let stage = Stage::new(WORLD, SETTINGS);
    let run = stage.run(&stage.campaign(&list(400, domain), ""));
    sent_in_part(&stage, &run, 100).await;
    let file = last_file(&run.journal_folder());
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..7]).unwrap();
    let report = resumed(&stage, &run).await;
    assert!(report.warnings.iter().any(|warning| warning.contains("torn")), "{:?}", report.warnings);
    assert_eq!((report.finished, report.totals.delivered), (true, 400));
    assert_eq!(stage.counts().addresses, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_damaged_in_the_middle_is_not_gone_on_with() {
    let stage = Stage::new(WORLD, SETTINGS);
    let run = stage.run(&stage.campaign(&list(400, domain), ""));
    sent_in_part(&stage, &run, 200).await;
    let (before, file) = (stage.counts().accepted, last_file(&run.journal_folder()));
    let mut octets = std::fs::read(&file).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 0x20;
    std::fs::write(&file, octets).unwrap();
    let refused = stage.start(run.clone()).await.err().expect("its outcomes cannot be believed").to_string();
    assert!(refused.contains(file.to_str().unwrap()) && refused.contains("damaged at octet"), "{refused}");
    assert_eq!(stage.counts().accepted, before, "nobody is mailed on such a ground");
}

/// Recipients of `segment` that cannot be read, and what is said of them.
fn unreadable(segment: &Segment) -> HashMap<RecipientId, String> {
    let damage = |index| segment.recipient(index).err().map(|error| error.to_string());
    (0..segment.len())
        .filter_map(|index| Some((RecipientId::new(segment.number(), index), damage(index)?)))
        .collect()
}

/// Flips an octet in the middle of the first segment.
fn damage(run: &Run) -> HashMap<RecipientId, String> {
    let path = Spool::open(&run.spool_folder()).unwrap().segment(0).unwrap().path().to_owned();
    let mut octets = std::fs::read(&path).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 0x04;
    std::fs::write(&path, octets).unwrap();
    unreadable(&Segment::open(&path).unwrap())
}

/// Several blocks of 256 KiB a segment, the first of 4,096 rows.
fn wide_rows(count: usize) -> String {
    let padding = "x".repeat(400);
    let row = |(at, line)| format!("{line},{}\n", if at == 0 { "padding" } else { &padding });
    list(count, domain).lines().enumerate().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_costs_its_own_rows_and_says_which() {
    let stage = Stage::new(WORLD, SETTINGS);
    let run = stage.run(&stage.campaign(&wide_rows(4000), ""));
    sent_in_part(&stage, &run, 50).await;
    let settled: HashSet<RecipientId> = records(&run).iter().map(|record| record.recipient).collect();
    let damaged = damage(&run);
    let lost = damaged.keys().filter(|id| !settled.contains(id)).count() as u64;
    assert!((100..2000).contains(&lost), "{lost} of the damaged rows still wait");

    let report = resumed(&stage, &run).await;
    assert!(report.finished);
    report.totals.check().unwrap();
    assert_eq!((report.totals.rows, report.totals.invalid), (4000, lost));
    assert_eq!(report.totals.delivered, 4000 - lost);
    let counts = stage.counts();
    assert_eq!((counts.accepted, counts.repeated), (4000 - lost, 0));
    for record in records(&run) {
        if record.disposition == Disposition::Invalid {
            let reason = &damaged[&record.recipient];
            assert_eq!(*record.evidence.text, **reason);
            assert!(
                reason.contains(".seg") && reason.contains("offset") && reason.contains("rows"),
                "{reason}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_of_a_list_half_read_leaves_the_rest_of_the_list_to_be_read() {
    let stage = Stage::new(WORLD, SETTINGS);
    let run = stage.run(&stage.campaign(&wide_rows(6000), ""));
    sent_in_part(&stage, &run, 50).await;
    // As if it had been stopped before the second segment was sealed.
    std::fs::remove_file(last_file(&run.spool_folder())).unwrap();
    assert!(!Spool::open(&run.spool_folder()).unwrap().is_complete());
    let sent: HashSet<RecipientId> = records(&run).iter().map(|record| record.recipient).collect();
    assert!(sent.iter().all(|id| id.segment == 0), "too much was sent to take the second segment away");
    let lost = damage(&run).keys().filter(|id| !sent.contains(id)).count() as u64;

    let report = resumed(&stage, &run).await;
    assert!(report.finished);
    assert_eq!((report.totals.rows, report.totals.invalid), (6000, lost));
    assert_eq!((stage.counts().accepted, stage.counts().repeated), (6000 - lost, 0));
}
