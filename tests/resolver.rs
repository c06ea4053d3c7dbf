//! Routes come from the DNS as the RFCs say, one question a name however many ask, and a name server
//! that is down defers a domain and never bounces it.
//!
//! The name server is a few lines over hickory-proto that count what they are asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use postroad::address::Domain;
use postroad::site::{AddressFailure, Grouping, Providers, Resolver, ResolverSettings, Route, Site};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[derive(Clone)]
enum Says {
    Records(Vec<(u32, RData)>),
    NoData { minimum: u32 },
    NoName { minimum: u32 },
    Fails,
    Nothing,
}

#[derive(Default)]
struct Zone {
    says: Mutex<HashMap<(String, RecordType), Says>>,
    asked: Mutex<HashMap<(String, RecordType), usize>>,
    held: AtomicBool,
}

impl Zone {
    fn set(&self, name: &str, kind: RecordType, says: Says) {
        self.says.lock().unwrap().insert((name.into(), kind), says);
    }

    fn mx(&self, name: &str, ttl: u32, hosts: &[(u16, &str)]) {
        let records = hosts.iter().map(|(preference, host)| {
            (ttl, RData::MX(MX::new(*preference, Name::from_ascii(format!("{host}.")).unwrap())))
        });
        self.set(name, RecordType::MX, Says::Records(records.collect()));
    }

    fn a(&self, name: &str, ttl: u32, address: [u8; 4]) {
        let address = RData::A(A(Ipv4Addr::from(address)));
        self.set(name, RecordType::A, Says::Records(vec![(ttl, address)]));
    }

    fn asked(&self, name: &str, kind: RecordType) -> usize {
        self.asked.lock().unwrap().get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }

    fn answer(&self, octets: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(octets).unwrap();
        let question = query.queries.first().unwrap().clone();
        let (name, kind) = (question.name().clone(), question.query_type());
        let key = (name.to_ascii().trim_end_matches('.').to_lowercase(), kind);
        *self.asked.lock().unwrap().entry(key.clone()).or_default() += 1;
        let says = self.says.lock().unwrap().get(&key).cloned().unwrap_or(Says::NoData { minimum: 60 });
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.recursion_available = true;
        reply.add_query(question);
        let soa = |minimum| {
            let root = Name::from_ascii("test.").unwrap();
            let soa = SOA::new(root.clone(), root.clone(), 1, 2, 3, 4, minimum);
            Record::from_rdata(root, 3600, RData::SOA(soa))
        };
        match says {
            Says::Records(records) => {
                for (ttl, data) in records {
                    reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
                }
            }
            Says::NoData { minimum } => {
                reply.add_authority(soa(minimum));
            }
            Says::NoName { minimum } => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authority(soa(minimum));
            }
            Says::Fails => reply.metadata.response_code = ResponseCode::ServFail,
            Says::Nothing => return None,
        }
        Some(reply.to_vec().unwrap())
    }
}

async fn serve(zone: Arc<Zone>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (octets, peer) = socket.recv_from(&mut buffer).await.unwrap();
            while zone.held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if let Some(reply) = zone.answer(&buffer[..octets]) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    address
}

fn settings(server: SocketAddr) -> ResolverSettings {
    ResolverSettings {
        servers: vec![server],
        timeout: Duration::from_secs(5),
        attempts: 1,
        lookups_max: 64,
        ttl_min: Duration::from_secs(30),
        ttl_max: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(300),
    }
}

async fn world() -> (Arc<Zone>, ResolverSettings) {
    let zone = Arc::new(Zone::default());
    let server = serve(Arc::clone(&zone)).await;
    (zone, settings(server))
}

fn grouping() -> Grouping {
    let google = Providers::new([("google", &[".google.test".to_owned()][..])]);
    let own_limits = [domain("own.test")].into();
    Grouping { providers: google, own_limits }
}

fn resolver(settings: ResolverSettings) -> Resolver {
    Resolver::new(settings, grouping()).unwrap()
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

async fn site(resolver: &Resolver, name: &str) -> Arc<Site> {
    match resolver.route(&domain(name)).await.route {
        Route::Site(site) => site,
        other => panic!("{name}: {other:?}"),
    }
}

fn hosts(site: &Site) -> Vec<&str> {
    site.exchanges.iter().map(|exchange| exchange.host.as_str()).collect()
}

#[tokio::test]
async fn one_question_a_domain_however_many_ask() {
    let (zone, settings) = world().await;
    zone.mx("many.test", 600, &[(10, "mx.many.test")]);
    zone.held.store(true, Ordering::SeqCst);
    let resolver = resolver(settings);
    let mut asking = JoinSet::new();
    for _ in 0..500 {
        let resolver = resolver.clone();
        asking.spawn(async move { site(&resolver, "many.test").await });
    }
    tokio::task::yield_now().await;
    zone.held.store(false, Ordering::SeqCst);
    let sites = asking.join_all().await;
    assert!(sites.iter().all(|site| Arc::ptr_eq(site, &sites[0])));
    site(&resolver, "many.test").await;
    assert_eq!(zone.asked("many.test", RecordType::MX), 1);
}

#[tokio::test]
async fn domains_with_the_same_servers_share_a_site() {
    let (zone, settings) = world().await;
    let google = [
        (20, "alt1.gmail-smtp-in.l.google.test"),
        (5, "gmail-smtp-in.l.google.test"),
        (30, "alt2.gmail-smtp-in.l.google.test"),
    ];
    zone.mx("a.test", 600, &google);
    let again = [google[2], google[0], google[1]].map(|(preference, host)| (preference + 1, host));
    zone.mx("b.test", 600, &again);
    zone.mx("c.test", 600, &google[..2]);
    zone.mx("d.test", 600, &[(10, "mx1.one.test"), (10, "mx9.two.test"), (20, "mx.three.test")]);
    let resolver = resolver(settings);
    let a = site(&resolver, "a.test").await;
    let b = site(&resolver, "b.test").await;
    let c = site(&resolver, "c.test").await;
    assert!(Arc::ptr_eq(&a, &b), "other numbers and another order of records, the same order of servers");
    assert!(!Arc::ptr_eq(&a, &c));
    let expected = ["", "alt1.", "alt2."].map(|head| format!("{head}gmail-smtp-in.l.google.test"));
    assert_eq!(hosts(&a), expected);
    assert_eq!(a.name, "(alt1|alt2)?.gmail-smtp-in.l.google.test");
    assert_eq!(a.provider.as_deref(), Some("google"));
    let d = site(&resolver, "d.test").await;
    assert_eq!((d.name.as_str(), d.provider.as_deref()), ("mx1.one.test+2", None));
}

#[tokio::test]
async fn a_domain_with_limits_of_its_own_shares_no_site() {
    let (zone, settings) = world().await;
    for name in ["a.test", "b.test", "own.test", "later.test"] {
        zone.mx(name, 600, &[(10, "mx.google.test")]);
    }
    let resolver = resolver(settings);
    let shared = site(&resolver, "a.test").await;
    resolver.regroup(grouping());
    assert!(Arc::ptr_eq(&site(&resolver, "b.test").await, &shared), "nothing is different");
    let own = site(&resolver, "own.test").await;
    assert_eq!((shared.name.as_str(), &shared.own_limits_of), ("mx.google.test", &None));
    assert_eq!((own.name.as_str(), &own.own_limits_of), ("own.test", &Some(domain("own.test"))));
    assert_eq!((&own.exchanges, &own.provider), (&shared.exchanges, &shared.provider));
    // What is known holds until it expires, what is looked up from now on is told apart otherwise.
    resolver.regroup(Grouping::default());
    assert!(Arc::ptr_eq(&site(&resolver, "a.test").await, &shared));
    assert_eq!(site(&resolver, "later.test").await.provider, None);
}

#[tokio::test]
async fn null_mx_implicit_mx_and_no_domain_are_told_apart() {
    let (zone, settings) = world().await;
    zone.mx("null.test", 600, &[(0, "")]);
    zone.mx("nearly-null.test", 600, &[(0, ""), (10, "mx.nearly-null.test")]);
    zone.a("implicit.test", 600, [127, 0, 0, 9]);
    zone.set("gone.test", RecordType::MX, Says::NoName { minimum: 60 });
    zone.mx("literal.test", 600, &[(10, "192.0.2.1"), (20, "localhost")]);
    let resolver = resolver(settings);
    let route = async |name| resolver.route(&domain(name)).await.route;
    assert_eq!(route("null.test").await, Route::NullMx);
    assert_eq!(hosts(&*site(&resolver, "nearly-null.test").await), ["mx.nearly-null.test"]);
    let implicit = site(&resolver, "implicit.test").await;
    assert!(implicit.implicit);
    assert_eq!(hosts(&implicit), ["implicit.test"]);
    for name in ["gone.test", "empty.test", "literal.test"] {
        assert!(matches!(route(name).await, Route::NoDomain { .. }), "{name}");
    }
    assert_eq!(zone.asked("gone.test", RecordType::A), 0);
    assert_eq!(
        zone.asked("literal.test", RecordType::A),
        0,
        "RFC 5321 §5.1: no implicit MX beside MX records"
    );
}

#[tokio::test]
async fn a_failing_name_server_defers() {
    let (zone, mut settings) = world().await;
    settings.timeout = Duration::from_millis(300);
    zone.set("fails.test", RecordType::MX, Says::Fails);
    zone.set("silent.test", RecordType::MX, Says::Nothing);
    zone.set("half.test", RecordType::A, Says::Fails);
    let resolver = resolver(settings);
    for name in ["fails.test", "silent.test", "half.test"] {
        let routed = resolver.route(&domain(name)).await;
        assert!(matches!(routed.route, Route::Unresolved { .. }), "{name}: {routed:?}");
        assert!(routed.expires <= Instant::now() + Duration::from_secs(5));
    }
}

#[tokio::test]
async fn times_to_live_are_honoured_within_bounds() {
    let (zone, settings) = world().await;
    zone.mx("short.test", 1, &[(10, "mx.test.test")]);
    zone.mx("middle.test", 600, &[(10, "mx.test.test")]);
    zone.mx("long.test", 86_400, &[(10, "mx.test.test")]);
    zone.set("gone.test", RecordType::MX, Says::NoName { minimum: 90 });
    zone.set("gone-long.test", RecordType::MX, Says::NoName { minimum: 3600 });
    let resolver = resolver(settings);
    let expected = [
        ("short.test", 30),
        ("middle.test", 600),
        ("long.test", 3600),
        ("gone.test", 90),
        ("gone-long.test", 300),
    ];
    for (name, secs) in expected {
        let before = Instant::now();
        let expires = resolver.route(&domain(name)).await.expires;
        let holds = Duration::from_secs(secs);
        assert!(before + holds <= expires && expires <= Instant::now() + holds, "{name}");
    }
    resolver.route(&domain("gone.test")).await;
    assert_eq!(zone.asked("gone.test", RecordType::MX), 1, "negative answers are kept too");
}

#[tokio::test]
async fn an_old_route_is_given_while_it_is_refreshed() {
    let (zone, mut settings) = world().await;
    (settings.ttl_min, settings.ttl_max) = (Duration::ZERO, Duration::from_millis(50));
    zone.mx("moves.test", 600, &[(10, "old.moves.test")]);
    let resolver = resolver(settings);
    let routed = resolver.route(&domain("moves.test")).await;
    tokio::time::sleep_until(routed.expires).await;
    zone.mx("moves.test", 600, &[(10, "new.moves.test")]);
    zone.held.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(hosts(&*site(&resolver, "moves.test").await), ["old.moves.test"]);
    }
    zone.held.store(false, Ordering::SeqCst);
    let moved = async {
        while hosts(&*site(&resolver, "moves.test").await) != ["new.moves.test"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), moved).await.expect("the new route arrives");
}

#[tokio::test]
async fn addresses_of_both_families_follow_aliases() {
    let (zone, settings) = world().await;
    let alias = RData::CNAME(CNAME(Name::from_ascii("real.test.").unwrap()));
    zone.set("alias.test", RecordType::A, Says::Records(vec![(60, alias.clone())]));
    zone.set("alias.test", RecordType::AAAA, Says::Records(vec![(60, alias)]));
    zone.a("real.test", 600, [127, 0, 0, 7]);
    let v6 = RData::AAAA(AAAA(Ipv6Addr::LOCALHOST));
    zone.set("real.test", RecordType::AAAA, Says::Records(vec![(600, v6)]));
    zone.set("down.test", RecordType::A, Says::Fails);
    let resolver = resolver(settings);
    let addresses = resolver.addresses(&domain("alias.test")).await.unwrap();
    assert_eq!(addresses.v4, [Ipv4Addr::new(127, 0, 0, 7)]);
    assert_eq!(addresses.v6, [Ipv6Addr::LOCALHOST]);
    resolver.addresses(&domain("alias.test")).await.unwrap();
    assert_eq!(zone.asked("alias.test", RecordType::A), 1);
    let none = domain("none.test");
    assert_eq!(resolver.addresses(&none).await, Err(AddressFailure::NoAddress(none)));
    assert!(matches!(resolver.addresses(&domain("down.test")).await, Err(AddressFailure::Unresolved(_))));
}
