//! A source that warms up sends its cap of a day and not one message more, whatever happens to the process.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use postroad::campaign::run::Run;
use support::{Stage, list, shipped, until};

/// Caps of the first two days: of p 250 and 400 messages, of q 30 and 50.
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nsessions = 4\n\
    [shaping.provider.p]\nmx = [\".p.test\"]\n[shaping.provider.q]\nmx = [\".q.test\"]\n\
    [sources.new]\nipv4 = \"127.30.0.1\"\nwarmup = \"mine\"\n\
    [warmup.schedules.mine]\nper = \"day\"\ncaps = [250, 400]\n\
    [warmup.schedules.mine.providers.q]\nper = \"day\"\ncaps = [30, 50]\n";
const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 1));
/// Of the world.
const DAY: Duration = Duration::from_secs(10);

fn accepted(stage: &Stage) -> (u32, u32) {
    let counts = stage.counts();
    (counts.tally("p", Some(NEW)).accepted, counts.tally("q", Some(NEW)).accepted)
}

/// One in eight at q, the others at p.
fn domain(number: usize) -> String {
    ["warm.test", "tepid.test"][usize::from(number.is_multiple_of(8))].to_owned()
}

/// Waits for the first second of a day; when that day ends.
async fn morning(day: Duration) -> SystemTime {
    let of_day = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (since.as_nanos() / day.as_nanos(), since.as_nanos() % day.as_nanos())
    };
    until("a new day", 2 * day, || of_day().1 < Duration::from_secs(1).as_nanos()).await;
    SystemTime::UNIX_EPOCH + day * (of_day().0 + 1) as u32
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_cap_is_used_to_the_last_message_across_a_restart() {
    let stage = Stage::new(&shipped("warmup"), SETTINGS);
    let run = stage.run(&stage.campaign(&list(700, domain), "[retry]\nexpiry = \"90d\"\n"));
    let evening = morning(DAY).await;
    let running = stage.start(run.clone()).await.unwrap();
    until("some of the cap", DAY / 2, || accepted(&stage).0 >= 60).await;
    running.watch().stop();
    running.finished().await.unwrap();
    let before = accepted(&stage);
    assert!(before.0 < 250 && SystemTime::now() < evening, "stopped too late to see anything: {before:?}");

    let running = stage.start(Run::open(&stage.node.state, &run.id).unwrap()).await.unwrap();
    until("the evening", DAY, || SystemTime::now() + Duration::from_millis(200) >= evening).await;
    let first_day = accepted(&stage);
    assert_eq!(first_day, (250, 30), "stopped with {before:?}");
    // All that is left for p, and the second cap of q.
    until("the next day's", DAY, || accepted(&stage) == (612, 80)).await;
    assert!(SystemTime::now() >= evening);
    let midday = evening + DAY / 2;
    until("its middle", DAY, || SystemTime::now() >= midday).await;
    assert_eq!(accepted(&stage), (612, 80));
    println!("stopped with {before:?}, {first_day:?} on the first day, {:?} on both", accepted(&stage));
    running.watch().stop();
    let report = running.finished().await.unwrap();
    assert_eq!((report.totals.delivered, report.totals.waiting, stage.counts().repeated), (692, 8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_is_never_exceeded_by_a_process_that_is_killed() {
    // The program knows no other days than real ones; this one should not end meanwhile.
    const REAL: Duration = Duration::from_secs(86_400);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    if since.as_secs() % REAL.as_secs() > REAL.as_secs() - 60 {
        morning(REAL).await;
    }
    let stage = Stage::new(&shipped("warmup"), SETTINGS);
    let campaign = stage.campaign(&list(700, domain), "");
    let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
    assert!(program.wait_until("some of the cap", || accepted(&stage).0 >= 60));
    assert!(program.kill());
    let killed = accepted(&stage);
    let id = stage.only_run().unwrap().id;
    let mut program = stage.spawn(&["resume", &id]);
    // What was in flight, and a lot of a hundredth of the cap, count as spent.
    let is_near = |(p, q): (u32, u32)| p >= 250 - 20 && q >= 30 - 20;
    assert!(program.wait_until("the caps", || is_near(accepted(&stage))));
    let seen = tokio::time::Instant::now();
    assert!(program.wait_until("a second more", || seen.elapsed() > Duration::from_secs(1)), "it ended");
    let held = accepted(&stage);
    println!("killed with {killed:?}, held at {held:?}");
    assert!(held.0 <= 250 && held.1 <= 30, "{held:?}");
    assert!(program.kill());
}
