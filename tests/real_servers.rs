//! A campaign reaches people through servers nobody here wrote, and is read there as it was meant.
//!
//! The world only answers for the DNS. Servers that are not here are skipped by name.

#[path = "support/servers.rs"]
mod servers;
mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mail_parser::{Message, MessageParser};
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::engine::{self, Options};
use postroad::metrics::{Report, Totals};
use postroad::smtp::Reach;
use servers::{Server, skipped};
use support::{PATIENCE, Stage};

/// Dots where SMTP stumbles over them, at the start of lines and alone, and a text that does not end there.
const TEXT: &str =
    "Hello {{ name }},\n\n.\n..\n.hidden\n{{ note }}\n.{{ note }}\n\nto {{ email }}\n.\nQUIT\n.\n";
const HTML: &str = "<p>Hello {{ name }}</p>\n.\n<p>{{ note }}</p>\n";

/// What people's notes are made of, in turn: as plain as can be, a lone dot, a line longer than SMTP
/// allows, other scripts, several lines.
fn note(number: usize) -> String {
    match number % 5 {
        0 => "nothing in particular".into(),
        1 => ".".into(),
        2 => "long ".repeat(400) + &"x".repeat(1_500),
        3 => "Grüße aus 東京, مرحبا 🎉".into(),
        _ => "one\n.\n..\nfour".into(),
    }
}

fn name(number: usize) -> String {
    if number.is_multiple_of(3) { format!("Jörg {number}") } else { format!("Ann {number}") }
}

/// Servers of another program, by domain, as the DNS names them, and a campaign to people there.
struct Road {
    stage: Stage,
    addresses: Vec<Ipv4Addr>,
    people: Vec<String>,
}

impl Road {
    fn to(server: &Server, hosts: &[(&str, Ipv4Addr)]) -> Self {
        let world: String = hosts
            .iter()
            .map(|(domain, address)| {
                format!(
                    "[[provider]]\nname = \"{domain}\"\ndomains = [\"{domain}\"]\n\
                     [[provider.mx]]\nhost = \"mx.{domain}\"\nserved_at = \"{address}\"\n"
                )
            })
            .collect();
        let mut stage = Stage::new(&world, "[shaping.default]\nmessages = \"unlimited\"\n");
        stage.node.smtp_port = server.port;
        Self { stage, addresses: hosts.iter().map(|(_, address)| *address).collect(), people: Vec::new() }
    }

    fn campaign(&self, extra: &str) -> PathBuf {
        let folder = self.stage.folder.path().join("campaign");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("message.txt"), TEXT).unwrap();
        fs::write(folder.join("message.html"), HTML).unwrap();
        let mut list = String::from("email,name,note\n");
        for (number, person) in self.people.iter().enumerate() {
            list.push_str(&format!("{person},{},\"{}\"\n", name(number), note(number)));
        }
        fs::write(folder.join("recipients.csv"), list).unwrap();
        fs::write(
            folder.join("campaign.toml"),
            format!(
                "name = \"real\"\nfrom = \"Sender <news@sender.test>\"\nreturn_path_domain = \"b.sender.test\"\n\
                 subject = \"Grüße, {{{{ name }}}}\"\ntext = \"message.txt\"\nhtml = \"message.html\"\n\
                 {extra}\n[list]\nfile = \"recipients.csv\"\n"
            ),
        )
        .unwrap();
        folder
    }

    /// Sends to `people` and to no one else.
    async fn send(&mut self, people: impl IntoIterator<Item = String>, extra: &str) -> Report {
        self.people = people.into_iter().collect();
        let manifest = Manifest::open(&self.campaign(extra)).unwrap_or_else(|error| panic!("{error}"));
        let run = Run::create(&self.stage.node.state, manifest, None).unwrap();
        let port = self.stage.node.smtp_port;
        let reach = self.addresses.iter().map(|address| SocketAddr::from((*address, port))).collect();
        let options = Options::new(Reach::World(Arc::new(reach)));
        let running = engine::start(self.stage.node.clone(), run, options).await.unwrap();
        let report = tokio::time::timeout(PATIENCE, running.finished()).await;
        report.expect("the run should have ended").unwrap()
    }

    /// Each of `people` for whom `is_there` holds has the message once, as it was meant; no one else has any.
    fn arrived(&self, mail: &[Vec<u8>], is_there: impl Fn(&str) -> bool) {
        let mut boxes: BTreeMap<String, Vec<Message<'_>>> = BTreeMap::new();
        for octets in mail {
            let message = MessageParser::default().parse(octets).unwrap();
            let to = message.to().unwrap().first().unwrap().address().unwrap().to_owned();
            boxes.entry(to).or_default().push(message);
        }
        for (number, person) in self.people.iter().enumerate().filter(|(_, person)| is_there(person)) {
            let messages = boxes.remove(person).unwrap_or_default();
            assert_eq!(messages.len(), 1, "{person} has {} messages", messages.len());
            let message = &messages[0];
            let meant = |template: &str| {
                template
                    .replace("{{ name }}", &name(number))
                    .replace("{{ note }}", &note(number))
                    .replace("{{ email }}", person)
            };
            let read = |text: Option<std::borrow::Cow<'_, str>>| text.unwrap().replace("\r\n", "\n");
            assert_eq!(read(message.body_text(0)), meant(TEXT), "{person}");
            assert_eq!(read(message.body_html(0)), meant(HTML), "{person}");
            assert_eq!(message.subject(), Some(format!("Grüße, {}", name(number)).as_str()));
        }
        assert!(boxes.is_empty(), "no one asked for these: {:?}", boxes.keys());
    }
}

fn people(count: usize, domain: &str) -> Vec<String> {
    (0..count).map(|number| format!("u{number}@{domain}")).collect()
}

/// What stands after `name: ` in the first lines of each message.
fn values<'a>(mail: &'a [Vec<u8>], name: &str) -> Vec<&'a str> {
    let value = |message: &'a Vec<u8>| {
        let end = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let header = std::str::from_utf8(&message[..end]).unwrap();
        header.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    mail.iter().filter_map(value).collect()
}

const SINK: [(&str, Ipv4Addr); 1] = [("sink.test", Ipv4Addr::LOCALHOST)];

async fn sink_gets_everything(switches: &[&str]) {
    let Some(server) = Server::smtp_sink(switches) else { return };
    let mut road = Road::to(&server, &SINK);
    let report = road.send(people(200, "sink.test"), "").await;
    assert_eq!((report.totals.delivered, report.attempts), (200, 200), "{report:?}");
    let mail = server.mail(200);
    road.arrived(&mail, |_| true);
    let mut recipients = values(&mail, "X-Rcpt-Args");
    let mut meant: Vec<String> = road.people.iter().map(|person| format!("<{person}>")).collect();
    recipients.sort_unstable();
    meant.sort_unstable();
    assert_eq!(recipients, meant);
    let return_paths: HashSet<&str> = values(&mail, "X-Mail-Args").into_iter().collect();
    assert_eq!(return_paths.len(), 200, "everyone has a return path of their own");
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_sink_gets_everything() {
    sink_gets_everything(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_sink_without_pipelining_gets_everything() {
    sink_gets_everything(&["-p"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_sink_with_nothing_but_pipelining_gets_everything() {
    sink_gets_everything(&["-8", "-a", "-C", "-E", "-F", "-N"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_sink_without_esmtp_gets_everything() {
    sink_gets_everything(&["-e"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_sink_behind_a_pix_gets_everything() {
    sink_gets_everything(&["-P"]).await;
}

/// Ten people at a sink that fails at a command; everyone must end in the same disposition.
async fn sink_fails(switches: &[&str], expected: Totals) {
    let Some(server) = Server::smtp_sink(switches) else { return };
    let mut road = Road::to(&server, &SINK);
    // A path on which nothing works rests between its sessions: what is to be settled has time for that.
    let expiry = if expected.expired == 0 { "1m" } else { "1s" };
    let retry = "in_doubt = \"skip\"\n[retry]\nschedule = [\"100ms\"]\nexpiry = \"@\"".replace('@', expiry);
    let report = road.send(people(10, "sink.test"), &retry).await;
    assert_eq!(report.totals, Totals { rows: 10, ..expected }, "{switches:?}: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_refusal_by_smtp_sink_bounces_only_where_it_is_about_the_recipient() {
    for command in ["RCPT", "DATA", "."] {
        sink_fails(&["-f", command], Totals { bounced: 10, ..Totals::default() }).await;
    }
    for command in ["CONNECT", "MAIL"] {
        sink_fails(&["-f", command], Totals { expired: 10, ..Totals::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_smtp_sink_puts_off_is_tried_until_it_expires() {
    for command in ["CONNECT", "MAIL", "RCPT", "DATA", "."] {
        sink_fails(&["-r", command], Totals { expired: 10, ..Totals::default() }).await;
        sink_fails(&["-Q", command], Totals { expired: 10, ..Totals::default() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_of_smtp_sink_leaves_in_doubt_only_what_was_sent_whole() {
    for command in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"] {
        sink_fails(&["-q", command], Totals { expired: 10, ..Totals::default() }).await;
    }
    sink_fails(&["-q", "."], Totals { in_doubt: 10, ..Totals::default() }).await;
    sink_fails(&["-q", "QUIT"], Totals { delivered: 10, ..Totals::default() }).await;
}

const POSTFIX: [(&str, Ipv4Addr); 3] = [
    ("chunking.test", Ipv4Addr::new(127, 0, 0, 1)),
    ("pipelining.test", Ipv4Addr::new(127, 0, 0, 2)),
    ("lockstep.test", Ipv4Addr::new(127, 0, 0, 3)),
];

#[tokio::test(flavor = "multi_thread")]
async fn postfix_gets_everything_in_each_mode_and_refuses_only_whom_it_does_not_know() {
    let Some(server) = Server::postfix() else { return };
    let mut road = Road::to(&server, &POSTFIX);
    let domains = POSTFIX.map(|(domain, _)| domain);
    let known = (0..300).map(|number| format!("u{number}@{}", domains[number % 3]));
    let unknown = domains.iter().map(|domain| format!("gone@{domain}"));
    let mut people: Vec<String> = known.collect();
    for (place, person) in unknown.enumerate() {
        people.insert(50 * place + 20, person);
    }
    let report = road.send(people, "tls = \"off\"").await;
    assert_eq!((report.totals.delivered, report.totals.bounced), (300, 3), "{report:?}\n{}", server.log());
    assert_eq!(report.attempts, 303, "no one had to be tried twice");
    let mail = server.mail(300);
    road.arrived(&mail, |person| !person.starts_with("gone"));
    let return_paths: HashSet<&str> = values(&mail, "Return-Path").into_iter().collect();
    assert_eq!(return_paths.len(), 300, "everyone has a return path of their own");
    let log = server.log();
    assert!(log.contains(" bdat="), "CHUNKING was used where it was offered:\n{log}");
    assert!(log.contains(" data="), "and DATA where it was not:\n{log}");
    assert!(!log.contains("improper command pipelining"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_gets_everything_over_tls_whose_certificate_is_verified() {
    let Some(server) = Server::postfix() else { return };
    let mut road = Road::to(&server, &POSTFIX);
    road.stage.node.tls_ca_file = Some(server.certificate());
    let everyone = POSTFIX.iter().flat_map(|(domain, _)| people(60, domain));
    let report = road.send(everyone, "tls = \"verified\"").await;
    assert_eq!(report.totals.delivered, 180, "{report:?}\n{}", server.log());
    let mail = server.mail(180);
    road.arrived(&mail, |_| true);
    let encrypted = |message: &&Vec<u8>| String::from_utf8_lossy(message).contains("using TLSv1.");
    assert_eq!(mail.iter().filter(encrypted).count(), 180);
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_gets_nothing_when_its_certificate_should_be_known_and_is_not() {
    let Some(server) = Server::postfix() else { return };
    let mut road = Road::to(&server, &POSTFIX[..1]);
    let manifest = "tls = \"verified\"\n[retry]\nschedule = [\"100ms\"]\nexpiry = \"1s\"";
    let report = road.send(people(5, "chunking.test"), manifest).await;
    assert_eq!(report.totals.expired, 5, "{report:?}");
    assert!(server.mail(0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_gets_everything() {
    let Some(server) = Server::open_smtpd() else { return };
    let mut road = Road::to(&server, &[("open.test", Ipv4Addr::LOCALHOST)]);
    let report = road.send(people(100, "open.test"), "").await;
    assert_eq!((report.totals.delivered, report.attempts), (100, 100), "{report:?}\n{}", server.log());
    road.arrived(&server.mail(100), |_| true);
}

/// Prints how many signatures verify, a line a message; arguments: records, `|`, files.
const DKIMPY: &str = "
import sys, dkim
split = sys.argv.index('|')
records = {name.encode(): value.encode() for name, value in (a.split(' ', 1) for a in sys.argv[1:split])}
find = lambda name, timeout=5: records[name]
for file in sys.argv[split + 1:]:
    d = dkim.DKIM(open(file, 'rb').read())
    print(*sorted(d.verify(idx=i, dnsfunc=find) and d.signature_fields[b'a'].decode() for i in range(2)))
";

#[tokio::test(flavor = "multi_thread")]
async fn dkimpy_verifies_both_signatures_of_what_postfix_delivered() {
    let here = Command::new("python3").args(["-c", "import dkim, nacl"]).output();
    if !here.is_ok_and(|run| run.status.success()) {
        return skipped("dkimpy", "python3 -m pip install dkimpy pynacl");
    }
    let Some(server) = Server::postfix() else { return };
    let mut road = Road::to(&server, &POSTFIX);
    let everyone = POSTFIX.iter().flat_map(|(domain, _)| people(10, domain));
    let keys = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    let key = |selector: &str, file: &str| {
        let path = keys.join(file);
        format!(
            "[[dkim]]\ndomain = \"sender.test\"\nselector = \"{selector}\"\nkey_file = {:?}\n",
            path.display().to_string()
        )
    };
    let both = key("r1", "rsa2048.pkcs8.pem") + &key("e1", "ed25519.pkcs8.pem");
    let report = road.send(everyone, &both).await;
    assert_eq!(report.totals.delivered, 30, "{report:?}\n{}", server.log());
    // The records as an operator would write them, from the public keys.
    let public =
        |file: &str| fs::read_to_string(keys.join(file)).unwrap().split_whitespace().collect::<String>();
    let records = [
        format!("r1._domainkey.sender.test. v=DKIM1; k=rsa; p={}", public("rsa2048.public.base64")),
        format!("e1._domainkey.sender.test. v=DKIM1; k=ed25519; p={}", public("ed25519.public.base64")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, message) in server.mail(30).iter().enumerate() {
        files.push(folder.path().join(number.to_string()));
        fs::write(&files[number], message).unwrap();
    }
    let python = Command::new("python3").args(["-c", DKIMPY]).args(&records).arg("|").args(&files).output();
    let python = python.unwrap();
    let verified = String::from_utf8_lossy(&python.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&python.stderr).into_owned();
    assert_eq!(verified, "ed25519-sha256 rsa-sha256\n".repeat(30), "{complaint}");
}
