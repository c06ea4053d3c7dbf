//! A plan is held to what a rehearsal under the same limits then takes, for each shipped campaign.
//!
//! Durations are the report's: from the start, when the first message may go, to the end, when the last
//! recipient is settled. What binds are limits, waits and days, not the machine: it only has to be fast
//! enough not to be one of them.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use postroad::address::AddressRef;
use serde_json::Value;
use support::Stage;

fn campaign(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("campaigns").join(name)
}

/// The last line that the program says about a shipped campaign.
fn said(folder: &Path, name: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postroad"));
    let settings = campaign(name).join("postroad.toml");
    if settings.exists() {
        command.arg("--config").arg(settings);
    }
    command.arg("--json").arg("--state").arg(folder).args(arguments).arg(campaign(name)).current_dir(folder);
    let output = command.env_remove("RUST_LOG").output().expect("the program starts");
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}", said.lines().last().unwrap_or_default());
    serde_json::from_str(said.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}\n{errors}"))
}

/// Rehearses a campaign, holds its plan against what it took, and gives the plan.
fn judged(name: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let rehearsal = &said(folder.path(), name, &["rehearse"])["rehearsal"];
    assert_eq!(rehearsal["as_expected"], true, "{}", rehearsal["differences"]);
    let seconds = |key: &str| rehearsal["seconds"][key].as_f64().unwrap();
    let (planned, measured) = (seconds("planned"), seconds("measured"));
    println!("{name}: planned {planned:.2} s, measured {measured:.2} s");
    assert!(
        (planned - measured).abs() <= 0.1 * measured,
        "{name}: planned {planned} s, measured {measured} s"
    );

    // What is said without sending is the same.
    let start = rehearsal["plan"]["start"].as_str().unwrap();
    let plan = said(folder.path(), name, &["plan", "--rehearsal", "--at", start])["plan"].take();
    let ended = plan["seconds"]["ended"].as_f64().unwrap();
    assert!((ended - planned).abs() < 1e-3 * planned, "{ended} s, and before a rehearsal {planned} s");
    assert_eq!(plan["recipients"], rehearsal["plan"]["recipients"]);
    plan
}

fn provider<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let providers = plan["providers"].as_array().unwrap();
    providers.iter().find(|provider| provider["provider"] == name).unwrap_or_else(|| panic!("{plan:#}"))
}

#[test]
fn the_welcome_is_as_long_as_those_are_tried_who_cannot_be_reached() {
    let plan = judged("welcome");
    assert_eq!(plan["recipients"], 10_000 - 90 - 150 - 120);
    assert!(plan["unreachable"]["recipients"].as_u64().unwrap() > 0);
    assert!(plan["no_mail"]["recipients"].as_u64().unwrap() >= 60);
    assert!(plan["seconds"]["tried"].as_f64() < plan["seconds"]["ended"].as_f64());
}

#[test]
fn the_newsletter_is_held_up_by_what_providers_take() {
    let plan = judged("newsletter");
    assert_eq!(plan["recipients"], 2_150);
    assert_eq!(plan["binds"]["provider"], "google");
    assert_eq!(plan["binds"]["text"], "20/s a path × 2 sources");
    let limits = |name: &str| &provider(&plan, name)["binds"]["limits"];
    assert_eq!(*limits("google"), serde_json::json!(["path"]));
    assert_eq!(*limits("yahoo"), serde_json::json!(["provider"]));
    assert_eq!(*limits("outlook"), serde_json::json!(["provider-sessions"]));
    assert_eq!(*limits("other sites"), serde_json::json!(["retry"]));
    let google = provider(&plan, "google");
    assert_eq!((&google["recipients"], &google["sites"]), (&Value::from(1_100), &Value::from(1)));
    let messages =
        google["limits"].as_array().unwrap().iter().find(|limit| limit["key"] == "messages").unwrap();
    assert_eq!((&messages["value"], &messages["section"]), (&"20/s".into(), &"[provider.google]".into()));
    assert!(messages["file"].as_str().unwrap().ends_with("campaigns/newsletter/postroad.toml"));
    let assumed: Vec<&str> =
        plan["assumed"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(assumed.len(), 3, "{assumed:?}");
}

#[test]
fn the_warm_up_sends_its_caps_and_the_rest_over_the_warm_source() {
    let plan = judged("warmup");
    assert_eq!(plan["recipients"], 2_350);
    let limits = plan["binds"]["limits"].as_array().unwrap();
    assert!(limits.contains(&"warm-up".into()) && limits.contains(&"path".into()), "{limits:?}");
    let text = plan["binds"]["text"].as_str().unwrap();
    assert!(text.contains("from old") && text.contains("the warm-up caps of new"), "{text}");
}

#[test]
fn a_plan_for_the_internet_sends_nothing_and_says_what_it_assumes() {
    let world = "[[provider]]\nname = \"p\"\ndomains = [\"p.test\", \"q.test\"]\nmx = [{ host = \"mx.p.test\" }]\n\
                 [[provider]]\nname = \"n\"\ndomains = [\"gone.test\"]\ndns = \"nxdomain\"\n\
                 [[provider]]\nname = \"s\"\ndomains = [\"lame.test\"]\ndns = \"servfail\"\n";
    let settings = "[shaping.provider.p]\nmx = [\".p.test\"]\nmessages = \"10/s burst 1\"\n";
    let stage = Stage::new(world, settings);
    let domain = |number: usize| match number {
        0..4 => "gone.test".to_owned(),
        4..7 => "lame.test".to_owned(),
        number if number.is_multiple_of(2) => "p.test".to_owned(),
        _ => "q.test".to_owned(),
    };
    let campaign = stage
        .campaign(&support::list(608, domain), "suppression = [\"not.txt\"]\n[retry]\nexpiry = \"2d\"\n");
    std::fs::write(campaign.join("not.txt"), "").unwrap();
    let campaign = campaign.to_str().unwrap();
    let arguments =
        ["plan", campaign, "--at", "2026-11-24T12:00:00Z", "--deferred", "0%", "--round-trip", "10ms"];
    let output = stage.call(&[&arguments[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let plan = &plan["plan"];
    // 601 at 10 a second, the first at once.
    let settled = plan["seconds"]["settled"].as_f64().unwrap();
    assert!((settled - 60.0).abs() < 0.5, "{settled}");
    assert_eq!(plan["seconds"]["ended"], 2.0 * 86_400.0);
    assert_eq!((&plan["start"], &plan["recipients"]), (&"2026-11-24T12:00:00Z".into(), &608.into()));
    assert_eq!(plan["no_mail"], serde_json::json!({ "domains": 1, "recipients": 4 }));
    assert_eq!(plan["unreachable"], serde_json::json!({ "domains": 1, "recipients": 3 }));
    assert_eq!(provider(plan, "p")["sites"], 1);
    let names: Vec<&Value> = plan["assumed"].as_array().unwrap().iter().map(|one| &one["change"]).collect();
    assert_eq!(names[..3], ["--round-trip TIME", "--deferred SHARE", "--machine RATE"]);

    let output = stage.call(&arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("p binds: 10/s burst 1 a path"), "{text}");
    assert!(text.contains("3 recipients at 1 domains that cannot be looked up"), "{text}");
    assert_eq!(stage.attempts("p7@p.test"), 0);
    assert_eq!(stage.world.accepted(&AddressRef::parse("p8@p.test").unwrap()), 0);
    assert!(stage.only_run().is_none(), "a plan is no run");
}

#[test]
fn of_a_test_without_a_winner_no_finish_is_promised() {
    let stage = Stage::new(
        "[[provider]]\nname = \"p\"\ndomains = [\"p.test\"]\nmx = [{ host = \"mx.p.test\" }]\n",
        "",
    );
    let plan = |test: &str, arguments: &[&str]| {
        let extra =
            format!("[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"\nsubject = \"Other\"\n{test}");
        let campaign = stage.campaign(&support::list(400, |_| "p.test".to_owned()), &extra);
        let at = ["plan", campaign.to_str().unwrap(), "--at", "2026-11-24T12:00:00Z"];
        let output = stage.call(&[&at[..], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = plan("[test]\nshare = \"10%\"\n", &[]);
    let head = said.lines().nth(1).unwrap();
    assert!(head.starts_with("no finish can be promised: 3"), "{head}");
    assert!(
        head.contains("of 400 recipients wait until `postroad winner` names one; with a winner"),
        "{head}"
    );
    assert!(said.contains("winner of the test"), "{said}");
    let after = "[test]\nshare = \"10%\"\nwinner = \"delivered\"\nafter = \"4h\"\n";
    let head = plan(after, &[]).lines().nth(1).unwrap().to_owned();
    assert!(head.contains("until") && head.contains("16:00:00 UTC at least"), "{head}");
    let json: Value = serde_json::from_str(&plan(after, &["--json"])).unwrap();
    let undecided = &json["plan"]["undecided"];
    assert_eq!(undecided["winner_after"], "2026-11-24T16:00:00Z");
    assert!((320..390).contains(&undecided["recipients"].as_u64().unwrap()), "{undecided}");
    assert!(plan("", &[]).lines().nth(1).unwrap().starts_with("finishes"));
}

#[test]
fn a_pool_that_is_not_there_is_told_with_those_that_are() {
    let stage = Stage::new("", "");
    let campaign = stage.campaign(&support::list(1, |_| "p.test".to_owned()), "pool = \"bulc\"\n");
    let output = stage.call(&["plan", campaign.to_str().unwrap()]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("the pool `bulc`") && errors.contains("default"), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}
