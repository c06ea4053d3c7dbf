//! A relay takes everything, whatever the recipient's domain, once it knows who we are; its account's limits
//! hold, and what it has against us is nobody's bounce.

#[path = "support/servers.rs"]
mod servers;
mod support;

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use postroad::config::source::{Auth, Relay};
use postroad::config::{DEFAULT, Mechanism, RelayTls, Source};
use postroad::engine::{self, EngineError, Options};
use postroad::metrics::Report;
use postroad::smtp::Reach;
use servers::Server;
use servers::relay::{PASSWORD, Relay as Host, TOKEN_KEY, USER};
use support::{PATIENCE, Stage, list};
use tokio::time::Instant;

/// Only the relay is known to the DNS: a look-up of a recipient's domain would find nothing.
const WORLD: &str = "\
[[provider]]
name = \"relay\"
domains = [\"relay.test\"]
[[provider.mx]]
host = \"mx.relay.test\"
served_at = \"127.0.0.1\"
[[provider]]
name = \"wrapped\"
domains = [\"wrapped.test\"]
[[provider.mx]]
host = \"mx.wrapped.test\"
served_at = \"127.0.0.2\"
";
const NAMES: [&str; 2] = ["mx.relay.test", "mx.wrapped.test"];
const RETRY: &str = "[retry]\nschedule = [\"100ms\"]\nexpiry = \"2s\"\n";

struct Road {
    stage: Stage,
    reach: HashSet<SocketAddr>,
}

impl Road {
    fn to(host: &Server) -> Self {
        let mut stage = Stage::new(WORLD, "");
        stage.node.tls_ca_file = Some(host.certificate());
        let reach = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|address| SocketAddr::from((address, host.port)));
        Self { stage, reach: reach.into() }
    }

    async fn start(&mut self, relay: Relay, count: usize, manifest: &str) -> Result<Report, EngineError> {
        let source = Source { relay: Some(relay), ..Source::default() };
        self.stage.node.sources.insert(DEFAULT.to_owned(), source);
        let list = list(count, |number| format!("d{}.nowhere.test", number % 7));
        let run = self.stage.run(&self.stage.campaign(&list, manifest));
        let options = Options::new(Reach::World(Arc::new(self.reach.clone())));
        let running = engine::start(self.stage.node.clone(), run, options).await?;
        tokio::time::timeout(PATIENCE, running.finished()).await.expect("the run should have ended")
    }

    async fn send(&mut self, relay: Relay, count: usize, manifest: &str) -> Report {
        self.start(relay, count, manifest).await.unwrap_or_else(|error| panic!("{error}"))
    }

    fn secret(&self, text: &str) -> Option<PathBuf> {
        let file = self.stage.folder.path().join("secret");
        std::fs::write(&file, format!("{text}\n")).unwrap();
        Some(file)
    }

    fn by_password(&self, password: &str, method: Option<Mechanism>) -> Auth {
        Auth { password_file: self.secret(password), method, ..nobody() }
    }
}

fn nobody() -> Auth {
    Auth {
        user: USER.into(),
        method: None,
        password_env: None,
        password_file: None,
        token_env: None,
        token_file: None,
    }
}

fn relay(host: &str, port: u16, tls: RelayTls, auth: Option<Auth>) -> Relay {
    Relay {
        host: host.into(),
        port: Some(port),
        tls,
        insecure: false,
        auth,
        messages: Vec::new(),
        sessions: None,
        messages_per_session: None,
    }
}

/// What an authorization server would have given to `user` (RFC 7519).
fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let head = part(serde_json::json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = serde_json::json!({ "sub": user, "iat": now - 60, "nbf": now - 60, "exp": now + 3_600 });
    let signed = format!("{head}.{}", part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, TOKEN_KEY), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// How often each mechanism was used to log in, from Postfix's log.
fn logins(log: &str) -> BTreeMap<String, usize> {
    let mut logins = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("sasl_username=bulk@sender.test")) {
        let method = line.split("sasl_method=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        *logins.entry(method.to_owned()).or_default() += 1;
    }
    logins
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_relays_everything_whatever_the_mechanism() {
    let Some(host) = Host::start(&NAMES) else { return };
    let server = &host.postfix;
    let mut road = Road::to(server);
    let methods = [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5, Mechanism::ScramSha256];
    for (runs, method) in [None].into_iter().chain(methods.map(Some)).enumerate() {
        road.stage.node.state = road.stage.folder.path().join(format!("state{runs}"));
        let auth = road.by_password(PASSWORD, method);
        let starttls = relay("mx.relay.test", server.port, RelayTls::Starttls, Some(auth));
        let report = road.send(starttls, 20, "").await;
        assert_eq!(
            (report.totals.delivered, report.attempts),
            (20, 20),
            "{method:?}: {report:?}\n{}",
            server.log()
        );
    }
    for (runs, method) in
        [None, Some(Mechanism::Xoauth2), Some(Mechanism::Oauthbearer)].into_iter().enumerate()
    {
        road.stage.node.state = road.stage.folder.path().join(format!("token-state{runs}"));
        let auth = Auth { token_file: road.secret(&token(USER)), method, ..nobody() };
        let wrapped = relay("mx.wrapped.test", server.port, RelayTls::Implicit, Some(auth));
        let report = road.send(wrapped, 20, "").await;
        assert_eq!(
            (report.totals.delivered, report.attempts),
            (20, 20),
            "{method:?}: {report:?}\n{}",
            server.log()
        );
    }
    // A and AAAA of the relay in each of eight runs, and nothing about the recipients' domains.
    assert_eq!(road.stage.counts().dns_queries, 16);
    let used = logins(&server.log());
    let known: Vec<&str> = used.keys().map(String::as_str).collect();
    assert_eq!(known, ["CRAM-MD5", "LOGIN", "OAUTHBEARER", "PLAIN", "SCRAM-SHA-256", "XOAUTH2"]);
    let is_known = |message: &Vec<u8>| {
        String::from_utf8_lossy(message).contains("(Authenticated sender: bulk@sender.test)")
    };
    assert!(server.mail(160).iter().all(is_known));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postfix_has_against_us_is_nobodys_bounce() {
    let Some(host) = Host::start(&NAMES) else { return };
    let server = &host.postfix;
    let mut road = Road::to(server);
    let passwords = [Mechanism::Plain, Mechanism::CramMd5, Mechanism::ScramSha256]
        .map(|method| road.by_password("wrong word", Some(method)));
    for (runs, auth) in passwords.into_iter().enumerate() {
        road.stage.node.state = road.stage.folder.path().join(format!("state{runs}"));
        let refused = relay("mx.relay.test", server.port, RelayTls::Starttls, Some(auth.clone()));
        let report = road.send(refused, 5, RETRY).await;
        assert_eq!((report.totals.expired, report.attempts), (5, 0), "{auth:?}: {report:?}");
    }
    for method in [Mechanism::Xoauth2, Mechanism::Oauthbearer] {
        road.stage.node.state = road.stage.folder.path().join(format!("{method:?}"));
        let auth = Auth { token_file: road.secret("no.such.token"), method: Some(method), ..nobody() };
        let refused = relay("mx.wrapped.test", server.port, RelayTls::Implicit, Some(auth));
        let report = road.send(refused, 5, RETRY).await;
        assert_eq!((report.totals.expired, report.attempts), (5, 0), "{method:?}: {report:?}");
    }
    let log = server.log();
    for name in ["PLAIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"] {
        assert!(log.contains(&format!("SASL {name} authentication failed")), "{name}\n{log}");
    }
    assert!(server.mail(0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_the_certificate_of_another_hears_no_password() {
    let Some(host) = Host::start(&["mx.other.test"]) else { return };
    let server = &host.postfix;
    let mut road = Road::to(server);
    for (name, tls) in [("mx.relay.test", RelayTls::Starttls), ("mx.wrapped.test", RelayTls::Implicit)] {
        road.stage.node.state = road.stage.folder.path().join(name);
        let auth = road.by_password(PASSWORD, None);
        let report = road.send(relay(name, server.port, tls, Some(auth)), 5, RETRY).await;
        assert_eq!((report.totals.expired, report.attempts), (5, 0), "{report:?}");
    }
    assert!(logins(&server.log()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_rate_holds_over_all_sites() {
    let Some(sink) = Server::smtp_sink(&[]) else { return };
    let world = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\" }]\n\
                 [[provider]]\nname = \"b\"\ndomains = [\"b.test\"]\nmx = [{ host = \"mx.b.test\" }]\n";
    let mut stage = Stage::new(world, "[sources.direct]\n[sources.relay]\n");
    let account = Relay {
        messages: vec!["20/s burst 1".parse().unwrap()],
        ..relay("127.0.0.1", sink.port, RelayTls::Off, None)
    };
    stage.node.sources.get_mut("relay").unwrap().relay = Some(account);
    let run = stage.run(&stage.campaign(&list(800, |n| ["a.test", "b.test"][n % 2].into()), ""));
    let mut reach = stage.world.smtp_addresses();
    reach.insert(SocketAddr::from((Ipv4Addr::LOCALHOST, sink.port)));
    let began = Instant::now();
    let options = Options::new(Reach::World(Arc::new(reach)));
    let running = engine::start(stage.node.clone(), run, options).await.unwrap();
    let report = tokio::time::timeout(PATIENCE, running.finished()).await.unwrap().unwrap();
    let span = began.elapsed();
    assert_eq!((report.totals.delivered, report.attempts), (800, 800), "{report:?}");
    let relayed = sink.mail(1).len();
    let direct: u64 = stage.counts().providers.iter().map(|provider| provider.accepted).sum();
    assert_eq!(relayed as u64 + direct, 800);
    // Two paths of the relay's source, one a site, and the account's rate once.
    let allowed = 20.0 * span.as_secs_f64() + 1.0;
    assert!((10.0..=allowed).contains(&(relayed as f64)), "{relayed} in {span:?}, {allowed} allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_sessions_and_messages_per_session_hold() {
    let world = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\" }]\n";
    for (sessions, messages_per_session) in [(2, 40), (15, 200)] {
        let mut stage = Stage::new(world, "");
        let address = stage.world.host("mx.a.test").unwrap();
        let account = Relay {
            messages: vec!["unlimited".parse().unwrap()],
            sessions: Some(sessions),
            messages_per_session: Some(messages_per_session),
            ..relay(&address.ip().to_string(), address.port(), RelayTls::Off, None)
        };
        stage.node.sources.insert(DEFAULT.to_owned(), Source { relay: Some(account), ..Source::default() });
        let report = stage.send(&list(400, |_| "a.test".into()), "").await;
        assert_eq!((report.totals.delivered, report.attempts), (400, 400), "{report:?}");
        let counts = stage.counts();
        assert!(counts.paths.iter().all(|path| path.connections_peak <= sessions), "{:?}", counts.paths);
        let connections: u32 =
            counts.paths.iter().flat_map(|path| &path.seconds).map(|second| second.connections).sum();
        assert!(connections >= 400 / messages_per_session, "{connections} connections");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_address_is_not_here_is_told_and_left_out() {
    let world = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\" }]\n";
    // Reserved for documentation (RFC 5737, RFC 3849).
    let gone = "[sources.gone]\nipv4 = \"192.0.2.1\"\nipv6 = \"2001:db8::1\"\n";
    let stage =
        Stage::new(world, &format!("{gone}[sources.here]\nipv4 = \"127.0.0.5\"\nipv6 = \"2001:db8::1\"\n"));
    let report = stage.send(&list(20, |_| "a.test".into()), "").await;
    assert_eq!(report.totals.delivered, 20);
    let told = |what: &str| report.warnings.iter().filter(|warning| warning.contains(what)).count();
    assert_eq!((told("source `gone`: 192.0.2.1"), told("2001:db8::1")), (1, 2), "{:?}", report.warnings);
    assert!(stage.counts().paths.iter().all(|path| path.source == Ipv4Addr::new(127, 0, 0, 5)));

    let stage = Stage::new(world, gone);
    let run = stage.run(&stage.campaign(&list(20, |_| "a.test".into()), ""));
    let error = stage.start(run).await.err().expect("no source is left").to_string();
    assert!(error.contains("no source of pool \"default\"") && error.contains("[sources.gone]"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_is_told_before_anything_is_sent() {
    let mut stage = Stage::new(WORLD, "");
    let auth = Auth { password_env: Some("POSTROAD_TEST_NO_SUCH_SECRET".into()), ..nobody() };
    let relay = relay("mx.relay.test", 587, RelayTls::Starttls, Some(auth));
    stage.node.sources.insert(DEFAULT.to_owned(), Source { relay: Some(relay), ..Source::default() });
    let run = stage.run(&stage.campaign(&list(1, |_| "a.test".into()), ""));
    let error = stage.start(run).await.err().expect("no password").to_string();
    assert!(error.contains("source `default`") && error.contains("POSTROAD_TEST_NO_SUCH_SECRET"), "{error}");
}
