//! A run is stopped politely, cancelled, and started later than it is prepared.

mod support;

use std::time::{Duration, SystemTime};

use support::program::Program;
use support::{Stage, list};

const WORLD: &str = r#"
[[provider]]
name = "chunking"
domains = ["a.test", "b.test"]
extensions = ["pipelining", "chunking"]
latency = "20ms"
mx = [{ host = "mx.chunking.test" }]

[[provider]]
name = "lockstep"
domains = ["c.test"]
extensions = []
latency = "5ms"
mx = [{ host = "mx.lockstep.test" }]
"#;
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
/// Slow enough that a signal finds it at work.
const PACE: &str = "[limits]\nmessages = \"400/s\"\n";

fn recipients(count: usize) -> String {
    list(count, |number| ["a.test", "b.test", "c.test"][number % 3].into())
}

struct Sending {
    stage: Stage,
    program: Program,
    id: String,
}

/// A run of `count` recipients under way, with `arrived` of its messages there.
fn sending(count: usize, manifest: &str, arrived: u64) -> Sending {
    let stage = Stage::new(WORLD, SETTINGS);
    let campaign = stage.campaign(&recipients(count), manifest);
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    let under_way = program.wait_until("messages arrive", || stage.counts().accepted >= arrived);
    assert!(under_way, "{:?}", program.end());
    let id = stage.only_run().unwrap().id;
    Sending { stage, program, id }
}

/// A report that adds up and agrees with what the world has seen; nobody in doubt, nobody twice.
fn check(stage: &Stage, rows: u64) -> postroad::metrics::Report {
    let (report, counts) = (stage.report(), stage.counts());
    report.totals.check().unwrap();
    assert_eq!(report.totals.rows, rows);
    assert_eq!(report.in_doubt, []);
    assert_eq!(report.totals.delivered, counts.accepted, "what was in flight is on the books");
    assert_eq!(counts.repeated, 0);
    report
}

#[test]
fn a_signal_lets_what_is_in_flight_finish_and_resume_sends_the_rest() {
    let Sending { stage, program, id } = sending(1500, PACE, 200);
    program.interrupt();
    let (code, errors) = program.end();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("stopping"), "{errors}");
    let report = check(&stage, 1500);
    assert!(!report.finished && report.totals.waiting > 0 && report.totals.delivered >= 200, "{report:?}");
    assert_eq!(stage.call(&["status", &id]).status.code(), Some(3));

    let mut program = stage.spawn(&["resume", &id]);
    assert!(program.wait_until("messages arrive", || stage.counts().accepted >= 600));
    program.terminate();
    let (code, errors) = program.end();
    assert_eq!(code, Some(3), "{errors}");
    assert!(check(&stage, 1500).totals.waiting > 0);

    let (code, errors) = stage.spawn(&["resume", &id]).end();
    assert_eq!(code, Some(0), "{errors}");
    let report = check(&stage, 1500);
    assert!(report.finished);
    assert_eq!(report.totals.delivered, 1500);
}

#[test]
fn a_second_signal_ends_at_once_and_names_who_is_in_doubt() {
    let world = WORLD.replace("latency = \"20ms\"", "latency = \"500ms\"");
    let stage = Stage::new(&world, SETTINGS);
    let campaign = stage.campaign(&list(300, |_| "a.test".into()), "in_doubt = \"skip\"");
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    assert!(program.wait_until("messages arrive", || stage.counts().accepted >= 1));
    let began = SystemTime::now();
    program.interrupt();
    std::thread::sleep(Duration::from_millis(50));
    program.interrupt();
    let (code, errors) = program.end();
    assert_eq!(code, Some(3), "{errors}");
    assert!(began.elapsed().unwrap() < Duration::from_millis(900), "it waited for what was in flight");
    let id = stage.only_run().unwrap().id;
    assert_eq!(stage.spawn(&["resume", &id]).end().0, Some(0));
    let report = stage.report();
    report.totals.check().unwrap();
    assert!(!report.in_doubt.is_empty());
    assert_eq!(report.totals.delivered + report.totals.in_doubt, 300);
    assert_eq!(stage.counts().repeated, 0);
}

#[test]
fn cancelling_a_run_at_work_settles_all_who_wait() {
    let Sending { stage, program, id } = sending(2000, PACE, 100);
    assert_eq!(stage.call(&["cancel", &id]).status.code(), Some(0));
    let (code, errors) = program.end();
    assert_eq!(code, Some(0), "{errors}");
    let report = check(&stage, 2000);
    assert!(report.finished && report.totals.delivered >= 100, "{report:?}");
    assert!(report.totals.delivered < 1500, "it went on for long after the cancel");
    assert_eq!(report.totals.cancelled, 2000 - report.totals.delivered);
}

#[test]
fn a_slow_pace_does_not_put_off_the_end_of_a_cancelled_run() {
    let Sending { stage, program, id } = sending(60, "[limits]\nmessages = \"20/min\"\n", 1);
    let began = SystemTime::now();
    assert_eq!(stage.call(&["cancel", &id]).status.code(), Some(0));
    let (code, errors) = program.end();
    assert_eq!(code, Some(0), "{errors}");
    assert!(began.elapsed().unwrap() < Duration::from_secs(3), "{:?}", began.elapsed());
    let report = check(&stage, 60);
    assert!(report.totals.delivered <= 2, "{report:?}");
    assert_eq!(report.totals.cancelled, 60 - report.totals.delivered);
}

#[test]
fn a_stopped_run_that_is_cancelled_mails_nobody_more() {
    let Sending { stage, program, id } = sending(2000, PACE, 100);
    program.interrupt();
    assert_eq!(program.end().0, Some(3));
    let before = stage.counts();
    assert_eq!(stage.call(&["cancel", &id]).status.code(), Some(0));
    let (code, errors) = stage.spawn(&["resume", &id]).end();
    assert_eq!(code, Some(0), "{errors}");
    let report = check(&stage, 2000);
    assert_eq!(stage.counts().accepted, before.accepted, "somebody was mailed after the cancel");
    assert_eq!(report.totals.cancelled, 2000 - before.accepted);
}

#[test]
fn a_run_with_a_time_is_prepared_at_once_and_sends_from_then_on() {
    let stage = Stage::new(WORLD, SETTINGS);
    let campaign = stage.campaign(&recipients(600), "");
    let at = SystemTime::now() + Duration::from_secs(4);
    let written = jiff::Timestamp::try_from(at).unwrap().to_string();
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap(), "--at", &written]);
    let is_prepared = || {
        let Some(run) = stage.only_run() else { return false };
        let output = stage.call(&["status", &run.id, "--json"]);
        String::from_utf8_lossy(&output.stdout).contains("\"import_done\":true")
    };
    assert!(program.wait_until("the list is read", is_prepared), "{:?}", program.end());
    assert!(SystemTime::now() < at, "too slow a machine to see that it is prepared before its time");
    // The time holds for whoever goes on with the run.
    assert!(program.kill());
    let id = stage.only_run().unwrap().id;
    let mut program = stage.spawn(&["resume", &id]);
    program.wait_until("its time", || {
        let (accepted, now) = (stage.counts().accepted, SystemTime::now());
        assert!(accepted == 0 || now >= at, "{accepted} were mailed before the time");
        now >= at
    });
    let (code, errors) = program.end();
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(check(&stage, 600).totals.delivered, 600);
}
