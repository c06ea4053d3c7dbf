//! The promise: a preview shows what each row would get, whatever stands in the row, and is harmed by none
//! of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A column value that tries every way out of a page.
const HOSTILE: &str = "</script><script>document.title='gone'</script>--><img src=x onerror=\"parent.document\
                       .title='gone'\">\u{2028}\u{2029}{{data}}]]>'`${1}";
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ";

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

/// Six rows: two plain ones, one that is hostile, one suppressed, one without an address, one more.
fn campaign() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
    let hostile = HOSTILE.replace('"', "\"\"");
    write(
        "list.csv",
        &format!(
            "email,name,picture\na@one.test,Ann,cid:gone\nb@one.test,Bärbel,https://127.0.0.1:1/none.png\n\
             c@one.test,\"{hostile}\",logo.png\nd@one.test,Dora,\nnobody,Nobody,\nf@one.test,Fay,\n"
        ),
    );
    write("suppressed.txt", "d@one.test\n");
    write("message.txt", "Hello {{ name }}\n");
    write(
        "message.html",
        "<html><body><p>Hello {{ name }}</p><div>{{ name | safe }}</div><img src=\"{{ picture }}\">\
         <img src=\"cid:dot\" alt=\"A dot\"><a href=\"https://sender.test/shop\">The shop</a>\
         <script>parent.document.title = 'gone'</script></body></html>\n",
    );
    let dot = base64_of("R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==");
    std::fs::write(folder.path().join("dot.gif"), dot).unwrap();
    write(
        "campaign.toml",
        "name = \"shown\"\nfrom = \"Us <us@sender.test>\"\nreturn_path_domain = \"bounce.sender.test\"\n\
         subject = \"For {{ name }}\"\ntext = \"message.txt\"\nhtml = \"message.html\"\n\
         suppression = [\"suppressed.txt\"]\n[images]\ndot = \"dot.gif\"\n[list]\nfile = \"list.csv\"\n",
    );
    folder
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The page of the rows that `arguments` name, and what stands in it as JSON.
fn page(folder: &Path, arguments: &[&str]) -> (PathBuf, String, Value) {
    let file = folder.join("page.html");
    let all = [&["preview", ".", "--html", "page.html"], arguments].concat();
    let output = postroad(folder, &all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = std::fs::read_to_string(&file).unwrap();
    let (_, data) = html.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data = serde_json::from_str(data).expect("what is up to the first end of a script is the JSON");
    (file, html, data)
}

#[test]
fn the_page_holds_what_each_row_would_get() {
    let folder = campaign();
    let (_, _, data) = page(folder.path(), &[]);
    assert_eq!(data["campaign"], "shown");
    let rows = data["rows"].as_array().unwrap();
    let numbers: Vec<u64> = rows.iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let second = &rows[1];
    assert_eq!(second["address"], "b@one.test");
    assert_eq!(second["message"]["subject"], "For Bärbel");
    assert_eq!(second["message"]["text"], "Hello Bärbel\n");
    assert!(second["message"]["html"].as_str().unwrap().contains("<p>Hello Bärbel</p>"), "{second}");
    let raw = second["message"]["raw"].as_str().unwrap();
    assert!(raw.contains("\nSubject: =?") || raw.starts_with("Subject: =?"), "{raw}");
    let kinds: Vec<_> = second["message"]["parts"].as_array().unwrap().iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["text/plain", "text/html", "image/gif"]);
    assert_eq!(data["images"].as_array().unwrap().len(), 1, "each image is in the page once");
    assert!(rows[3]["warnings"][0].as_str().unwrap().contains("suppressed"), "{}", rows[3]);
    let problem = rows[4]["problem"].as_str().unwrap();
    assert!(problem.starts_with("row 5 would be rejected (nobody): "), "{problem}");
    assert!(rows[4].get("message").is_none());
}

#[test]
fn whom_the_machine_suppresses_is_told_as_a_run_would_know() {
    let folder = campaign();
    let store = folder.path().join("state/suppression");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("list.txt"), "b@one.test\n").unwrap();
    std::fs::write(store.join("by_replies.csv"), "a@one.test,no-mailbox,r-1,2026-11-22T00:00:00Z\n").unwrap();
    let (_, _, data) = page(folder.path(), &[]);
    let rows = data["rows"].as_array().unwrap();
    let suppressed = |row: &Value| row["warnings"].to_string().contains("suppressed");
    let told: Vec<bool> = rows.iter().map(suppressed).collect();
    assert_eq!(told, [true, true, false, true, false, false]);
}

#[test]
fn a_hostile_value_stays_a_value() {
    let folder = campaign();
    let (_, html, data) = page(folder.path(), &["--row", "3", "--rows", "1"]);
    assert_eq!(data["rows"].as_array().unwrap().len(), 1);
    let shown = data["rows"][0]["message"]["text"].as_str().unwrap();
    assert_eq!(shown.trim_end(), format!("Hello {HOSTILE}"));
    assert_eq!(html.matches("<script").count(), 2, "the page has its two scripts and no other");
    assert_eq!(html.matches("</script>").count(), 2);
    assert!(!html.contains(['\u{2028}', '\u{2029}']) && !html.contains("<img"));
    let (_, policy) = html.split_once(POLICY).expect("the page says what it may load");
    let (policy, _) = policy.split_once('"').unwrap();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("script-src 'unsafe"), "{policy}");
    assert!(html.contains("\"sandbox\", \"allow-same-origin\"") && !html.contains("allow-scripts"));
}

#[test]
fn a_window_is_the_rows_that_were_asked_for() {
    let folder = campaign();
    let numbers = |data: &Value| -> Vec<u64> {
        data["rows"].as_array().unwrap().iter().map(|row| row["row"].as_u64().unwrap()).collect()
    };
    let (_, _, data) = page(folder.path(), &["--row", "2", "--rows", "3"]);
    assert_eq!(numbers(&data), [2, 3, 4]);
    let (_, _, data) = page(folder.path(), &["--row", "5", "--rows", "25"]);
    assert_eq!(numbers(&data), [5, 6]);
    let output = postroad(folder.path(), &["preview", ".", "--html", "other.html", "--row", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the list has 6 rows"), "{}", text(&output.stderr));
    assert!(!folder.path().join("other.html").exists());
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let folder = campaign();
    for arguments in [
        &["--eml", "--text"] as &[&str],
        &["--text", "--html", "p.html"],
        &["--rows", "3"],
        &["--html", "p.html", "--rows", "0"],
        &["--html", "p.html", "--rows", "1001"],
        &["--open"],
    ] {
        let output = postroad(folder.path(), &[&["preview", "."], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = postroad(folder.path(), &["preview", ".", "--html", "no/such/folder.html"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write no/such/folder.html"), "{}", text(&output.stderr));
}

#[test]
fn a_message_is_octets_for_a_pipe_and_text_for_a_person() {
    let folder = campaign();
    let piped = postroad(folder.path(), &["preview", ".", "--row", "2"]);
    let eml = postroad(folder.path(), &["preview", ".", "--row", "2", "--eml"]);
    for output in [&piped, &eml] {
        let parsed = mail_parser::MessageParser::default().parse(&output.stdout).unwrap();
        assert_eq!(parsed.subject(), Some("For Bärbel"));
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), "Hello Bärbel");
    }
    let readable = text(&postroad(folder.path(), &["preview", ".", "--row", "2", "--text"]).stdout);
    assert!(
        readable.contains("Subject: For Bärbel\n") && readable.contains("\n\nHello Bärbel\n"),
        "{readable}"
    );
    assert!(readable.contains("image/gif  dot.gif  cid:dot"), "{readable}");
    let refused = postroad(folder.path(), &["preview", ".", "--row", "5"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("row 5 would be rejected (nobody)"));
    let suppressed = postroad(folder.path(), &["preview", ".", "--row", "4"]);
    assert!(
        suppressed.status.success() && text(&suppressed.stderr).contains("row 4: the address is suppressed")
    );
    let json = postroad(folder.path(), &["preview", ".", "--row", "2", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["row"], &json["message"]["subject"]), (&2.into(), &"For Bärbel".into()));
}

/// The document as a browser has it once everything has come or failed; `None` without the browser.
fn browsed(page: &Path, row: u64) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}#row={row}", page.display()))
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", text(&output.stderr));
            Some(text(&output.stdout))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// What stands in the element of that id, as markup.
fn inside<'a>(document: &'a str, id: &str, end: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split_once(end).unwrap().0
}

#[test]
fn a_browser_shows_the_row_and_runs_nothing_of_it() {
    let folder = campaign();
    let (page, _, _) = page(folder.path(), &[]);
    let Some(first) = browsed(&page, 1) else {
        eprintln!("skipped: chromium");
        return;
    };
    assert_eq!(inside(&first, "address", "</span>"), "a@one.test");
    assert_eq!(inside(&first, "subject", "</span>"), "For Ann");
    let notes = inside(&first, "notes", "</ul>");
    assert!(notes.contains("missing image: cid:gone") && notes.contains("no alt text: cid:gone"), "{notes}");
    assert!(!notes.contains("cid:dot"), "the image that is there is not missing: {notes}");
    assert_eq!(first.matches("<iframe").count(), 2, "wide and as on a phone");
    assert!(inside(&first, "links", "</ul>").contains("https://sender.test/shop"));

    let second = browsed(&page, 2).unwrap();
    let notes = inside(&second, "notes", "</ul>");
    assert!(notes.contains("image does not load: https://127.0.0.1:1/none.png"), "{notes}");

    let hostile = browsed(&page, 3).unwrap();
    assert!(hostile.contains("<title>Preview of shown</title>"), "a script of the row has run");
    assert_eq!(inside(&hostile, "address", "</span>"), "c@one.test");
    assert!(inside(&hostile, "text", "</pre>").contains("&lt;/script&gt;&lt;script&gt;"), "{hostile}");
    let notes = inside(&hostile, "notes", "</ul>");
    assert!(notes.contains("missing image: logo.png"), "a name of a file is no image in a mail: {notes}");

    let rejected = browsed(&page, 5).unwrap();
    assert!(inside(&rejected, "notes", "</ul>").contains("row 5 would be rejected (nobody)"));
    assert!(!rejected.contains("<iframe"));
}
