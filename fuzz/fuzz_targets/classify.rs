//! Any reply text, and any file of rules: no panic, never a recipient given up before RCPT, and the normal form
//! of a normal form is itself.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postroad::classify::{RecipientAction, Rules, line, normal};
use postroad::outcome::Stage;
use postroad::reply::Reply;

static SHIPPED: LazyLock<Rules> = LazyLock::new(Rules::shipped);

fuzz_target!(|octets: &[u8]| {
    let text = String::from_utf8_lossy(octets);
    let _ = line::find(&text);
    let (reply, file) = text.split_once('\n').unwrap_or((&text, ""));
    let code = 400 + u16::from(octets.first().copied().unwrap_or(0)) % 200;
    let Some(reply) = Reply::new(code, reply) else { return };
    let once = normal(reply.text());
    assert_eq!(normal(&once), once);
    let own = Rules::alone(Path::new("fuzz.toml"), file).ok();
    for rules in [Some(&*SHIPPED), own.as_ref()].into_iter().flatten() {
        for stage in [Stage::Connect, Stage::Mail, Stage::Rcpt, Stage::Content] {
            let verdict = rules.classify(Some("google"), stage, &reply);
            let is_given_up = matches!(verdict.recipient, RecipientAction::Bounce | RecipientAction::Suppress);
            assert!(stage >= Stage::Rcpt || !is_given_up);
        }
    }
});
