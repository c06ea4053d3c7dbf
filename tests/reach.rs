//! A run that may reach only a world never connects outside it, and a road that leads there fails the run.

mod support;

use std::sync::Arc;
use std::time::Duration;

use postroad::engine::{self, EngineError, Options};
use postroad::smtp::Reach;
use support::{PATIENCE, Stage, list};

#[tokio::test(flavor = "multi_thread")]
async fn a_road_that_leads_out_of_the_world_fails_the_run() {
    let provider = |name: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndomains = [\"{name}.test\"]\nmx = [{{ host = \"mx.{name}.test\" }}]\n"
        )
    };
    let stage = Stage::new(&(provider("inside") + &provider("outside")), "");
    let outside = stage.world.host("mx.outside.test").unwrap();
    let mut addresses = stage.world.smtp_addresses();
    assert!(addresses.remove(&outside));
    let both = |n: usize| if n.is_multiple_of(2) { "inside.test".into() } else { "outside.test".into() };
    let run = stage.run(&stage.campaign(&list(40, both), ""));

    let options = Options::new(Reach::World(Arc::new(addresses)));
    let running = engine::start(stage.node.clone(), run.clone(), options).await.unwrap();
    let watch = running.watch();
    let ended = tokio::time::timeout(Duration::from_secs(20), running.finished()).await;
    let error = ended.expect("the run ends at once").unwrap_err();
    assert!(matches!(error, EngineError::Escape(address) if address == outside), "{error}");
    assert!(error.to_string().contains(&outside.to_string()), "{error}");
    assert_eq!(stage.counts().providers[1].connections, 0);
    // Nobody was lost by it.
    let totals = watch.progress().totals;
    assert_eq!((totals.bounced, totals.expired, totals.check()), (0, 0, Ok(())));
    let finished = tokio::time::timeout(PATIENCE, stage.start(run).await.unwrap().finished()).await;
    assert_eq!(finished.unwrap().unwrap().totals.delivered, 40);
    assert_eq!((stage.counts().accepted, stage.counts().repeated), (40, 0));
}
