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
