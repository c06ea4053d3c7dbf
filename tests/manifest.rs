//! The promise: whatever is wrong with a manifest, its author is told the line, the column and the way out.

use std::path::Path;

use postroad::campaign::manifest::{Manifest, ManifestError};

/// A manifest without mistakes; each case below puts one in.
const GOOD: &str = r#"name = "summer"
from = "Jörg at Example <joerg@news.sender.test>"
return_path_domain = "bounce.sender.test"
subject = "Hello {{ name }}"
text = "message.txt"

[unsubscribe]
url = "https://sender.test/leave/{{ id }}"

[headers]
X-Campaign = "summer"

[list]
file = "list.csv"

[list.columns]
name = "First name"

[[dkim]]
domain = "sender.test"
selector = "s1"
key_file = "keys/s1.pem"

[limits]
messages = "100/min"

[retry]
schedule = ["5m", "1h30m"]
expiry = "2d"
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("message.txt"), "Hello\n").unwrap();
    std::fs::write(folder.path().join("list.csv"), "email,First name\n").unwrap();
    folder
}

fn open(text: &str) -> Result<Manifest, ManifestError> {
    let folder = folder();
    std::fs::write(folder.path().join("campaign.toml"), text).unwrap();
    Manifest::open(folder.path())
}

#[test]
fn a_manifest_without_mistakes_opens_with_absolute_paths() {
    let manifest = open(GOOD).unwrap();
    assert!(manifest.lists[0].file.is_absolute() && manifest.text.as_ref().unwrap().is_absolute());
    assert!(manifest.dkim[0].key_file.as_ref().unwrap().is_absolute());
    assert_eq!(manifest.retry.schedule.iter().map(|wait| wait.as_secs()).collect::<Vec<_>>(), [300, 5_400]);
    assert_eq!(manifest.retry.expiry.as_secs(), 172_800);
    assert_eq!(manifest.limits.messages.unwrap().to_string(), "100/min");
    assert_eq!(manifest.from_address().to_string(), "joerg@news.sender.test");
}

#[test]
fn html_that_only_a_variant_has_can_be_tracked() {
    let tracked = "[tracking]\nbase_url = \"https://t.test/\"\nclicks = true\n[[variants]]\nname = \"A\"\n\
        [[variants]]\nname = \"B\"\nhtml = \"message.txt\"\n[limits]\n";
    open(&GOOD.replace("[limits]\n", tracked)).unwrap();
}

/// With `._domainkey.sender.test` behind it, one octet too long for a name in the DNS.
const LONG_SELECTOR: &str = concat!(
    "\"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.",
    "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.",
    "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a\"",
);

/// What is replaced by what, and how the complaint must begin and what it must hold.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("subject =", "subjet =", "4:1: unknown key `subjet`", "did you mean `subject`?"),
    ("[retry]\n", "[retry]\nexpiri = \"1d\"\n", "28:1: unknown key `expiri`", "did you mean `expiry`?"),
    ("\"summer\"\nfrom", "\"Summer sale\"\nfrom", "1:8: `Summer sale` is no campaign name", "lower-case"),
    ("<joerg@news.sender.test>", "<joerg>", "2:8: `from` is no sender", "Name <address@domain>"),
    ("Jörg at Example", "Jörg\\r\\nBcc: x@y.test", "2:8: `from` is no sender", "line break"),
    ("bounce.sender.test", "localhost", "3:22: `localhost` is no mail domain", "single label"),
    ("Hello {{ name }}", "Hello\\nBcc: x@y.test", "4:11: subject holds a line break", "one line"),
    ("text = \"message.txt\"\n", "", "1:8: there is no message", "text = \"message.txt\""),
    ("message.txt", "gone.txt", "5:8: cannot find", "relative to the folder of campaign.toml"),
    ("message.txt", "../message.txt", "5:8: `../message.txt` leads out", "beside the manifest"),
    ("message.txt", "/etc/passwd", "5:8: `/etc/passwd` leads out", "beside the manifest"),
    (
        "[headers]\n",
        "base_url = \"https://sender.test/u/\"\n[headers]\n",
        "10:12: `url` and `base_url` both say",
        "keep base_url",
    ),
    ("url = \"https://sender.test/leave/{{ id }}\"\n", "", "7:2: [unsubscribe] does not say", "base_url"),
    (
        "url = \"https://sender.test/leave/{{ id }}\"",
        "base_url = \"https://sender.test\"",
        "8:12: no token can be put behind `https://sender.test`: ",
        "like https://",
    ),
    (
        "[list]\n",
        "[tracking]\nbase_url = \"https://t.test/\"\n[list]\n",
        "13:2: [tracking] tracks nothing",
        "clicks = true",
    ),
    (
        "[list]\n",
        "[tracking]\nbase_url = \"https://t.test/\"\nopens = true\n[list]\n",
        "13:2: only HTML can be tracked",
        "give `html`",
    ),
    ("subject =", "cfbl_address = \"fbl@x.test\"\nsubject =", "4:16: x.test is neither the domain", "9477"),
    ("subject =", "feedback_id = \"a:b\"\nsubject =", "4:15: the last part of Feedback-ID", "sender"),
    ("https://", "http://", "8:7: `http://sender.test/leave/{{ id }}` is no https URL", "RFC 8058"),
    ("X-Campaign", "Bcc", "11:7: `Bcc` cannot be a header field here: Postroad makes", "remove it"),
    (
        "X-Campaign",
        "resent-to",
        "11:13: `resent-to` cannot be a header field here: this header",
        "servers on the way",
    ),
    ("X-Campaign", "Authentication-Results", "11:26: `Authentication-Results` cannot be", "remove it"),
    ("X-Campaign", "\"X Campaign\"", "11:16: `X Campaign` cannot be a header field here", "letters"),
    ("text = ", "locale = \"xx\"\ntext = ", "5:10: `xx` is no locale", "known are en, "),
    ("text = ", "time_zone = \"Mars\"\ntext = ", "5:13: `Mars` is no time zone", "Europe/Berlin"),
    ("[list]\n", "[images]\nlogo = \"logo.png\"\n[list]\n", "14:8: cannot find logo.png", "relative"),
    (
        "[list]\n",
        "[images]\nlogo = \"../l.png\"\n[list]\n",
        "14:8: `../l.png` leads out",
        "beside the manifest",
    ),
    (
        "[list]\n",
        "[[attachments]]\nname = \"a\"\n[list]\n",
        "13:1: an attachment is a file",
        "`column` and `folder`",
    ),
    ("[list]\n", "[[attachments]]\ncolumn = \"a\"\nfolder = \"gone\"\n[list]\n", "15:10: ", "is no folder"),
    (
        "[list]\n",
        "[[attachments]]\nfile = \"message.txt\"\ntype = \"pdf\"\n[list]\n",
        "15:8: `pdf` is no media type",
        "application/pdf",
    ),
    ("[list]\n", "[[attachments]]\nmax_size = \"5 apples\"\n[list]\n", "14:12: `5 apples` is no size", "5MB"),
    (
        "[list]\n",
        "[calendar]\nsummary = \"s\"\nstart = \"soon\"\n[list]\n",
        "15:9: `soon` is no date",
        "2026-12-01 18:00",
    ),
    ("list.csv", "gone.csv", "14:8: cannot find", "gone.csv"),
    ("[list]\n", "[list]\ndelimiter = \";;\"\n", "14:13: ", "character"),
    ("name = \"First", "\"first name\" = \"First", "17:16: `first name`", "variables are letters"),
    ("key_file = \"keys/s1.pem\"\n", "", "21:12: the key `s1` has no place", "key_env"),
    ("\"s1\"", "\"s1 \"", "21:12: `s1 ` is no DKIM selector", "letters"),
    (
        "[limits]\n",
        "[[dkim]]\ndomain = \"sender.test\"\nselector = \"S1\"\nkey_env = \"KEY\"\n[limits]\n",
        "26:12: there are two keys of the selector `S1` for sender.test",
        "its own selector",
    ),
    (
        "\"s1\"",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "21:12: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` is no DKIM selector",
        "1 to 63",
    ),
    ("\"s1\"", LONG_SELECTOR, "21:12: the record of `a.a.a.", "254 octets, above 253"),
    ("key_file = ", "since = \"soon\"\nkey_file = ", "22:9: `soon` is no day", "like 2026-12-01"),
    ("100/min", "a lot", "25:12: `a lot` is no rate", "\"100/min\""),
    ("\"1h30m\"", "\"90\"", "28:12: `90` is no duration", "\"30s\""),
    ("\"5m\", \"1h30m\"", "", "28:12: the retry schedule is empty", "[\"5m\", \"30m\", \"2h\"]"),
    ("\"2d\"\n", "\"2d\"\njitter = 2.0\n", "30:10: a jitter of 2", "10 %"),
    ("[list]\n", "[list]\nwhere = 'name =='\n", "14:9: this is no expression: ", "country == \"DE\""),
    (
        "[list]\n",
        "[[list]]\nfile = \"list.csv\"\n[[list]]\nwhere = '('\n",
        "16:9: this is no expression: ",
        "",
    ),
    ("[list]\n", "[[list]]\nfile = \"gone.csv\"\n[[list]]\n", "14:8: cannot find", "gone.csv"),
    (
        "[list]\n",
        "[[list]]\nfile = \"list.csv\"\n[[list]]\ndelimitr = \"x\"\n",
        "16:1: unknown key `delimitr`",
        "`delimiter`",
    ),
    ("[list]\n", "[[list]]\nformat = \"csv\"\n[[list]]\n", "13:1: the key `file` is missing", ""),
    ("[list]\nfile = \"list.csv\"\n", "[list]\n", "13:1: the key `file` is missing", "add it"),
    ("file = \"list.csv\"\n", "fil = \"list.csv\"\n", "14:1: unknown key `fil`", "did you mean `file`?"),
    (
        "[list]\nfile = \"list.csv\"\n\n[list.columns]\nname = \"First name\"\n",
        "[[list]]\nfile = \"-\"\n[[list]]\nfile = \"-\"\n",
        "16:8: a second list comes through",
        "into a file",
    ),
    (
        "[list]\nfile = \"list.csv\"\n\n[list.columns]\nname = \"First name\"\n",
        "[select]\n",
        "1:1: the key `list` is missing",
        "add it",
    ),
    ("[limits]\n", "[select]\nwhere = \"a b\"\n[limits]\n", "25:9: this is no expression", "points > 100"),
    ("[limits]\n", "[select]\ncap = 0\n[limits]\n", "25:7: nobody would be mailed", "leave it out"),
    ("[limits]\n", "[select]\nsample = \"0%\"\n[limits]\n", "25:10: `0%` is no share", "above 0"),
    ("[limits]\n", "[[exclude]]\nfile = \"-\"\n[limits]\n", "25:8: only a list of recipients", "name a file"),
    ("[limits]\n", "[[exclude]]\nfile = \"no.csv\"\n[limits]\n", "25:8: cannot find", "no.csv"),
    (
        "[limits]\n",
        "[seeds]\nevery = 0\nlist = { file = \"list.csv\" }\n[limits]\n",
        "25:9: no recipient would ever come",
        "after how many",
    ),
    (
        "[limits]\n",
        "[seeds]\nevery = 9\nat = [1]\nlist = { file = \"list.csv\" }\n[limits]\n",
        "25:9: seeds have places and",
        "one of",
    ),
    (
        "[limits]\n",
        "[seeds]\nat = [5, 1]\nlist = { file = \"list.csv\" }\n[limits]\n",
        "25:6: the places of the seeds go back",
        "in order",
    ),
    ("[limits]\n", "[seeds]\nlist = { file = \"gone.csv\" }\n[limits]\n", "25:17: cannot find", "gone.csv"),
    ("subject = \"", "subject = ", "4:", ""),
];

#[test]
fn every_mistake_is_told_with_its_place_and_a_way_out() {
    assert!(Manifest::parse(Path::new("campaign.toml"), GOOD).is_ok());
    for (from, to, begins, holds) in MISTAKES {
        assert!(GOOD.contains(from), "{from:?} is not in the manifest");
        let complaint = open(&GOOD.replacen(from, to, 1)).expect_err(to).to_string();
        let (_, place) =
            complaint.split_once("campaign.toml:").unwrap_or_else(|| panic!("no place: {complaint}"));
        assert!(place.starts_with(begins), "{to:?}: expected {begins:?} in\n{complaint}");
        assert!(complaint.contains(holds), "{to:?}: expected {holds:?} in\n{complaint}");
    }
}

#[test]
fn a_key_is_read_only_where_it_is_needed_and_never_shown() {
    let folder = folder();
    std::fs::write(folder.path().join("campaign.toml"), GOOD).unwrap();
    let manifest = Manifest::open(folder.path()).unwrap();
    let key = &manifest.dkim[0];
    assert!(!key.is_present());
    assert!(key.pem().expect_err("no key").to_string().contains("s1.pem"));
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/s1.pem"), "top secret").unwrap();
    assert_eq!(key.pem().unwrap(), "top secret");
    assert!(!format!("{manifest:?}").contains("top secret"));
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    std::fs::write(folder.path().join("campaign.toml"), GOOD).unwrap();
    let manifest = Manifest::open(folder.path()).unwrap();
    assert_eq!(manifest.warnings(), Vec::<String>::new());
    let key = folder.path().join("keys/s1.pem");
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(&key, "top secret").unwrap();
    for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            manifest.warnings().iter().any(|warning| warning.contains("chmod 600")),
            warned,
            "{mode:o}"
        );
    }
}

#[test]
fn a_folder_without_a_manifest_says_how_to_make_one() {
    let complaint = Manifest::open(Path::new("/nowhere")).expect_err("nothing there").to_string();
    assert!(
        complaint.contains("/nowhere/campaign.toml") && complaint.contains("postroad init"),
        "{complaint}"
    );
}

#[test]
fn a_rehearsal_makes_days_pass_in_seconds() {
    let mut manifest = Manifest::parse(Path::new("f"), GOOD).unwrap();
    manifest.scale_time(10_000.0);
    assert_eq!(manifest.retry.schedule.iter().map(|wait| wait.as_millis()).collect::<Vec<_>>(), [30, 540]);
    assert_eq!(manifest.retry.expiry.as_millis(), 17_280);
}
