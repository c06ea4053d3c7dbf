//! The promise: the program says what it did and what to do next, and ends with the code it documents.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn postroad(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postroad"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program starts")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A fresh campaign in a fresh folder.
fn initialised() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = postroad(folder.path(), &["init", "summer"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let output = postroad(Path::new("."), &["--help"]);
    let help = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for line in ["0  done", "1  an error", "2  wrong arguments", "3  stopped", "4  a rehearsal"] {
        assert!(help.contains(line), "{line:?} is not in\n{help}");
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    for arguments in
        [&["fly"] as &[&str], &["run"], &["run", "c", "--at", "tomorrow"], &["preview", "c", "--row", "0"]]
    {
        assert_eq!(postroad(Path::new("."), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_error_ends_with_1_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, advice) in [
        (&["run", "nowhere"] as &[&str], "postroad init"),
        (&["resume"], "postroad run <campaign>"),
        (&["status", "gone"], "there is no run `gone`"),
        (&["config", "--config", "gone.toml"], "--config"),
    ] {
        let output = postroad(folder.path(), arguments);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complaint}");
        assert!(complaint.starts_with("error: ") && complaint.contains(advice), "{arguments:?}: {complaint}");
    }
}

#[test]
fn an_error_says_its_cause_once() {
    let folder = initialised();
    let manifest = folder.path().join("summer/campaign.toml");
    let text_of = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text_of.replace("{{ first_name }}, your", "{{ frist_name }}, your")).unwrap();
    let complaint = text(&postroad(folder.path(), &["preview", "summer"]).stderr);
    assert_eq!(complaint.matches("unknown variable frist_name").count(), 1, "{complaint}");
}

#[test]
fn a_reader_who_has_gone_does_not_end_a_rehearsal_and_nobody_resumes_it() {
    let folder = initialised();
    let mut child = Command::new(env!("CARGO_BIN_EXE_postroad"))
        .args(["rehearse", "summer", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // What was rehearsed is for its world only: resumed, it would look the real names up.
    let output = postroad(folder.path(), &["resume", "--state", "state/rehearsals"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("is a rehearsal"), "{complaint}");
}

#[test]
fn config_prints_settings_that_it_reads_back_alike() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("postroad.toml"), "[sources.a]\nipv4 = \"192.0.2.1\"\n").unwrap();
    let first = postroad(folder.path(), &["config"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    std::fs::write(folder.path().join("postroad.toml"), &first.stdout).unwrap();
    let second = postroad(folder.path(), &["config"]);
    assert_eq!(text(&first.stdout), text(&second.stdout));
    assert!(text(&first.stdout).contains("[shaping.provider.google]"));
}

#[test]
fn a_mistake_in_the_settings_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("postroad.toml"), "\nsesions_total = 3\n").unwrap();
    let output = postroad(folder.path(), &["config"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint.contains("postroad.toml:2:1: unknown key `sesions_total`; did you mean `sessions_total`?")
    );
}

#[test]
fn every_limit_of_a_domain_is_told_with_the_line_that_set_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "shaping_files = [\"own.toml\"]\n[sources.a]\n[sources.b]\n\
                    [shaping.source.b]\nmessages = \"7/min\"\n";
    std::fs::write(folder.path().join("postroad.toml"), settings).unwrap();
    std::fs::write(folder.path().join("own.toml"), "[provider.google]\nsessions_total = 3\n").unwrap();
    let arguments = ["shaping", "gmail.com", "--source", "b", "--mx", "gmail-smtp-in.l.google.com"];
    let output = postroad(folder.path(), &arguments);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(told.starts_with("gmail.com: site gmail-smtp-in.l.google.com, provider google, source b\n"));
    let line = |key: &str| -> Vec<&str> {
        let line = told.lines().find(|line| line.split(' ').next() == Some(key));
        line.unwrap_or_else(|| panic!("no {key} in\n{told}")).split_whitespace().collect()
    };
    assert_eq!(line("sessions_total"), ["sessions_total", "3", "own.toml:2", "[provider.google]"]);
    assert_eq!(line("messages"), ["messages", "7/min", "postroad.toml:5", "[source.b]"]);
    assert_eq!(line("tls")[1], "required");
    assert!(line("timeouts.mail")[2].starts_with("data/shaping.toml:"));
    let output = postroad(folder.path(), &[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let limits = json["limits"].as_array().unwrap();
    let messages = limits.iter().find(|limit| limit["key"] == "messages").unwrap();
    assert_eq!(
        (&json["provider"], &messages["value"], &messages["file"], &messages["line"]),
        (&"google".into(), &"7/min".into(), &"postroad.toml".into(), &5.into())
    );
    let output = postroad(folder.path(), &["shaping", "gmail.com", "--source", "c"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("known here: a, b"), "{}", text(&output.stderr));
}

#[test]
fn every_mistake_of_a_shaping_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("postroad.toml"), "shaping_files = [\"own.toml\"]\n").unwrap();
    let own = "[provider.gmail]\nsesions = 3\n[default]\nmessages = \"fast\"\n";
    std::fs::write(folder.path().join("own.toml"), own).unwrap();
    let complaint = text(&postroad(folder.path(), &["config"]).stderr);
    assert!(
        complaint.contains("own.toml:2:1: unknown key `sesions`; did you mean `sessions`?"),
        "{complaint}"
    );
    assert!(complaint.contains("own.toml:4:12: `fast` is no rate"), "{complaint}");
    std::fs::remove_file(folder.path().join("postroad.toml")).unwrap();
    let output = postroad(folder.path(), &["rules", "check", "own.toml"]);
    let complaint = text(&output.stderr);
    assert!(complaint.contains("own.toml:4:12: `fast` is no rate"), "{complaint}");
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(folder.path().join("own.toml"), "[provider.google]\nsessions_total = 3\n").unwrap();
    let output = postroad(folder.path(), &["rules", "check", "own.toml"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_preview_is_the_message_of_the_row() {
    let folder = initialised();
    let output = postroad(folder.path(), &["preview", "summer", "--row", "1"]);
    let message = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for field in
        ["From: ", "To: ", "Subject: ", "Message-ID: ", "List-Unsubscribe: ", "MIME-Version: 1.0\r\n"]
    {
        assert!(message.contains(field), "{field:?} is not in\n{message}");
    }
    assert!(message.contains("\r\n\r\n"), "the message has no body");
    let output = postroad(folder.path(), &["preview", "summer", "--row", "100000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the list has 200 rows"), "{}", text(&output.stderr));
}

#[test]
fn a_run_without_its_key_does_not_begin() {
    let folder = initialised();
    let output = postroad(folder.path(), &["run", "summer"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("DKIM key"), "{}", text(&output.stderr));
    assert!(!folder.path().join("state").exists(), "a run was made");
}

#[test]
fn a_run_that_cannot_begin_leaves_none_behind() {
    let folder = initialised();
    let manifest = folder.path().join("summer/campaign.toml");
    let written = std::fs::read_to_string(&manifest).unwrap();
    let unsigned = written.split("[[dkim]]").next().unwrap();
    for (right, wrong, complaint) in [
        ("{{ first_name }}, your", "{{ frist_name }}, your", "unknown variable frist_name"),
        ("city = \"City\"", "city = \"Town\"", "no column \"Town\""),
    ] {
        std::fs::write(&manifest, unsigned.replace(right, wrong)).unwrap();
        let output = postroad(folder.path(), &["run", "summer"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
        // `resume` without a name would go on with it, in place of the run a person means.
        assert!(!folder.path().join("state").exists());
    }
}

#[test]
fn init_does_not_write_over_what_is_there() {
    let folder = initialised();
    let output = postroad(folder.path(), &["init", "summer"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("holds something already"));
}

#[test]
fn what_init_writes_rehearses_as_it_is_with_every_count_as_expected() {
    let folder = initialised();
    let output = postroad(folder.path(), &["rehearse", "summer", "--json"]);
    let (lines, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{lines}\n{errors}");
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let rehearsal = &last["rehearsal"];
    assert_eq!(rehearsal["as_expected"], true, "{}", rehearsal["differences"]);
    assert_eq!(rehearsal["report"]["totals"]["rows"], 200);
    let run = rehearsal["report"]["run"].as_str().unwrap();
    let report = folder.path().join("state/rehearsals/runs").join(run).join("report.json");
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(written["totals"], rehearsal["report"]["totals"]);
}

#[test]
fn a_rehearsal_goes_past_the_proxies_and_relays_of_the_settings() {
    let folder = initialised();
    let proxies = "[sources.s]\nsocks5 = { address = \"192.0.2.1:1080\" }\n\
        [sources.h]\nipv4 = \"192.0.2.2\"\nproxy_protocol = { address = \"192.0.2.1:8025\" }\n";
    let settings = include_str!("../data/relays.toml").to_owned() + proxies;
    std::fs::write(folder.path().join("postroad.toml"), settings).unwrap();
    let output = postroad(folder.path(), &["rehearse", "summer", "--json"]);
    let (lines, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{lines}\n{errors}");
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["rehearsal"]["as_expected"], true, "{}", last["rehearsal"]["differences"]);
}

#[test]
fn the_settings_as_printed_hold_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[sources.a.relay]\nhost = \"smtp.relay.example\"\n\
        auth = { user = \"me\", password_file = \"secret\" }\n";
    std::fs::write(folder.path().join("postroad.toml"), settings).unwrap();
    std::fs::write(folder.path().join("secret"), "not to be seen\n").unwrap();
    for arguments in [&["config"][..], &["config", "--json"]] {
        let shown = text(&postroad(folder.path(), arguments).stdout);
        assert!(shown.contains("password_file") && !shown.contains("not to be seen"), "{shown}");
    }
}
