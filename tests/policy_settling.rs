//! A provider that does not tell its limit is found out, and from then on hardly asked for more.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use support::{Stage, list, shipped, until};

/// Nothing but what the provider says may slow it down.
const SETTINGS: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n[shaping.provider.p]\nmx = [\".p.test\"]\nsessions = 4\n\
    messages = \"unlimited\"\nconnections = \"unlimited\"\nmessages_per_session = 1000\n\
    [breakers.deferral.short]\npause = \"off\"\nslow = \"off\"\n[breakers.deferral.long]\npause = \"off\"\nslow = \"off\"\n";
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 1));
/// In the world's time a second is a minute.
const MINUTE: Duration = Duration::from_secs(1);
/// What p takes in one.
const LIMIT: u32 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn the_hidden_limit_of_a_provider_is_found_and_kept_to() {
    let stage = Stage::new(&shipped("settle"), SETTINGS);
    let run = stage.run(&stage.campaign(&list(8_000, |_| "settle.test".into()), ""));
    let running = stage.start(run).await.unwrap();
    let watch = running.watch();
    let first = stage.world.age();
    until("half an hour", 40 * MINUTE, || stage.world.age() >= first + 31 * MINUTE).await;
    watch.stop();
    let report = running.finished().await.unwrap();
    let counts = stage.counts();
    assert_eq!((report.totals.bounced, report.totals.expired, counts.repeated), (0, 0, 0));
    assert_eq!(report.totals.delivered, counts.accepted);
    let minute = |number: u32| {
        let tally = counts.tally_in("p", Some(A), first + MINUTE * number..first + MINUTE * (number + 1));
        (tally.transactions - tally.limited, tally.limited)
    };
    let minutes: Vec<(u32, u32)> = (0..31).map(minute).collect();
    let settled = &minutes[10..30];
    let taken: u32 = settled.iter().map(|(taken, _)| taken).sum();
    let refused: u32 = settled.iter().map(|(_, refused)| refused).sum();
    let per_minute = f64::from(taken) / settled.len() as f64;
    let share = f64::from(refused) / f64::from(taken + refused);
    println!("settled at {per_minute:.1} a minute of {LIMIT}, {:.2} % refused; {minutes:?}", share * 100.0);
    assert!((per_minute - f64::from(LIMIT)).abs() <= 0.1 * f64::from(LIMIT), "{per_minute}: {minutes:?}");
    assert!(share < 0.02, "{share}: {minutes:?}");
}
