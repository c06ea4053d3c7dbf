//! A disk that fills up stops a run cleanly, with an error that says so; with room again, `resume` ends
//! it: nobody lost, nobody mailed twice but those named in doubt.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use postroad::engine::EngineError;
use support::program::SmallDisk;
use support::{Stage, list};

const WORLD: &str = r#"
[[provider]]
name = "chunking"
domains = ["a.test", "b.test"]
extensions = ["pipelining", "chunking"]
latency = "2ms"
mx = [{ host = "mx.chunking.test" }]
"#;
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
const MIB: u64 = 1 << 20;

/// A stage whose state is on a disk of its own; `None` where that is not permitted.
fn stage_on_small_disk(name: &str) -> Option<(SmallDisk, Stage)> {
    let Some(disk) = SmallDisk::mount(32 * MIB) else {
        eprintln!("skipped: {name}: mounting a tmpfs is not permitted");
        return None;
    };
    let mut stage = Stage::new(WORLD, SETTINGS);
    stage.node.state = disk.path().join("state");
    Some((disk, stage))
}

fn domain(number: usize) -> String {
    ["a.test", "b.test"][number % 2].into()
}

/// Everybody has the message, and whoever has it twice is named.
fn check(stage: &Stage, recipients: usize) {
    let report = stage.report();
    report.totals.check().unwrap();
    assert!(report.finished);
    assert_eq!((report.totals.rows, report.totals.delivered), (recipients as u64, recipients as u64));
    let named: HashSet<&str> = report.in_doubt.iter().map(|line| line.address.as_str()).collect();
    for number in 0..recipients {
        let address = format!("u{number}@{}", domain(number));
        let times = stage.accepted(&address);
        assert!(times == 1 || (times == 2 && named.contains(address.as_str())), "{address}: {times} times");
    }
    println!("{} in doubt, {} mailed twice", named.len(), stage.counts().repeated);
}

#[test]
fn a_disk_that_fills_while_sending_stops_the_run_and_resume_ends_it() {
    let name = "a_disk_that_fills_while_sending_stops_the_run_and_resume_ends_it";
    let Some((disk, stage)) = stage_on_small_disk(name) else { return };
    let campaign = stage.campaign(&list(3000, domain), "[limits]\nmessages = \"1000/s\"\n");
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    assert!(program.wait_until("messages arrive", || stage.counts().accepted >= 300));
    let filler = disk.fill(0);
    let (code, errors) = program.end();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("error: the journal failed") && errors.contains("No space left"), "{errors}");
    assert!(errors.contains("postroad resume"), "it should say what to do: {errors}");
    assert!(stage.counts().accepted < 3000, "it went on for long without a journal");
    let id = stage.only_run().unwrap().id;

    // Without room nothing begins, and nothing is lost by trying.
    let before = stage.counts().accepted;
    let (code, errors) = stage.spawn(&["resume", &id]).end();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("No space left"), "{errors}");
    assert_eq!(stage.counts().accepted, before);

    std::fs::remove_file(filler).unwrap();
    let (code, errors) = stage.spawn(&["resume", &id]).end();
    assert_eq!(code, Some(0), "{errors}");
    check(&stage, 3000);
}

#[test]
fn a_disk_that_fills_during_import_stops_the_run_and_resume_ends_it() {
    let name = "a_disk_that_fills_during_import_stops_the_run_and_resume_ends_it";
    let Some((disk, stage)) = stage_on_small_disk(name) else { return };
    // The first segment, 4,096 rows of some 500 octets, has room; the second has not.
    let padding = "x".repeat(480);
    let rows: String = list(6000, domain)
        .lines()
        .enumerate()
        .map(|(at, line)| format!("{line},{}\n", if at == 0 { "padding" } else { &padding }))
        .collect();
    let campaign = stage.campaign(&rows, "[limits]\nmessages = \"2000/s\"\n");
    let filler = disk.fill(4 * MIB);
    let (code, errors) = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]).end();
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("error: ") && errors.contains("No space left"), "{errors}");
    let run = stage.only_run().unwrap();
    let sealed = std::fs::read_dir(run.spool_folder()).unwrap().count();
    assert_eq!(sealed, 1, "the first segment, and nothing half-written");

    std::fs::remove_file(filler).unwrap();
    let (code, errors) = stage.spawn(&["resume", &run.id]).end();
    assert_eq!(code, Some(0), "{errors}");
    check(&stage, 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_fails_ends_a_run_in_which_nothing_else_happens() {
    let name = "a_journal_that_fails_ends_a_run_in_which_nothing_else_happens";
    let Some(disk) = SmallDisk::mount(32 * MIB) else {
        eprintln!("skipped: {name}: mounting a tmpfs is not permitted");
        return;
    };
    // Nobody is at home: there are the sites' names to write, and after that nothing for an hour.
    let world = "[[provider]]\nname = \"dead\"\nmx = [{ host = \"mx{o}.dead.test\", state = \"dead\" }]\n\
                 generate = { pattern = \"d{n}.test\", count = 300, operators = 300 }\n";
    let mut stage = Stage::new(world, SETTINGS);
    stage.node.state = disk.path().join("state");
    let manifest = "[retry]\nschedule = [\"1h\"]\n";
    let run = stage.run(&stage.campaign(&list(300, |number| format!("d{}.test", number + 1)), manifest));
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let stopper = async {
        while !watch.progress().import_done {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        watch.stop();
    };
    let (report, ()) = tokio::join!(running.finished(), stopper);
    assert_eq!(report.unwrap().totals.waiting, 300);

    disk.fill(8192);
    let running = stage.start(run).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), running.finished()).await;
    let error = ended.expect("it should notice that its journal failed").expect_err("it cannot go on");
    assert!(
        matches!(&error, EngineError::Journal(_)) && error.to_string().contains("No space left"),
        "{error}"
    );
}
