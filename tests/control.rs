//! A running engine can be asked what binds, and told; by its owner alone.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use postroad::campaign::run::Run;
use postroad::control;
use postroad::control::client::{self, ControlError, ask};
use postroad::control::protocol::{REQUEST_OCTETS_MAX, Reply, Request};
use postroad::engine::Running;
use serde_json::Value;
use support::{PATIENCE, Stage};
use tokio::time::Instant;

/// Sites that say one thing each, and rules for what they say.
const WORLD: &str = "\
[[provider]]\nname = \"hold\"\ndomains = [\"hold.test\"]\nmx = [{ host = \"mx.hold.test\" }]\n\
trouble = [{ stage = \"rcpt\", fault = \"reply\", reply = \"421 4.7.0 please hold the line\" }]\n\
[[provider]]\nname = \"out\"\ndomains = [\"out.test\"]\nmx = [{ host = \"mx.out.test\" }]\n\
trouble = [{ stage = \"rcpt\", fault = \"reply\", reply = \"550 5.7.1 your house is not welcome\" }]\n\
[[provider]]\nname = \"later\"\ndomains = [\"later.test\"]\nmx = [{ host = \"mx.later.test\" }]\n\
trouble = [{ stage = \"rcpt\", fault = \"reply\", reply = \"452 4.2.2 mailbox is full\" }]\n\
[[provider]]\nname = \"none\"\ndomains = [\"none.test\"]\nmx = [{ host = \"mx.none.test\" }]\n\
trouble = [{ stage = \"rcpt\", fault = \"reply\", reply = \"550 5.1.1 no such user\" }]\n\
[[provider]]\nname = \"dead\"\ndomains = [\"dead.test\"]\nmx = [{ host = \"mx.dead.test\", state = \"dead\" }]\n\
[[provider]]\nname = \"unnamed\"\ndomains = [\"unnamed.test\"]\ndns = \"servfail\"\n\
[[provider]]\nname = \"good\"\ndomains = [\"good.test\"]\nmx = [{ host = \"mx.good.test\" }]\n";

const SETTINGS: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n\
[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n\
[shaping.domain.\"good.test\"]\nmessages = \"1/h burst 1\"\n\
[shaping.default.timeouts]\nconnect = \"500ms\"\n";

const RULES: &str = "\
[[rule]]\nname = \"told-to-hold\"\ntext = \"please hold the line\"\nclass = \"poor-reputation\"\nscope = \"path\"\n\
action = [\"retry\", \"suspend 1h resume 0.5\"]\nsamples = [\"421 4.7.0 please hold the line\"]\n\
[[rule]]\nname = \"house-unwelcome\"\ntext = \"your house is not welcome\"\nclass = \"source-blocked\"\nscope = \"source\"\n\
action = [\"retry\", \"take source out 6h\"]\nsamples = [\"550 5.7.1 your house is not welcome\"]\n\
[[rule]]\nname = \"stop-it-all\"\ntext = \"stop it all\"\nclass = \"malformed\"\nscope = \"campaign\"\n\
action = [\"retry\", \"pause campaign\"]\nsamples = [\"450 4.6.0 stop it all\"]\n";

const DOMAINS: [&str; 7] = ["hold", "out", "later", "none", "dead", "unnamed", "good"];

fn stage(world: &str) -> Stage {
    let mut stage = Stage::new(world, SETTINGS);
    let rules = stage.folder.path().join("rules.toml");
    std::fs::write(&rules, RULES).unwrap();
    stage.node.reply_files = vec![rules];
    stage
}

/// So many recipients at each, and a row that is no use.
fn list(domains: &[&str], each: usize) -> String {
    let mut list = String::from("email,name\n");
    for domain in domains {
        (0..each).for_each(|number| list.push_str(&format!("u{number}@{domain}.test,U\n")));
    }
    list + "wrong@@address,W\n"
}

async fn begun(stage: &Stage, domains: &[&str], each: usize) -> (Run, Running) {
    let extra = "[retry]\nschedule = [\"1h\"]\njitter = 0.0\n";
    let run = stage.run(&stage.campaign(&list(domains, each), extra));
    let running = stage.start(run.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    (run, running)
}

/// What the program says of something, as JSON; a text where it complains.
fn why(stage: &Stage, about: &str) -> Value {
    let output = stage.call(&["why", about, "--json"]);
    if !output.status.success() {
        return Value::String(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["why"].take()
}

/// What the program says, as a person reads it.
fn words(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.call(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until what the program says of something is as wanted.
async fn until(stage: &Stage, about: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let said = tokio::task::block_in_place(|| why(stage, about));
        if is_so(&said) {
            return said;
        }
        assert!(began.elapsed() < PATIENCE, "why {about}: {said:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn socket(stage: &Stage, run: &Run) -> PathBuf {
    control::folder(&stage.node.state).join(format!("{}.sock", run.id))
}

async fn stopped(running: Running) {
    running.watch().stop();
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    finished.expect("it stops").unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_is_named_with_its_reply_and_what_comes_next() {
    let stage = stage(WORLD);
    let (run, running) = begun(&stage, &DOMAINS, 3).await;

    let held = until(&stage, "a@hold.test", |said| said["paths"][0]["binding"] == "hold").await;
    let path = &held["paths"][0];
    assert_eq!((&path["source"], &path["site"]), (&"a".into(), &"mx.hold.test".into()));
    let hold = &path["hold"];
    assert_eq!((&hold["resting"], &hold["then_probe"]), (&"path".into(), &true.into()));
    assert_eq!(hold["cause"]["rule"], "rule told-to-hold");
    assert_eq!(hold["cause"]["reply"], "421 4.7.0 please hold the line");
    assert!(hold["until"].is_string() && path["limits"].as_array().is_some_and(|limits| !limits.is_empty()));

    let out = until(&stage, "a@out.test", |said| said["paths"][0]["binding"] == "hold").await;
    assert_eq!(out["paths"][0]["hold"]["resting"], "source");
    assert_eq!(out["paths"][0]["hold"]["cause"]["rule"], "rule house-unwelcome");

    let dead = until(&stage, "dead.test", |said| said["domain"]["paths"][0]["binding"] == "hold").await;
    assert_eq!(dead["domain"]["paths"][0]["hold"]["resting"], "unreachable");

    let rate = until(&stage, "*@good.test", |said| said["paths"][0]["binding"]["rate"] == "path").await;
    assert!(rate["paths"][0]["until"].is_string());

    let unnamed = until(&stage, "unnamed.test", |said| said["domain"]["route"]["held"].is_object()).await;
    assert_eq!(unnamed["domain"]["waiting"], 3);
    assert!(unnamed["domain"]["route"]["held"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));

    let later = until(&stage, "u1@later.test", |said| said["state"] == "deferred").await;
    assert_eq!(later["last"]["reply"], "452 4.2.2 mailbox is full");
    assert_eq!((&later["last"]["class"], &later["last"]["source"]), (&"mailbox-full".into(), &"a".into()));
    assert!(later["due"].is_string() && later["last"]["rule"].is_string());

    let none = until(&stage, "U2@none.test", |said| said["state"] == "bounced").await;
    assert_eq!((&none["last"]["class"], &none["row"]), (&"unknown-user".into(), &12.into()));
    assert_eq!(why(&stage, "nobody@none.test")["state"], "not-in-list");
    assert_eq!(why(&stage, "wrong@@address")["state"], "invalid");
    assert_eq!(why(&stage, "u0@hold.test")["recipient"], "u0@hold.test");

    let campaign = until(&stage, "campaign", |said| said["campaign"]["held"].is_string()).await;
    let campaign = &campaign["campaign"];
    assert_eq!((&campaign["run"], &campaign["unrouted"]), (&run.id.as_str().into(), &3.into()));
    assert!(campaign["deferred"].as_u64().is_some_and(|deferred| deferred >= 3), "{campaign:#}");
    let good = "a@good.test";
    let bindings = campaign["bindings"].as_array().unwrap();
    assert!(bindings.iter().any(|share| share["binding"]["rate"] == "path" && share["such_as"] == good));

    // And so that a person reads it.
    let text = words(&stage, &["why", "a@hold.test"]);
    for part in ["suspended", "told-to-hold", "please hold the line", "one message alone", "limits"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let text = words(&stage, &["why", "u1@later.test"]);
    assert!(text.contains("deferred until") && text.contains("attempt 2"), "{text}");
    assert!(words(&stage, &["why"]).contains("path rate: the limit on messages of this path"));
    assert!(words(&stage, &["status"]).contains("paths rest"));

    stopped(running).await;
    let later = why(&stage, "u1@later.test");
    assert_eq!((&later["state"], &later["running"]), (&"deferred".into(), &false.into()));
    assert!(words(&stage, &["why", "u1@later.test"]).contains("no engine is running"));
    let refused = stage.call(&["why", "a@hold.test"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no engine is running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_what_is_in_force_pins_and_resumes() {
    let world = WORLD.replace("452 4.2.2 mailbox is full", "450 4.6.0 stop it all");
    let stage = stage(&world);
    let (_, running) = begun(&stage, &["hold", "later", "good"], 1).await;
    let paused = until(&stage, "campaign", |said| said["campaign"]["hold"].is_object()).await;
    assert_eq!(paused["campaign"]["hold"]["resting"], "campaign");
    assert_eq!(paused["campaign"]["hold"]["cause"]["rule"], "rule stop-it-all");
    let began = Instant::now();
    let line = loop {
        if let Some(line) = running.watch().progress().waiting_for {
            break line;
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(line.starts_with("the campaign is paused: `450 4.6.0 stop it all` (rule stop-it-all)"), "{line}");

    let listed = words(&stage, &["adjust", "list"]);
    assert!(listed.contains("the campaign: paused until a person resumes it"), "{listed}");
    assert_eq!(words(&stage, &["adjust", "resume"]), "the campaign goes on\n");
    assert!(!stage.call(&["adjust", "resume", "campaign"]).status.success(), "it goes on already");

    let suspended = || {
        let listed = stage.call(&["adjust", "list", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        let all = listed["adjustments"].as_array().unwrap().clone();
        all.into_iter().find(|adjustment| adjustment["kind"] == "rest")
    };
    until(&stage, "a@hold.test", |said| said["paths"][0]["hold"]["resting"] == "path").await;
    let id = suspended().expect("mx.hold.test holds")["id"].to_string();
    assert!(words(&stage, &["adjust", "cancel", &id]).starts_with("cancelled: a to mx.hold.test"));
    let again = stage.call(&["adjust", "cancel", &id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("no adjustment has the number"));

    let said = words(&stage, &["adjust", "pin", "a@good.test", "sessions", "1", "--for", "2h"]);
    assert_eq!(said, "a to good.test: pinned to 1 session at once\n");
    words(&stage, &["adjust", "pin", "a@good.test", "rate", "30/min", "--for", "2h"]);
    assert!(why(&stage, "a@good.test")["paths"][0]["sessions"]["pinned_until"].is_string());
    assert!(words(&stage, &["adjust", "list"]).contains("pinned to 1 session at once, until"));
    let nowhere = stage.call(&["adjust", "pin", "b@good.test", "sessions", "1", "--for", "2h"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no source `b`; it has a"));
    assert_eq!(words(&stage, &["adjust", "reload"]), "what the files say holds\n");
    stopped(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_its_owners_alone_and_goes_with_the_engine() {
    let stage = stage(WORLD);
    let (run, running) = begun(&stage, &["hold"], 3).await;
    let socket = socket(&stage, &run);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    stopped(running).await;
    assert!(!socket.exists());
    // A program that another test starts at this moment has the lock's file, too, until it is itself.
    let asked = || client::running(&stage.node.state, Some(&run.id));
    support::until("the run is let go of", Duration::from_secs(5), || asked().is_err()).await;
    let error = asked().unwrap_err();
    assert!(matches!(error, ControlError::NotRunning(_)), "{error}");

    // What a killed process leaves behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(matches!(ask(&stage.node.state, &run, &Request::Campaign), Err(ControlError::NotRunning(_))));
    let running = stage.start(run.clone()).await.unwrap();
    assert_eq!(mode(&socket), 0o600);
    let answer = tokio::task::block_in_place(|| ask(&stage.node.state, &run, &Request::Campaign));
    assert!(matches!(answer, Ok(Reply::Campaign(_))), "{answer:?}");
    stopped(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_costs_an_answer_and_nothing_else() {
    let stage = stage(WORLD);
    let (run, running) = begun(&stage, &["hold"], 3).await;
    let path = socket(&stage, &run);
    tokio::task::block_in_place(|| {
        // Those who say nothing are in nobody's way for long.
        let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
        drop(silent);
        let long = "x".repeat(REQUEST_OCTETS_MAX * 4);
        let pin = |to: &str, lasting: &str| {
            format!("{{\"pin\":{{\"path\":\"*@hold.test\",\"to\":{to},\"lasting\":\"{lasting}\"}}}}\n")
        };
        for garbage in [
            "\n",
            "no json\n",
            "{\"cancel\":\"all\"}\n",
            "{\"domain\":\"\"}\n",
            "\u{0}\u{0}\n",
            &"[".repeat(REQUEST_OCTETS_MAX),
            &pin("{\"rate\":-5}", "1h"),
            &pin("{\"rate\":1}", "0s"),
            &pin("{\"sessions\":0}", "1h"),
            &long,
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            // It may have heard enough before the end.
            let _ = stream.write_all(garbage.as_bytes());
            let mut reply = String::new();
            let read = stream.read_to_string(&mut reply);
            let refused = matches!(serde_json::from_str(&reply), Ok(Reply::Refused(_)));
            assert!(
                refused || read.is_err() && garbage.len() >= REQUEST_OCTETS_MAX,
                "{garbage:.40}: {reply}"
            );
        }
        assert!(matches!(ask(&stage.node.state, &run, &Request::Campaign), Ok(Reply::Campaign(_))));
    });
    stopped(running).await;
}

#[tokio::test]
async fn of_two_that_run_one_has_to_be_named() {
    let stage = stage(WORLD);
    assert!(matches!(client::running(&stage.node.state, None), Err(ControlError::NoneRunning)));
    let campaign = stage.campaign(&list(&["hold"], 1), "");
    let runs = [stage.run(&campaign), stage.run(&campaign)];
    let _locks = [runs[0].lock().unwrap(), runs[1].lock().unwrap()];
    let error = client::running(&stage.node.state, None).unwrap_err().to_string();
    assert!(runs.iter().all(|run| error.contains(&run.id)), "{error}");
    let found = client::running(&stage.node.state, Some(&runs[1].id)).unwrap();
    assert_eq!(found.id, runs[1].id);
    // It has the run and no socket.
    let error = ask(&stage.node.state, &found, &Request::Campaign).unwrap_err();
    assert!(matches!(error, ControlError::Unreachable { .. }), "{error}");
}
