//! Mail goes where the DNS says, each domain is asked for once, and only what the DNS says for certain
//! bounces; the rest waits.

mod support;

use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use postroad::campaign::run::Run;
use postroad::engine::{self, EngineError, Options};
use postroad::metrics::Report;
use postroad::smtp::Reach;
use support::ends::{assert_right, endings};
use support::{PATIENCE, Stage, list};

const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n\
    [dns]\nttl_min = \"50ms\"\ntimeout = \"200ms\"\nattempts = 1\n[shaping.default.timeouts]\nconnect = \"300ms\"\n";

/// Sends to `count` recipients over the domains in turn; the outcomes must be those the world foresaw.
async fn sent(world: &str, count: usize, domains: &[&str]) -> (Stage, Run, Report) {
    sent_within("1m", world, count, domains).await
}

async fn sent_within(expiry: &str, world: &str, count: usize, domains: &[&str]) -> (Stage, Run, Report) {
    let mut stage = Stage::new(world, SETTINGS);
    // "No AAAA" is an answer too, and asked for again when it is over.
    stage.node.dns.negative_ttl = Duration::from_secs(60);
    let list = list(count, |n| domains[n % domains.len()].to_owned());
    let retry = format!("[retry]\nschedule = [\"100ms\"]\nexpiry = \"{expiry}\"\n");
    let run = stage.run(&stage.campaign(&list, &retry));
    let report = stage.send_all(run.clone()).await;
    assert_eq!(report.totals.rows, count as u64);
    assert_right(&stage, &run, &report);
    (stage, run, report)
}

fn connections(stage: &Stage) -> u64 {
    stage.counts().providers.iter().map(|provider| provider.connections).sum()
}

/// The hosts that had connections, in order of their names.
fn hosts(stage: &Stage) -> Vec<String> {
    let mut hosts: Vec<String> = stage.counts().paths.into_iter().map(|path| path.host).collect();
    hosts.sort();
    hosts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_mx_bounces_without_connecting() {
    let world = "[[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\ndns = \"null-mx\"\n\
        mx = [{ host = \"mx.n.test\" }]\n";
    let (stage, run, report) = sent(world, 500, &["n.test"]).await;
    assert_eq!((report.totals.bounced, connections(&stage), stage.counts().dns_queries), (500, 0, 1));
    assert!(endings(&run).values().all(|ending| ending.code == 0 && ending.text.contains("null MX")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_domain_is_found_out_once() {
    let (stage, run, report) = sent("", 2_000, &["nowhere.test"]).await;
    assert_eq!((report.totals.bounced, stage.counts().dns_queries), (2_000, 1));
    assert!(endings(&run).values().all(|ending| ending.text.contains("does not exist")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_mx_or_address_bounces() {
    let world = "[[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\ndns = \"nodata\"\n";
    let (stage, _, report) = sent(world, 500, &["n.test"]).await;
    // MX, A, AAAA.
    assert_eq!((report.totals.bounced, stage.counts().dns_queries), (500, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_mx_is_its_own_exchange() {
    let world = "[[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\ndns = \"implicit\"\n\
        mx = [{ host = \"host.n.test\" }]\n";
    let (stage, _, report) = sent(world, 200, &["n.test"]).await;
    assert_eq!((report.totals.delivered, stage.counts().dns_queries), (200, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_of_domains_and_hosts_are_followed() {
    let world = "[[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\ndns = \"cname\"\n\
        mx = [{ host = \"mx.n.test\", alias_of = \"real.n.test\" }]\n";
    let (stage, _, report) = sent(world, 100, &["n.test"]).await;
    assert_eq!((report.totals.delivered, hosts(&stage)), (100, vec!["mx.n.test".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_domain_is_asked_for_once_and_one_mx_set_is_one_site() {
    let world = "[[provider]]\nname = \"big\"\nmx = [{ host = \"mx1.big.test\" }, { host = \"mx2.big.test\", preference = 20 }]\n\
        generate = { count = 50, pattern = \"d{n}.test\" }\n";
    let domains: Vec<String> = (1..=50).map(|n| format!("d{n}.test")).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let (stage, _, report) = sent(world, 2_000, &domains).await;
    // An MX question a domain; A and AAAA of two hosts.
    assert_eq!((report.totals.delivered, stage.counts().dns_queries), (2_000, 50 + 4));
    assert_eq!(hosts(&stage), ["mx1.big.test"], "the better exchange is alive");
    assert!(stage.counts().providers[0].connections_peak <= 10, "the limit of one site");
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_of_one_preference_share_the_work() {
    let world = "[[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\nlatency = \"5ms\"\n\
        mx = [{ host = \"mx1.n.test\" }, { host = \"mx2.n.test\" }]\n";
    let (stage, _, _) = sent(world, 600, &["n.test"]).await;
    assert_eq!(hosts(&stage), ["mx1.n.test", "mx2.n.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_exchange_is_used_when_the_first_is_dead_silent_or_nameless() {
    let mut world = String::new();
    for state in ["dead", "silent", "unresolvable"] {
        world += &format!(
            "[[provider]]\nname = \"{state}\"\ndomains = [\"{state}.test\"]\n\
             mx = [{{ host = \"mx1.{state}.test\", state = \"{state}\" }}, {{ host = \"mx2.{state}.test\", preference = 20 }}]\n"
        );
    }
    let (_, _, report) = sent(&world, 300, &["dead.test", "silent.test", "unresolvable.test"]).await;
    assert_eq!((report.totals.delivered, report.deferrals), (300, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_whose_exchanges_are_all_dead_waits_until_it_expires() {
    let mut world = String::new();
    for state in ["dead", "silent", "unresolvable"] {
        world += &format!(
            "[[provider]]\nname = \"{state}\"\ndomains = [\"{state}.test\"]\n\
             mx = [{{ host = \"mx1.{state}.test\", state = \"{state}\" }}, {{ host = \"mx2.{state}.test\", state = \"{state}\" }}]\n"
        );
    }
    let (_, _, report) =
        sent_within("1500ms", &world, 300, &["dead.test", "silent.test", "unresolvable.test"]).await;
    assert_eq!(report.totals.expired, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_in_trouble_defers_and_never_bounces() {
    let kinds = ["servfail", "silent"];
    let mut world = String::new();
    for kind in kinds {
        world += &format!(
            "[[provider]]\nname = \"{kind}\"\ndomains = [\"{kind}.test\"]\ndns = \"{kind}\"\n\
             [[provider]]\nname = \"{kind}-first\"\ndomains = [\"{kind}-first.test\"]\n\
             dns_faults = [{{ kind = \"{kind}\", share = 1.0, queries = 2 }}]\n\
             mx = [{{ host = \"mx.{kind}-first.test\" }}]\n"
        );
    }
    let domains = ["servfail.test", "silent.test", "servfail-first.test", "silent-first.test"];
    let (_, _, report) = sent_within("3s", &world, 400, &domains).await;
    assert_eq!((report.totals.expired, report.totals.delivered), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_is_reached_by_ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this machine has no ::1");
        return;
    }
    let world = "[[provider]]\nname = \"six\"\ndomains = [\"six.test\"]\nmx = [{ host = \"mx.six.test\", ipv6 = true }]\n";
    let (stage, _, report) = sent(world, 100, &["six.test"]).await;
    assert_eq!(report.totals.delivered, 100);
    let sources: Vec<IpAddr> = stage.counts().paths.into_iter().map(|path| path.source).collect();
    assert_eq!(sources, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_that_is_led_out_of_its_world_fails() {
    let world = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\" }]\n";
    let stage = Stage::new(world, "");
    let run = stage.run(&stage.campaign(&list(3, |_| "a.test".into()), ""));
    let reach = Reach::World(Arc::default());
    let running = engine::start(stage.node.clone(), run, Options::new(reach)).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, running.finished()).await;
    let error = ended.expect("it should not go on").expect_err("it should fail");
    assert!(matches!(error, EngineError::Escape(address) if stage.world.smtp_addresses().contains(&address)));
    assert_eq!(stage.counts().accepted, 0);
}
