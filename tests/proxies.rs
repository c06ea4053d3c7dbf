//! Mail goes out through proxies nobody here wrote, and what is wrong with a proxy is nobody's bounce.

#[path = "support/servers.rs"]
mod servers;
mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use postroad::config::source::{ProxyProtocol, Socks5};
use postroad::config::{DEFAULT, Source};
use postroad::engine::{self, Options};
use postroad::metrics::Report;
use postroad::smtp::Reach;
use servers::Server;
use support::{PATIENCE, Stage, list};

const WORLD: &str = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\" }]\n";
const RETRY: &str = "[retry]\nschedule = [\"100ms\"]\nexpiry = \"2s\"\n";

/// Where the proxies connect from: neither is what connections have that go directly.
const SOCKS5_FROM: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 9);
const HAPROXY_FROM: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 8);

/// Sends to 50 people through what `source` says, of which only `proxy` and the world may be connected to.
async fn sent(source: Source, proxy: u16, manifest: &str) -> (Stage, Report) {
    let mut stage = Stage::new(WORLD, "");
    stage.node.sources.insert(DEFAULT.to_owned(), source);
    let run = stage.run(&stage.campaign(&list(50, |_| "a.test".into()), manifest));
    let mut reach = stage.world.smtp_addresses();
    reach.insert(SocketAddr::from((Ipv4Addr::LOCALHOST, proxy)));
    let options = Options::new(Reach::World(Arc::new(reach)));
    let running = engine::start(stage.node.clone(), run, options).await.unwrap();
    let report = tokio::time::timeout(PATIENCE, running.finished()).await;
    (stage, report.expect("the run should have ended").unwrap())
}

/// From where connections came to the world.
fn peers(stage: &Stage) -> Vec<IpAddr> {
    let mut peers: Vec<IpAddr> = stage.counts().paths.iter().map(|path| path.source).collect();
    peers.dedup();
    peers
}

fn socks5(stage: &tempfile::TempDir, port: u16, password: &str) -> Source {
    let file = stage.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socks5 = Socks5 { address, user: Some("bulk".into()), password_env: None, password_file: Some(file) };
    Source { socks5: Some(socks5), ..Source::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_microsocks() {
    let Some(proxy) = Server::microsocks("bulk", "word", SOCKS5_FROM) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (stage, report) = sent(socks5(&folder, proxy.port, "word"), proxy.port, "").await;
    assert_eq!((report.totals.delivered, report.attempts), (50, 50), "{report:?}\n{}", proxy.log());
    assert_eq!(peers(&stage), [IpAddr::from(SOCKS5_FROM)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_bounces_because_microsocks_does_not_know_us() {
    let Some(proxy) = Server::microsocks("bulk", "word", SOCKS5_FROM) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (stage, report) = sent(socks5(&folder, proxy.port, "sword"), proxy.port, RETRY).await;
    assert_eq!((report.totals.expired, report.attempts), (50, 0), "{report:?}");
    assert!(peers(&stage).is_empty());
}

fn proxy_protocol(port: u16) -> Source {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let proxy_protocol = Some(ProxyProtocol { address });
    Source { ipv4: Some(HAPROXY_FROM), proxy_protocol, ..Source::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_haproxy_from_the_sources_address() {
    let Some(proxy) = Server::haproxy() else { return };
    let (stage, report) = sent(proxy_protocol(proxy.port), proxy.port, "").await;
    assert_eq!((report.totals.delivered, report.attempts), (50, 50), "{report:?}\n{}", proxy.log());
    assert_eq!(peers(&stage), [IpAddr::from(HAPROXY_FROM)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_bounces_because_a_proxy_is_gone() {
    let gone = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    for source in [proxy_protocol(gone), socks5(&folder, gone, "word")] {
        let (stage, report) = sent(source, gone, RETRY).await;
        assert_eq!((report.totals.expired, report.attempts), (50, 0), "{report:?}");
        assert!(peers(&stage).is_empty());
    }
}
