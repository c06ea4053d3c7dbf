//! The promise: a person can ask what a reply means, check rules before they are used, and see what a run was
//! answered.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn postroad(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postroad"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the program ends")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn json(octets: &[u8]) -> Vec<serde_json::Value> {
    text(octets).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

const MINE: &str = "\
[[rule]]
name = \"harbour-closed\"
provider = \"google\"
stage = \"mail\"
text = \"the harbour is closed\"
class = \"rate-limited\"
action = [\"retry after 15m\", \"slow 0.25\", \"alert\"]
after = \"3/h\"
samples = [\"450 4.7.0 The harbour is closed\"]
";

#[test]
fn the_rules_of_the_settings_hold_and_a_provider_has_to_be_known() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), MINE).unwrap();
    std::fs::write(folder.path().join("postroad.toml"), "reply_files = [\"mine.toml\"]\n").unwrap();
    let input = "MAIL: 450 4.7.0 The harbour is closed\n";
    // What rules say of one provider holds for those whose replies are said to be its own.
    for provider in ["google", "workspace"] {
        let output = postroad(folder.path(), &["classify", "--json", "--provider", provider], input);
        assert_eq!(json(&output.stdout)[0]["rule"], "harbour-closed", "{}", text(&output.stderr));
    }
    let output = postroad(folder.path(), &["classify", "--provider", "gogle"], input);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `google`?"), "{}", text(&output.stderr));
    let check = || text(&postroad(folder.path(), &["rules", "check", "--json"], "").stdout);
    assert!(check().contains("\"faults\":[]"), "{}", check());
    std::fs::write(folder.path().join("mine.toml"), MINE.replace("after = \"3/h\"", "aftr = \"3/h\""))
        .unwrap();
    assert!(check().contains("did you mean `after`?"), "{}", check());
}

#[test]
fn replies_and_log_lines_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), MINE).unwrap();
    let input = "MAIL: 450 4.7.0 The harbour is closed\n\
        postfix/smtp[1]: 4F1: to=<a@b.example>, relay=mx.b.example[192.0.2.1]:25, dsn=5.1.1, status=bounced \
        (host mx.b.example[192.0.2.1] said: 550 5.1.1 <a@b.example> unheard of (in reply to RCPT TO command))\n\
        \n550 the weather is not what it was\n";
    let arguments =
        ["classify", "--json", "--provider", "google", "--rules", "mine.toml", "--stage", "greeting"];
    let output = postroad(folder.path(), &arguments, input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = json(&output.stdout);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["rule"], "harbour-closed");
    assert_eq!(lines[0]["class"], "rate-limited");
    assert_eq!(lines[0]["at"], "mine.toml:2");
    assert_eq!(lines[0]["action"], serde_json::json!(["retry after 15m", "slow 0.25 after 3/1h", "alert"]));
    assert_eq!(lines[1]["stage"], "rcpt");
    assert_eq!(lines[1]["class"], "unknown-user");
    assert_eq!(lines[1]["action"], serde_json::json!(["suppress"]));
    // Not about the recipient: it is said in the greeting.
    assert_eq!(lines[2]["class"], "unclassified-permanent");
    assert_eq!(lines[2]["action"], serde_json::json!(["retry"]));

    let output = postroad(folder.path(), &["classify"], "nothing that a server says\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no reply in this line"));
}

#[test]
fn rules_are_checked_before_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let check = |arguments: &[&str]| {
        let output = postroad(folder.path(), &[&["rules", "check"], arguments].concat(), "");
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    assert_eq!(check(&[]).0, Some(0), "{}", check(&[]).1);
    std::fs::write(&file, MINE).unwrap();
    assert_eq!(check(&["mine.toml"]).0, Some(0), "{}", check(&["mine.toml"]).1);
    let (code, said) = check(&["--alone", "mine.toml"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 rules, all samples land where they should\n"));

    std::fs::write(&file, MINE.replace("\"google\"", "\"gogle\"")).unwrap();
    let (code, said) = check(&["mine.toml"]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("mine.toml:3:12: the provider `gogle` is not known; did you mean `google`?"),
        "{said}"
    );
    std::fs::write(&file, MINE.replace("stage =", "stages =").replace("rate-limited", "rate-limit")).unwrap();
    let (code, said) = check(&["mine.toml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("mine.toml:4:1: unknown key `stages`; did you mean `stage`?"), "{said}");
    let output = postroad(folder.path(), &["classify", "--rules", "mine.toml"], "550 x\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("mine.toml:4:1: unknown key `stages`"));
    let (code, said) = check(&["gone.toml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot read gone.toml"), "{said}");
}

#[test]
fn the_replies_of_a_run_are_grouped() {
    let folder = tempfile::tempdir().unwrap();
    let state = ["--state", "state/rehearsals"];
    for arguments in [["init", "summer"], ["rehearse", "summer"]] {
        let output = postroad(folder.path(), &arguments, "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let replies = |more: &[&str]| {
        let output = postroad(folder.path(), &[&["replies", "--json"], &state[..], more].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        json(&output.stdout)
    };
    let count =
        |groups: &[serde_json::Value]| groups.iter().map(|g| g["count"].as_u64().unwrap()).sum::<u64>();
    let (refusals, all) = (replies(&[]), replies(&["--all"]));
    // Every recipient of the list has an end, and most are delivered.
    assert!(count(&all) >= 190, "{all:#?}");
    assert!(count(&refusals) > 0 && count(&refusals) < count(&all));
    assert!(refusals.len() < count(&refusals) as usize, "nothing is grouped: {refusals:#?}");
    for group in replies(&["--unclassified"]) {
        assert_eq!(group["rule"], serde_json::Value::Null);
    }
}
