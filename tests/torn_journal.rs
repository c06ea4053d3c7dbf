//! A journal whose end was torn loses no more than the torn record; damage anywhere else is noticed;
//! a full disk stops the writer at a whole record.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postroad::envelope::{Entry, RecipientId};
use postroad::journal::{
    Inflight, JournalError, Line, NameKind, Position, Record, WriteFailure, Writer, read, replay,
};
use postroad::outcome::{Disposition, Evidence, InDoubtPolicy, SiteId, Slot, SourceId, Stage};
use postroad::reply::EnhancedCode;

const LONG: Duration = Duration::from_secs(3600);

fn record(index: u32, attempt: u16, disposition: Disposition) -> Record {
    Record {
        recipient: RecipientId::new(1, index),
        attempt,
        at: UNIX_EPOCH + Duration::from_millis(1_795_000_000_123 + u64::from(index)),
        disposition,
        class: 0,
        variant: 0,
        evidence: Evidence {
            stage: Stage::Content,
            code: 250,
            enhanced: Some(EnhancedCode::new(2, 0, 0)),
            text: format!("Ok: queued as 4Gx{index:08X}").into(),
        },
        source: SourceId(0),
        site: SiteId(3),
        slot: None,
    }
}

fn delivered(indices: std::ops::Range<u32>) -> Vec<Record> {
    indices.map(|index| record(index, 1, Disposition::Delivered)).collect()
}

fn inflight(folder: &Path, slots: u32) -> Arc<Inflight> {
    Arc::new(Inflight::open(&folder.join("inflight.map"), slots).unwrap())
}

fn start(folder: &Path, position: Position, sync: Duration) -> Writer {
    Writer::start(&folder.join("journal"), position, sync, inflight(folder, 16)).unwrap()
}

fn file(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("journal/{number:06}.log"))
}

/// In memory where there is such a place: cutting a tail syncs, and some tests cut hundreds.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[tokio::test]
async fn a_tail_torn_at_any_octet_loses_the_last_record_only() {
    let folder = tempfile::tempdir().unwrap();
    let writer = start(folder.path(), Position::default(), LONG);
    writer.append(delivered(0..9)).await.unwrap();
    writer.flush().await.unwrap();
    let whole = std::fs::metadata(file(folder.path(), 1)).unwrap().len();
    writer.append(delivered(9..10)).await.unwrap();
    writer.flush().await.unwrap();
    let octets = std::fs::read(file(folder.path(), 1)).unwrap();
    drop(writer);

    for end in whole as usize..octets.len() {
        let torn = quick_folder();
        let path = torn.path().join("000001.log");
        std::fs::write(&path, &octets[..end]).unwrap();
        let seen = read(torn.path()).unwrap().map(Result::unwrap).count();
        assert_eq!(seen, 9, "reading does not need the tail cut");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), end as u64, "and does not cut it");

        let replayed = replay(torn.path()).unwrap();
        assert_eq!(replayed.settled.len(), 9);
        assert_eq!(replayed.torn.as_ref().map_or(0, |torn| torn.octets), end as u64 - whole);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        let again = replay(torn.path()).unwrap();
        assert_eq!((again.settled.len(), again.torn.clone()), (9, None));
        assert_eq!(again.position(), replayed.position());
    }
}

#[tokio::test]
async fn a_file_torn_within_its_header_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let writer = start(folder.path(), Position::default(), LONG);
    writer.append(delivered(0..5)).await.unwrap();
    writer.close().await.unwrap();
    let journal = folder.path().join("journal");
    for octets in 0..16 {
        std::fs::write(file(folder.path(), 2), vec![b'P'; octets]).unwrap();
        let replayed = replay(&journal).unwrap();
        assert_eq!((replayed.settled.len(), replayed.position().next_file), (5, 3));
        assert_eq!(std::fs::metadata(file(folder.path(), 2)).unwrap().len(), 0);
    }
    let writer = start(folder.path(), replay(&journal).unwrap().position(), LONG);
    writer.append(delivered(5..8)).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(replay(&journal).unwrap().settled.len(), 8, "an empty file between others is no gap");
}

#[tokio::test]
async fn after_a_torn_tail_the_next_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let writer = start(folder.path(), Position::default(), LONG);
    writer.name(NameKind::Site, 3, "mx.example.test").await.unwrap();
    writer.append(delivered(0..5)).await.unwrap();
    writer.flush().await.unwrap();
    let octets = std::fs::read(file(folder.path(), 1)).unwrap();
    writer.close().await.unwrap();
    // As if the process had died within its last write.
    std::fs::write(file(folder.path(), 1), &octets[..octets.len() - 1]).unwrap();

    let replayed = replay(&journal).unwrap();
    assert_eq!(replayed.position().next_file, 2);
    let writer = start(folder.path(), replayed.position(), LONG);
    assert_eq!(writer.counters().delivered.load(Relaxed), 4, "counters start from what was replayed");
    let until = UNIX_EPOCH + Duration::from_secs(1_795_000_600);
    let deferred = record(4, 1, Disposition::Deferred { until });
    let in_doubt = record(5, 1, Disposition::InDoubt(InDoubtPolicy::Resend));
    writer.append(vec![deferred, in_doubt.clone()]).await.unwrap();
    writer.event("resumed").await.unwrap();
    writer.close().await.unwrap();
    assert!(matches!(writer.append(delivered(9..10)).await, Err(WriteFailure::Closed)));

    let replayed = replay(&journal).unwrap();
    assert_eq!(replayed.torn, None);
    assert_eq!((replayed.settled.len(), replayed.totals.deferrals, replayed.totals.resends), (4, 1, 1));
    assert_eq!(replayed.names.sites[&3].as_ref(), "mx.example.test");
    let waiting = replayed.waits(RecipientId::new(1, 4)).unwrap();
    assert_eq!((waiting.attempt, waiting.due), (2, until));
    assert_eq!(replayed.waits(RecipientId::new(1, 5)).unwrap().due, in_doubt.at);
    assert_eq!(replayed.in_doubt.iter().collect::<Vec<_>>(), [RecipientId::new(1, 5).to_u64()]);
    let lines: Vec<Line> = read(&journal).unwrap().map(Result::unwrap).collect();
    assert!(lines.contains(&Line::Attempt(in_doubt)));
    assert!(lines.iter().any(|line| matches!(line, Line::Event { text, .. } if &**text == "resumed")));
}

#[tokio::test]
async fn a_flipped_bit_is_never_taken_for_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let writer = start(folder.path(), Position::default(), LONG);
    writer.append(delivered(0..6)).await.unwrap();
    writer.close().await.unwrap();
    let octets = std::fs::read(file(folder.path(), 1)).unwrap();
    // The line that a clean end leaves: everything before it was synced.
    let mark = octets.len() - 16;
    let damaged = quick_folder();
    let path = damaged.path().join("000001.log");
    for (octet, bit) in (0..octets.len()).flat_map(|octet| (0..8).map(move |bit| (octet, bit))) {
        let mut octets = octets.clone();
        octets[octet] ^= 1 << bit;
        std::fs::write(&path, &octets).unwrap();
        match replay(damaged.path()) {
            Ok(replayed) => {
                assert!(octet >= mark, "octet {octet}: records that were synced are not cut off");
                assert_eq!((replayed.settled.len(), replayed.torn.unwrap().octets), (6, 16));
            }
            Err(JournalError::Damaged { file, offset }) => {
                assert_eq!(file, path);
                assert!((16..mark).contains(&octet) && offset <= octet as u64);
            }
            Err(JournalError::Gap { .. } | JournalError::Unreadable { .. }) => assert!(octet < 16),
            Err(other) => panic!("octet {octet}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_missing_file_or_a_torn_one_before_the_last_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    for part in 0..3 {
        let position = replay(&journal).unwrap().position();
        let writer = start(folder.path(), position, LONG);
        writer.append(delivered(part * 5..part * 5 + 5)).await.unwrap();
        writer.close().await.unwrap();
    }
    assert_eq!(replay(&journal).unwrap().totals.delivered, 15);

    let second = std::fs::read(file(folder.path(), 2)).unwrap();
    std::fs::write(file(folder.path(), 2), &second[..second.len() - 3]).unwrap();
    assert!(
        matches!(replay(&journal), Err(JournalError::Damaged { file, .. }) if file.ends_with("000002.log"))
    );
    std::fs::remove_file(file(folder.path(), 2)).unwrap();
    // Five records and the line of the clean end each.
    let gap = replay(&journal).unwrap_err();
    assert!(
        matches!(&gap, JournalError::Gap { expected: 7, found: 13, file, .. } if file.ends_with("000003.log"))
    );
    assert!(read(&journal).unwrap().last().unwrap().is_err());
}

#[tokio::test]
async fn slots_are_free_only_after_the_write_and_tell_doubt_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let inflight = inflight(folder.path(), 4);
    let journal = folder.path().join("journal");
    let writer = Writer::start(&journal, Position::default(), LONG, Arc::clone(&inflight)).unwrap();
    let mut slots: Vec<Slot> = Vec::new();
    for index in 0..4 {
        let slot = inflight.try_acquire().unwrap();
        inflight.arm(slot, Entry::new(RecipientId::new(1, index), 1));
        slots.push(slot);
    }
    let until = SystemTime::now();
    let group = vec![
        Record { slot: Some(slots[0]), ..record(0, 1, Disposition::Delivered) },
        record(1, 1, Disposition::Delivered),
        record(2, 1, Disposition::Deferred { until }),
    ];
    writer.append(group).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(inflight.taken(), 3);
    drop((writer, inflight));

    // As after a crash between the write and the release of slots 1 and 2, before the reply of 3.
    let inflight = Inflight::open(&folder.path().join("inflight.map"), 4).unwrap();
    let replayed = replay(&journal).unwrap();
    assert_eq!(inflight.armed().len(), 3);
    let in_doubt = replayed.in_doubt(&inflight.armed());
    assert_eq!(in_doubt, [Entry::new(RecipientId::new(1, 3), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_synced_while_nothing_comes_and_groups_share_writes() {
    let folder = tempfile::tempdir().unwrap();
    let writer = start(folder.path(), Position::default(), Duration::from_millis(20));
    writer.append(delivered(0..1)).await.unwrap();
    writer.flush().await.unwrap();
    let counters = Arc::clone(writer.counters());
    let synced = async {
        while counters.syncs.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), synced).await.expect("the thread wakes for the sync");

    let began = tokio::time::Instant::now();
    let mut written = writer.written();
    for index in 1..2001 {
        writer.append(delivered(index..index + 1)).await.unwrap();
    }
    written.wait_for(|&written| written == 2001).await.unwrap();
    let millis = began.elapsed().as_millis() as u64;
    let writes = counters.writes.load(Relaxed);
    assert!(writes <= millis + 3, "{writes} writes in {millis} ms");
    assert_eq!(counters.totals().delivered, 2001);
    writer.close().await.unwrap();
}

/// A tmpfs of 256 KiB, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tmpfs = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let status = Command::new("mount").args(tmpfs).arg(folder.path()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_writer_at_a_whole_record() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "skipped: a_full_disk_stops_the_writer_at_a_whole_record: mounting a tmpfs is not permitted"
        );
        return;
    };
    let folder = disk.0.path();
    let inflight = inflight(folder, 64);
    let journal = folder.join("journal");
    let writer = Writer::start(&journal, Position::default(), LONG, Arc::clone(&inflight)).unwrap();
    let mut next = 0;
    let failure = loop {
        let mut group = delivered(next..next + 50);
        for record in &mut group {
            let slot = inflight.try_acquire().unwrap();
            inflight.arm(slot, Entry::new(record.recipient, 1));
            record.slot = Some(slot);
        }
        next += 50;
        writer.append(group).await.unwrap();
        if let Err(failure) = writer.flush().await {
            break failure;
        }
    };
    assert!(failure.is_disk_full(), "{failure}");
    assert!(writer.failed().await.is_disk_full());
    assert!(writer.append(delivered(0..1)).await.unwrap_err().is_disk_full());
    assert!(writer.close().await.unwrap_err().is_disk_full());
    let believed = writer.counters().delivered.load(Relaxed);
    assert_eq!(believed, u64::from(next) - 50, "the group that failed is not believed");
    assert_eq!(inflight.taken(), 50, "and its slots stay armed");

    let replayed = replay(&journal).unwrap();
    assert_eq!((replayed.totals.delivered, replayed.torn.clone()), (believed, None));
    // Its records were cut off with it, so all of it is in doubt.
    assert_eq!(replayed.in_doubt(&inflight.armed()).len(), 50);
}

/// Run by the test below in a process of its own, which is killed.
#[tokio::test]
#[ignore = "the child of what_was_believed_survives_kill_9"]
async fn child_that_writes_until_killed() {
    let Ok(folder) = std::env::var("POSTROAD_TEST_JOURNAL") else { return };
    let writer = start(Path::new(&folder), Position::default(), Duration::from_millis(100));
    for next in (0..).step_by(7) {
        writer.append(delivered(next..next + 7)).await.unwrap();
        writer.flush().await.unwrap();
        println!("believed {}", writer.counters().delivered.load(Relaxed));
    }
}

#[test]
fn what_was_believed_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "child_that_writes_until_killed"])
        .env("POSTROAD_TEST_JOURNAL", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut believed = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(number) = line.rsplit_once("believed ").and_then(|(_, number)| number.parse().ok()) {
            believed = number;
            if believed == 700 {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(believed >= 700);
    let replayed = replay(&folder.path().join("journal")).unwrap();
    assert!(replayed.totals.delivered >= believed, "{} of {believed}", replayed.totals.delivered);
    assert!((0..believed as u32).all(|index| replayed.is_settled(RecipientId::new(1, index))));
}
