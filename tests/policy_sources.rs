//! Several sources: what one may not, the others do; what was begun from one goes on from it; and what a
//! provider allows over all of them is kept by all of them together.

mod support;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postroad::address::AddressRef;
use postroad::campaign::run::Run;
use postroad::world::counts::SLICE;
use support::{PATIENCE, Stage, list, shipped, until};

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 2));
const TWO_SOURCES: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n[sources.b]\nipv4 = \"127.30.0.2\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_one_source_may_not_send_to_a_provider_the_others_do() {
    // Rules of the world's p are Outlook's. An hour is two seconds; 40/s of each path leave work for A when
    // it comes back after six.
    const TAKEN_OUT: Duration = Duration::from_secs(12);
    let settings = format!(
        "[shaping.default]\nsessions = 2\nmessages = \"40/s\"\n[shaping.provider.q]\nmx = [\".q.test\"]\n\
         [shaping.provider.outlook]\nmx = [\".p.test\"]\nreplace = true\n{TWO_SOURCES}"
    );
    let stage = Stage::new(&shipped("blocked_source"), &settings);
    let domain = |number: usize| ["blocking.test", "welcoming.test"][number % 2].to_owned();
    let report = stage.send(&list(1_800, domain), "").await;
    let counts = stage.counts();
    assert_eq!((report.totals.delivered, report.totals.bounced), (1_800, 0));
    assert_eq!((counts.accepted, counts.repeated), (1_800, 0));

    let of_a = counts.sources.iter().find(|counts| counts.provider == "p" && counts.source == A).unwrap();
    let first_block = of_a.slices.iter().find(|slice| slice.tally.blocked > 0).expect("it was blocked");
    let blocked = SLICE * first_block.slice;
    let at_p = |source, from: Duration, to: Duration| counts.tally_in("p", Some(source), from..to);
    let (before, after) = (at_p(A, Duration::ZERO, blocked + SLICE), counts.tally("p", Some(A)));
    println!("{before:?} until {blocked:?}, then {after:?}; the other {:?}", counts.tally("p", Some(B)));
    assert_eq!(before.accepted, 20, "the world blocks from the 21st on");
    // Two sessions of a server without CHUNKING: one message in each, and one behind it.
    assert!((1..=4).contains(&after.blocked), "{after:?}");
    // Replies that were under way, and then nothing until the end; a slice is cut off at either end.
    let out = at_p(A, blocked + 3 * SLICE, blocked + TAKEN_OUT - SLICE);
    assert_eq!((out.connections, out.transactions), (0, 0));
    let meanwhile = at_p(B, blocked + 3 * SLICE, blocked + TAKEN_OUT - SLICE);
    assert!(meanwhile.accepted > 300, "{meanwhile:?}");
    assert!(after.accepted > before.accepted + 50, "it came back: {after:?}");
    let at_q = counts.tally("q", Some(A));
    assert_eq!((at_q.accepted, at_q.blocked), (at_q.transactions, 0));
    let at_q = counts.tally_in("q", Some(A), blocked..blocked + Duration::from_secs(5));
    assert!(at_q.accepted > 100, "q takes from it all the while: {at_q:?}");
}

/// Every one of `count` was let in at the second attempt, from the source of the first.
fn assert_passed_at_second(stage: &Stage, count: usize) {
    let mut from = [0, 0];
    for number in 0..count {
        let address = format!("u{number}@greylist.test");
        let fared = stage.world.greylisting(&AddressRef::parse(&address).unwrap()).unwrap();
        assert_eq!((fared.attempts, fared.passed_from), (2, Some(fared.first_source)), "{address}");
        from[usize::from(fared.first_source == B)] += 1;
    }
    let counts = stage.counts();
    println!("first from the one and the other: {from:?}");
    assert_eq!((counts.accepted, counts.repeated), (count as u64, 0));
    assert_eq!(counts.tally("p", None).greylisted, count as u32);
    assert!(from.iter().all(|part| *part > count / 6), "both sources are at work: {from:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn greylisting_is_passed_at_the_second_attempt_from_the_same_source() {
    let settings =
        format!("[shaping.provider.p]\nmx = [\".p.test\"]\nmessages = \"unlimited\"\n{TWO_SOURCES}");
    let stage = Stage::new(&shipped("greylist"), &settings);
    let report = stage.send(&list(600, |_| "greylist.test".into()), "").await;
    assert_eq!(report.totals.delivered, 600);
    assert_passed_at_second(&stage, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_forget_from_where_a_greylisted_recipient_was_tried() {
    let settings =
        format!("[shaping.provider.p]\nmx = [\".p.test\"]\nmessages = \"unlimited\"\n{TWO_SOURCES}");
    // Five minutes would be over before the process is.
    let stage = Stage::new(
        &shipped("greylist").replace("5m", "20m"),
        &settings.replace("messages =", "greylist = \"25m\"\nmessages ="),
    );
    let run = stage.run(&stage.campaign(&list(300, |_| "greylist.test".into()), ""));
    let running = stage.start(run.clone()).await.unwrap();
    until("all are turned away", PATIENCE, || stage.counts().tally("p", None).greylisted == 300).await;
    running.watch().stop();
    let report = running.finished().await.unwrap();
    assert_eq!((report.totals.delivered, report.totals.waiting), (0, 300), "too slow a machine to see it");
    let report = stage.send_all(Run::open(&stage.node.state, &run.id).unwrap()).await;
    assert_eq!(report.totals.delivered, 300);
    assert_passed_at_second(&stage, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_connections_keep_to_their_number_over_its_sites_and_our_sources() {
    let sources: String = (1..=4).map(|n| format!("[sources.s{n}]\nipv4 = \"127.30.0.{n}\"\n")).collect();
    let settings = format!(
        "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nsessions = 10\n\
         [shaping.provider.p]\nmx = [\".p.test\"]\nsessions_total = 12\nmessages_per_session = 20\n{sources}"
    );
    let stage = Stage::new(&shipped("ceiling"), &settings);
    let report = stage.send(&list(3_000, |number| format!("d{}.test", number % 3 + 1)), "").await;
    let counts = stage.counts();
    assert_eq!((report.totals.delivered, counts.accepted, counts.repeated), (3_000, 3_000, 0));
    let p = &counts.providers[0];
    println!("{} connections, {} at once", p.connections, p.connections_peak);
    assert_eq!(p.connections_peak, 12, "never more, and as many as are allowed");
    assert!(counts.breaches.is_empty(), "{:?}", counts.breaches);
    assert_eq!(report.deferrals, 0);
    let hosts: HashSet<_> = counts.paths.iter().map(|path| &path.host).collect();
    let sources: HashSet<_> = counts.paths.iter().map(|path| path.source).collect();
    assert_eq!((hosts.len(), sources.len()), (3, 4));
}
