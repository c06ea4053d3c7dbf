//! The promise: `postroad diff` tells everything that a run and its campaign no longer share, and nothing
//! that it cannot know.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use postroad::campaign::audience::Audience;
use postroad::campaign::import::{ImportJob, ImportProgress, import};
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::campaign::spool::Spool;
use postroad::suppression::Suppression;
use serde_json::{Value, json};

const MESSAGE: &str = "Hello {{ name }},\n\none\ntwo\nthree\nfour\nfive\nsix\n\nYours\n";
const MANIFEST: &str = r#"
name = "summer"
from = "Us <us@sender.test>"
return_path_domain = "bounce.sender.test"
subject = "Hello"
text = "message.txt"
suppression = ["gone.txt"]

[headers]
X-Kind = "news"

[[attachments]]
file = "terms.pdf"

[[dkim]]
domain = "sender.test"
selector = "s1"
key_env = "SENDER_TEST_KEY"

[list]
file = "list.csv"
"#;

/// A campaign and a run of it that has read its list of two rows.
fn staged() -> (tempfile::TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "message.txt", MESSAGE);
    write(at, "terms.pdf", "%PDF\0old");
    write(at, "gone.txt", "x@one.test\n");
    write(at, "list.csv", "email,name\na@one.test,Ann\nb@one.test,Bob\n");
    write(at, "campaign.toml", MANIFEST);
    let manifest = Manifest::open(at).unwrap();
    // Outside files count as written since if their time is later than the run's, which has milliseconds.
    let before = SystemTime::now() - Duration::from_secs(60);
    for name in ["list.csv", "gone.txt"] {
        File::open(at.join(name)).unwrap().set_modified(before).unwrap();
    }
    let run = Run::create(&at.join("state"), manifest, None).unwrap();
    let spool = Spool::open(&run.spool_folder()).unwrap();
    let job = ImportJob {
        audience: Audience::open(&run.manifest).unwrap(),
        spool: &spool,
        rejected: run.rejected_path(),
        suppression: &Suppression::none(),
        rejected_max: None,
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    import(job, |_| ControlFlow::Continue(())).unwrap();
    (folder, run)
}

fn write(folder: &Path, name: &str, content: &str) {
    std::fs::write(folder.join(name), content).unwrap();
}

/// What is written from here on is written since the run, also where a clock has whole seconds.
fn write_later(folder: &Path, name: &str, content: &str) {
    write(folder, name, content);
    let later = SystemTime::now() + Duration::from_secs(60);
    File::options().append(true).open(folder.join(name)).unwrap().set_modified(later).unwrap();
}

fn diff(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postroad"))
        .args([&["diff", "."], arguments].concat())
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .output()
        .expect("the program starts")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn as_json(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}"));
    value["diff"].clone()
}

#[test]
fn a_campaign_that_was_left_alone_is_the_same() {
    let (folder, run) = staged();
    let output = diff(folder.path(), &[&run.id]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("nothing has changed"), "{said}");
    assert!(said.contains("the list was not written since") && said.contains("by name and place"), "{said}");
    let value = as_json(&diff(folder.path(), &["--json"]));
    assert_eq!((&value["run"], &value["differs"]), (&json!(run.id), &json!(false)));
    assert_eq!((&value["keys"], &value["files"]), (&json!([]), &json!([])));
    let states: Vec<_> = value["outside"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["unwritten", "unwritten"]);
}

#[test]
fn keys_are_told_with_both_values() {
    let (folder, run) = staged();
    let changed = MANIFEST
        .replace("subject = \"Hello\"", "subject = \"Hello again\"\nlocale = \"de\"")
        .replace("[headers]\nX-Kind = \"news\"\n", "")
        .replace("SENDER_TEST_KEY", "OTHER_KEY");
    write(folder.path(), "campaign.toml", &changed);
    let output = diff(folder.path(), &[&run.id, "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert_eq!(
        as_json(&output)["keys"],
        json!([
            { "key": "dkim.s1.key_env", "old": "\"SENDER_TEST_KEY\"", "new": "\"OTHER_KEY\"" },
            { "key": "headers.X-Kind", "old": "\"news\"", "new": null },
            { "key": "locale", "old": null, "new": "\"de\"" },
            { "key": "subject", "old": "\"Hello\"", "new": "\"Hello again\"" },
        ])
    );
    let said = text(&diff(folder.path(), &[&run.id]).stdout);
    for line in [
        "  subject: \"Hello\" → \"Hello again\"\n",
        "  locale: new, \"de\"\n",
        "  headers.X-Kind: gone, was \"news\"\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn text_files_are_compared_as_diff_does_and_others_by_size() {
    let (folder, run) = staged();
    let changed = MESSAGE.replace("four", "4").replace("Yours", "{% include 'parts/end.txt' %}");
    write(folder.path(), "message.txt", &changed);
    std::fs::create_dir(folder.path().join("parts")).unwrap();
    write(folder.path(), "parts/end.txt", "Bye\n");
    write(folder.path(), "terms.pdf", "%PDF\0newer");
    let output = diff(folder.path(), &[&run.id, "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let files = as_json(&output)["files"].clone();
    assert_eq!(files[1], json!({ "name": "parts/end.txt", "change": "added", "octets": 4 }));
    assert_eq!(files[2], json!({ "name": "terms.pdf", "change": "octets", "old": 8, "new": 10 }));
    assert_eq!((&files[0]["name"], files.as_array().unwrap().len()), (&json!("message.txt"), 3));

    write(folder.path(), "before.txt", MESSAGE);
    let other = Command::new("diff")
        .args(["-u", "--label", "run/message.txt", "--label", "now/message.txt", "before.txt", "message.txt"])
        .current_dir(folder.path())
        .output();
    match other {
        Ok(other) => assert_eq!(files[0]["lines"], text(&other.stdout)),
        Err(_) => eprintln!("skipped: diff"),
    }
    let said = text(&diff(folder.path(), &[&run.id]).stdout);
    assert!(said.contains("\n-four\n+4\n") && said.contains("terms.pdf: changed, 8 → 10 bytes"), "{said}");
}

#[test]
fn of_lists_it_says_what_is_known_and_no_more() {
    let (folder, run) = staged();
    let list = "email,name\na@one.test,Ann\nb@one.test,Bob\nc@one.test,Cem\n";
    write_later(folder.path(), "list.csv", list);
    write_later(folder.path(), "gone.txt", "y@one.test\n");
    let output = diff(folder.path(), &[&run.id, "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let outside = as_json(&output)["outside"].clone();
    assert_eq!((&outside[0]["role"], &outside[0]["rows"]), (&json!("list"), &json!([2, 3])));
    assert_eq!((&outside[1]["state"], &outside[1]["rows"]), (&json!("written"), &json!(null)));
    let said = text(&diff(folder.path(), &[&run.id]).stdout);
    assert!(said.contains(": 2 rows then, 3 now") && said.contains("what changed is not known"), "{said}");
}

#[test]
fn variants_files_and_each_of_several_lists_are_compared() {
    let (folder, _) = staged();
    let at = folder.path();
    let variants = "[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"\ntext = \"b.txt\"\n";
    let lists = "[[list]]\nfile = \"list.csv\"\n[[list]]\nfile = \"more.csv\"\n";
    let manifest = MANIFEST.replace("[list]\nfile = \"list.csv\"\n", &format!("{lists}{variants}"));
    write(at, "campaign.toml", &manifest);
    write(at, "b.txt", "Dear {{ name }}\n");
    write(at, "more.csv", "email,name\nc@one.test,Cem\n");
    let before = SystemTime::now() - Duration::from_secs(60);
    File::open(at.join("more.csv")).unwrap().set_modified(before).unwrap();
    let run = Run::create(&at.join("state"), Manifest::open(at).unwrap(), None).unwrap();
    assert_eq!(diff(at, &[&run.id]).status.code(), Some(0));

    write(at, "b.txt", "Dearest {{ name }}\n");
    write_later(at, "more.csv", "email,name\n");
    write(at, "campaign.toml", &manifest.replace(lists, &lists.replace("list.csv", "other.csv")));
    write(at, "other.csv", "email,name\n");
    let output = diff(at, &[&run.id, "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let difference = as_json(&output);
    let files = difference["files"].as_array().unwrap();
    assert_eq!((files.len(), &files[0]["name"]), (1, &json!("b.txt")));
    let lines = files[0]["lines"].as_str().unwrap();
    assert!(lines.contains("-Dear {{ name }}\n+Dearest {{ name }}\n"), "{lines}");
    let outside = &difference["outside"];
    assert!(outside[0]["path"].as_str().unwrap().ends_with("more.csv"), "{outside}");
    assert_eq!((&outside[0]["state"], &outside[0]["rows"]), (&json!("written"), &json!(null)));
    let keys: Vec<&str> =
        difference["keys"].as_array().unwrap().iter().filter_map(|change| change["key"].as_str()).collect();
    let is_of = |name: &str| keys.iter().any(|key| key.starts_with("list.") && key.contains(name));
    assert!(is_of("/list.csv") && is_of("/other.csv") && !is_of("/more.csv"), "{keys:?}");
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let (folder, run) = staged();
    let output = diff(folder.path(), &["summer-1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no run `summer-1`"), "{}", text(&output.stderr));

    write(folder.path(), "message.txt", "{% include 'nowhere.txt' %}\n");
    let output = diff(folder.path(), &[&run.id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere.txt"), "{}", text(&output.stderr));

    write(folder.path(), "campaign.toml", "name = 3\n");
    let output = diff(folder.path(), &[&run.id]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("campaign.toml:1:"), "{}", text(&output.stderr));
}
