//! The promise: what SpamAssassin and Rspamd say of a message is told before it is sent, with the rules that
//! hit; both run here for real. One that cannot be asked is named and costs nothing but a warning.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postroad::config::spam::{Place, Spam};
use postroad::preflight::{Finding, Findings, Severity, spam};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::time::Instant;

/// Both read thousands of rules before they listen.
const PATIENCE: Duration = Duration::from_secs(180);
/// The message that every filter must take for spam (https://spamassassin.apache.org/gtube/).
const GTUBE: &str = "From: us@sender.test\r\nTo: a@one.test\r\nSubject: Test\r\nMessage-ID: <gtube.1@sender.test>\r\n\
    Date: Sun, 22 Nov 2026 09:00:00 +0000\r\n\r\n\
    XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n";

/// A daemon of this test, with all its children; ended when dropped.
struct Daemon {
    child: Child,
    folder: TempDir,
    at: SocketAddr,
}

impl Daemon {
    /// Starts `command` and waits until it listens; `None`, and says so, if it is not installed.
    async fn start(name: &str, mut command: Command, folder: TempDir, at: SocketAddr) -> Option<Self> {
        let log = File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let _ = writeln!(std::io::stderr(), "skipped: {name}");
                return None;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let mut daemon = Self { child, folder, at };
        let began = Instant::now();
        while TcpStream::connect(at).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{name} ended with {ended:?}:\n{}", daemon.log());
            assert!(began.elapsed() < PATIENCE, "{name} does not listen:\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(daemon)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn place(&self) -> Place {
        self.at.to_string().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // Asked to, they end their children; whatever is left of the group then is ended.
        let _ = kill_process_group(group, Signal::TERM);
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A place on loopback where nobody listens now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// With the rules that are installed, local tests only, and nothing of what is set for this machine.
async fn spamassassin() -> Option<Daemon> {
    let folder = tempfile::tempdir().unwrap();
    let plugins = std::fs::read_dir("/etc/spamassassin").into_iter().flatten().flatten();
    for plugin in plugins.filter(|file| file.path().extension().is_some_and(|extension| extension == "pre")) {
        std::fs::copy(plugin.path(), folder.path().join(plugin.file_name())).unwrap();
    }
    std::fs::write(folder.path().join("local.cf"), "use_bayes 0\n").unwrap();
    let at = free();
    let mut command = Command::new(program("spamd"));
    command
        .args(["--local", "--nouser-config", "--max-children=1", "--syslog=stderr"])
        .arg(format!("--listen={at}"))
        .arg(format!("--siteconfigpath={}", folder.path().display()))
        .arg(format!("--socketpath={}", folder.path().join("socket").display()));
    if rustix::process::geteuid().is_root() {
        // It refuses to work as root.
        command.arg("--username=nobody");
    }
    Daemon::start("spamassassin", command, folder, at).await
}

/// With the rules that are installed, without Redis and without a DNS server.
async fn rspamd() -> Option<Daemon> {
    let folder = tempfile::tempdir().unwrap();
    let at = free();
    let here = folder.path().display();
    let settings = format!(
        r#"
        lua = "$RULESDIR/rspamd.lua"
        .include "$CONFDIR/metrics.conf"
        .include "$CONFDIR/actions.conf"
        .include "$CONFDIR/groups.conf"
        .include "$CONFDIR/composites.conf"
        options {{
            filters = "chartable,regexp";
            pidfile = "{here}/pid";
            cache_file = "{here}/symbols.cache";
            hs_cache_dir = "{here}";
            tempdir = "{here}";
            control_socket = "{here}/control";
            url_tld = "${{SHAREDIR}}/effective_tld_names.dat";
            dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; sockets = 1; }}
        }}
        logging {{ type = "console"; level = "notice"; }}
        worker "normal" {{ bind_socket = ["{at}", "{here}/socket"]; count = 1; mime = true; }}
        modules {{ path = "${{PLUGINSDIR}}"; }}
        "#
    );
    let file = folder.path().join("rspamd.conf");
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new(program("rspamd"));
    command.args(["--no-fork", "--insecure", "--config"]).arg(file);
    Daemon::start("rspamd", command, folder, at).await
}

/// Daemons are often where only root looks.
fn program(name: &str) -> String {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() { sbin.display().to_string() } else { name.to_owned() }
}

/// The message of a shipped campaign's first row.
fn clean() -> Vec<u8> {
    let campaign = Path::new(env!("CARGO_MANIFEST_DIR")).join("campaigns/welcome");
    let output = Command::new(env!("CARGO_BIN_EXE_postroad"))
        .args(["preview", "--eml"])
        .arg(campaign)
        .output()
        .expect("the program starts");
    assert!(output.status.success());
    output.stdout
}

async fn found(settings: &Spam, messages: &[(u64, Vec<u8>)]) -> Vec<Finding> {
    let mut findings = Findings::default();
    spam::check(settings, messages, &mut findings).await;
    findings.sorted()
}

/// Clean and spam, alone and together, at a place that is a socket on loopback and one that is a file.
async fn judged(daemon: &Daemon, settings: impl Fn(Place) -> Spam) {
    let socket = Place::Unix(daemon.folder.path().join("socket"));
    for place in [daemon.place(), socket] {
        let settings = settings(place);
        let findings = found(&settings, &[(1, clean())]).await;
        let [finding] = &findings[..] else { panic!("{findings:?}\n{}", daemon.log()) };
        assert_eq!((finding.severity, finding.count), (Severity::Note, 1), "{finding:?}");
        assert!(finding.what.contains("the message of row 1 a score of "), "{finding:?}");

        let samples = [(1, clean()), (50, GTUBE.as_bytes().to_vec()), (99, clean())];
        let findings = found(&settings, &samples).await;
        let [finding] = &findings[..] else { panic!("{findings:?}\n{}", daemon.log()) };
        assert_eq!((finding.severity, finding.count), (Severity::Error, 1), "{finding:?}");
        assert!(finding.what.contains("the message of row 50 a score of "), "{finding:?}");
        assert!(finding.examples[0].starts_with("GTUBE"), "{finding:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spamassassin_tells_spam_from_a_campaign() {
    let Some(daemon) = spamassassin().await else { return };
    judged(&daemon, |place| Spam { spamd: Some(place), ..Spam::default() }).await;
    let settings = Spam { spamd: Some(daemon.place()), ..Spam::default() };
    let finding = found(&settings, &[(1, GTUBE.as_bytes().to_vec())]).await.remove(0);
    assert_eq!(finding.what, "SpamAssassin gives the message of row 1 a score of 1000.0 of 5.0");
    // Points and words are those of the rule as it is shipped.
    assert_eq!(finding.examples[0], "GTUBE 1000.0: BODY: Generic Test for Unsolicited Bulk Email");
}

#[tokio::test(flavor = "multi_thread")]
async fn rspamd_tells_spam_from_a_campaign() {
    let Some(daemon) = rspamd().await else { return };
    judged(&daemon, |place| Spam { rspamd: Some(place), ..Spam::default() }).await;
    let settings = Spam { rspamd: Some(daemon.place()), ..Spam::default() };
    let finding = found(&settings, &[(1, GTUBE.as_bytes().to_vec())]).await.remove(0);
    assert_eq!(finding.what, "Rspamd gives the message of row 1 a score of 15.0 of 15.0 (reject)");
}

#[tokio::test]
async fn a_filter_that_is_not_there_is_a_warning_with_its_place() {
    let at = free();
    let place: Place = at.to_string().parse().unwrap();
    let socket = Place::Unix("/nowhere/spamd.sock".into());
    let settings = Spam { spamd: Some(socket), rspamd: Some(place), rspamd_password_env: None };
    let findings = found(&settings, &[(1, clean()), (2, clean())]).await;
    assert_eq!(findings.len(), 2, "each is named once: {findings:?}");
    for (finding, place) in findings.iter().zip(["/nowhere/spamd.sock", &at.to_string()]) {
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.what.contains(&format!(" at {place} gives no verdict: ")), "{finding:?}");
        assert!(finding.advice.contains("[check]"), "{finding:?}");
    }
}

#[tokio::test]
async fn nobody_is_asked_if_nobody_is_named() {
    assert_eq!(found(&Spam::default(), &[(1, clean())]).await, []);
}

/// A server that reads until the message has come and says `answer`; it gives what it has read.
fn answering(answer: Vec<u8>) -> (Place, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string().parse().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut piece) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"C.34X\r\n") {
            let count = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..count]);
        }
        // Whoever has read enough goes.
        let _ = stream.write_all(&answer);
        String::from_utf8(request).unwrap()
    });
    (place, served)
}

#[tokio::test]
async fn an_answer_that_is_none_is_told_and_bounded() {
    let long = |head: &str| [head.as_bytes(), &vec![b'x'; 2 << 20]].concat();
    let http = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
    for (answer, part) in [
        (b"220 mail.one.test ESMTP\r\n\r\n".to_vec(), "does not answer as spamd does"),
        (b"SPAMD/1.0 74 EX_IOERR\r\n\r\n".to_vec(), "it answers `74 EX_IOERR`"),
        (long("SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9 / 5\r\n\r\n"), "longer than 1 MiB"),
    ] {
        let (place, _) = answering(answer);
        let settings = Spam { spamd: Some(place), ..Spam::default() };
        let finding = found(&settings, &[(1, GTUBE.into())]).await.remove(0);
        assert!(finding.severity == Severity::Warning && finding.what.contains(part), "{finding:?}");
    }
    for (answer, part) in [
        (http("200 OK"), "does not answer as Rspamd does"),
        (http("403 Forbidden"), "rspamd_password_env"),
        (long("HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n"), "longer than 1 MiB"),
        (b"no http\r\n\r\n".to_vec(), "gives no verdict: "),
    ] {
        let (place, _) = answering(answer);
        let settings = Spam { rspamd: Some(place), ..Spam::default() };
        let finding = found(&settings, &[(1, GTUBE.into())]).await.remove(0);
        assert!(finding.severity == Severity::Warning && finding.what.contains(part), "{finding:?}");
    }
}

#[tokio::test]
async fn rspamd_gets_its_password_from_the_environment() {
    let verdict = r#"{"score":0,"required_score":15,"action":"no action"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{verdict}", verdict.len());
    let (place, served) = answering(answer.into_bytes());
    // Any variable that is set will do.
    let settings = Spam { rspamd: Some(place), rspamd_password_env: Some("PATH".into()), spamd: None };
    let finding = found(&settings, &[(1, GTUBE.into())]).await.remove(0);
    assert_eq!(finding.severity, Severity::Note, "{finding:?}");
    let request = served.join().unwrap();
    assert!(request.starts_with("POST /checkv2 HTTP/1.1\r\n"), "{request}");
    let password = format!("\r\npassword: {}\r\n", std::env::var("PATH").unwrap());
    assert!(request.contains(&password), "{request}");

    let place = free().to_string().parse().unwrap();
    let unset = Some("POSTROAD_TEST_NEVER_SET".into());
    let settings = Spam { rspamd: Some(place), rspamd_password_env: unset, spamd: None };
    let finding = found(&settings, &[(1, GTUBE.into())]).await.remove(0);
    assert!(finding.what.contains("variable POSTROAD_TEST_NEVER_SET"), "{finding:?}");
}
