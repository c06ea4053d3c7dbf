//! The promise: tokens and return paths verify and forged ones do not, a rotation keeps old ones good, and a
//! run keeps its key over rotation and restart, so that a retry is the same message.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Output;
use std::time::Duration;

use mail_parser::MessageParser;
use postroad::campaign::run::Run;
use postroad::envelope::RecipientId;
use postroad::token::{self, Claim, Key, Keyring, Kind, RunToken, TokenError, bounce};
use support::{Stage, list, until};

/// Everything is accepted and the reply lost, the first time.
const WORLD: &str = r#"
[[provider]]
name = "p"
domains = ["p.test"]
extensions = ["pipelining", "chunking"]
mx = [{ host = "mx.p.test" }]
trouble = [{ fault = "disconnect", stage = "after-accept", share = 1.0, attempts = [1] }]
"#;
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n";
const RECIPIENTS: usize = 6;
const HTML: &str = "<p><a href=\"https://shop.sender.test/?who={{ name|urlencode }}&amp;a=1\">Shop</a>\n\
    <a data-no-track href=\"https://shop.sender.test/terms\">Terms</a>\n\
    <a href=\"{{ unsubscribe_url }}\">Leave</a></p>\n";
const MANIFEST: &str = r#"
html = "message.html"
cfbl_address = "fbl@sender.test"
feedback_id = "test:sender"
[unsubscribe]
base_url = "https://sender.test/u/"
mailto = "leave@sender.test"
[tracking]
base_url = "https://t.sender.test/"
clicks = true
opens = true
[retry]
schedule = ["200ms"]
expiry = "1h"
"#;

fn stage(world: &str) -> (Stage, Run) {
    let stage = Stage::new(world, SETTINGS);
    let campaign = stage.campaign(&list(RECIPIENTS, |_| "p.test".into()), "");
    std::fs::write(campaign.join("message.html"), HTML).unwrap();
    let campaign = stage.campaign(&list(RECIPIENTS, |_| "p.test".into()), MANIFEST);
    let run = stage.run(&campaign);
    (stage, run)
}

/// All of a message that looks like a token and is one, with what it says.
fn tokens(message: &[u8], ring: &Keyring) -> BTreeSet<(String, u8, String)> {
    let parsed = MessageParser::default().parse(message).unwrap();
    let mut text =
        String::from_utf8(parsed.raw_message[..parsed.root_part().raw_body_offset() as usize].to_vec())
            .unwrap()
            .replace("\r\n ", " ");
    text.push_str(&parsed.body_html(0).unwrap());
    let in_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let found = text.split(|c| !in_token(c)).filter(|word| word.len() >= token::CHARACTERS);
    found
        .filter_map(|word| {
            // In `subject=unsubscribe%20TOKEN` two characters stand before it.
            let token = &word[word.len() - token::CHARACTERS..];
            let (claim, key) = token::verify(token, ring).ok()?;
            Some((format!("{:?} of {}", claim.kind, claim.recipient.index), key, token.to_owned()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_its_key_over_rotation_and_restart() {
    let (stage, run) = stage(WORLD);
    let state = stage.node.state.clone();
    assert_eq!(Keyring::rotate(&state).unwrap(), 2);
    let running = stage.start(Run::open(&state, &run.id).unwrap()).await.unwrap();
    let watch = running.watch();
    until("all are accepted once", support::PATIENCE, || {
        stage.counts().accepted + stage.counts().repeated >= RECIPIENTS as u64
    })
    .await;
    watch.stop();
    running.finished().await.unwrap();
    assert_eq!(Keyring::rotate(&state).unwrap(), 3);
    let report = stage.send_all(Run::open(&state, &run.id).unwrap()).await;
    assert_eq!(report.totals.delivered, RECIPIENTS as u64);

    let ring = Keyring::open(&state).unwrap();
    let mut by_recipient: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for message in stage.world.messages() {
        by_recipient
            .entry(message.recipients[0].clone())
            .or_default()
            .push((message.return_path, message.content));
    }
    assert_eq!(by_recipient.len(), RECIPIENTS);
    for (address, messages) in by_recipient {
        assert!(messages.len() >= 2, "{address} was tried again");
        assert!(messages.iter().all(|message| *message == messages[0]), "{address}: a retry is the same");
        let (return_path, content) = &messages[0];
        let said = bounce::read(return_path, &ring).unwrap();
        assert_eq!((said.key_id, said.run), (1, run.token()));
        let index = said.recipient.index;
        let tokens = tokens(content, &ring);
        assert!(tokens.iter().all(|(_, key, _)| *key == 1));
        let kinds: Vec<&str> = tokens.iter().map(|(kind, ..)| kind.as_str()).collect();
        let expected =
            ["Click(0)", "Complaint", "Open", "Unsubscribe"].map(|kind| format!("{kind} of {index}"));
        assert_eq!(kinds, expected);
    }
}

/// A token with another character in the middle.
fn other_character(token: &str) -> String {
    let other = if &token[24..25] == "A" { "B" } else { "A" };
    [&token[..24], other, &token[25..]].concat()
}

fn said(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_what_a_token_says() {
    let world = &WORLD[..WORLD.find("trouble").unwrap()];
    let (stage, run) = stage(world);
    stage.send_all(run.clone()).await;
    let ring = Keyring::open(&stage.node.state).unwrap();
    let message = &stage.world.messages()[0];
    let address = &message.recipients[0];
    let number: u64 = address[1..address.find('@').unwrap()].parse().unwrap();
    let found = tokens(&message.content, &ring);
    let token = |kind: &str| &found.iter().find(|(found, ..)| found.starts_with(kind)).unwrap().2;

    let (code, text) = said(&stage.call(&["token", "verify", token("Click")]));
    assert_eq!(code, 0, "{text}");
    for line in [
        "valid      click, link 0".to_owned(),
        "key        1".to_owned(),
        format!("run        {} ({})", run.id, run.token()),
        format!("address    {address}"),
        format!("row        {}", number + 1),
        format!("leads to   https://shop.sender.test/?who=Person%20{number}&a=1"),
    ] {
        assert!(text.lines().any(|said| said == line), "{line:?} is not in\n{text}");
    }
    let link = format!("https://sender.test/u/{}", token("Unsubscribe"));
    let (code, text) = said(&stage.call(&["token", "verify", &link, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["kind"], &json["valid"]), (0, &"unsubscribe".into(), &true.into()));
    assert_eq!((&json["address"], &json["row"]), (&address.as_str().into(), &(number + 1).into()));

    let link = format!("https://sender.test/@us/?t={}", token("Unsubscribe"));
    let (code, text) = said(&stage.call(&["token", "verify", &link]));
    assert!(code == 0 && text.contains("valid      unsubscribe"), "{text}");

    let upper = message.return_path.to_ascii_uppercase();
    for text in [&upper, &format!("<{}>", message.return_path)] {
        let (code, text) = said(&stage.call(&["token", "verify", text]));
        assert!(
            code == 0 && text.contains("valid      return path") && text.contains(address.as_str()),
            "{text}"
        );
    }

    // Forged ones, and after a rotation both old and new.
    let forged = message.return_path.replace("bounce+", "bounce+0");
    for (forged, why) in [
        (forged.replacen(".0.", ".1.", 1), "no return path of ours"),
        (message.return_path.replacen(".0.", ".1.", 1), "signature is wrong"),
        (other_character(token("Open")), "signature is wrong"),
        ("AgAA".repeat(12), "key 2, which is not in the key ring"),
        ("hello".to_owned(), "this is no token"),
    ] {
        let (code, text) = said(&stage.call(&["token", "verify", &forged]));
        assert!(code == 1 && text.contains(why), "{forged}: {text}");
        let (code, text) = said(&stage.call(&["token", "verify", &forged, "--json"]));
        assert!(code == 1 && text.contains("\"valid\":false"), "{text}");
    }
    let (code, text) = said(&stage.call(&["token", "rotate"]));
    assert!(code == 0 && text.starts_with("key 2 signs"), "{text}");
    assert_eq!(said(&stage.call(&["token", "verify", token("Open")])).0, 0);

    // With a damaged run it still verifies, and without any.
    std::fs::write(run.content_folder().join("message.html"), "changed").unwrap();
    let (code, text) = said(&stage.call(&["token", "verify", token("Click")]));
    assert!(code == 0 && text.contains("is not what the run was started with"), "{text}");
    std::fs::remove_dir_all(&run.folder).unwrap();
    let (code, text) = said(&stage.call(&["token", "verify", token("Click")]));
    assert!(code == 0 && text.contains("whose folder is not here") && !text.contains("address"), "{text}");
    // Nor does it without its key.
    std::fs::remove_file(ring.folder().join("1")).unwrap();
    assert_eq!(said(&stage.call(&["token", "verify", token("Click")])).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_its_key_says_so_and_sends_nothing() {
    let (stage, run) = stage(WORLD);
    let folder = Keyring::folder_of(&stage.node.state);
    Keyring::rotate(&stage.node.state).unwrap();
    let key = std::fs::read(folder.join("1")).unwrap();
    std::fs::remove_file(folder.join("1")).unwrap();
    let error = stage.start(run.clone()).await.err().unwrap().to_string();
    assert!(error.contains("there is no token key 1"), "{error}");
    std::fs::write(folder.join("1"), &key[..10]).unwrap();
    let error = stage.start(run.clone()).await.err().unwrap().to_string();
    assert!(error.contains("tokens/1 is damaged"), "{error}");
    assert_eq!(stage.counts().accepted, 0);
    std::fs::write(folder.join("1"), &key).unwrap();
    stage.start(run).await.unwrap().finished().await.unwrap();
}

#[test]
fn what_one_key_made_no_other_verifies() {
    let state = tempfile::tempdir().unwrap();
    let first = Keyring::signing(state.path()).unwrap();
    Keyring::rotate(state.path()).unwrap();
    let second = Keyring::signing(state.path()).unwrap();
    let ring = Keyring::open(state.path()).unwrap();
    let (run, recipient) = (RunToken::new("k3f9k3f9k3f9"), RecipientId::new(7, 42));
    for key in [&first, &second] {
        let claim = Claim { kind: Kind::Unsubscribe, run, recipient };
        let (mut token, mut local) = (String::new(), String::new());
        key.seal(&claim, &mut token);
        bounce::write(key, run, recipient, &mut local);
        assert_eq!(token::verify(&token, &ring), Ok((claim, key.id())));
        assert_eq!(bounce::read(&local, &ring).unwrap().key_id, key.id());
        let other = Key::new(key.id(), &[5; 32]);
        assert_eq!(token::verify(&token, &other), Err(TokenError::Forged));
        assert_eq!(bounce::read(&local, &other), Err(TokenError::Forged));
    }
}

/// Links are followed and mail bounces long after it was sent: what a token is must not change.
#[test]
fn tokens_are_what_another_implementation_makes() {
    let python = std::process::Command::new("python3").args(["-c", PYTHON]).output();
    let Some(output) = python.ok().filter(|output| output.status.success()) else {
        let _ = writeln!(std::io::stderr(), "skipped: python3");
        return;
    };
    let key = Key::new(9, &std::array::from_fn(|at| at as u8));
    let (run, recipient) = (RunToken::new("k3f9a2z0"), RecipientId::new(3, 0xdead_beef));
    let mut made = String::new();
    key.seal(&Claim { kind: Kind::Click(513), run, recipient }, &mut made);
    made.push(' ');
    bounce::write(&key, run, recipient, &mut made);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), made);
}

const PYTHON: &str = "
import hmac, base64
mac = lambda key, text: hmac.new(key, text, 'sha256').digest()
root = bytes(range(32))
authentic, mask, bounce = (mac(root, label) for label in (b'postroad token authentication', b'postroad token mask', b'postroad return path'))
run = 0
for c in 'k3f9a2z0'.ljust(12): run = run * 37 + ' 0123456789abcdefghijklmnopqrstuvwxyz'.index(c)
who = run.to_bytes(8, 'big') + (3).to_bytes(4, 'big') + (0xdeadbeef).to_bytes(4, 'big')
said = b'\\x02' + who + (513).to_bytes(2, 'big')
tag = mac(authentic, b'\\x09' + said)[:16]
token = b'\\x09' + tag + bytes(a ^ b for a, b in zip(said, mac(mask, tag)))
signature = b'\\x09' + mac(bounce, b'\\x09' + who)[:9]
print(base64.urlsafe_b64encode(token).decode(), 'bounce+k3f9a2z0.3.deadbeef.' + base64.b32encode(signature).decode().lower())
";

#[tokio::test(flavor = "multi_thread")]
async fn without_tracking_the_html_is_what_was_written() {
    let stage = Stage::new(&WORLD[..WORLD.find("trouble").unwrap()], SETTINGS);
    let recipients = list(1, |_| "p.test".into());
    let html = "<body><a  data-no-track\n href='https://x.sender.test/?a&amp;b' >x</A><a href=http://y.test>y</a></body>\n";
    let campaign = stage.campaign(&recipients, "");
    std::fs::write(campaign.join("message.html"), html).unwrap();
    let extra = "html = \"message.html\"\n[unsubscribe]\nbase_url = \"https://sender.test/u/\"\n";
    let running = stage.start(stage.run(&stage.campaign(&recipients, extra))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), running.finished()).await.unwrap().unwrap();
    let message = &stage.world.messages()[0];
    let parsed = MessageParser::default().parse(&message.content).unwrap();
    assert_eq!(parsed.body_html(0).unwrap(), html.replace('\n', "\r\n"));
}
