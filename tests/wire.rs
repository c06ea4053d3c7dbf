//! What a server has after SMTP carried it is what was made, octet by octet, whatever the columns hold and
//! whichever way the content goes: behind DATA with dots doubled, in lockstep or pipelined, or in BDAT chunks.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use postroad::campaign::run::Run;
use postroad::campaign::spool::Spool;
use postroad::engine::content::{Making, compile};
use postroad::envelope::RecipientId;
use postroad::message::{Merge, Scratch};
use postroad::token::Keyring;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::Stage;

const ROWS: usize = 400;
const TEXT: &str = "{{ note }}\n.\n..\n. {{ name }}\n.{{ name }}.\n{{ note }}";
const HTML: &str = "<pre>{{ note }}\n.\n{{ name }}</pre>\n.";

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(".".to_owned()),
        Just("\r\n.\r\nQUIT\r\n".to_owned()),
        Just("\n.\nMAIL FROM:<x@sender.test>\nRCPT TO:<victim@a.test>\nDATA\n".to_owned()),
        Just("\r.\r\rRSET\r".to_owned()),
        Just("BDAT 3 LAST\r\nabc".to_owned()),
        Just(format!("{}\n.{}", "x".repeat(997), "y".repeat(1_200))),
        "[.\r\n\t =]{1,80}",
        "[.\n\u{e9}\u{6f22}]{1,200}",
        "\\PC{0,60}",
    ]
}

fn rows() -> Vec<(String, String)> {
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    (0..ROWS).map(|_| (hostile(), hostile()).new_tree(&mut runner).unwrap().current()).collect()
}

fn list() -> String {
    let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
    let row = |(number, (name, note)): (usize, (String, String))| {
        format!("u{number}@a.test,{},{}\n", quoted(&name), quoted(&note))
    };
    "email,name,note\n".to_owned() + &rows().into_iter().enumerate().map(row).collect::<String>()
}

/// The messages of a run by address, made once more.
fn made(state: &Path, run: &Run) -> BTreeMap<String, Vec<u8>> {
    let spool = Spool::open(&run.spool_folder()).unwrap();
    let columns = spool.columns().unwrap();
    let keys = Keyring::open(state).unwrap();
    let content = compile(&Making {
        manifest: &run.manifest,
        columns: columns.names(),
        run_token: run.token().as_str(),
        key: keys.of_run(run.token_key).unwrap(),
        date: run.created,
    })
    .unwrap();
    let (mut scratch, mut made) = (Scratch::default(), BTreeMap::new());
    for segment in spool.iter() {
        for index in 0..segment.len() {
            let recipient = segment.recipient(index).unwrap();
            let fields: Vec<&str> = recipient.fields().collect();
            let id = RecipientId::new(segment.number(), index);
            let merge = Merge { recipient: id, address: &recipient.address, fields: &fields };
            let mut message = Vec::new();
            content.render(&merge, &mut scratch, &mut message).unwrap();
            let address = format!("{}@{}", recipient.address.local(), recipient.address.domain());
            made.insert(address, message);
        }
    }
    made
}

async fn carried(extensions: &str) {
    let world = format!(
        "[[provider]]\nname = \"plain\"\ndomains = [\"a.test\"]\nextensions = [{extensions}]\n\
         [[provider.mx]]\nhost = \"mx.plain.test\"\n"
    );
    let stage = Stage::new(&world, "[shaping.default]\nmessages = \"unlimited\"\n");
    let campaign = stage.campaign(&list(), "html = \"message.html\"");
    std::fs::write(campaign.join("message.txt"), TEXT).unwrap();
    std::fs::write(campaign.join("message.html"), HTML).unwrap();
    let manifest = std::fs::read_to_string(campaign.join("campaign.toml")).unwrap();
    std::fs::write(
        campaign.join("campaign.toml"),
        manifest.replace("Hello {{ name }}", "{{ name }} {{ note }}"),
    )
    .unwrap();
    let run = stage.run(&campaign);
    let report = stage.send_all(run.clone()).await;
    assert_eq!(report.totals.delivered, ROWS as u64);

    let made = made(&stage.node.state, &run);
    assert_eq!(made.len(), ROWS);
    assert!(made.values().any(|message| message.windows(5).any(|octets| octets == b"\r\n.\r\n")));
    let captured = stage.world.messages();
    assert_eq!(captured.len(), ROWS);
    for message in &captured {
        assert_eq!(message.recipients.len(), 1);
        let expected = &made[&message.recipients[0]];
        assert_eq!(&message.content, expected, "{}", String::from_utf8_lossy(expected));
    }

    // The dialog has no commands but those of so many transactions.
    let counts = stage.counts();
    assert_eq!((counts.accepted, counts.misrouted, counts.violations), (ROWS as u64, 0, 0), "{counts:?}");
    let mut recipients = BTreeSet::new();
    for dialog in stage.world.dialogs() {
        for line in dialog.lines().filter_map(|line| line.strip_prefix("C: ")) {
            let verb = line.split([' ', ':']).next().unwrap();
            // What stands for a content that came as content.
            if line == "(content)" {
                continue;
            }
            let known = ["EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT"];
            assert!(known.contains(&verb), "{line}");
            if let Some(address) = line.strip_prefix("RCPT TO:<") {
                assert!(recipients.insert(address.split('>').next().unwrap().to_owned()), "{line}");
            }
        }
    }
    assert_eq!(recipients, made.into_keys().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_lockstep_behind_data() {
    carried("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_behind_data() {
    carried("\"pipelining\", \"size\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_chunks() {
    carried("\"pipelining\", \"chunking\"").await;
}
