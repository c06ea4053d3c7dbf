//! A campaign reaches every recipient once, whatever a server can and cannot do.

mod support;

use support::{Stage, list};

fn world(extensions: &str) -> String {
    format!(
        "[[provider]]\nname = \"plain\"\ndomains = [\"a.test\", \"b.test\"]\nextensions = [{extensions}]\n\
         [[provider.mx]]\nhost = \"mx.plain.test\"\n"
    )
}

async fn everyone_once(extensions: &str) {
    let stage = Stage::new(&world(extensions), "[shaping.default]\nmessages = \"unlimited\"\n");
    let report =
        stage.send(&list(500, |n| if n % 2 == 0 { "a.test".into() } else { "b.test".into() }), "").await;
    assert_eq!((report.totals.rows, report.totals.delivered, report.finished), (500, 500, true));
    let counts = stage.counts();
    assert_eq!((counts.accepted, counts.addresses, counts.repeated), (500, 500, 0));
    assert_eq!((counts.message_id_repeats, counts.violations, counts.misrouted), (0, 0, 0), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lockstep_servers_get_everything() {
    everyone_once("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelining_servers_get_everything() {
    everyone_once("\"pipelining\", \"size\", \"8bitmime\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunking_servers_get_everything() {
    everyone_once("\"pipelining\", \"chunking\", \"size\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_starttls_get_everything_encrypted() {
    let stage = Stage::new(&world("\"pipelining\", \"starttls\""), "");
    let report = stage.send(&list(100, |_| "a.test".into()), "tls = \"verified\"").await;
    assert_eq!(report.totals.delivered, 100);
    assert_eq!(stage.counts().providers[0].accepted_over_tls, 100);
}
