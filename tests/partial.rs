//! Some of the messages that are under way together are refused and the others are not: each has its own
//! outcome, and nothing of one is taken for another's.

mod support;

use std::collections::BTreeMap;

use postroad::outcome::Disposition;
use support::ends::{assert_right, endings};
use support::{Stage, list};

/// One session, so that all recipients share its window.
const SETTINGS: &str =
    "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nsessions = 1\n";
const RETRY: &str = "[retry]\nschedule = [\"50ms\"]\nexpiry = \"1500ms\"\n";
const RECIPIENTS: usize = 200;

const LOCKSTEP: &str = "";
const PIPELINING: &str = "\"pipelining\", \"enhancedstatuscodes\"";
const CHUNKING: &str = "\"pipelining\", \"chunking\", \"enhancedstatuscodes\"";

/// Sends to one server with these troubles; the outcomes must be the world's. Returns how many replies
/// of each code were the last that a recipient got.
async fn mixed(extensions: &str, settings: &str, troubles: &[&str]) -> BTreeMap<u16, usize> {
    let mut world = format!(
        "seed = 3\n[[provider]]\nname = \"p\"\ndomains = [\"a.test\", \"b.test\"]\nextensions = [{extensions}]\n{settings}\n\
         mx = [{{ host = \"mx.p.test\" }}]\n"
    );
    for trouble in troubles {
        world += &format!("[[provider.trouble]]\n{trouble}\n");
    }
    let stage = Stage::new(&world, SETTINGS);
    let both = |n: usize| if n.is_multiple_of(3) { "b.test".to_owned() } else { "a.test".to_owned() };
    let run = stage.run(&stage.campaign(&list(RECIPIENTS, both), RETRY));
    let report = stage.send_all(run.clone()).await;
    assert_right(&stage, &run, &report);
    // Replies all came, so nothing is in doubt and nobody has two copies.
    assert!(report.in_doubt.is_empty(), "{:?}", report.in_doubt);
    assert_eq!(stage.counts().repeated, 0);
    assert_eq!(stage.counts().providers[0].connections_peak, 1);
    for message in stage.world.messages() {
        let to = &message.recipients[0];
        let text = String::from_utf8_lossy(&message.content);
        assert!(text.contains(&format!("this is for {to}.")), "{to} got {text}");
    }
    let mut last = BTreeMap::new();
    for ending in endings(&run).into_values() {
        let code = if ending.finals == [Disposition::Expired] { 0 } else { ending.code };
        *last.entry(code).or_default() += 1;
    }
    last
}

const REFUSED_FOR_EVER: &str =
    "stage = \"rcpt\"\nfault = \"5yz\"\nreply = \"550 5.1.1 <{address}> unknown\"\nshare = 0.2";
const REFUSED_AT_FIRST: &str =
    "stage = \"rcpt\"\nfault = \"4yz\"\nreply = \"450 4.2.1 later\"\nshare = 0.2\nattempts = [1, 2]";
const FULL_FOR_EVER: &str = "fault = \"mailbox-full\"\nshare = 0.1";
const SPAM: &str = "fault = \"content-refused\"\nreply = \"554 5.7.1 spam\"\nshare = 0.2";
const CONTENT_LATER: &str = "stage = \"content\"\nfault = \"4yz\"\nshare = 0.1\nattempts = [1]";
const NO_DATA: &str = "stage = \"data\"\nfault = \"5yz\"\nreply = \"551 5.7.1 no\"\nshare = 0.1";
const ALL: &[&str] = &[REFUSED_FOR_EVER, REFUSED_AT_FIRST, FULL_FOR_EVER, SPAM, CONTENT_LATER, NO_DATA];

fn assert_each_kind(last: &BTreeMap<u16, usize>) {
    assert_eq!(last.keys().copied().collect::<Vec<_>>(), [0, 250, 550, 551, 554], "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_one_after_the_other() {
    assert_each_kind(&mixed(LOCKSTEP, "", ALL).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_among_pipelined_groups() {
    assert_each_kind(&mixed(PIPELINING, "", ALL).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_the_middle_of_a_window() {
    assert_each_kind(&mixed(CHUNKING, "", ALL).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_data_for_nobody() {
    for extensions in [LOCKSTEP, PIPELINING] {
        assert_each_kind(&mixed(extensions, "lenient_data = true", ALL).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_many_lines_cut_anywhere() {
    for (extensions, replies) in [(PIPELINING, "octets"), (CHUNKING, "octets"), (CHUNKING, "single")] {
        let settings = format!("multiline = true\nreplies = \"{replies}\"");
        assert_each_kind(&mixed(extensions, &settings, ALL).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_refused() {
    for extensions in [LOCKSTEP, PIPELINING, CHUNKING] {
        for lenient in ["lenient_data = false", "lenient_data = true"] {
            let last = mixed(extensions, lenient, &["fault = \"unknown-user\""]).await;
            assert_eq!(last, BTreeMap::from([(550, RECIPIENTS)]), "{extensions} {lenient}");
        }
    }
}
