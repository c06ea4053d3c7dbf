//! A site that takes connections and nothing else is asked again by the retry schedule, not at once; one
//! that takes a few of them is served with a few.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postroad::engine::{self, Options, Running};
use postroad::smtp::Reach;
use support::{Stage, list};

const WORLD: &str =
    "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{ host = \"mx.a.test\", state = \"dead\" }]\n";
const SETTINGS: &str =
    "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nsessions = 8\n";

/// A server in place of every host of the world; it counts its connections.
fn server(stage: &mut Stage, treat: impl Fn(TcpStream) + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    stage.node.smtp_port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, treat) = (count.clone(), Arc::new(treat));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let treat = treat.clone();
            std::thread::spawn(move || treat(stream));
        }
    });
    count
}

async fn start(stage: &Stage, recipients: usize, schedule: &str) -> Running {
    let manifest = format!("[retry]\nschedule = {schedule}\n");
    let run = stage.run(&stage.campaign(&list(recipients, |_| "a.test".into()), &manifest));
    // The world does not know of the server; its DNS gives loopback addresses only.
    engine::start(stage.node.clone(), run, Options::new(Reach::Internet)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_behind_ehlo_is_not_connected_to_again_at_once() {
    let mut stage = Stage::new(WORLD, SETTINGS);
    let connections = server(&mut stage, |mut stream| {
        let _ = stream.write_all(b"220 mx.a.test\r\n");
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"250 mx.a.test\r\n");
    });
    let running = start(&stage, 10, "[\"1s\"]").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.watch().stop();
    running.finished().await.unwrap();
    let connections = connections.load(Ordering::Relaxed);
    assert!((2..40).contains(&connections), "{connections} in 3 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_fail_together_count_as_one_failure() {
    let mut stage = Stage::new(WORLD, SETTINGS);
    let connections = server(&mut stage, |mut stream| {
        std::thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(b"554 5.3.2 not now\r\n");
    });
    let running = start(&stage, 2000, "[\"500ms\", \"1h\"]").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.watch().stop();
    running.finished().await.unwrap();
    // Eight at first, one half a second later, and then not for an hour.
    assert_eq!(connections.load(Ordering::Relaxed), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_refuses_some_of_the_first_sessions_is_not_given_up() {
    // The refusals come a round trip before the others are ready.
    let world = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nlatency = \"40ms\"\n\
                 extensions = [\"pipelining\", \"chunking\"]\nlimits = { connections_per_source = 2 }\n\
                 mx = [{ host = \"mx.a.test\" }]\n";
    let stage = Stage::new(world, &format!("{SETTINGS}messages_per_session = 50\n"));
    let list = list(600, |_| "a.test".into());
    let report = stage.send(&list, "[retry]\nschedule = [\"20s\"]\n");
    let report = tokio::time::timeout(Duration::from_secs(15), report).await;
    assert_eq!(report.expect("it should not wait for the schedule").totals.delivered, 600);
}
