//! A run checks by itself: it goes on over warnings, stops at errors unless it is forced, and its report says so.

mod support;

use support::{Stage, list};

const WORLD: &str = r#"
[[provider]]
name = "plain"
domains = ["a.test"]
mx = [{ host = "mx.plain.test" }]
"#;

/// A campaign with an error, and without signature and one-click unsubscription.
fn wrong(stage: &Stage) -> String {
    let campaign = stage.campaign(&list(5, |_| "a.test".into()), "");
    std::fs::write(campaign.join("message.txt"), "Hello %%FNAME%%\n").unwrap();
    campaign.to_str().unwrap().to_owned()
}

#[test]
fn an_error_stops_a_run_and_nobody_is_mailed() {
    let stage = Stage::new(WORLD, "");
    let (code, errors) = stage.spawn(&["run", &wrong(&stage)]).end();
    assert_eq!(code, Some(6), "{errors}");
    assert!(errors.contains("check: placeholder: "), "{errors}");
    assert!(stage.only_run().is_none());
    assert_eq!(stage.counts().accepted, 0);
}

#[test]
fn a_forced_run_says_over_what() {
    let stage = Stage::new(WORLD, "");
    let (code, errors) = stage.spawn(&["run", &wrong(&stage), "--force"]).end();
    assert_eq!(code, Some(0), "{errors}");
    let report = stage.report();
    assert_eq!(report.totals.delivered, 5);
    let forced = &report.warnings[0];
    assert!(forced.contains("--force") && forced.contains("placeholder: "), "{forced}");
    for check in ["one-click", "dkim-none"] {
        assert!(report.warnings.iter().any(|warning| warning.contains(check)), "{:?}", report.warnings);
    }
    let html = std::fs::read_to_string(stage.only_run().unwrap().folder.join("report.html")).unwrap();
    assert!(html.contains("--force") && html.contains("placeholder"), "{html}");
}

#[test]
fn a_run_that_is_not_checked_says_so() {
    let stage = Stage::new(WORLD, "");
    let (code, errors) = stage.spawn(&["run", &wrong(&stage), "--no-check"]).end();
    assert_eq!(code, Some(0), "{errors}");
    assert!(stage.report().warnings[0].contains("--no-check"), "{:?}", stage.report().warnings);
}
