//! The domains of a list, looked up in bulk: who has no mail service, and whose servers serve the others.

use std::time::Duration;

use postroad::campaign::draft::Draft;
use postroad::campaign::manifest::Manifest;
use postroad::config::Node;
use postroad::engine;
use postroad::preflight::Severity::{Note, Warning};
use postroad::preflight::dns::domains::{Bounds, Progress, Share, Survey, survey};
use postroad::preflight::{Finding, Findings};
use postroad::suppression::Suppression;
use postroad::world::{NameFault, Options, RecordKind, World, WorldFile};

const WORLD: &str = r#"
[[provider]]
name = "big"
domains = ["one.test", "two.test"]
mx = [{ host = "mx.big.test" }]
[[provider]]
name = "small"
domains = ["small.test"]
mx = [{ host = "mx.small.test" }]
[[provider]]
name = "null"
domains = ["null.test"]
dns = "null-mx"
[[provider]]
name = "empty"
domains = ["empty.test"]
dns = "nodata"
[[provider]]
name = "broken"
domains = ["broken.test"]
dns = "servfail"
"#;

/// `people`: how many at which domain.
async fn surveyed(world: &World, people: &[(&str, usize)], bounds: Bounds) -> (Survey, Vec<Finding>) {
    let folder = tempfile::tempdir().unwrap();
    let mut list = "email\n".to_owned();
    for (domain, count) in people {
        (0..*count).for_each(|number| list.push_str(&format!("p{number}@{domain}\n")));
    }
    std::fs::write(folder.path().join("l.csv"), list).unwrap();
    std::fs::write(folder.path().join("m.txt"), "Hello\n").unwrap();
    let manifest = "name = \"m\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"b.sender.test\"\n\
        subject = \"s\"\ntext = \"m.txt\"\n[list]\nfile = \"l.csv\"\n";
    std::fs::write(folder.path().join("campaign.toml"), manifest).unwrap();
    let manifest = Manifest::open(folder.path()).unwrap();
    let draft =
        Draft::read(&folder.path().join("state"), &manifest, &Suppression::load(&[]).unwrap()).unwrap();
    let settings = format!(
        "[dns]\nservers = [\"{}\"]\n[shaping.provider.big]\nmx = [\".big.test\"]\n",
        world.dns_server()
    );
    let node = Node::parse("postroad.toml".as_ref(), &settings).unwrap();
    let resolver = engine::resolver(&node).unwrap();
    let mut findings = Findings::default();
    let survey = survey(&draft.spool, &resolver, bounds, &Progress::default(), &mut findings).await;
    (survey, findings.sorted())
}

fn start() -> World {
    World::start(&WorldFile::parse("w.toml", WORLD).unwrap(), Options::default()).unwrap()
}

const MINUTE: Bounds = Bounds { at_once: 4, time: Duration::from_secs(60) };

#[tokio::test]
async fn domains_without_mail_service_are_told_with_their_recipients() {
    let world = start();
    let people = [
        ("one.test", 5),
        ("two.test", 2),
        ("small.test", 3),
        ("null.test", 1),
        ("empty.test", 1),
        ("gone.test", 4),
        ("away.test", 2),
        ("broken.test", 6),
    ];
    let (survey, findings) = surveyed(&world, &people, MINUTE).await;
    assert_eq!((survey.domains, survey.recipients), (8, 24));
    let share =
        |provider: &str, domains, recipients| Share { provider: provider.into(), domains, recipients };
    assert_eq!(survey.providers, [share("big", 2, 7), share("other", 1, 3)]);
    let table: Vec<String> = survey.to_string().lines().map(str::to_owned).collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&table[0]), ["big", "7", "29.2%", "2", "domains"]);
    let mut short: Vec<_> = findings
        .iter()
        .map(|finding| (finding.check, finding.severity, finding.count, finding.examples.join(", ")))
        .collect();
    short.sort();
    let expected = [
        ("domain-unresolved", Note, 6, "broken.test (6)"),
        ("domain-without-mail", Warning, 1, "empty.test (1)"),
        ("domain-without-mail", Warning, 1, "null.test (1)"),
        ("domain-without-mail", Warning, 6, "gone.test (4), away.test (2)"),
    ];
    let expected = expected.map(|(check, severity, count, names)| (check, severity, count, names.to_owned()));
    assert_eq!(short, expected, "{findings:#?}");
}

#[tokio::test]
async fn a_list_of_served_domains_is_told_nothing() {
    let usual = Bounds::new(&Node::default());
    let (survey, findings) = surveyed(&start(), &[("one.test", 1), ("small.test", 1)], usual).await;
    assert_eq!((survey.domains, findings), (2, Vec::new()));
}

#[tokio::test]
async fn what_is_not_known_when_the_time_is_over_is_a_note() {
    let world = start();
    for name in ["a.test", "b.test", "c.test"] {
        world.publish_fault(name, Some(NameFault::Silent));
    }
    let bounds = Bounds { at_once: 1, time: Duration::from_millis(200) };
    let (survey, findings) = surveyed(&world, &[("a.test", 2), ("b.test", 1), ("c.test", 1)], bounds).await;
    assert_eq!((survey.domains, survey.recipients, survey.providers.len()), (3, 4, 0));
    let short: Vec<_> =
        findings.iter().map(|finding| (finding.check, finding.severity, finding.count)).collect();
    assert_eq!(short, [("domain-not-asked", Note, 4)]);
}

#[tokio::test]
async fn a_domain_is_asked_for_once_however_often_it_comes() {
    let world = start();
    world.publish("direct.test", RecordKind::A, &["192.0.2.9"]);
    let before = world.counts().dns_queries;
    let (survey, _) = surveyed(&world, &[("direct.test", 500)], MINUTE).await;
    assert_eq!((survey.domains, survey.recipients), (1, 500));
    assert_eq!(world.counts().dns_queries - before, 3, "MX, A and AAAA");
}
