//! Sessions are opened with hosts that go by a script.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::smtp::auth::{Login, Mechanism, SecretPlace};
use crate::smtp::{LocalEnd, Reach, Submission, Timeouts, TlsConnectors, Trust, Via};

/// A server that goes by a script: each step waits for a line that starts so (the first for none),
/// then says its reply. A reply of `TLS` is 220 and a handshake; of `WRAPPED`, the handshake alone.
type Script = &'static [(&'static str, &'static str)];

const NAME: &str = "mx.example.test";

async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    steps: &mut std::slice::Iter<'_, (&str, &str)>,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    for (awaited, reply) in steps.by_ref() {
        let mut line = String::new();
        if !awaited.is_empty() {
            stream.read_line(&mut line).await.unwrap();
            assert!(line.starts_with(awaited), "{line:?} where {awaited:?} was due");
        }
        let reply = if *reply == "TLS" { "220 go ahead\r\n250 injected in clear\r\n" } else { reply };
        stream.write_all(reply.as_bytes()).await.unwrap();
        if reply.contains("injected") {
            return Some(stream.into_inner());
        }
    }
    None
}

struct Host {
    endpoint: Endpoint,
    ca_pem: String,
}

/// A host that serves one connection with each of `scripts`.
async fn host(scripts: Vec<Script>, name: &str) -> Host {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            let mut steps = script.iter();
            if script[0].1 == "WRAPPED" {
                steps.next();
                if let Ok(stream) = acceptor.accept(stream).await {
                    follow(stream, &mut steps).await;
                }
                continue;
            }
            let Some(stream) = follow(stream, &mut steps).await else { continue };
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            follow(stream, &mut steps).await;
        }
    });
    Host { endpoint: Endpoint { host: NAME.into(), address }, ca_pem: issued.cert.pem() }
}

async fn dial(hosts: &[&Host], tls: TlsPolicy, reach: Reach) -> Result<Session, OpenFailure> {
    submit(hosts, tls, reach, None).await
}

async fn submit(
    hosts: &[&Host],
    tls: TlsPolicy,
    reach: Reach,
    submission: Option<&Submission>,
) -> Result<Session, OpenFailure> {
    let endpoints: Vec<Endpoint> = hosts.iter().map(|host| host.endpoint.clone()).collect();
    let connectors = TlsConnectors::new(hosts.first().map(|host| host.ca_pem.as_bytes())).unwrap();
    let timeouts = Timeouts { greeting: Duration::from_secs(10), ..Timeouts::default() };
    open(Dial {
        source: &LocalEnd { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None, ehlo: "mta.example".into() },
        via: &Via::Direct,
        submission,
        endpoints: &endpoints,
        tls,
        connectors: &connectors,
        timeouts: &timeouts,
        trust: Trust::Window,
        reach: &reach,
    })
    .await
}

fn what(finding: &Finding) -> String {
    match finding {
        Finding::Refused { stage, scope, reply } => format!("{stage:?} {scope:?} {}", reply.code()),
        Finding::Failed { stage, failure, .. } => format!("{stage:?} {failure}"),
        other => format!("{other:?}"),
    }
}

const PLAIN: Script = &[("", "220 hi\r\n"), ("EHLO mta.example", "250-x\r\n250 PIPELINING\r\n")];
const OFFERS: &str = "250-x\r\n250-PIPELINING\r\n250 STARTTLS\r\n";

#[tokio::test]
async fn the_next_host_is_tried_when_one_will_not_talk() {
    let refusing = host(vec![&[("", "554 5.7.1 go away\r\n"), ("QUIT", "")]], NAME).await;
    let busy = host(vec![&[("", "421 4.3.2 too busy\r\n")]], NAME).await;
    let mute = host(vec![&[("", "hello?\r\n")]], NAME).await;
    let gone = host(vec![&[("", "220 hi\r\n"), ("EHLO", "450 not now\r\n"), ("QUIT", "")]], NAME).await;
    let good = host(vec![PLAIN], NAME).await;
    let hosts = [&refusing, &busy, &mute, &gone, &good];
    let session = dial(&hosts, TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
    assert_eq!(session.endpoint(), &good.endpoint);
    assert!(session.capabilities().pipelining && !session.is_encrypted());

    let refusing = host(vec![&[("", "554 5.7.1 go away\r\n"), ("QUIT", "")]], NAME).await;
    let busy = host(vec![&[("", "421 4.3.2 too busy\r\n")]], NAME).await;
    let failure = dial(&[&refusing, &busy], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
    let said: Vec<String> = failure.tried.iter().map(|(_, finding)| what(finding)).collect();
    assert_eq!(said, ["Greeting Path 554", "Greeting Path 421"]);
    assert_eq!((failure.scope, what(&failure.finding)), (Scope::Path, "Greeting Path 421".into()));
}

#[tokio::test]
async fn helo_is_said_where_ehlo_is_not_known() {
    let old = host(
        vec![&[("", "220 hi\r\n"), ("EHLO", "502 what?\r\n"), ("HELO mta.example", "250 hello\r\n")]],
        NAME,
    )
    .await;
    let session = dial(&[&old], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
    assert_eq!(*session.capabilities(), Capabilities::default());
}

#[tokio::test]
async fn what_came_in_clear_is_not_believed_behind_the_handshake() {
    // The host says "250 injected in clear" behind its 220: were it believed, it would be the
    // answer to the second EHLO and hide what that offers (RFC 3207 §6).
    let script: Script = &[
        ("", "220 hi\r\n"),
        ("EHLO", OFFERS),
        ("STARTTLS", "TLS"),
        ("EHLO mta.example", "250-x\r\n250 CHUNKING\r\n"),
    ];
    for policy in [TlsPolicy::Opportunistic, TlsPolicy::Required, TlsPolicy::Verified] {
        let good = host(vec![script], NAME).await;
        let session = dial(&[&good], policy, Reach::Internet).await.unwrap();
        assert!(session.is_encrypted(), "{policy:?}");
        // Those of the first EHLO are forgotten.
        assert!(session.capabilities().chunking && !session.capabilities().pipelining);
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_good_enough_unless_it_must_be_verified() {
    let script: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "TLS"), ("EHLO", "250 x\r\n")];
    let other = host(vec![script, script], "other.example.test").await;
    assert!(dial(&[&other], TlsPolicy::Required, Reach::Internet).await.unwrap().is_encrypted());
    let failure = dial(&[&other], TlsPolicy::Verified, Reach::Internet).await.err().unwrap();
    assert!(what(&failure.finding).starts_with("StartTls TLS failed"), "{failure:?}");
}

#[tokio::test]
async fn a_broken_handshake_is_got_round_in_clear_and_remembered() {
    let broken: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "220 go\r\nnonsense\r\n")];
    let closing: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "")];
    for script in [broken, closing] {
        let odd = host(vec![script, PLAIN], NAME).await;
        let session = dial(&[&odd], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
        assert!(!session.is_encrypted());
        assert_eq!(session.terms.learned, [Quirk::TlsBroken]);
        let odd = host(vec![script], NAME).await;
        assert!(dial(&[&odd], TlsPolicy::Required, Reach::Internet).await.is_err());
    }
}

#[tokio::test]
async fn required_tls_does_without_a_host_that_has_none() {
    let plain = host(vec![PLAIN], NAME).await;
    let failure = dial(&[&plain], TlsPolicy::Required, Reach::Internet).await.err().unwrap();
    assert_eq!(failure.finding, failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
    let refusing: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "454 4.7.0 no\r\n")];
    let later = host(vec![refusing, refusing], NAME).await;
    let session = dial(&[&later], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
    assert!(!session.is_encrypted() && session.terms.learned.is_empty());
    let failure = dial(&[&later], TlsPolicy::Required, Reach::Internet).await.err().unwrap();
    assert_eq!(what(&failure.finding), "StartTls Path 454");
}

#[tokio::test]
async fn a_rehearsal_does_not_connect_outside_its_world() {
    let outside = host(vec![PLAIN], NAME).await;
    let world = Reach::World(Arc::new(HashSet::new()));
    let failure = dial(&[&outside], TlsPolicy::Off, world).await.err().unwrap();
    let expected = failed(Stage::Connect, Failure::Escape(outside.endpoint.address));
    assert_eq!(failure.finding, expected);
}

#[tokio::test]
async fn endpoints_of_a_family_that_the_source_lacks_are_passed_over() {
    let six: SocketAddr = "[::1]:2525".parse().unwrap();
    let host = Host {
        endpoint: Endpoint { host: NAME.into(), address: six },
        ca_pem: rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap().cert.pem(),
    };
    let failure = dial(&[&host], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
    assert!(failure.tried.is_empty());
    assert_eq!(failure.finding, failed(Stage::Connect, Failure::NoAddress(NAME.into())));
}

#[tokio::test]
async fn nobody_at_home_is_a_failure_to_connect() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut host = host(vec![PLAIN], NAME).await;
    host.endpoint.address = listener.local_addr().unwrap();
    drop(listener);
    let failure = dial(&[&host], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
    assert!(what(&failure.finding).starts_with("Connect the connection failed"), "{failure:?}");
}

/// A relay's submission with the password `secret` of `me`.
fn submission(tls: RelayTls, method: Option<Mechanism>, file: &std::path::Path) -> Submission {
    std::fs::write(file, "secret\n").unwrap();
    let secret = SecretPlace::File(file.to_owned());
    Submission { tls, login: Some(Login { user: "me".into(), secret, is_token: false, method }) }
}

async fn relayed(script: Script, tls: RelayTls, method: Option<Mechanism>) -> Result<Session, OpenFailure> {
    let folder = tempfile::tempdir().unwrap();
    let submission = submission(tls, method, &folder.path().join("secret"));
    let relay = host(vec![script], NAME).await;
    // What paths ask of exchanges does not count.
    submit(&[&relay], TlsPolicy::Opportunistic, Reach::Internet, Some(&submission)).await
}

const OFFERS_AUTH: &str = "250-x\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n";

#[tokio::test]
async fn a_relay_is_told_who_we_are_behind_tls_of_either_kind() {
    let wrapped: Script = &[
        ("", "WRAPPED"),
        ("", "220 hi\r\n"),
        ("EHLO", OFFERS_AUTH),
        ("AUTH PLAIN AG1lAHNlY3JldA==", "235 2.7.0 welcome\r\n"),
    ];
    let session = relayed(wrapped, RelayTls::Implicit, None).await.unwrap();
    assert!(session.is_encrypted() && session.capabilities().pipelining);
    let upgraded: Script = &[
        ("", "220 hi\r\n"),
        ("EHLO", OFFERS),
        ("STARTTLS", "TLS"),
        ("EHLO", OFFERS_AUTH),
        ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
        ("bWU=\r\n", "334 UGFzc3dvcmQ6\r\n"),
        ("c2VjcmV0\r\n", "235 2.7.0 welcome\r\n"),
    ];
    assert!(relayed(upgraded, RelayTls::Starttls, Some(Mechanism::Login)).await.unwrap().is_encrypted());
    // In clear to this machine, and only where that was asked for.
    let clear: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "235 2.7.0 welcome\r\n")];
    assert!(!relayed(clear, RelayTls::Off, None).await.unwrap().is_encrypted());
    let failure = relayed(clear, RelayTls::Starttls, None).await.err().unwrap();
    assert_eq!(failure.finding, failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
}

#[tokio::test]
async fn a_relay_that_does_not_know_us_is_the_sources_trouble() {
    let refusing: Script =
        &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "535 5.7.8 who?\r\n"), ("QUIT", "")];
    let later: Script =
        &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "454 4.7.0 later\r\n"), ("QUIT", "")];
    let busy: Script =
        &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "421 4.3.2 busy\r\n"), ("QUIT", "")];
    for (script, scope, said) in [
        (refusing, Scope::Source, "Auth Source 535"),
        (later, Scope::Source, "Auth Source 454"),
        (busy, Scope::Path, "Auth Path 421"),
    ] {
        let failure = relayed(script, RelayTls::Off, None).await.err().unwrap();
        assert_eq!((failure.scope, what(&failure.finding).as_str()), (scope, said));
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }
    let without: Script = &[("", "220 hi\r\n"), ("EHLO", "250 x\r\n"), ("QUIT", "")];
    let failure = relayed(without, RelayTls::Off, None).await.err().unwrap();
    assert_eq!(
        (failure.scope, what(&failure.finding)),
        (Scope::Source, "Auth the peer does not offer AUTH for passwords".into())
    );
    let failure = relayed(
        &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("QUIT", "")],
        RelayTls::Off,
        Some(Mechanism::CramMd5),
    )
    .await
    .err()
    .unwrap();
    assert_eq!(what(&failure.finding), "Auth the peer does not offer CRAM-MD5");
}

#[tokio::test]
async fn a_relay_that_quotes_our_secret_is_not_quoted() {
    // As Sendmail does with a command that it does not know, and as something does that is no mail server.
    for echo in [
        "500 5.5.1 Command unrecognized: \"AUTH PLAIN AG1lAHNlY3JldA==\"\r\n",
        "500-5.5.1 What is this:\r\n500 5.5.1 AUTH PLAIN AG1lAHNlY3\r\n",
        "AUTH PLAIN AG1lAHNlY3JldA==\r\n",
    ] {
        let script: Script =
            Box::leak(Box::new([("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", echo)]));
        let failure = relayed(script, RelayTls::Off, None).await.err().unwrap();
        let told = format!("{failure:?}");
        assert!(told.contains("AUTH PLAIN …") && !told.contains("AG1l"), "{told}");
    }
}

#[tokio::test]
async fn an_exchange_that_leads_nowhere_is_given_up() {
    let curious: Script = &[
        ("", "220 hi\r\n"),
        ("EHLO", OFFERS_AUTH),
        ("AUTH PLAIN", "334 bW9yZQ==\r\n"),
        ("*", "501 5.7.0 as you wish\r\n"),
        ("QUIT", ""),
    ];
    let failure = relayed(curious, RelayTls::Off, None).await.err().unwrap();
    assert_eq!(
        (failure.scope, what(&failure.finding)),
        (Scope::Source, "Auth no login: the relay asked for more than PLAIN has to say".into())
    );
    // 235 without the proof that SCRAM wants of the server.
    let impostor: Script = &[
        ("", "220 hi\r\n"),
        ("EHLO", "250-x\r\n250 AUTH SCRAM-SHA-256\r\n"),
        ("AUTH SCRAM-SHA-256 ", "235 2.7.0 welcome\r\n"),
        ("QUIT", ""),
    ];
    let failure = relayed(impostor, RelayTls::Off, None).await.err().unwrap();
    assert!(what(&failure.finding).contains("has not shown that it knows the password"), "{failure:?}");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_never_good_enough_for_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let upgraded: Script =
        &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "TLS"), ("EHLO", OFFERS_AUTH)];
    let wrapped: Script = &[("", "WRAPPED"), ("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH)];
    for (script, tls) in [(upgraded, RelayTls::Starttls), (wrapped, RelayTls::Implicit)] {
        let other = host(vec![script], "other.example.test").await;
        let submission = submission(tls, None, &folder.path().join("secret"));
        let submitted = submit(&[&other], TlsPolicy::Off, Reach::Internet, Some(&submission)).await;
        let failure = submitted.err().unwrap();
        assert!(what(&failure.finding).starts_with("StartTls TLS failed"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_proxy_outside_the_world_is_not_connected_to() {
    let inside = host(vec![PLAIN], NAME).await;
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let reach = Reach::World(Arc::new(HashSet::from([inside.endpoint.address])));
    let connectors = TlsConnectors::new(None).unwrap();
    let failure = open(Dial {
        source: &LocalEnd { ipv4: None, ipv6: None, ehlo: "mta.example".into() },
        via: &Via::ProxyProtocol(proxy),
        submission: None,
        endpoints: std::slice::from_ref(&inside.endpoint),
        tls: TlsPolicy::Off,
        connectors: &connectors,
        timeouts: &Timeouts::default(),
        trust: Trust::Window,
        reach: &reach,
    })
    .await
    .err()
    .unwrap();
    assert_eq!(failure.finding, failed(Stage::Connect, Failure::Escape(proxy)));
}

#[tokio::test]
async fn the_other_family_is_tried_where_an_address_of_ours_is_gone() {
    let good = host(vec![PLAIN], NAME).await;
    let six = Endpoint { host: NAME.into(), address: "[::1]:2525".parse().unwrap() };
    // Reserved for documentation (RFC 3849): no machine has it.
    let gone = "2001:db8::1".parse().unwrap();
    let connectors = TlsConnectors::new(None).unwrap();
    let session = open(Dial {
        source: &LocalEnd { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: Some(gone), ehlo: "mta.example".into() },
        via: &Via::Direct,
        submission: None,
        endpoints: &[six, good.endpoint.clone()],
        tls: TlsPolicy::Off,
        connectors: &connectors,
        timeouts: &Timeouts::default(),
        trust: Trust::Window,
        reach: &Reach::Internet,
    })
    .await;
    assert_eq!(session.unwrap().endpoint(), &good.endpoint);
}
