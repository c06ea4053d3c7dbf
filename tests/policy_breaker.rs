//! A breaker stops a campaign on a bad list, and whoever resumes it begins with fresh counts.

mod support;

use std::time::Duration;

use postroad::campaign::run::Run;
use postroad::metrics::Report;
use support::{Stage, list, shipped, until};
use tokio::time::Instant;

/// One in five is unknown, so that 200 attempts, the least there must be, are enough for a pause at a tenth.
const SETTINGS: &str = "[shaping.default]\nmessages = \"100/s\"\nsessions = 1\n[shaping.provider.p]\nmx = [\".p.test\"]\n\
    [breakers.hard-bounce.short]\nsends_min = 200\nevents_min = 20\nwarn = \"5%\"\nslow = \"off\"\npause = \"10%\"\n";
const SENDS_MIN: u32 = 200;
/// What the pace lets go in a tenth of a second.
const IN_FLIGHT: u32 = 10;
const RECIPIENTS: usize = 700;

fn tried(stage: &Stage) -> u32 {
    let tally = stage.counts().tally("p", None);
    tally.recipients_taken + tally.recipients_refused
}

/// Carries the run on until it has come to a stop by itself, for a second, and then ends the process's part.
async fn paused(stage: &Stage, run: Run) -> (u32, Report) {
    let running = stage.start(run).await.unwrap();
    let (mut last, mut since) = (tried(stage), None);
    until("a pause", Duration::from_secs(15), || {
        let now = tried(stage);
        if now != last {
            (last, since) = (now, Some(Instant::now()));
        }
        since.is_some_and(|since| since.elapsed() > Duration::from_secs(1))
    })
    .await;
    running.watch().stop();
    (last, running.finished().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_with_too_many_unknown_recipients_is_paused_and_goes_on_when_resumed() {
    let mut stage = Stage::new(&shipped("breaker"), SETTINGS);
    let run = stage.run(&stage.campaign(&list(RECIPIENTS, |_| "stale.test".into()), ""));
    let again = || Run::open(&stage.node.state, &run.id).unwrap();
    let mut before = 0;
    for process in ["started", "resumed"] {
        let (after, report) = paused(&stage, again()).await;
        println!("{process}: paused after {} attempts; {:?}", after - before, report.totals);
        let attempts = after - before;
        assert!((SENDS_MIN..=SENDS_MIN + IN_FLIGHT).contains(&attempts), "{process}: {attempts}");
        let tally = stage.counts().tally("p", None);
        let settled = (u64::from(tally.recipients_taken), u64::from(tally.recipients_refused));
        assert_eq!((report.totals.delivered, report.totals.bounced), settled);
        assert_eq!(report.totals.waiting, RECIPIENTS as u64 - u64::from(after));
        assert!(!report.finished);
        before = after;
    }
    let rest = again();
    stage.node.breakers.hard_bounce.short.pause = None;
    let report = stage.send_all(rest).await;
    let (totals, counts) = (report.totals, stage.counts());
    assert_eq!((totals.delivered + totals.bounced, counts.repeated), (RECIPIENTS as u64, 0));
    assert_eq!(totals.delivered, counts.accepted);
}
