//! The promise: another mailer's files become ours, pass our own checks, and no line without an equivalent
//! goes untold.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postroad::classify::{By, Class, Measure, RecipientAction, Rules, Threshold};
use postroad::config::Node;
use postroad::config::source::{Auth, RelayHost, SecretPlace};
use postroad::convert::{self, Converted, Kind};
use postroad::outcome::{Scope, Stage};
use postroad::reply::Reply;
use postroad::shaping::Tables;
use proptest::prelude::*;

const SHAPING: &str = include_str!("convert/shaping.toml");
const BOUNCES: &str = include_str!("convert/bounces.toml");
const POWERMTA: &str = include_str!("convert/powermta.conf");
const INCLUDED: &str = include_str!("convert/included.conf");

fn kumomta() -> Converted {
    let file = Path::new;
    convert::kumomta(&[(file("shaping.toml"), SHAPING)], &[(file("bounces.toml"), BOUNCES)]).unwrap()
}

fn powermta(text: &str) -> Converted {
    let mut open = |path: &Path| match path.to_str() {
        Some("etc/included.conf") => Ok(INCLUDED.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    convert::powermta(Path::new("etc/config"), text, &mut open)
}

/// Everything that our own readers and checks have to say.
fn faults(converted: &Converted) -> Vec<String> {
    let mut faults = Vec::new();
    let mut tables = Tables::shipped();
    match Tables::read(Path::new("shaping.toml"), &converted.shaping, None) {
        Ok(read) => tables.lay(read),
        Err(found) => faults.extend(found),
    }
    faults.extend(tables.check(None).err().unwrap_or_default());
    let providers: Vec<&str> = tables.providers().map(|(name, _)| name).collect();
    match Rules::read(&[(Path::new("replies.toml"), &converted.replies)]) {
        Ok(rules) => faults.extend(rules.unknown_providers(&providers)),
        Err(found) => faults.extend(found),
    }
    let mut faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.extend(
        Node::parse(Path::new("postroad.toml"), &converted.settings).err().map(|error| error.to_string()),
    );
    faults
}

/// The lines of one kind that the report names in `file`, with what they are about.
fn told(converted: &Converted, file: &str, kind: Kind) -> Vec<(usize, String)> {
    let remarks = converted.remarks.iter().filter(|remark| remark.kind == kind);
    let of_file = remarks.filter(|remark| &*remark.place.file == Path::new(file));
    of_file.map(|remark| (remark.place.line, remark.subject.clone())).collect()
}

/// Says which of `text`'s lines holds `part`; 1 is the first.
fn line(text: &str, part: &str) -> usize {
    1 + text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} is nowhere"))
}

fn why(converted: &Converted, line: usize, subject: &str) -> String {
    let mut remarks = converted.remarks.iter();
    let found = remarks.find(|remark| remark.place.line == line && remark.subject.contains(subject));
    found.unwrap_or_else(|| panic!("nothing is told of {subject} on line {line}")).why.clone()
}

fn limits(converted: &Converted) -> toml::Table {
    converted.shaping.parse().unwrap()
}

fn section(table: &str) -> toml::Table {
    table.parse().unwrap()
}

/// What the converted rules say of a reply to RCPT.
fn verdict(rules: &Rules, provider: Option<&str>, reply: (u16, &str)) -> Option<postroad::classify::Verdict> {
    let reply = Reply::new(reply.0, reply.1).unwrap();
    let verdict = rules.classify(provider, Stage::Rcpt, &reply);
    match verdict.by {
        By::Rule(id) if !rules.rule(id).is_shipped() => Some(verdict),
        _ => None,
    }
}

fn rules(converted: &Converted) -> Rules {
    Rules::read(&[(Path::new("replies.toml"), &converted.replies)]).unwrap()
}

#[test]
fn what_is_written_passes_our_own_checks() {
    assert_eq!(faults(&kumomta()), [""; 0]);
    assert_eq!(faults(&powermta(POWERMTA)), [""; 0]);
    let nothing = powermta("");
    assert_eq!(faults(&nothing), [""; 0]);
    assert!(nothing.remarks.is_empty());
}

#[test]
fn limits_of_kumomta_become_ours() {
    let limits = limits(&kumomta());
    let expected = section(
        r#"
        [default]
        sessions = 10
        connections = "100/min"
        messages = "1000/h burst 5"
        messages_per_session = 100
        tls = "opportunistic"
        idle = "1m"
        timeouts = { greeting = "1m", content_end = "1m" }
        [source.ip-1]
        messages = "50/s"
        [provider.google]
        sessions_total = 5
        sessions = 5
        messages_total = "200/s"
        tls = "verified"
        [provider.workspace]
        sessions_total = 5
        sessions = 5
        messages_total = "200/s"
        tls = "verified"
        [provider.barracuda]
        sessions = 10
        messages_per_session = 15
        tls = "required"
        [provider.hosted]
        replace = true
        sessions = 3
        mx = ["mx1.hosted.example", ".mx.pool.example", "mx.pool.example"]
        [domain."shops.example"]
        replace = true
        sessions = 3
        [domain."apple.example"]
        messages_per_session = 5
        [domain."unknown.example"]
        sessions = 2
        "#,
    );
    assert_eq!(limits, expected);
    let google = r#"[provider."google"]"#;
    assert_eq!(
        why(&kumomta(), line(SHAPING, google), google),
        "here these are the providers google, workspace, each with the limits and totals of its own"
    );
    let settings: toml::Table = kumomta().settings.parse().unwrap();
    assert_eq!(settings["ehlo_name"].as_str(), Some("mail.sender.example"));
    assert_eq!(settings["sources"]["ip-1"]["ehlo"].as_str(), Some("ip-1.sender.example"));
}

#[test]
fn a_provider_that_is_said_anew_stays_who_it_is() {
    let text = "[provider.google]\nmatch = [{MXSuffix = \".google.com\"}]\nreplace_base = true\n\
                connection_limit = 3\n\
                [[provider.google.automation]]\nregex = \"go away\"\naction = \"Suspend\"\nduration = \"1h\"\n\
                [provider.yahoo]\nreplace_base = true\nconnection_limit = 2\n";
    let converted = convert::kumomta(&[(Path::new("f"), text)], &[]).unwrap();
    assert_eq!(faults(&converted), [""; 0]);
    let expected = section(
        r#"
        [provider.google]
        replace = true
        sessions = 3
        mx = ["gmail-smtp-in.l.google.com", ".gmail-smtp-in.l.google.com"]
        [provider.workspace]
        replace = true
        sessions = 3
        mx = [".google.com", ".googlemail.com"]
        replies = "google"
        [provider.yahoo]
        replace = true
        sessions = 2
        mx = [".yahoodns.net"]
        "#,
    );
    assert_eq!(limits(&converted), expected);
    assert!(converted.replies.contains("provider = \"google\"\n"), "{}", converted.replies);
}

#[test]
fn automation_of_kumomta_becomes_reply_rules() {
    assert!(!kumomta().replies.contains("workspace"), "its replies are google's");
    let rules = rules(&kumomta());
    let measure = |provider, reply| {
        let verdict =
            verdict(&rules, provider, reply).unwrap_or_else(|| panic!("{reply:?} lands on no rule"));
        (verdict.class, verdict.scope, verdict.measure.unwrap(), verdict.threshold)
    };
    let per = |count, hours: u64| Some(Threshold { count, within: Duration::from_secs(3600 * hours) });
    let suspend =
        |minutes: u64| Measure::Suspend { lasting: Duration::from_secs(60 * minutes), resume: 0.25 };
    assert_eq!(
        measure(Some("google"), (421, "4.7.28 An unusual rate of unsolicited mail from you")),
        (Class::RateLimited, Scope::Path, Measure::Slow(0.5), per(2, 1))
    );
    assert_eq!(
        measure(Some("google"), (421, "connections limit exceeded")),
        (Class::PoorReputation, Scope::Path, suspend(120), None)
    );
    assert_eq!(
        measure(Some("outlook"), (421, "4.3.2 The sender has exceeded the maximum number of connections")),
        (Class::TooManyConnections, Scope::Path, Measure::Narrow, per(3, 1))
    );
    assert_eq!(
        measure(Some("apple"), (554, "5.7.1 [CS01] Message rejected due to local policy")),
        (Class::DomainReputation, Scope::SendingDomain, Measure::PauseDomain(Duration::from_secs(300)), None)
    );
    assert_eq!(measure(Some("apple"), (554, "5.7.1 [CS02] Message rejected")).2, Measure::PauseCampaign);
    assert_eq!(
        measure(None, (451, "deferred because of unusual traffic")),
        (Class::RateLimited, Scope::Path, Measure::Slow(0.5), None)
    );
    // A domain's rules are its provider's, nobody else's.
    assert_eq!(verdict(&rules, Some("yahoo"), (421, "connections limit exceeded")), None);
}

#[test]
fn bounce_rules_of_kumomta_become_classes_without_measures() {
    let rules = rules(&kumomta());
    let of = |reply| {
        verdict(&rules, None, reply).map(|verdict| (verdict.class, verdict.recipient, verdict.measure))
    };
    assert_eq!(of((550, "5.1.1 whatever")), Some((Class::UnknownUser, RecipientAction::Suppress, None)));
    assert_eq!(
        of((550, "no: mailbox not found")),
        Some((Class::UnknownUser, RecipientAction::Suppress, None))
    );
    assert_eq!(of((452, "mailbox not found")), None);
    assert_eq!(
        of((554, "5.7.9 Message not accepted [TSS12]")),
        Some((Class::SourceBlocked, RecipientAction::Retry, None))
    );
    assert_eq!(of((553, "5.7.9 Message not accepted [TSS12]")), None);
    assert_eq!(of((554, "4.7.9 Message not accepted [TSS12]")), None);
    assert_eq!(
        of((552, "the user is over quota")),
        Some((Class::MailboxFull, RecipientAction::Bounce, None))
    );
}

#[test]
fn every_line_of_kumomta_without_an_equivalent_is_told() {
    let converted = kumomta();
    let lost: Vec<usize> =
        told(&converted, "shaping.toml", Kind::Lost).iter().map(|(line, _)| *line).collect();
    let expected = [
        "remember_broken_tls",
        "enable_mta_sts",
        "max_ready",
        "additional_message_rate_throttles",
        "hunter2",
        r#"{name="connection_limit", value=1}}]"#,
        "provider_source_selection_rate",
        "match_internal",
        "BounceTenant",
    ]
    .map(|part| line(SHAPING, part));
    for line in expected {
        assert!(lost.contains(&line), "line {line} is not told: {lost:?}");
    }
    // The rest of them: a source towards one provider, the doubles, the provider of nobody, the defect of
    // the backslashes, a rule for a domain whose provider is not known.
    assert_eq!(lost.len(), expected.len() + 6, "{:#?}", told(&converted, "shaping.toml", Kind::Lost));
    let lost = told(&converted, "bounces.toml", Kind::Lost);
    let parts =
        [r"^5\.5\.0", r"\.dnsbl", "for good", "MessageExpired", "OurOwn"].map(|part| line(BOUNCES, part));
    assert_eq!(lost.iter().map(|(line, _)| *line).collect::<Vec<_>>(), parts);
    // No secret is anywhere.
    let all = [&converted.settings, &converted.shaping, &converted.replies].map(String::as_str).concat();
    let report: String = converted.remarks.iter().map(ToString::to_string).collect();
    assert!(!all.contains("hunter2") && !report.contains("hunter2"));
}

#[test]
fn the_defects_of_shipped_files_are_told() {
    let converted = kumomta();
    let rule = |part| line(SHAPING, part);
    // 1: automation without a match.
    let first = why(&converted, rule(r#"provider."gmail".automation"#), "gmail");
    assert!(first.contains("no `match`") && first.contains("`google`"), "{first}");
    let nobody = why(&converted, rule(r#"provider."nowhere".automation"#), "nowhere");
    assert!(nobody.contains("none of its 1 rules ever fires"), "{nobody}");
    // 2: a suffix that ends in a dot, repaired.
    let dot = why(&converted, rule(".barracudanetworks.com."), "MXSuffix");
    assert!(dot.contains("ends in a dot"), "{dot}");
    // 3: a backslash too many.
    assert!(why(&converted, rule("HCM1"), "HCM1").contains("never matched"));
    // 4: one expression in two rules, the second of which is named with the first's line.
    let doubled = "Server busy";
    let first = rule(doubled);
    let second = first + 1 + SHAPING.lines().skip(first).position(|line| line.contains(doubled)).unwrap();
    assert!(why(&converted, second, doubled).contains(&format!("line {first}")));
}

#[test]
fn limits_of_powermta_become_ours() {
    let limits = limits(&powermta(POWERMTA));
    let expected = section(
        r#"
        [source.v1]
        messages = "20/h"
        [domain."comcast.net"]
        sessions = 25
        messages_per_session = 1000
        [provider.google]
        sessions = 15
        [provider.workspace]
        sessions = 15
        [provider.pool]
        mx = [".mx.pool.example"]
        sessions = 4
        [default]
        sessions = 20
        connections = "10/min"
        messages_per_session = 100
        idle = "30s"
        expiry = "4d12h"
        retry = ["10m", "30m", "2h"]
        timeouts = { content_end = "10m" }
        tls = "opportunistic"
        [domain."yahoo.com"]
        messages = "2000/30m"
        tls = "required"
        [domain."yahoo.co.uk"]
        messages = "2000/30m"
        tls = "required"
        [domain."yahoo.fr"]
        messages = "2000/30m"
        tls = "required"
        [domain."small.example"]
        sessions = 2
        messages = "unlimited"
        "#,
    );
    assert_eq!(limits, expected);
}

#[test]
fn a_rollup_that_is_several_providers_is_told() {
    let told = why(&powermta(POWERMTA), line(POWERMTA, "<domain google.rollup>"), "google.rollup");
    assert_eq!(
        told,
        "here these are the providers google, workspace, each with the limits and totals of its own"
    );
    assert!(!powermta(POWERMTA).replies.contains("workspace"), "its replies are google's");
}

#[test]
fn virtual_mtas_become_sources_pools_and_schedules() {
    let node = Node::parse(Path::new("postroad.toml"), &powermta(POWERMTA).settings).unwrap();
    assert_eq!(node.ehlo_name.as_deref(), Some("mail.sender.example"));
    let source = |name: &str| node.sources[name].clone();
    assert_eq!(source("v1").ipv4, Some([192, 0, 2, 1].into()));
    assert_eq!(source("v1").ehlo.as_deref(), Some("v1.sender.example"));
    assert_eq!(source("v2").ipv6, Some("2001:db8::2".parse().unwrap()));
    assert_eq!(
        (source("v2").ipv4, source("v2-2").ipv4),
        (Some([192, 0, 2, 2].into()), Some([192, 0, 2, 3].into()))
    );
    let bulk: Vec<&str> = node.pools["bulk"].keys().map(String::as_str).collect();
    assert_eq!(bulk, ["v1", "v1-cold", "v2", "v2-2"]);
    let usage = source("v1-cold").warmup.unwrap();
    assert!(usage.overflow && source("v1").warmup.is_none());
    let schedule = &node.warmup.schedules[&usage.schedule];
    // The last holds until somebody changes it.
    assert_eq!(schedule.caps[..3], [50, 100, 100]);
    assert_eq!((schedule.caps.len(), schedule.caps[365]), (366, 100));
    assert_eq!(schedule.towards("google").1[..2], [20, 20]);
}

#[test]
fn a_route_becomes_a_relay_and_its_password_is_not_copied() {
    let converted = powermta(include_str!("convert/relay.conf"));
    let settings: toml::Table = converted.settings.parse().unwrap();
    let expected = section(
        r#"
        host = "192.0.2.25"
        port = 587
        tls = "starttls"
        auth = { user = "postroad", password_env = "RELAY_PASSWORD_RELAYED" }
        "#,
    );
    assert_eq!(settings["sources"]["relayed"]["relay"].as_table(), Some(&expected));
    let node = Node::parse(Path::new("postroad.toml"), &converted.settings).unwrap();
    let relay = node.sources["relayed"].relay.as_ref().unwrap();
    assert_eq!((relay.machine(), relay.port()), (Some(RelayHost::Address([192, 0, 2, 25].into())), 587));
    assert_eq!(
        relay.auth.as_ref().and_then(Auth::secret),
        Some(SecretPlace::Env("RELAY_PASSWORD_RELAYED".to_owned()))
    );
    assert_eq!(faults(&converted), [""; 0]);
    let report: String = converted.remarks.iter().map(|remark| format!("{remark}\n")).collect();
    assert!(!converted.settings.contains("hunter2") && !report.contains("hunter2"), "{report}");
    assert!(report.contains(": auth-password: passwords are not copied"), "{report}");
    assert!(report.contains(": route smtp.other.example: one domain cannot take another way"), "{report}");
}

#[test]
fn pattern_lists_of_powermta_become_reply_rules() {
    let rules = rules(&powermta(POWERMTA));
    let of = |provider, reply| {
        let verdict = verdict(&rules, provider, reply)?;
        Some((verdict.class, verdict.measure))
    };
    let slow = Some((Class::RateLimited, Some(Measure::Slow(0.5))));
    let out =
        |hours: u64| Some((Class::SourceBlocked, Some(Measure::TakeOut(Duration::from_secs(3600 * hours)))));
    assert_eq!(of(None, (421, "4.7.0 there were too many errors")), slow);
    assert_eq!(of(None, (451, "Too many of you")), slow);
    assert_eq!(of(None, (451, "see http://help.example/limits for more")), slow);
    assert_eq!(of(None, (550, "192.0.2.1 blocked")), out(1));
    assert_eq!(of(Some("yahoo"), (421, "4.7.0 [TS02] Messages temporarily deferred")), slow);
    assert_eq!(of(Some("google"), (421, "4.7.0 [TS02] Messages temporarily deferred")), None);
    assert_eq!(of(Some("yahoo"), (553, "5.7.2 all messages permanently deferred")), out(6));
    assert_eq!(of(Some("google"), (421, "we are not accepting mail now")), slow);
    assert_eq!(of(None, (451, "whatever it is")), None);
    // Categories only sort, and what acts comes before them.
    assert_eq!(of(None, (550, "5.7.1 this is spam")), Some((Class::SpamContent, None)));
    assert_eq!(of(None, (550, "5.7.1 a virus was found")), Some((Class::ForbiddenContent, None)));
    assert_eq!(of(None, (550, "5.7.1 a viruscide was found")), None);
    assert_eq!(of(None, (552, "mailbox is full")), Some((Class::MailboxFull, None)));
    assert_eq!(of(None, (550, "5.1.1 gone")), Some((Class::UnknownUser, None)));
    assert_eq!(of(None, (550, "too many spam traps")), slow);
}

#[test]
fn every_line_of_powermta_without_an_equivalent_is_told() {
    let converted = powermta(POWERMTA);
    let lost: Vec<usize> = told(&converted, "etc/config", Kind::Lost).iter().map(|(line, _)| *line).collect();
    let expected = [
        "postmaster",
        "sync-msg-create",
        "smtp-listener",
        "https://config.example",
        "missing.conf",
        "<source",
        "<acct-file",
        "domain-key",
        "        max-smtp-out 1",
        "virtual-mta gone",
        "<virtual-mta-pool bulk>",
        "max-data-volume-rate",
        "backoff-max-msg-rate",
        "backoff-to-normal-after 2h",
        "dkim-sign",
        "queue-priority",
        "    max-smtp-out 1",
        "source-ip-max-smtp-out",
        "bounce-upon-5xx-greeting",
        "auth-username lonely",
        "later.queue",
        "backoff-to-normal-after=1h",
        "421 4.4.2 too many sessions",
        "/^busy/",
        "bounce-queue",
        "skip-mx",
        "smtp-pattern-list unused",
        "success",
        "message-expired",
        "a spam trap",
        "// other",
    ];
    for part in expected {
        let line = match part {
            // The pool's <domain>, the domain's first of two, the use of a list for an unknown provider.
            "<virtual-mta-pool bulk>" => line(POWERMTA, part) + 4,
            "    max-smtp-out 1" => line(POWERMTA, "small.example") + 1,
            part => line(POWERMTA, part),
        };
        assert!(lost.contains(&line), "{part}, line {line}, is not told: {lost:?}");
    }
    // And the list that a domain of an unknown provider names.
    assert_eq!(lost.len(), expected.len() + 1, "{:#?}", told(&converted, "etc/config", Kind::Lost));
    assert!(told(&converted, "etc/included.conf", Kind::Changed)[0].1.contains("comcast.net"));
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_and_the_rest_is_read() {
    let text = "</domain>\n<domain a.example>\nmax-smtp-out many\nmax-msg-rate 5/year\n<smtp-pattern-list x>\n\
                reply nothing\n</domain>\n<domain $nobody>\nmax-smtp-out 1\n</domain>\nwhatever it is\n\
                <domain b.example>\nmax-smtp-out 3\n";
    let converted = powermta(text);
    assert_eq!(faults(&converted), [""; 0]);
    let lines: Vec<usize> =
        told(&converted, "etc/config", Kind::Lost).iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 5, 8, 11, 12]);
    assert_eq!(limits(&converted), section("[domain.\"b.example\"]\nsessions = 3\n"));
}

#[test]
fn a_provider_that_cannot_stay_takes_its_rules_with_it() {
    let provider = |name: &str| {
        format!(
            "[provider.{name}]\nmatch = [{{MXSuffix = \".same.example\"}}]\nconnection_limit = 3\n\
             [[provider.{name}.automation]]\nregex = \"go away {name}\"\naction = \"Suspend\"\nduration = \"1h\"\n"
        )
    };
    let text = provider("first") + &provider("second");
    let converted = convert::kumomta(&[(Path::new("f"), &text)], &[]).unwrap();
    assert_eq!(faults(&converted), [""; 0]);
    assert!(converted.replies.contains("go away first") != converted.replies.contains("go away second"));
    assert!(converted.remarks.iter().any(|remark| remark.why.contains("there is no provider")));
}

#[test]
fn the_command_writes_the_files_and_overwrites_none() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let run = |arguments: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_postroad"))
            .args(arguments)
            .current_dir(folder.path())
            .env_remove("RUST_LOG")
            .output()
            .expect("the program starts");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (program.status.code(), text(&program.stdout), text(&program.stderr))
    };
    let config = samples.join("powermta.conf");
    let arguments = ["import", "powermta", config.to_str().unwrap(), "--out", "p"];
    let (code, said, warned) = run(&arguments);
    assert_eq!(code, Some(0), "{warned}");
    assert!(said.contains("lines have no equivalent"), "{said}");
    let report = std::fs::read_to_string(folder.path().join("p/report.txt")).unwrap();
    assert_eq!(report, warned);
    let (code, _, warned) = run(&arguments);
    assert_eq!(code, Some(1));
    assert!(warned.contains("is there already"), "{warned}");
    let shaping = samples.join("shaping.toml");
    let bounces = samples.join("bounces.toml");
    let (shaping, bounces) = (shaping.to_str().unwrap(), bounces.to_str().unwrap());
    assert_eq!(run(&["import", "kumomta", shaping, "--bounces", bounces, "--out", "k"]).0, Some(0));
    for folder in ["p", "k"] {
        let settings = format!("{folder}/postroad.toml");
        let (code, said, warned) =
            run(&["--config", &settings, "rules", "check", &format!("{folder}/replies.toml")]);
        assert_eq!(code, Some(0), "{warned}");
        assert!(said.contains("all samples land where they should"), "{said}");
    }
}

/// One rule of the bounce classifier with `regex`, converted.
fn one(regex: &str) -> Option<Converted> {
    let text = format!("[rules]\nInvalidRecipient = [{}]\n", toml::Value::String(regex.to_owned()));
    convert::kumomta(&[], &[(Path::new("f"), &text)]).ok()
}

#[test]
fn expressions_become_patterns() {
    for (regex, codes, texts) in [
        ("user unknown", "", "text = \"user unknown\""),
        (r"\[TS04\]", "", "text = \"[TS04]\""),
        (r"try again in \d+ seconds?", "", "text = [\"try again in # second\", \"try again in # seconds\"]"),
        ("over.*quota", "", "text = \"over*quota\""),
        (r"over\s+quota", "", "text = \"over quota\""),
        ("[Uu]ser (is )?unknown", "", "text = [\"user unknown\", \"user is unknown\"]"),
        ("^421 .*later", "code = \"421\"", "text = \"later\""),
        ("^421 .* later", "code = \"421\"", "text = \"* later\""),
        ("^4.*later", "code = \"4yz\"", "text = \"later\""),
        (r"^45\d .*later", "code = \"45z\"", "text = \"later\""),
        (r"^5\d\d 5\.7\.(1|25)\b", "code = \"5yz\"\nenhanced = [\"5.7.1\", \"5.7.25\"]", ""),
        (r"^550 5\.7\.6\d ", "code = \"550\"\nenhanced = \"5.7.60-69\"", ""),
        (r"4\.7\.\d+ .*later", "enhanced = \"4.7.*\"", "text = \"later\""),
        ("a .+ user", "", "text = \"a * user\""),
        ("(?i)Denied", "", "text = \"Denied\""),
    ] {
        let converted = one(regex).unwrap();
        let replies = converted.replies.to_ascii_lowercase();
        for part in [codes, texts] {
            assert!(replies.contains(&part.to_ascii_lowercase()), "{regex}: {part} is not in\n{replies}");
        }
        assert_eq!(
            codes.is_empty(),
            !replies.contains("\ncode") && !replies.contains("\nenhanced"),
            "{regex}\n{replies}"
        );
    }
}

#[test]
fn what_could_match_more_is_no_pattern() {
    for (regex, because) in [
        (r"\S+@\S+ unknown", "a word of any characters"),
        ("user [a-z]+ unknown", "a class of many characters"),
        (r"user \d{4,9} unknown", "too many different texts"),
        ("unknown$", "`$`"),
        ("^unknown", "begins with its code"),
        ("(?=unknown)", "cannot be read"),
        (r"(a)\1", "cannot be read"),
        ("ab|cd", "characters in a row"),
        (r"five \* stars", "stand for something else"),
        ("(unclosed", "cannot be read"),
        (".*", "every reply"),
        ("", "every reply"),
        ("ab", "characters in a row"),
    ] {
        let converted = one(regex).unwrap();
        assert!(!converted.replies.contains("[[rule]]"), "{regex}\n{}", converted.replies);
        let told = &converted.remarks[0];
        assert!(told.kind == Kind::Lost && told.why.contains(because), "{regex}: {told}");
    }
}

/// Expressions as people write them, mostly.
fn expressions() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        4 => "[a-c]{1,3}",
        2 => Just(" ".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(r"\.".to_owned()),
        1 => Just(r"\d".to_owned()),
        1 => Just(r"\b".to_owned()),
        1 => Just("[ab]".to_owned()),
        1 => Just(r"\S".to_owned()),
        1 => Just(r"\s".to_owned()),
        1 => Just("1".to_owned()),
    ];
    let leaf = (atom, prop_oneof![6 => Just(""), 1 => Just("*"), 1 => Just("+"), 1 => Just("?")]).prop_map(
        |(atom, times)| {
            if atom.len() > 1 && !atom.starts_with(['\\', '[']) {
                format!("({atom}){times}")
            } else {
                atom + if times.is_empty() { "" } else { times }
            }
        },
    );
    let tree = leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            1 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join("|"))),
            1 => inner.prop_map(|part| format!("({part})?")),
        ]
    });
    let head = prop_oneof![4 => Just(""), 1 => Just("^421 "), 1 => Just("^55[04] 5\\.7\\.1 .*"), 1 => Just("4.4.\\d+ ")];
    (head, tree).prop_map(|(head, tree)| format!("{head}{tree}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Regex is the judge: what a converted rule fits, the expression matches in the line that it is for.
    #[test]
    fn no_rule_fits_more_than_its_expression(
        regex in expressions(),
        replies in prop::collection::vec((prop_oneof![Just(421u16), Just(550)], "(4\\.4\\.1 |5\\.7\\.1 )?[a-c1.]{1,3}( [a-c1.]{1,4}){0,4}"), 8),
    ) {
        let Some(converted) = one(&regex) else { return Ok(()) };
        let moved = converted.remarks.iter().any(|remark| remark.why.contains("right behind"));
        // One blank is as good as several.
        let folded = regex.replace(' ', "(?: +)").replace(r"\s", r"(?:\s+)");
        let judge = regex::RegexBuilder::new(&folded).case_insensitive(true).build();
        let Ok(judge) = judge else { return Ok(()) };
        let rules = Rules::alone(Path::new("r"), &converted.replies).unwrap();
        let samples: Vec<(u16, String)> = rules
            .rules()
            .flat_map(|rule| rule.samples.iter().map(|sample| (sample.reply.code(), sample.reply.to_string()[4..].to_owned())))
            .collect();
        for (code, text) in samples.into_iter().chain(replies) {
            let reply = Reply::new(code, &text).unwrap();
            if matches!(rules.classify(None, Stage::Rcpt, &reply).by, By::Rule(_)) && !moved {
                let line = format!("{code} {text}");
                let matches = (1..8).any(|blanks| judge.is_match(&line.replace(' ', &" ".repeat(blanks))));
                prop_assert!(matches, "/{regex}/ does not match {line:?}, and this does:\n{}", converted.replies);
            }
        }
    }

    #[test]
    fn whatever_stands_in_a_file_is_read(text in "[ -~\\n]{0,200}") {
        let file = Path::new("f");
        let _ = convert::kumomta(&[(file, &text)], &[(file, &text)]);
        let converted = powermta(&text);
        prop_assert_eq!(faults(&converted), [""; 0]);
    }

    /// Lines left out, twice, elsewhere, cut or mistyped: what is written passes our checks all the same.
    #[test]
    fn damaged_files_make_sound_ones(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5, "[ -~]"), 0..40),
    ) {
        let damaged = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for (at, other, how, octet) in &changes {
                let (at, other) = (at.index(lines.len()), other.index(lines.len()));
                let length = lines[at].len();
                match how {
                    0 => lines[at].clear(),
                    1 => lines[at] = lines[other].clone(),
                    2 => lines.swap(at, other),
                    3 => lines[at].truncate(length / 2),
                    _ => lines[at].replace_range(length / 2..(length / 2 + 1).min(length), octet),
                }
            }
            lines.join("\n")
        };
        prop_assert_eq!(faults(&powermta(&damaged(POWERMTA))), [""; 0]);
        let file = Path::new("f");
        if let Ok(converted) = convert::kumomta(&[(file, &damaged(SHAPING))], &[(file, &damaged(BOUNCES))]) {
            prop_assert_eq!(faults(&converted), [""; 0]);
        }
        if let Ok(converted) = convert::kumomta(&[(file, &damaged(SHAPING))], &[]) {
            prop_assert_eq!(faults(&converted), [""; 0]);
        }
    }
}
