//! A cancelled run sends nothing more, and accounts for everyone it did not send to.

mod support;

use std::time::Duration;

use support::ends::endings;
use support::{PATIENCE, Stage, list};

use postroad::outcome::Disposition;

#[tokio::test(flavor = "multi_thread")]
async fn what_paths_and_sessions_hold_is_cancelled_too() {
    // Some six messages a second over one connection, with a queue behind it.
    let world = "[[provider]]\nname = \"p\"\ndomains = [\"p.test\"]\nextensions = []\nlatency = \"20ms\"\n\
        [[provider.mx]]\nhost = \"mx.p.test\"\n";
    let stage = Stage::new(world, "[shaping.default]\nsessions = 1\nmessages = \"unlimited\"\n");
    let run = stage.run(&stage.campaign(&list(200, |_| "p.test".into()), ""));
    let running = stage.start(run.clone()).await.unwrap();
    while stage.counts().accepted < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.cancel().unwrap();
    let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
    let report = finished.expect("a cancelled run ends").unwrap();
    // The mark is looked for every 400 ms.
    assert!(report.finished && report.totals.delivered < 30, "{:?}", report.totals);
    assert_eq!(report.totals.delivered + report.totals.cancelled, 200);
    assert_eq!(report.totals.delivered, stage.counts().accepted);
    for (address, ending) in endings(&run) {
        let copies = stage.accepted(&address);
        let expected = if copies == 1 { Disposition::Delivered } else { Disposition::Cancelled };
        assert_eq!((copies <= 1, ending.finals), (true, vec![expected]), "{address}");
    }
}
