//! Nobody who is suppressed is mailed: not who was on a list before the run, and from a second after
//! an address or a domain was added on, not who is added while it is under way.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use postroad::outcome::Disposition;
use support::ends::endings;
use support::{PATIENCE, Stage, list};

const WORLD: &str = "[[provider]]\nname = \"p\"\ndomains = [\"a.test\", \"b.test\", \"sub.b.test\"]\n\
    extensions = [\"pipelining\"]\nmx = [{ host = \"mx.p.test\" }]\n";
const LISTED: &str = "\nsuppression = [\"never.txt\"]\n";

fn append(file: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn domain(n: usize) -> String {
    ["a.test", "b.test", "sub.b.test"][n % 3].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_listed_before_the_run_is_not_mailed() {
    let stage = Stage::new(WORLD, "");
    let campaign = stage.campaign(&list(90, domain), LISTED);
    append(&campaign.join("never.txt"), "# asked to be left alone\nU0@A.TEST\nu3@a.test\n@b.test\n");
    let store = stage.node.state.join("suppression");
    std::fs::create_dir_all(&store).unwrap();
    append(&store.join("list.txt"), "u6@a.test\nnobody@a.test\n");
    let run = stage.run(&campaign);
    let report = stage.send_all(run).await;
    // Three addresses, and the thirty of b.test but not of sub.b.test.
    assert_eq!((report.totals.rows, report.totals.suppressed, report.totals.delivered), (90, 33, 57));
    assert_eq!(report.totals.check(), Ok(()));
    for n in 0..90 {
        let address = format!("u{n}@{}", domain(n));
        let is_suppressed = domain(n) == "b.test" || [0, 3, 6].contains(&n);
        assert_eq!(stage.accepted(&address), u32::from(!is_suppressed), "{address}");
        assert_eq!(stage.attempts(&address), u32::from(!is_suppressed), "{address}");
    }
}

/// Adds what `entry` says of each recipient to `file` while a run is under way and most are still
/// waiting, in queues, in paths and in sessions.
async fn added_while_under_way(file: impl Fn(&Stage, &Path) -> std::path::PathBuf, entries: &str) {
    let stage = Stage::new(WORLD, "[shaping.default]\nmessages = \"40/s\"\n");
    let campaign = stage.campaign(&list(160, domain), LISTED);
    append(&campaign.join("never.txt"), "");
    let run = stage.run(&campaign);
    let running = stage.start(run.clone()).await.unwrap();
    while stage.counts().accepted < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    append(&file(&stage, &campaign), entries);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let suppressed = |address: &str| entries.lines().any(|line| address.ends_with(line));
    let all: Vec<String> = (0..160).map(|n| format!("u{n}@{}", domain(n))).collect();
    let mailed_early: BTreeSet<&String> = all.iter().filter(|address| stage.attempts(address) > 0).collect();
    assert!(mailed_early.len() < 120, "the run was to be under way still");
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    let report = finished.unwrap().unwrap();
    assert!(report.finished);
    assert_eq!(report.totals.check(), Ok(()));
    let mut spared = 0;
    let endings = endings(&run);
    for address in &all {
        let wanted = !suppressed(address) || mailed_early.contains(address);
        assert_eq!(stage.accepted(address), u32::from(wanted), "{address}");
        assert_eq!(stage.attempts(address), u32::from(wanted), "{address}");
        let disposition = if wanted { Disposition::Delivered } else { Disposition::Suppressed };
        assert_eq!(endings[address].finals, [disposition], "{address}");
        spared += u64::from(!wanted);
    }
    assert!(spared >= 10, "{spared}");
    assert_eq!((report.totals.suppressed, report.totals.delivered), (spared, 160 - spared));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_added_to_the_campaigns_list_is_spared_within_a_second() {
    added_while_under_way(|_, campaign| campaign.join("never.txt"), "@b.test\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_added_to_the_nodes_list_are_spared_within_a_second() {
    let entries: String = (0..160).step_by(2).map(|n| format!("u{n}@{}\n", domain(n))).collect();
    added_while_under_way(|stage, _| stage.node.state.join("suppression/list.txt"), &entries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_another_attempt_is_spared_too() {
    let world = format!("{WORLD}[[provider.trouble]]\nstage = \"rcpt\"\nfault = \"4yz\"\nattempts = [1]\n");
    let stage = Stage::new(&world, "[shaping.default]\nmessages = \"unlimited\"\n");
    let campaign =
        stage.campaign(&list(60, domain), &format!("{LISTED}[retry]\nschedule = [\"2s\"]\njitter = 0.0\n"));
    append(&campaign.join("never.txt"), "");
    let running = stage.start(stage.run(&campaign)).await.unwrap();
    while running.watch().progress().deferrals < 60 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    append(&campaign.join("never.txt"), "@a.test\n");
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    let report = finished.unwrap().unwrap();
    assert_eq!((report.totals.suppressed, report.totals.delivered), (20, 40));
    assert!((0..60).step_by(3).all(|n| stage.attempts(&format!("u{n}@a.test")) == 1));
}
