//! The evaluation against the zone and the examples of RFC 7208, Appendix A, and against its limits.

use super::evaluate::{Client, Trouble, Verdict, check_host};
use crate::config::Node;
use crate::preflight::dns::lookup::Lookup;
use crate::smtp::TlsConnectors;
use crate::world::{NameFault, Options, RecordKind, World, WorldFile};

/// The zone of Appendix A.
const ZONE: [(&str, RecordKind, &[&str]); 16] = [
    ("example.com", RecordKind::Mx, &["10 mail-a.example.com", "20 mail-b.example.com"]),
    ("example.com", RecordKind::A, &["192.0.2.10", "192.0.2.11"]),
    ("amy.example.com", RecordKind::A, &["192.0.2.65"]),
    ("bob.example.com", RecordKind::A, &["192.0.2.66"]),
    ("mail-a.example.com", RecordKind::A, &["192.0.2.129"]),
    ("mail-b.example.com", RecordKind::A, &["192.0.2.130"]),
    ("www.example.com", RecordKind::Cname, &["example.com"]),
    ("example.org", RecordKind::Mx, &["10 mail-c.example.org"]),
    ("mail-c.example.org", RecordKind::A, &["192.0.2.140"]),
    ("192.0.2.10", RecordKind::Ptr, &["example.com"]),
    ("192.0.2.11", RecordKind::Ptr, &["example.com"]),
    ("192.0.2.65", RecordKind::Ptr, &["amy.example.com"]),
    ("192.0.2.66", RecordKind::Ptr, &["bob.example.com"]),
    ("192.0.2.129", RecordKind::Ptr, &["mail-a.example.com"]),
    ("192.0.2.140", RecordKind::Ptr, &["mail-c.example.org"]),
    ("10.0.0.4", RecordKind::Ptr, &["bob.example.com"]),
];

struct Zone(World);

impl Zone {
    fn start() -> Self {
        let file = WorldFile::parse("spf.toml", "").unwrap();
        let world = World::start(&file, Options::default()).unwrap();
        for (name, kind, values) in ZONE {
            world.publish(name, kind, values);
        }
        Self(world)
    }

    fn txt(&self, name: &str, text: &str) {
        self.0.publish(name, RecordKind::Txt, &[text]);
    }

    /// Mail of `sender` from `address`, asked for anew.
    async fn verdict(&self, sender: &str, address: &str) -> Verdict {
        let mut node = Node::default();
        node.dns.servers = vec![self.0.dns_server()];
        let lookup = Lookup::new(&node, &TlsConnectors::new(None).unwrap()).unwrap();
        let (local, domain) = sender.split_once('@').unwrap();
        let address = address.parse().unwrap();
        check_host(&lookup, &Client { address, local, domain, ehlo: "mail.example.net" }).await
    }

    async fn example(&self, record: &str, address: &str) -> Verdict {
        self.txt("example.com", record);
        self.verdict("amy@example.com", address).await
    }
}

fn trouble(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::PermError(Trouble::Other(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_simple_examples_come_out_as_appendix_a_1_says() {
    let zone = Zone::start();
    for (record, passing, failing) in [
        ("v=spf1 +all", &["192.0.2.10", "203.0.113.1", "2001:db8::1"][..], &[][..]),
        ("v=spf1 a -all", &["192.0.2.10", "192.0.2.11"], &["192.0.2.65"]),
        ("v=spf1 a:example.org -all", &[], &["192.0.2.10", "192.0.2.140"]),
        ("v=spf1 mx -all", &["192.0.2.129", "192.0.2.130"], &["192.0.2.10"]),
        ("v=spf1 mx:example.org -all", &["192.0.2.140"], &["192.0.2.129"]),
        ("v=spf1 mx mx:example.org -all", &["192.0.2.129", "192.0.2.130", "192.0.2.140"], &["192.0.2.65"]),
        (
            "v=spf1 mx/30 mx:example.org/30 -all",
            &["192.0.2.128", "192.0.2.131", "192.0.2.143"],
            &["192.0.2.127", "192.0.2.132", "192.0.2.144"],
        ),
        ("v=spf1 ptr -all", &["192.0.2.65"], &["192.0.2.140", "10.0.0.4"]),
        ("v=spf1 ip4:192.0.2.128/28 -all", &["192.0.2.129"], &["192.0.2.65"]),
    ] {
        for address in passing {
            assert_eq!(zone.example(record, address).await, Verdict::Pass, "{record} {address}");
        }
        for address in failing {
            assert_eq!(zone.example(record, address).await, Verdict::Fail, "{record} {address}");
        }
    }
}

#[tokio::test]
async fn includes_and_redirects_lead_on_as_in_appendix_a_2() {
    let zone = Zone::start();
    zone.txt("example.com", "v=spf1 a mx -all");
    zone.txt("example.net", "v=spf1 ip4:198.51.100.0/24 ~all");
    zone.txt("example.org", "v=spf1 include:example.com include:example.net -all");
    zone.txt("la.example.org", "v=spf1 redirect=example.org");
    for sender in ["amy@example.org", "amy@la.example.org"] {
        assert_eq!(zone.verdict(sender, "192.0.2.10").await, Verdict::Pass);
        assert_eq!(zone.verdict(sender, "192.0.2.130").await, Verdict::Pass);
        assert_eq!(zone.verdict(sender, "198.51.100.7").await, Verdict::Pass);
        assert_eq!(zone.verdict(sender, "203.0.113.1").await, Verdict::Fail);
    }
}

#[tokio::test]
async fn senders_are_told_apart_as_in_appendix_a_3() {
    let zone = Zone::start();
    zone.txt("example.com", "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all");
    zone.txt("mobile-users._spf.example.com", "v=spf1 exists:%{l1r+}.%{d}");
    zone.txt("remote-users._spf.example.com", "v=spf1 exists:%{ir}.%{l1r+}.%{d}");
    for name in ["mary.mobile-users", "15.15.168.192.joel.remote-users"] {
        zone.0.publish(&format!("{name}._spf.example.com"), RecordKind::A, &["127.0.0.2"]);
    }
    assert_eq!(zone.verdict("mary@example.com", "203.0.113.1").await, Verdict::Pass);
    assert_eq!(zone.verdict("joel@example.com", "192.168.15.15").await, Verdict::Pass);
    assert_eq!(zone.verdict("joel@example.com", "192.168.15.17").await, Verdict::Fail);
    assert_eq!(zone.verdict("eve@example.com", "192.168.15.15").await, Verdict::Fail);
}

#[tokio::test]
async fn several_requirements_hold_together_as_in_appendix_a_4() {
    let zone = Zone::start();
    zone.txt("example.com", "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all");
    zone.txt("ip4._spf.example.com", "v=spf1 -ip4:192.0.2.0/24 +all");
    zone.txt("ptr._spf.example.com", "v=spf1 -ptr:example.com +all");
    assert_eq!(zone.verdict("amy@example.com", "192.0.2.65").await, Verdict::Pass);
    assert_eq!(zone.verdict("amy@example.com", "192.0.2.140").await, Verdict::Fail);
    assert_eq!(zone.verdict("amy@example.com", "203.0.113.1").await, Verdict::Fail);
}

#[tokio::test]
async fn ten_lookups_are_done_and_an_eleventh_ends_it() {
    let zone = Zone::start();
    zone.txt("none.example.com", "v=spf1 -all");
    let includes = |count: usize| ["include:none.example.com"; 11][..count].join(" ");
    let ten = format!("v=spf1 {} ip4:192.0.2.65 -all", includes(10));
    assert_eq!(zone.example(&ten, "192.0.2.65").await, Verdict::Pass);
    let eleven = format!("v=spf1 {} ip4:192.0.2.65 -all", includes(11));
    assert_eq!(zone.example(&eleven, "192.0.2.65").await, Verdict::PermError(Trouble::Lookups));
    let circle = "v=spf1 include:example.com -all";
    assert_eq!(zone.example(circle, "192.0.2.65").await, Verdict::PermError(Trouble::Lookups));
}

#[tokio::test]
async fn two_lookups_may_find_nothing_and_a_third_ends_it() {
    let zone = Zone::start();
    let two = "v=spf1 a:x1.example.com mx:x2.example.com ip4:192.0.2.65 -all";
    assert_eq!(zone.example(two, "192.0.2.65").await, Verdict::Pass);
    let three = "v=spf1 a:x1.example.com mx:x2.example.com exists:x3.example.com ip4:192.0.2.65 -all";
    assert!(trouble(&zone.example(three, "192.0.2.65").await).contains("find nothing"));
}

#[tokio::test]
async fn what_cannot_be_evaluated_says_why() {
    let zone = Zone::start();
    for (record, why) in [
        ("v=spf1 include:nowhere.example.com -all", "include:nowhere.example.com leads to no SPF record"),
        ("v=spf1 redirect=nowhere.example.com", "redirect=nowhere.example.com leads to no SPF record"),
        ("v=spf1 ip4:192.0.2.300 -all", "`ip4:192.0.2.300`"),
    ] {
        let verdict = zone.example(record, "203.0.113.1").await;
        assert!(trouble(&verdict).contains(why), "{record}: {verdict:?}");
    }
    zone.0.publish("example.com", RecordKind::Txt, &["v=spf1 a -all", "v=spf1 mx -all"]);
    let verdict = zone.verdict("amy@example.com", "192.0.2.10").await;
    assert!(trouble(&verdict).contains("several SPF records"));
    let hosts: Vec<String> = (0..11).map(|number| format!("10 mx{number}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    zone.0.publish("example.com", RecordKind::Mx, &hosts);
    assert!(trouble(&zone.example("v=spf1 mx -all", "203.0.113.1").await).contains("more than 10 MX"));
}

#[tokio::test]
async fn no_record_is_none_no_match_is_neutral_and_a_failing_server_is_temporary() {
    let zone = Zone::start();
    assert_eq!(zone.verdict("amy@example.com", "192.0.2.10").await, Verdict::None);
    assert_eq!(zone.example("v=spf1 mx", "192.0.2.10").await, Verdict::Neutral);
    assert_eq!(zone.example("v=spf1 ?a ~all", "192.0.2.10").await, Verdict::Neutral);
    assert_eq!(zone.example("v=spf1 mx ~all", "192.0.2.10").await, Verdict::SoftFail);
    zone.0.publish_fault("broken.example.com", Some(NameFault::Servfail));
    let record = "v=spf1 a:broken.example.com -all";
    assert_eq!(zone.example(record, "192.0.2.10").await, Verdict::TempError);
}

#[tokio::test]
async fn a_long_record_of_several_strings_and_ipv6_are_read() {
    let zone = Zone::start();
    let networks: Vec<String> = (0..40).map(|number| format!("ip4:198.51.100.{number}")).collect();
    let record = format!("v=spf1 {} ip6:2001:db8:7::/48 a:six.example.com -all", networks.join(" "));
    zone.0.publish("six.example.com", RecordKind::Aaaa, &["2001:db8:8::1"]);
    for (address, verdict) in [
        ("198.51.100.39", Verdict::Pass),
        ("2001:db8:7::9", Verdict::Pass),
        ("2001:db8:8::1", Verdict::Pass),
        ("2001:db8:8::2", Verdict::Fail),
    ] {
        assert_eq!(zone.example(&record, address).await, verdict, "{address}");
    }
}
