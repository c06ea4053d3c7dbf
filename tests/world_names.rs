//! The world's DNS, TLS and DKIM, asked by clients that others wrote: hickory-resolver, rustls, RFC 8463.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use postroad::world::{Options, World, WorldFile};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

fn start(text: &str) -> World {
    let file = WorldFile::parse("test.toml", text).expect("the test's file is right");
    World::start(&file, Options::default()).expect("loopback has room")
}

fn resolver(world: &World, tcp: bool) -> TokioResolver {
    let mut connection = if tcp { ConnectionConfig::tcp() } else { ConnectionConfig::udp() };
    connection.port = world.dns_server().port();
    let server = NameServerConfig::new(world.dns_server().ip(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = Duration::from_millis(500);
    builder.options_mut().attempts = 1;
    builder.build().expect("a resolver needs no network to be made")
}

const NAMES: &str = r#"
[[provider]]
name = "two"
domains = ["two.test"]
ttl = "7m"
mx = [
    { host = "mx1.two.test", preference = 5, ipv6 = true },
    { host = "mx2.two.test", preference = 20, alias_of = "real.two.test" },
]
[[provider]]
name = "implicit"
domains = ["implicit.test"]
dns = "implicit"
mx = [{ host = "a.implicit.test" }]
[[provider]]
name = "alias"
domains = ["alias.test"]
dns = "cname"
mx = [{ host = "mx.alias.test" }]
[[provider]]
name = "null"
domains = ["null.test"]
dns = "null-mx"
[[provider]]
name = "servfail"
domains = ["servfail.test"]
dns = "servfail"
[[provider]]
name = "nodata"
domains = ["nodata.test"]
dns = "nodata"
[[provider]]
name = "silent"
domains = ["silent.test"]
dns = "silent"
[[provider]]
name = "shaky"
domains = ["shaky.test"]
dns_faults = [{ kind = "servfail", share = 1.0, queries = 2 }]
mx = [{ host = "mx.shaky.test" }]
"#;

async fn mx(resolver: &TokioResolver, name: &str) -> Vec<(u16, String)> {
    let lookup = resolver.mx_lookup(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
        _ => None,
    });
    records.collect()
}

#[tokio::test]
async fn an_independent_resolver_reads_the_dns_over_udp_and_tcp() {
    let world = start(NAMES);
    for tcp in [false, true] {
        let resolver = resolver(&world, tcp);
        let expected = [(5, "mx1.two.test.".to_owned()), (20, "mx2.two.test.".to_owned())];
        assert_eq!(mx(&resolver, "two.test.").await, expected);
        let host = world.host("mx1.two.test").unwrap().ip();
        assert!(host.is_loopback());
        let lookup = resolver.lookup("mx1.two.test.", RecordType::A).await.unwrap();
        assert_eq!(lookup.answers()[0].data.ip_addr(), Some(host));
        assert_eq!(lookup.answers()[0].ttl, 420);
        let lookup = resolver.lookup("MX1.Two.Test.", RecordType::AAAA).await.unwrap();
        assert_eq!(lookup.answers()[0].data.ip_addr(), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        let host = world.host("mx2.two.test").unwrap().ip();
        let addresses: Vec<IpAddr> = resolver.lookup_ip("mx2.two.test.").await.unwrap().iter().collect();
        assert_eq!(addresses, [host], "through its alias");
        assert_eq!(mx(&resolver, "alias.test.").await, [(10, "mx.alias.test.".to_owned())]);
        assert_eq!(mx(&resolver, "null.test.").await, [(0, ".".to_owned())]);
    }
}

#[tokio::test]
async fn trouble_in_the_dns_is_told_apart() {
    let world = start(NAMES);
    let resolver = resolver(&world, false);
    let error = resolver.mx_lookup("implicit.test.").await.unwrap_err();
    assert!(error.is_no_records_found() && !error.is_nx_domain(), "{error}");
    let addresses: Vec<IpAddr> = resolver.lookup_ip("implicit.test.").await.unwrap().iter().collect();
    assert_eq!(addresses, [world.host("a.implicit.test").unwrap().ip()]);
    let error = resolver.mx_lookup("nodata.test.").await.unwrap_err();
    assert!(error.is_no_records_found() && !error.is_nx_domain(), "{error}");
    let error = resolver.mx_lookup("nowhere.test.").await.unwrap_err();
    assert!(error.is_nx_domain(), "{error}");
    let error = resolver.mx_lookup("servfail.test.").await.unwrap_err();
    assert!(!error.is_no_records_found(), "{error}");
    let error = resolver.mx_lookup("silent.test.").await.unwrap_err();
    assert!(!error.is_no_records_found(), "{error}");
}

#[tokio::test]
async fn trouble_for_a_number_of_queries_ends() {
    let world = start(NAMES);
    let resolver = resolver(&world, false);
    let mut failed = 0;
    while resolver.mx_lookup("shaky.test.").await.is_err() {
        failed += 1;
        assert!(failed < 5, "the trouble is for two queries");
    }
    assert!(failed > 0);
}

#[tokio::test]
async fn published_txt_is_served_whole_however_long() {
    let world = start(NAMES);
    let value = format!("v=DKIM1; k=rsa; p={}", "A".repeat(600));
    world.publish_txt("sel._domainkey.Sender.test.", &value);
    let lookup = resolver(&world, false).txt_lookup("sel._domainkey.sender.test.").await.unwrap();
    let RData::TXT(txt) = &lookup.answers()[0].data else { panic!("no TXT") };
    assert_eq!(txt.txt_data.concat(), value.as_bytes());
}

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Goes to STARTTLS in the clear, then shakes hands with the world's CA as the only root.
fn handshake(world: &World, host: &str) -> io::Result<TlsStream> {
    let mut reader = BufReader::new(TcpStream::connect(world.host(host).unwrap())?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    reader.get_mut().write_all(b"EHLO client.test\r\n")?;
    while !line.starts_with("250 ") {
        line.clear();
        reader.read_line(&mut line)?;
    }
    reader.get_mut().write_all(b"STARTTLS\r\n")?;
    line.clear();
    reader.read_line(&mut line)?;
    assert!(line.starts_with("220 "), "{line}");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, reader.into_inner());
    stream.write_all(b"EHLO client.test\r\n")?;
    stream.flush()?;
    Ok(stream)
}

#[test]
fn certificates_are_good_for_their_host_or_bad_as_told() {
    let provider = |name: &str, more: &str| {
        format!("[[provider]]\nname = \"{name}\"\n{more}\nmx = [{{ host = \"mx.{name}.test\" }}]\n")
    };
    let mut text = provider("good", "") + &provider("far", "latency = \"5ms\"");
    for tls in ["expired", "wrong-name", "handshake-fails", "handshake-closes"] {
        text.push_str(&provider(tls, &format!("tls = \"{tls}\"")));
    }
    let world = start(&text);
    for host in ["mx.good.test", "mx.far.test"] {
        let mut stream = handshake(&world, host).unwrap();
        let mut reply = [0; 512];
        let length = stream.read(&mut reply).unwrap();
        let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
        assert!(reply.starts_with("250-") && !reply.contains("STARTTLS"), "{reply}");
    }
    for (tls, part) in
        [("expired", "xpired"), ("wrong-name", "not valid for name"), ("handshake-fails", "HandshakeFailure")]
    {
        let error = handshake(&world, &format!("mx.{tls}.test")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(part), "{tls}: {error}");
    }
    assert!(handshake(&world, "mx.handshake-closes.test").is_err());
    assert_eq!(world.counts().providers[0].tls_connections, 1);
}

/// RFC 8463 appendix A.3: one message, one Ed25519 and one RSA signature.
const SIGNED: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

fn send(world: &World, host: &str, to: &str, message: &str) {
    let mut stream = TcpStream::connect(world.host(host).unwrap()).unwrap();
    let content = message.replace('\n', "\r\n");
    let envelope = format!("EHLO client.test\r\nMAIL FROM:<>\r\nRCPT TO:<{to}>\r\n");
    stream.write_all(format!("{envelope}DATA\r\n{content}.\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert!(replies.contains("OK: queued"), "{replies}");
}

#[test]
fn signatures_made_elsewhere_verify_and_changed_ones_do_not() {
    let world = start(
        "dkim_sample = 1\n[[provider]]\nname = \"p\"\ndomains = [\"p.test\"]\nmx = [{ host = \"mx.p.test\" }]\n",
    );
    send(&world, "mx.p.test", "early@p.test", SIGNED);
    world.publish_txt(
        "brisbane._domainkey.football.example.com",
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    );
    world.publish_txt(
        "test._domainkey.football.example.com",
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR\
         iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC\
         DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3\
         Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    );
    send(&world, "mx.p.test", "good@p.test", SIGNED);
    send(&world, "mx.p.test", "changed@p.test", &SIGNED.replace("lost", "won"));
    send(&world, "mx.p.test", "unsigned@p.test", "Subject: x\n\ny\n");
    let dkim = world.stop().dkim;
    assert_eq!((dkim.verified, dkim.failed, dkim.unsigned), (1, 2, 1), "{:?}", dkim.failures);
    assert!(dkim.failures[0].starts_with("early@p.test: selector brisbane: "), "{:?}", dkim.failures);
    assert!(dkim.failures[1].starts_with("changed@p.test: "));
}
