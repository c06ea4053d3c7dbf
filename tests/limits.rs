//! Limits are ceilings: by the world's count, of each path and each second, none is exceeded by more
//! than its burst, and work that waits behind one gets done.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postroad::world::counts::{PathCounts, SecondCounts};
use support::{PATIENCE, Stage, list};

const TWO_SOURCES: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n[sources.b]\nipv4 = \"127.30.0.2\"\n";
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 30, 0, 2));

/// One provider `p` of so many sites, each with a domain `d1.test` and on.
fn world(sites: usize, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"p\"\nextensions = [\"pipelining\"]\n{more}\n\
         generate = {{ count = {sites}, pattern = \"d{{n}}.test\", operators = {sites} }}\n\
         mx = [{{ host = \"mx{{o}}.p.test\" }}]\n"
    )
}

/// Sends `count` messages over the sites in turn; all must arrive once.
async fn delivered(world: &str, settings: &str, extra: &str, count: usize, sites: usize) -> Stage {
    let stage = Stage::new(world, settings);
    let report = stage.send(&list(count, |n| format!("d{}.test", n % sites + 1)), extra).await;
    assert_eq!(report.totals.delivered, count as u64, "{:?}", report.totals);
    let counts = stage.counts();
    assert_eq!((counts.accepted, counts.repeated), (count as u64, 0));
    assert!(counts.breaches.is_empty(), "{:?}", counts.breaches);
    stage
}

/// No second of these paths together holds more than the rate and its burst, and no stretch from the
/// first message on more than it grants.
fn assert_rate(paths: &[&PathCounts], what: impl Fn(&SecondCounts) -> u32, per_second: u32, burst: u32) {
    let seconds = paths.iter().flat_map(|path| &path.seconds);
    let last = seconds.clone().map(|second| second.second).max().unwrap();
    let in_second =
        |at: u32| -> u32 { seconds.clone().filter(|second| second.second == at).map(&what).sum() };
    let counts: Vec<u32> = (0..=last).map(in_second).skip_while(|count| *count == 0).collect();
    let mut total = 0;
    for (elapsed, count) in (1..).zip(&counts) {
        total += count;
        assert!(*count <= per_second + burst, "more than {per_second} and {burst} in a second: {counts:?}");
        assert!(total <= per_second * elapsed + burst, "more than {per_second} a second: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_path_keep_its_rate() {
    let settings = format!("[shaping.default]\nmessages = \"40/s\"\nsessions = 2\n{TWO_SOURCES}");
    let stage = delivered(&world(2, ""), &settings, "", 320, 2).await;
    let counts = stage.counts();
    assert_eq!(counts.paths.len(), 4, "two sites from two sources");
    for path in &counts.paths {
        assert_rate(&[path], |second| second.transactions, 40, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stated_burst_is_all_that_comes_at_once() {
    let stage =
        delivered(&world(1, ""), "[shaping.default]\nmessages = \"600/min burst 8\"\n", "", 28, 1).await;
    let counts = stage.counts();
    assert_rate(&[&counts.paths[0]], |second| second.transactions, 10, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_path_keep_their_rate() {
    let settings = "[shaping.default]\nconnections = \"10/s\"\nmessages_per_session = 1\n";
    let stage = delivered(&world(1, ""), settings, "", 21, 1).await;
    let counts = stage.counts();
    assert_rate(&[&counts.paths[0]], |second| second.connections, 10, 1);
    assert_eq!(counts.providers[0].connections, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_path_stay_within_their_number() {
    let settings = "[shaping.default]\nsessions = 3\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
    let stage = delivered(&world(2, "latency = \"5ms\""), settings, "", 1_000, 2).await;
    for path in stage.counts().paths {
        assert_eq!(path.connections_peak, 3, "there was work for more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_the_node_stay_within_their_number() {
    let unlimited = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
    let settings = format!("sessions_total = 4\n{unlimited}");
    let stage = delivered(&world(10, "latency = \"2ms\""), &settings, "", 300, 10).await;
    assert_eq!(stage.counts().providers[0].connections_peak, 4);
    let settings = format!("sessions_per_source = 2\n{unlimited}{TWO_SOURCES}");
    let stage = delivered(&world(10, "latency = \"2ms\""), &settings, "", 1_000, 10).await;
    assert!(stage.counts().providers[0].connections_peak <= 4, "two of each source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_ceilings_hold_over_its_sites_and_our_sources() {
    let settings = format!(
        "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n\
         [shaping.provider.p]\nmx = [\".p.test\"]\nsessions_total = 3\nmessages_total = \"60/s\"\n{TWO_SOURCES}"
    );
    let stage = delivered(&world(3, ""), &settings, "", 150, 3).await;
    let counts = stage.counts();
    assert!(counts.providers[0].connections_peak <= 3, "{}", counts.providers[0].connections_peak);
    let paths: Vec<&PathCounts> = counts.paths.iter().collect();
    assert!(paths.len() >= 3);
    assert_rate(&paths, |second| second.transactions, 60, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_connections_keep_their_rate_over_its_sites() {
    let settings = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nmessages_per_session = 1\n\
        [shaping.provider.p]\nmx = [\".p.test\"]\nconnections_total = \"15/s\"\n";
    let stage = delivered(&world(3, ""), settings, "", 30, 3).await;
    let counts = stage.counts();
    let paths: Vec<&PathCounts> = counts.paths.iter().collect();
    assert_rate(&paths, |second| second.connections, 15, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_carries_so_many_messages_and_no_more() {
    // The world refuses the eighth and counts a breach.
    let more = "[provider.limits]\nmessages_per_connection = 7\n";
    let world = format!(
        "[[provider]]\nname = \"p\"\ndomains = [\"d1.test\"]\nextensions = [\"pipelining\", \"chunking\"]\n\
         mx = [{{ host = \"mx.p.test\" }}]\n{more}"
    );
    let settings = "[shaping.default]\nmessages_per_session = 7\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
    let stage = delivered(&world, settings, "", 100, 1).await;
    assert!(stage.counts().providers[0].connections >= 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_campaigns_rate_holds_over_everything() {
    let settings = format!("[shaping.default]\nmessages = \"unlimited\"\n{TWO_SOURCES}");
    let stage = delivered(&world(4, ""), &settings, "[limits]\nmessages = \"50/s\"\n", 150, 4).await;
    let counts = stage.counts();
    let paths: Vec<&PathCounts> = counts.paths.iter().collect();
    assert_rate(&paths, |second| second.transactions, 50, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_no_second_burst() {
    let stage = Stage::new(&world(1, ""), "[shaping.default]\nmessages = \"10/s burst 10\"\n");
    let run = stage.run(&stage.campaign(&list(30, |_| "d1.test".into()), ""));
    for _ in 0..2 {
        let running = stage.start(run.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        running.watch().stop();
        assert!(!running.finished().await.unwrap().finished);
    }
    let finished = tokio::time::timeout(PATIENCE, stage.start(run).await.unwrap().finished()).await;
    assert!(finished.unwrap().unwrap().finished);
    let counts = stage.counts();
    assert_eq!((counts.accepted, counts.repeated), (30, 0));
    assert_rate(&[&counts.paths[0]], |second| second.transactions, 10, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_slept_gives_no_second_burst() {
    // Each round of five is deferred; in between, the path has nothing to do and goes.
    let more = "trouble = [{ stage = \"rcpt\", fault = \"4yz\" }]";
    let settings =
        "[shaping.default]\nmessages = \"5/min burst 5\"\nidle = \"100ms\"\nconnections = \"unlimited\"\n";
    let stage = Stage::new(&world(1, more), settings);
    let extra = "[retry]\nschedule = [\"1300ms\"]\njitter = 0.0\n";
    let run = stage.run(&stage.campaign(&list(5, |_| "d1.test".into()), extra));
    let running = stage.start(run).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    // Five at once, and one more in the first twelve seconds.
    let transactions = stage.counts().providers[0].transactions;
    assert!((5..=6).contains(&transactions), "{transactions}");
    running.watch().stop();
    running.finished().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_share_the_work_by_weight() {
    let settings = format!(
        "[shaping.default]\nsessions = 4\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n{TWO_SOURCES}\
         [pools.default]\na = 3\nb = 1\n"
    );
    let stage = delivered(&world(1, "latency = \"5ms\""), &settings, "", 1_200, 1).await;
    let counts = stage.counts();
    let of = |source: IpAddr| -> f64 {
        let paths = counts.paths.iter().filter(|path| path.source == source);
        paths.flat_map(|path| &path.seconds).map(|second| f64::from(second.accepted)).sum()
    };
    let ratio = of(A) / of(B);
    assert!((2.0..=4.5).contains(&ratio), "{} from a, {} from b", of(A), of(B));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_change_under_a_run_hold_from_then_on() {
    let settings = "shaping_files = [\"own.toml\"]\n";
    let mut stage = Stage::new(&world(1, ""), settings);
    let (file, own) = (stage.folder.path().join("postroad.toml"), stage.folder.path().join("own.toml"));
    let rate = |rate: &str| {
        let text = format!("[default]\nmessages = \"{rate}\"\nconnections = \"unlimited\"\nsessions = 2\n");
        let new = own.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &own).unwrap();
    };
    rate("100/s");
    std::fs::write(&file, settings).unwrap();
    stage.node.shaping = postroad::config::Node::load(Some(&file)).unwrap().shaping;
    stage.node.shaping_files = vec![own.clone()];
    stage.node.file = Some(file);
    let count = 600;
    let running =
        stage.start(stage.run(&stage.campaign(&list(count, |_| "d1.test".into()), ""))).await.unwrap();
    let accepted = async |at_least: u64| {
        while stage.counts().accepted < at_least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted(60)).await.unwrap();
    rate("10/s");
    // Files are looked at more often than once a second; what was under way by then is done.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = stage.counts().accepted;
    assert!(before < count as u64 / 2, "{before} were sent before the limit held");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let slowly = stage.counts().accepted - before;
    assert!(slowly <= 23, "{slowly} in two seconds at ten a second");
    rate("unlimited");
    // At ten a second it would take another half a minute.
    let finished = tokio::time::timeout(Duration::from_secs(15), running.finished()).await;
    let report = finished.expect("the limit is gone").unwrap();
    assert_eq!((report.totals.delivered, stage.counts().repeated), (count as u64, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_with_limits_of_its_own_holds_up_nobody_who_shares_its_servers() {
    let world = "[[provider]]\nname = \"p\"\nextensions = [\"pipelining\"]\n\
                 domains = [\"slow.test\", \"quick.test\"]\nmx = [{ host = \"mx.p.test\" }]\n";
    let settings = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n\
                    [shaping.domain.\"slow.test\"]\nmessages = [\"50/s\", \"12/min burst 4\"]\n";
    let stage = Stage::new(world, settings);
    let domain = |n: usize| ["slow.test", "quick.test"][n % 2].to_owned();
    let running = stage.start(stage.run(&stage.campaign(&list(200, domain), ""))).await.unwrap();
    let of = |domain: &str| -> u32 {
        let numbers = (0..200).filter(|n| ["slow.test", "quick.test"][n % 2] == domain);
        numbers.map(|n| stage.accepted(&format!("u{n}@{domain}"))).sum()
    };
    let all_quick = async {
        while of("quick.test") < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_quick).await.expect("nothing holds these up");
    // Four at once, and one each five seconds.
    let slow = of("slow.test");
    assert!((1..=8).contains(&slow), "{slow}");
    running.watch().stop();
    running.finished().await.unwrap();
}
