//! Sessions over a duplex stream, the clock held.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::journal::Inflight;
use crate::outcome::{Scope, SiteId, SourceId, Stage};
use crate::smtp::dialogs::{entry, message};

const NUMBER: u32 = 7;

/// A session, its server's end of the wire, and its path's end of the channels.
struct Rig {
    server: DuplexStream,
    orders: Option<mpsc::Sender<Vec<Entry>>>,
    events: mpsc::UnboundedReceiver<(u32, SessionEvent)>,
    outcomes: mpsc::Receiver<Outcome>,
    inflight: Arc<Inflight>,
    stop: CancellationToken,
    session: JoinHandle<SessionEnd>,
    _folder: tempfile::TempDir,
}

/// What a rig differs in from the next.
struct Setup {
    offers: &'static str,
    trust: Trust,
    window: usize,
    messages_max: Option<u32>,
    idle: Duration,
    wire_octets: usize,
    slots: u32,
    content_octets: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            offers: "PIPELINING, CHUNKING",
            trust: Trust::RoundTrip,
            window: 2,
            messages_max: None,
            idle: Duration::from_secs(60),
            wire_octets: 64 * 1024,
            slots: 64,
            content_octets: 0,
        }
    }
}

fn timeouts() -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        mail: seconds(301),
        rcpt: seconds(302),
        data_start: seconds(120),
        content_write: seconds(180),
        content_end: seconds(600),
        quit: seconds(5),
        ..Timeouts::default()
    }
}

impl Setup {
    fn run(self) -> Rig {
        let (client, server) = duplex(self.wire_octets);
        let (orders, orders_in) = mpsc::channel(16);
        let (events_out, events) = mpsc::unbounded_channel();
        let (outcomes_out, outcomes) = mpsc::channel(256);
        let folder = tempfile::tempdir().unwrap();
        let inflight = Arc::new(Inflight::open(&folder.path().join("inflight.map"), self.slots).unwrap());
        let stop = CancellationToken::new();
        let content_octets = self.content_octets;
        let link = Link {
            orders: orders_in,
            events: events_out,
            outcomes: outcomes_out,
            inflight: inflight.clone(),
            site: SiteId(3),
            source: SourceId(4),
            session: NUMBER,
            compose: move |entry: Entry, composed: &mut Composed| match entry.recipient.index {
                900 => Err(ComposeFailure::Suppressed),
                901 => Err(ComposeFailure::Unrenderable("no first name".into())),
                number => {
                    *composed = message(number, &number.to_string());
                    composed.content.extend(std::iter::repeat_n(b'x', content_octets));
                    composed.content.extend_from_slice(b"\r\n");
                    Ok(())
                }
            },
            admit: || Ok(()),
            unspent: |_| {},
            messages_max: self.messages_max,
            idle: self.idle,
            window: self.window,
            stop: stop.clone(),
        };
        let lines = std::iter::once("greets").chain(self.offers.split(", ")).map(str::as_bytes);
        let terms = Terms {
            capabilities: Capabilities::read(lines),
            trust: self.trust,
            timeouts: timeouts(),
            learned: Vec::new(),
            replies: ReplyReader::default(),
        };
        let session = tokio::spawn(run_on(client, terms, link));
        Rig { server, orders: Some(orders), events, outcomes, inflight, stop, session, _folder: folder }
    }
}

fn return_path(number: u32) -> String {
    message(number, &number.to_string()).envelope.return_path().to_owned()
}

impl Rig {
    async fn order(&self, numbers: impl IntoIterator<Item = u32>) {
        let batch = numbers.into_iter().map(entry).collect();
        self.orders.as_ref().unwrap().send(batch).await.unwrap();
    }

    /// What the session says next, which must be as long as `expected` and the same.
    async fn hears(&mut self, expected: &str) {
        let mut said = vec![0; expected.len()];
        self.server.read_exact(&mut said).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said), expected);
    }

    async fn hears_group(&mut self, number: u32) {
        self.hears(&format!(
            "MAIL FROM:<{}>\r\nRCPT TO:<{number}@d{number}.test>\r\nDATA\r\n",
            return_path(number)
        ))
        .await;
    }

    async fn hears_content(&mut self, number: u32) {
        self.hears(&format!("Subject: {number}\r\n\r\n..dot\r\n\r\n.\r\n")).await;
    }

    async fn says(&mut self, replies: &str) {
        self.server.write_all(replies.as_bytes()).await.unwrap();
    }

    async fn event(&mut self) -> SessionEvent {
        let (number, event) = self.events.recv().await.unwrap();
        assert_eq!(number, NUMBER);
        event
    }

    /// The next outcome, its slot released as the journal would.
    async fn outcome(&mut self) -> (u32, Finding) {
        let outcome = self.outcomes.recv().await.unwrap();
        assert_eq!((outcome.site, outcome.source), (SiteId(3), SourceId(4)));
        if let Some(slot) = outcome.slot {
            self.inflight.release(slot);
        }
        (outcome.entry.recipient.index, outcome.finding)
    }

    async fn accepted(&mut self, number: u32) {
        let (index, finding) = self.outcome().await;
        assert!(index == number && matches!(finding, Finding::Accepted(_)), "{index} {finding:?}");
    }

    /// The events left when the session has ended, but for requests for work.
    async fn rest(&mut self) -> Vec<SessionEvent> {
        let mut rest = Vec::new();
        while let Some((_, event)) = self.events.recv().await {
            if !matches!(event, SessionEvent::Wants(_)) {
                rest.push(event);
            }
        }
        rest
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_takes_one_round_trip_and_quit_follows_the_last() {
    let mut rig = Setup::default().run();
    assert!(matches!(rig.event().await, SessionEvent::Wants(4)));
    rig.order([1, 2]).await;
    drop(rig.orders.take());
    rig.hears_group(1).await;
    assert!(rig.inflight.armed().is_empty());
    rig.says("250 ok\r\n250 ok\r\n354 go\r\n").await;
    rig.hears_content(1).await;
    assert_eq!(rig.inflight.armed(), [entry(1)]);
    rig.hears_group(2).await;
    rig.says("250 queued\r\n250 ok\r\n250 ok\r\n354 go\r\n").await;
    rig.accepted(1).await;
    rig.hears_content(2).await;
    assert_eq!(rig.inflight.armed(), [entry(2)]);
    rig.says("250 queued\r\n").await;
    rig.accepted(2).await;
    rig.hears("QUIT\r\n").await;
    rig.says("221 bye\r\n").await;
    assert_eq!(rig.session.await.unwrap(), SessionEnd::Quit);
    assert_eq!(rig.inflight.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_patience() {
    let seconds = Duration::from_secs;
    let lockstep = ["", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    let cases: [(usize, Duration, Option<Stage>, usize); 5] = [
        (1, seconds(301), Some(Stage::Mail), 0),
        (2, seconds(302), Some(Stage::Rcpt), 0),
        (3, seconds(120), Some(Stage::Data), 0),
        (4, seconds(600), None, 0),
        (4, seconds(180), Some(Stage::Content), 4000),
    ];
    for (said, wait, stage, content_octets) in cases {
        let setup = Setup { trust: Trust::Lockstep, wire_octets: 1024, content_octets, ..Setup::default() };
        let mut rig = setup.run();
        rig.order([1]).await;
        for reply in &lockstep[..said] {
            rig.says(reply).await;
            let mut octets = [0; 100];
            assert!(rig.server.read(&mut octets).await.unwrap() > 0);
        }
        let since = Instant::now();
        let (_, finding) = rig.outcome().await;
        assert_eq!(since.elapsed().as_secs(), wait.as_secs(), "{stage:?}");
        let failure = Failure::Timeout(wait);
        let expected = match stage {
            Some(stage) => Finding::Failed { stage, scope: Scope::Session, failure },
            None => Finding::InDoubt { failure },
        };
        assert_eq!(finding, expected);
        assert!(matches!(rig.session.await.unwrap(), SessionEnd::Broken(_)));
        assert_eq!(rig.inflight.taken(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn octets_that_trickle_out_keep_a_content_alive() {
    let setup = Setup { wire_octets: 256, content_octets: 1000, ..Setup::default() };
    let mut rig = setup.run();
    rig.order([1]).await;
    rig.says("250 ok\r\n250 ok\r\n354 go\r\n").await;
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n.\r\n") {
        tokio::time::sleep(Duration::from_secs(170)).await;
        let mut octets = [0; 256];
        let read = rig.server.read(&mut octets).await.unwrap();
        said.extend_from_slice(&octets[..read]);
    }
    tokio::time::sleep(Duration::from_secs(250)).await;
    rig.says("250 queued\r\n").await;
    rig.accepted(1).await;
}

#[tokio::test(start_paused = true)]
async fn without_work_a_session_quits_and_does_not_wait_long_for_the_answer() {
    let mut rig = Setup { idle: Duration::from_secs(30), ..Setup::default() }.run();
    let since = Instant::now();
    rig.hears("QUIT\r\n").await;
    assert_eq!(since.elapsed().as_secs(), 30);
    assert_eq!((&mut rig.session).await.unwrap(), SessionEnd::Idle);
    assert_eq!(since.elapsed().as_secs(), 35);
    assert!(rig.orders.as_ref().unwrap().is_closed());
}

#[tokio::test(start_paused = true)]
async fn work_is_asked_for_before_the_last_is_gone() {
    let mut rig = Setup { trust: Trust::Window, window: 1, ..Setup::default() }.run();
    assert_eq!(rig.event().await, SessionEvent::Wants(4));
    rig.order(1..=4).await;
    // Two of four are left: one is on the wire and one made ahead.
    assert_eq!(rig.event().await, SessionEvent::Wants(8));
    assert!(rig.outcomes.try_recv().is_err());
    rig.order(5..=8).await;
    tokio::task::yield_now().await;
    assert!(rig.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_full_session_returns_what_it_has_left() {
    let mut rig = Setup { messages_max: Some(1), ..Setup::default() }.run();
    assert_eq!(rig.event().await, SessionEvent::Wants(1));
    rig.order([1, 2, 3]).await;
    rig.hears_group(1).await;
    rig.says("250 ok\r\n250 ok\r\n354 go\r\n").await;
    rig.hears_content(1).await;
    rig.says("250 ok\r\n").await;
    rig.hears("QUIT\r\n").await;
    rig.says("221 bye\r\n").await;
    rig.accepted(1).await;
    assert_eq!(rig.rest().await, [SessionEvent::Returned(vec![entry(2), entry(3)])]);
    assert_eq!(rig.session.await.unwrap(), SessionEnd::Full);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_finishes_what_is_under_way_and_returns_the_rest() {
    let mut rig = Setup::default().run();
    rig.order(1..=3).await;
    rig.hears_group(1).await;
    rig.stop.cancel();
    rig.says("250 ok\r\n250 ok\r\n354 go\r\n").await;
    rig.hears_content(1).await;
    rig.says("250 ok\r\n").await;
    rig.hears("QUIT\r\n").await;
    rig.says("221 bye\r\n").await;
    rig.accepted(1).await;
    let returned: Vec<Entry> = rig
        .rest()
        .await
        .into_iter()
        .flat_map(|event| match event {
            SessionEvent::Returned(entries) => entries,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(returned, [entry(2), entry(3)]);
    assert_eq!(rig.session.await.unwrap(), SessionEnd::Stopped);
    assert_eq!(rig.inflight.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_never_reaches_the_wire() {
    let mut rig = Setup::default().run();
    rig.order([900, 901, 1]).await;
    assert_eq!(rig.outcome().await, (900, Finding::Suppressed));
    assert_eq!(rig.outcome().await, (901, Finding::Unrenderable { reason: "no first name".into() }));
    rig.hears_group(1).await;
    assert_eq!(rig.inflight.taken(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_slot_is_enough_to_go_on_with() {
    let mut rig = Setup { slots: 1, trust: Trust::Window, ..Setup::default() }.run();
    rig.order(1..=3).await;
    for number in 1..=3 {
        rig.hears(&format!("MAIL FROM:<{}>\r\n", return_path(number))).await;
        rig.hears(&format!("RCPT TO:<{number}@d{number}.test>\r\nBDAT 22 LAST\r\n")).await;
        rig.hears(&format!("Subject: {number}\r\n\r\n.dot\r\n\r\n")).await;
        rig.says("250 ok\r\n250 ok\r\n250 ok\r\n").await;
        rig.accepted(number).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_421_is_read_though_writing_failed() {
    let mut rig = Setup { wire_octets: 512, content_octets: 4000, ..Setup::default() }.run();
    rig.order([1]).await;
    rig.hears_group(1).await;
    rig.says("250 ok\r\n250 ok\r\n354 go\r\n").await;
    rig.says("421 4.3.2 out of disk space\r\n").await;
    drop(rig.server);
    let outcome = rig.outcomes.recv().await.unwrap();
    assert!(
        matches!(&outcome.finding, Finding::Refused { stage: Stage::Content, scope: Scope::Session, reply } if reply.code() == 421),
        "{outcome:?}"
    );
    assert!(matches!(rig.session.await.unwrap(), SessionEnd::Closing(_)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_talks_before_it_listens_does_not_stall_it() {
    let mut rig =
        Setup { trust: Trust::Window, wire_octets: 64, content_octets: 2000, ..Setup::default() }.run();
    rig.order([1]).await;
    let mut chatter = "250-well\r\n".repeat(100);
    chatter.push_str("250 ok\r\n");
    // Neither side's buffer holds this: it passes only if the session reads while it cannot write.
    rig.says(&chatter).await;
    rig.says(&chatter).await;
    let mut octets = [0; 64];
    let mut said = Vec::new();
    while said.len() < 2000 + 22 + 70 {
        let read = rig.server.read(&mut octets).await.unwrap();
        said.extend_from_slice(&octets[..read]);
        if said.ends_with(b"xx\r\n") {
            break;
        }
    }
    rig.says("250 queued\r\n").await;
    rig.accepted(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_gone_while_idle_costs_nothing() {
    let mut rig = Setup::default().run();
    assert!(matches!(rig.event().await, SessionEvent::Wants(_)));
    rig.says("421 4.4.2 too idle\r\n").await;
    assert!(matches!((&mut rig.session).await.unwrap(), SessionEnd::Closing(_)));
    assert!(rig.rest().await.is_empty());

    let rig = Setup::default().run();
    drop(rig.server);
    assert_eq!(rig.session.await.unwrap(), SessionEnd::Gone);
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_tell_it_stops_and_leaves_slots_armed() {
    let mut rig = Setup { trust: Trust::Window, ..Setup::default() }.run();
    rig.order([1, 2]).await;
    tokio::task::yield_now().await;
    rig.outcomes.close();
    rig.says("250 ok\r\n250 ok\r\n250 ok\r\n").await;
    assert_eq!((&mut rig.session).await.unwrap(), SessionEnd::Abandoned);
    assert_eq!(rig.inflight.armed().len(), 2);
}

/// What a server does next.
#[derive(Debug, Clone)]
enum Deed {
    Read(usize),
    Say(&'static str),
    Wait(u64),
    Close,
}

fn deed() -> impl Strategy<Value = Deed> {
    let words = vec![
        "250 ok\r\n",
        "250 ok\r\n250 ok\r\n354 go\r\n",
        "250 ok\r\n250 ok\r\n250 ok\r\n",
        "354 go\r\n",
        "2",
        "50-x\r\n",
        "450 no\r\n",
        "550 no\r\n",
        "421 bye\r\n",
        "503 nested\r\n",
        "what?\r\n",
    ];
    prop_oneof![
        8 => (1usize..400).prop_map(Deed::Read),
        8 => prop::sample::select(words).prop_map(Deed::Say),
        2 => (1u64..700).prop_map(Deed::Wait),
        1 => Just(Deed::Close),
    ]
}

proptest! {
    #[test]
    fn every_entry_ends_in_one_outcome_or_is_returned(
        deeds in prop::collection::vec(deed(), 0..60),
        trust in prop_oneof![Just(Trust::Window), Just(Trust::RoundTrip), Just(Trust::Lockstep)],
        batches in prop::collection::vec(1u32..6, 0..4),
        wire_octets in 16usize..2000,
        slots in 1u32..6,
        stops in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let messages_max = (slots > 3).then_some(5);
            let setup = Setup { trust, wire_octets, slots, messages_max, content_octets: 300, window: 3, ..Setup::default() };
            let mut rig = setup.run();
            let orders = rig.orders.take().unwrap();
            let mut given = 0;
            for batch in batches {
                let entries = (given..given + batch).map(entry).collect();
                given += batch;
                orders.send(entries).await.unwrap();
            }
            let mut server = rig.server;
            let serving = tokio::spawn(async move {
                for deed in deeds {
                    match deed {
                        Deed::Read(octets) => {
                            let mut octets = vec![0; octets];
                            let wait = Duration::from_secs(1);
                            let _ = timeout(wait, server.read(&mut octets)).await;
                        }
                        Deed::Say(words) => {
                            let _ = timeout(Duration::from_secs(1), server.write_all(words.as_bytes())).await;
                        }
                        Deed::Wait(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                        Deed::Close => break,
                    }
                }
            });
            if stops {
                tokio::time::sleep(Duration::from_secs(2)).await;
                rig.stop.cancel();
            } else {
                drop(orders);
            }
            let mut fates = vec![0; given as usize];
            while let Some(outcome) = rig.outcomes.recv().await {
                if let Some(slot) = outcome.slot {
                    rig.inflight.release(slot);
                }
                fates[outcome.entry.recipient.index as usize] += 1;
            }
            while let Some((_, event)) = rig.events.recv().await {
                if let SessionEvent::Returned(entries) = event {
                    assert!(!entries.is_empty());
                    for entry in entries {
                        fates[entry.recipient.index as usize] += 1;
                    }
                }
            }
            rig.session.await.unwrap();
            serving.abort();
            assert!(fates.iter().all(|&fates| fates == 1), "{fates:?}");
            assert_eq!(rig.inflight.taken(), 0);
        });
    }
}
