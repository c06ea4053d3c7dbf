//! Deferred recipients are tried again on the schedule, never early, until the expiry; a restart
//! changes nothing about it.

mod support;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use postroad::campaign::run::Run;
use postroad::envelope::RecipientId;
use postroad::journal::{self, Line, Record};
use postroad::metrics::Report;
use postroad::outcome::Disposition;
use support::{PATIENCE, Stage, list};

const SETTINGS: &str =
    "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\ngreylist = \"1s\"\n";
/// How much later than its time an attempt may come on a busy machine.
const LATE: Duration = Duration::from_secs(2);

fn world(trouble: &str) -> String {
    format!(
        "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nextensions = [\"pipelining\"]\n\
         mx = [{{ host = \"mx.a.test\" }}]\n{trouble}\n"
    )
}

async fn ended(stage: &Stage, run: &Run) -> Report {
    let running = stage.start(run.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    let report = finished.expect("the run should have ended").unwrap_or_else(|error| panic!("{error}"));
    report.totals.check().unwrap();
    report
}

/// Each recipient's records in the order of the journal.
fn histories(run: &Run) -> HashMap<RecipientId, Vec<Record>> {
    let mut histories: HashMap<RecipientId, Vec<Record>> = HashMap::new();
    for line in journal::read(&run.journal_folder()).unwrap() {
        if let Line::Attempt(record) = line.unwrap() {
            histories.entry(record.recipient).or_default().push(record);
        }
    }
    histories
}

fn between(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).expect("the journal is in order")
}

#[tokio::test(flavor = "multi_thread")]
async fn greylisted_recipients_come_back_when_they_may_and_no_sooner() {
    let stage = Stage::new(&world("greylist = { delay = \"1s\" }"), SETTINGS);
    let run = stage.run(&stage.campaign(&list(300, |_| "a.test".into()), "[retry]\nschedule = [\"1s\"]\n"));
    let report = ended(&stage, &run).await;
    assert_eq!((report.totals.delivered, report.deferrals, report.attempts), (300, 300, 600));
    let counts = stage.counts();
    // A retry before its time would have been greylisted once more.
    assert_eq!((counts.accepted, counts.repeated, counts.providers[0].greylisted), (300, 0, 300));

    let mut jitters = Vec::new();
    for history in histories(&run).values() {
        let [first, second] = history.as_slice() else { panic!("{history:?}") };
        let Disposition::Deferred { until } = first.disposition else { panic!("{first:?}") };
        assert_eq!((first.attempt, second.attempt, first.evidence.code), (1, 2, 450));
        assert_eq!(second.disposition, Disposition::Delivered);
        let (wait, late) = (between(first.at, until), between(until, second.at));
        // The manifest's jitter is 0.1; the journal keeps milliseconds.
        assert!((999..=1101).contains(&wait.as_millis()), "{wait:?}");
        assert!(late < LATE, "{late:?}");
        jitters.push(wait);
    }
    jitters.sort();
    assert!(jitters[270] - jitters[30] > Duration::from_millis(50), "they should not come back all at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_deferral_waits_for_its_own_step_of_the_schedule_and_the_last_repeats() {
    let trouble = "trouble = [{ fault = \"4yz\", stage = \"rcpt\", attempts = [1, 2, 3] }]";
    let stage = Stage::new(&world(trouble), SETTINGS);
    let manifest = "[retry]\nschedule = [\"300ms\", \"900ms\"]\njitter = 0\n";
    let run = stage.run(&stage.campaign(&list(50, |_| "a.test".into()), manifest));
    let report = ended(&stage, &run).await;
    assert_eq!((report.totals.delivered, report.deferrals), (50, 150));
    for number in 0..50 {
        assert_eq!(stage.attempts(&format!("u{number}@a.test")), 4);
    }
    for history in histories(&run).values() {
        let gaps: Vec<Duration> = history.windows(2).map(|pair| between(pair[0].at, pair[1].at)).collect();
        for (gap, step) in gaps.iter().zip([300, 900, 900].map(Duration::from_millis)) {
            assert!(*gap >= step && *gap < step + LATE, "{gaps:?}");
        }
        let attempts: Vec<u16> = history.iter().map(|record| record.attempt).collect();
        assert_eq!(attempts, [1, 2, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_waits_at_the_expiry_is_expired() {
    let world = format!(
        "{}\n[[provider]]\nname = \"dead\"\ndomains = [\"dead.test\"]\nmx = [{{ host = \"mx.dead.test\", state = \"dead\" }}]\n\
         [[provider]]\nname = \"unnamed\"\ndomains = [\"unnamed.test\"]\ndns = \"servfail\"\n\
         [[provider]]\nname = \"good\"\ndomains = [\"good.test\"]\nmx = [{{ host = \"mx.good.test\" }}]\n",
        world("trouble = [{ fault = \"4yz\", stage = \"rcpt\" }]")
    );
    let stage = Stage::new(&world, SETTINGS);
    let domain = |number: usize| ["a.test", "dead.test", "unnamed.test", "good.test"][number % 4].into();
    let manifest = "[retry]\nschedule = [\"400ms\"]\nexpiry = \"2s\"\n";
    let run = stage.run(&stage.campaign(&list(200, domain), manifest));
    let began = SystemTime::now();
    let report = ended(&stage, &run).await;
    assert_eq!((report.totals.expired, report.totals.delivered, report.finished), (150, 50, true));
    let took = began.elapsed().unwrap();
    assert!((Duration::from_millis(1900)..Duration::from_secs(2) + LATE).contains(&took), "{took:?}");
    for number in (0..200).step_by(4) {
        let attempts = stage.attempts(&format!("u{number}@a.test"));
        // At 0, and each 400 to 440 ms until 2 s; fewer where the machine is slow.
        assert!((2..=5).contains(&attempts), "{attempts}");
    }
    for history in histories(&run).values() {
        let last = history.last().unwrap();
        assert!(matches!(last.disposition, Disposition::Expired | Disposition::Delivered), "{last:?}");
        assert!(!last.evidence.text.is_empty());
        let finals = history.iter().filter(|record| record.disposition.is_final()).count();
        assert_eq!(finals, 1, "{history:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_resumed_after_its_expiry_expires_who_waits_and_nobody_else() {
    let trouble = "trouble = [{ fault = \"4yz\", stage = \"rcpt\", share = 0.5 }]";
    let stage = Stage::new(&world(trouble), SETTINGS);
    // Deferred until shortly before the expiry, which then passes while nobody is at work.
    let manifest = "[retry]\nschedule = [\"1s\"]\nexpiry = \"1500ms\"\n";
    let run = stage.run(&stage.campaign(&list(100, |_| "a.test".into()), manifest));
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let stopper = async {
        while watch.progress().totals.delivered + watch.progress().deferrals < 100 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        watch.stop();
    };
    let (report, ()) = tokio::join!(running.finished(), stopper);
    let before = report.unwrap().totals;
    assert!(before.waiting > 0 && before.delivered > 0, "{before:?}");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let report = ended(&stage, &run).await;
    assert_eq!((report.totals.delivered, report.totals.expired), (before.delivered, before.waiting));
    assert_eq!(stage.counts().accepted, before.delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_timers_outlive_a_restart() {
    let trouble = "trouble = [{ fault = \"4yz\", stage = \"rcpt\", attempts = [1] }]";
    let stage = Stage::new(&world(trouble), SETTINGS);
    let manifest = "[retry]\nschedule = [\"4s\", \"1h\"]\n";
    let run = stage.run(&stage.campaign(&list(60, |_| "a.test".into()), manifest));
    let running = stage.start(run.clone()).await.unwrap();
    let watch = running.watch();
    let stopper = async {
        while watch.progress().deferrals < 60 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        watch.stop();
    };
    let (report, ()) = tokio::join!(running.finished(), stopper);
    assert_eq!(report.unwrap().totals.waiting, 60);
    let due: Vec<SystemTime> = histories(&run)
        .values()
        .map(|history| match history[0].disposition {
            Disposition::Deferred { until } => until,
            other => panic!("{other:?}"),
        })
        .collect();
    let first_due = *due.iter().min().unwrap();

    let running = stage.start(run.clone()).await.unwrap();
    let finished = tokio::spawn(running.finished());
    while !finished.is_finished() {
        let asked = (0..60).filter(|number| stage.attempts(&format!("u{number}@a.test")) > 1).count();
        assert!(asked == 0 || SystemTime::now() >= first_due, "{asked} were asked for before their time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = finished.await.unwrap().unwrap();
    assert_eq!((report.totals.delivered, report.totals.waiting, report.deferrals), (60, 0, 60));
    for history in histories(&run).values() {
        let [first, second] = history.as_slice() else { panic!("{history:?}") };
        let Disposition::Deferred { until } = first.disposition else { panic!("{first:?}") };
        assert_eq!((first.attempt, second.attempt), (1, 2), "the count of attempts goes on");
        assert!(second.at >= until, "{:?} early", until.duration_since(second.at));
        assert!(between(until, second.at) < LATE, "{:?} late", between(until, second.at));
    }
}
