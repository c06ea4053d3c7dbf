//! How long `postroad resume` takes to its first message in a run with ten million journal records.
//!
//! `cargo bench --bench resume [-- RECIPIENTS]`. Makes the run first (some 2 GB under `target/tmp`, gone
//! at the end): nearly all are settled, one in twenty after a deferral; 5,000 spread over all segments
//! are left. Then the real program resumes it against a world in this process, first with nothing of it
//! in the page cache, then again with all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postroad::address::AddressRef;
use postroad::campaign::builder::SegmentBuilder;
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::campaign::segment::Columns;
use postroad::config::Node;
use postroad::envelope::RecipientId;
use postroad::journal::{Inflight, Position, Record, Writer};
use postroad::outcome::{Disposition, Evidence, SiteId, SourceId, Stage};
use postroad::reply::EnhancedCode;
use postroad::world::{Options, World, WorldFile};
use rustix::fs::Advice;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

const RECIPIENTS: u64 = 10_000_000;
/// What the promise is.
const BOUND: Duration = Duration::from_secs(5);
const LEFT: u64 = 5_000;
/// Rows of the largest segments.
const SEGMENT_ROWS: u64 = 262_144;
const DOMAINS: u64 = 50;
const DEFERRED_EVERY: u64 = 20;
/// Not so fast that nobody is left for the second time.
const SETTINGS: &str = "[shaping.default]\nmessages = \"200/s\"\n";
const WORLD: &str = "[[provider]]\nname = \"sink\"\ngenerate = { count = 50, pattern = \"d{n}.test\" }\n\
                     extensions = [\"pipelining\"]\nmx = [{ host = \"mx.sink.test\" }]\n";
const CAMPAIGN: &str = "name = \"resume\"\nfrom = \"News <news@sender.test>\"\n\
    return_path_domain = \"bounces.sender.test\"\nsubject = \"Hello {{ name }}\"\ntext = \"message.txt\"\n\
    [list]\nfile = \"list.csv\"\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return println!("nothing is measured unless by `cargo bench`");
    }
    let recipients = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(RECIPIENTS);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the run");
    let world = World::start(&WorldFile::parse("world", WORLD).expect("a world"), Options::default());
    let world = world.expect("the world starts");
    let settings = settings(folder.path(), &world);
    let run = begun(folder.path());
    let records = filled(&run, recipients);
    println!("{recipients} recipients, {records} records, {} left", left(recipients));

    for (cache, is_cold) in
        [("nothing of it in the page cache", true), ("again, with all of it there", false)]
    {
        if is_cold {
            evict(&run);
        }
        let before = world.counts().accepted;
        let began = Instant::now();
        let mut child = resume(&settings, &run);
        while world.counts().accepted == before {
            assert!(
                child.try_wait().expect("the child is ours").is_none(),
                "it ended before it sent anything"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = began.elapsed();
        let verdict = if took <= BOUND { "within" } else { "PAST" };
        println!(
            "first message after {:.2} s ({verdict} {} s), peak memory {}: {cache}",
            took.as_secs_f64(),
            BOUND.as_secs(),
            peak_memory(&child)
        );
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the child is ours");
        child.wait().expect("it ends");
    }
}

fn settings(folder: &Path, world: &World) -> PathBuf {
    let file = folder.join("postroad.toml");
    let mut node = Node::parse(&file, SETTINGS).expect("settings");
    node.state = folder.join("state");
    node.dns.servers = vec![world.dns_server()];
    node.smtp_port = world.smtp_port();
    fs::write(&file, node.merged_toml()).expect("room for the settings");
    file
}

/// A run of which nothing but the request is there.
fn begun(folder: &Path) -> Run {
    let parts = [
        ("campaign.toml", CAMPAIGN),
        ("message.txt", "Hello {{ name }}\n"),
        ("list.csv", "email,name\na@d1.test,A\n"),
    ];
    for (name, text) in parts {
        fs::write(folder.join(name), text).expect("room for the campaign");
    }
    let manifest = Manifest::open(folder).expect("a manifest");
    Run::create(&folder.join("state"), manifest, None).expect("a run")
}

/// Those in whose number this divides are left.
fn spacing(recipients: u64) -> u64 {
    (recipients / LEFT).max(2)
}

fn left(recipients: u64) -> u64 {
    recipients.div_ceil(spacing(recipients))
}

/// Writes the spool and the journal; the number of records.
fn filled(run: &Run, recipients: u64) -> u64 {
    fs::create_dir_all(run.spool_folder()).expect("room for the spool");
    let columns = Columns::new(vec!["email".into(), "name".into()]);
    let inflight = Arc::new(Inflight::open(&run.inflight_path(), 65_536).expect("room for the map"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let position = Position::default();
    let writer = Writer::start(&run.journal_folder(), position, Duration::from_secs(1), inflight);
    let writer = writer.expect("room for the journal");
    let (mut records, now) = (0, SystemTime::now());
    for number in 0..recipients.div_ceil(SEGMENT_ROWS) {
        let first = number * SEGMENT_ROWS;
        let rows = SEGMENT_ROWS.min(recipients - first);
        seal(run, &columns, number as u32, first, rows, first + rows == recipients);
        // Domains come in turn, so that neighbours in time are no neighbours in the segment; 48,271 is
        // a prime and divides no number of rows here.
        let indices: Vec<u64> = (0..rows).map(|at| at * 48_271 % rows).collect();
        for group in indices.chunks(512) {
            let settled = group.iter().filter(|&&index| !(first + index).is_multiple_of(spacing(recipients)));
            let group: Vec<Record> =
                settled.flat_map(|&index| outcomes(number as u32, index as u32, now)).collect();
            records += group.len() as u64;
            runtime.block_on(writer.append(group)).expect("room for the journal");
        }
    }
    runtime.block_on(writer.close()).expect("room for the journal");
    records
}

fn seal(run: &Run, columns: &Columns, number: u32, first: u64, rows: u64, is_last: bool) {
    let mut builder = SegmentBuilder::new(columns, first + 1);
    for row in first + 1..=first + rows {
        let address = format!("person.{row}@d{}.test", row % DOMAINS + 1);
        let parsed = AddressRef::parse(&address).expect("an address");
        builder.push(row, &parsed, [&*address, "A Person"]).expect("fewer than 2^32 rows");
    }
    builder.totals.last = is_last;
    builder.seal(&run.spool_folder(), number).expect("room for the spool");
}

/// As smtp-sink or Postfix answer.
fn outcomes(segment: u32, index: u32, now: SystemTime) -> impl Iterator<Item = Record> {
    let record = move |attempt, disposition| Record {
        recipient: RecipientId::new(segment, index),
        attempt,
        at: now,
        disposition,
        class: 0,
        variant: 0,
        evidence: Evidence {
            stage: Stage::Content,
            code: 250,
            enhanced: Some(EnhancedCode::new(2, 0, 0)),
            text: format!("Ok: queued as 4GxTest{index:08X}").into(),
        },
        source: SourceId(0),
        site: SiteId(0),
        slot: None,
    };
    let is_deferred = u64::from(index).is_multiple_of(DEFERRED_EVERY);
    let deferral = is_deferred.then(|| record(1, Disposition::Deferred { until: now }));
    deferral.into_iter().chain([record(1 + u16::from(is_deferred), Disposition::Delivered)])
}

fn resume(settings: &Path, run: &Run) -> Child {
    Command::new(env!("CARGO_BIN_EXE_postroad"))
        .arg("--config")
        .arg(settings)
        .args(["resume", &run.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Puts the run's files out of the page cache.
fn evict(run: &Run) {
    for folder in [run.spool_folder(), run.journal_folder()] {
        for entry in fs::read_dir(folder).expect("the folder was made").flatten() {
            let file = File::open(entry.path()).expect("the file was made");
            file.sync_all().expect("the disk takes it");
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("the kernel knows the advice");
        }
    }
}

fn peak_memory(child: &Child) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
