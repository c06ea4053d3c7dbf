//! A provider that puts a source away is left alone, asked by a single message, and come back to slowly.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postroad::world::Counts;
use postroad::world::counts::{SLICE, Tally};
use support::{Stage, list, shipped};

/// `yahoo`, so that the rules shipped for it hold. Twice as fast as p allows.
const SETTINGS: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n[shaping.provider.yahoo]\nmx = [\".p.test\"]\nreplace = true\n\
    sessions = 4\nmessages = \"200/s\"\nconnections = \"unlimited\"\n";
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 1));
/// In the world's time.
const HOUR: Duration = Duration::from_secs(3);
/// What was under way when a penalty began has arrived by then.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// When tallies fit, by slices since the world's start.
fn times(counts: &Counts, fits: impl Fn(&Tally) -> bool) -> Vec<Duration> {
    let slices = counts.sources.iter().find(|counts| counts.source == A).unwrap().slices.iter();
    slices.filter(|slice| fits(&slice.tally)).map(|slice| SLICE * slice.slice).collect()
}

/// When something came again after so long a pause.
fn return_after(counts: &Counts, began: Duration) -> Duration {
    let tried = times(counts, |tally| tally.transactions > 0);
    tried.into_iter().find(|at| *at > began + UNDER_WAY).expect("it came back")
}

#[tokio::test(flavor = "multi_thread")]
async fn tss04_is_followed_by_a_hold_and_a_slow_return() {
    let stage = Stage::new(&shipped("tss04"), SETTINGS);
    let report = stage.send(&list(1_200, |_| "penalty.test".into()), "").await;
    let counts = stage.counts();
    assert_eq!((report.totals.delivered, counts.accepted, counts.repeated), (1_200, 1_200, 0));
    let all = counts.tally("p", Some(A));
    let penalties = times(&counts, |tally| tally.limited > 0);
    let mut returns = Vec::new();
    for began in &penalties {
        let back = return_after(&counts, *began);
        // Slices are cut off: one may be missing.
        assert!(back + SLICE >= *began + 2 * HOUR, "{began:?}: it came back at {back:?}");
        let first = counts.tally_in("p", Some(A), back..back + Duration::from_millis(500));
        // A quarter of 200/s, grown for ten minutes or so, and a tenth of a second's burst.
        assert!(first.transactions <= 45, "{began:?}: {first:?}");
        returns.push((*began, back, first.transactions));
    }
    println!("{all:?}; penalty, return, messages in its first half second: {returns:?}");
    // The first for going twice as fast; another for having grown back to that; then it is known.
    assert!((1..=2).contains(&all.limited), "{all:?}");
    assert!(all.penalized <= 8 * all.limited, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_turned_away_is_a_single_message_and_doubles_the_hold() {
    let world = shipped("tss04").replace("penalty = \"2h\"", "penalty = \"4h\"");
    let stage = Stage::new(&world, SETTINGS);
    let report = stage.send(&list(400, |_| "penalty.test".into()), "").await;
    let counts = stage.counts();
    assert_eq!((report.totals.delivered, counts.accepted, counts.repeated), (400, 400, 0));
    let penalties = times(&counts, |tally| tally.limited > 0);
    assert_eq!(penalties.len(), 1);
    // Two hours, one message, four hours.
    let probe = return_after(&counts, penalties[0]);
    let back = return_after(&counts, probe);
    // Connected just before, perhaps.
    let probed = counts.tally_in("p", Some(A), probe - SLICE..back - SLICE);
    println!("penalty {:?}, probe {probe:?}, back {back:?}, {probed:?}", penalties[0]);
    assert!(probe + SLICE >= penalties[0] + 2 * HOUR && back + SLICE >= probe + 4 * HOUR);
    assert_eq!((probed.connections, probed.transactions, probed.penalized), (1, 1, 1));
}
