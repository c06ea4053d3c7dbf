//! Whatever a server does at whatever stage, to one attempt or to all, every recipient ends in exactly
//! one outcome, the right one, and nobody gets a second copy who is not named in doubt.
//!
//! One world a mode holds a provider for each stage and fault, twice: once it strikes only at first,
//! once for ever. From `rcpt` on it strikes half of the addresses, so that the others share sessions
//! and windows with them and must not suffer for it.

mod support;

use support::Stage;
use support::ends::assert_right;

const STAGES: [&str; 10] = [
    "connect",
    "greeting",
    "ehlo",
    "starttls",
    "mail",
    "rcpt",
    "data",
    "content",
    "before-reply",
    "after-accept",
];
const FAULTS: [&str; 7] = ["disconnect", "reset", "421", "4yz", "5yz", "garbage", "stall"];
/// Of each provider.
const RECIPIENTS: usize = 6;

/// Longer than the node's patience below, so that it is the node that gives up.
const STALL: &str = "450ms";
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nidle = \"200ms\"\n\
    [shaping.default.timeouts]\nconnect = \"300ms\"\ngreeting = \"300ms\"\nehlo = \"300ms\"\nstarttls = \"300ms\"\n\
    mail = \"300ms\"\nrcpt = \"300ms\"\ndata_start = \"300ms\"\ncontent_write = \"300ms\"\n\
    content_end = \"300ms\"\nquit = \"200ms\"\n";
const RETRY: &str = "[retry]\nschedule = [\"50ms\", \"100ms\"]\nexpiry = \"6s\"\n";

/// Whether a fault can happen there: nobody replies to a connection that opens, or after acceptance.
fn is_possible(stage: &str, fault: &str) -> bool {
    let has_reply = ["421", "4yz", "5yz"].contains(&fault);
    !(has_reply && ["connect", "before-reply", "after-accept"].contains(&stage))
}

async fn every_fault(extensions: &[&str]) {
    let mut world = format!("seed = 7\nstall = \"{STALL}\"\n");
    let mut list = String::from("email,name\n");
    for stage in STAGES {
        for fault in FAULTS {
            if !is_possible(stage, fault) {
                continue;
            }
            for (often, attempts) in [("first", "attempts = [1, 2]\n"), ("always", "")] {
                let name = format!("{stage}-{fault}-{often}");
                let of_connections = ["connect", "greeting", "ehlo", "starttls", "mail"].contains(&stage);
                let share = if of_connections { 1.0 } else { 0.5 };
                let mut offered = extensions.to_vec();
                offered.extend((stage == "starttls").then_some("starttls"));
                world += &format!(
                    "[[provider]]\nname = \"{name}\"\ndomains = [\"{name}.test\"]\nextensions = {offered:?}\n\
                     [[provider.mx]]\nhost = \"mx.{name}.test\"\n\
                     [[provider.trouble]]\nstage = \"{stage}\"\nfault = \"{fault}\"\nshare = {share:?}\n{attempts}"
                );
                for number in 0..RECIPIENTS {
                    list += &format!("u{number}@{name}.test,Person {number}\n");
                }
            }
        }
    }
    let stage = Stage::new(&world, SETTINGS);
    let run = stage.run(&stage.campaign(&list, RETRY));
    let report = stage.send_all(run.clone()).await;
    assert!(report.finished);
    assert_right(&stage, &run, &report);
    let is_chunked = stage.world.dialogs().iter().any(|dialog| dialog.contains("BDAT"));
    assert_eq!(is_chunked, extensions.contains(&"chunking"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lockstep_server_may_fail_at_any_stage() {
    every_fault(&["8bitmime"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelining_server_may_fail_at_any_stage() {
    every_fault(&["pipelining", "size", "enhancedstatuscodes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunking_server_may_fail_at_any_stage() {
    every_fault(&["pipelining", "chunking", "size", "enhancedstatuscodes"]).await;
}
