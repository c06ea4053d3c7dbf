//! In each state that a world can bring a path into, the engine says what binds, until when, what caused
//! it, and what happens next.

mod support;

use std::time::Duration;

use jiff::Timestamp;
use postroad::campaign::run::Run;
use postroad::control::client::ask;
use postroad::control::protocol::{BindingShare, CampaignReport, DomainReport, PathReports, Reply, Request};
use postroad::engine::Running;
use postroad::policy::{Binding, PathReport, Paused, RateWord, Resting};
use postroad::shaping::rate::Limit;
use serde_json::Value;
use support::{Stage, list, shipped};
use tokio::time::Instant;

/// No state takes longer to come about.
const DEADLINE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);
/// A moment of one clock is read from two.
const MOMENT: Duration = Duration::from_millis(10);
const A: &str = "[sources.a]\nipv4 = \"127.30.0.1\"\n";
const B: &str = "[sources.b]\nipv4 = \"127.30.0.2\"\n";

/// A run under way, and whom to ask about it.
struct Asked {
    stage: Stage,
    run: Run,
    running: Running,
}

impl Asked {
    async fn begun(stage: Stage, list: &str) -> Self {
        let run = stage.run(&stage.campaign(list, ""));
        let running = stage.start(run.clone()).await.unwrap_or_else(|error| panic!("{error}"));
        Self { stage, run, running }
    }

    fn ask(&self, request: &Request) -> Option<Reply> {
        tokio::task::block_in_place(|| ask(&self.stage.node.state, &self.run, request)).ok()
    }

    /// Asks until the answer is as wanted.
    async fn until<T>(&self, request: Request, pick: impl Fn(Reply) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let said = self.ask(&request);
            let shown = format!("{said:?}");
            if let Some(found) = said.and_then(&pick) {
                return found;
            }
            assert!(began.elapsed() < DEADLINE, "{request:?}: {shown}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The first path of those so named that is as wanted.
    async fn path(&self, name: &str, is_so: impl Fn(&PathReport) -> bool) -> PathReport {
        let pick = |reply| match reply {
            Reply::Paths(PathReports { paths, .. }) => paths.into_iter().find(|path| is_so(path)),
            _ => None,
        };
        self.until(Request::Path(name.parse().unwrap()), pick).await
    }

    async fn domain(&self, name: &str, is_so: impl Fn(&DomainReport) -> bool) -> DomainReport {
        let pick = |reply| match reply {
            Reply::Domain(domain) => Some(*domain).filter(|domain| is_so(domain)),
            _ => None,
        };
        self.until(Request::Domain(name.to_owned()), pick).await
    }

    async fn campaign(&self, is_so: impl Fn(&CampaignReport) -> bool) -> CampaignReport {
        let pick = |reply| match reply {
            Reply::Campaign(campaign) => Some(*campaign).filter(|campaign| is_so(campaign)),
            _ => None,
        };
        self.until(Request::Campaign, pick).await
    }

    /// What the program prints.
    fn printed(&self, arguments: &[&str]) -> String {
        let output = tokio::task::block_in_place(|| self.stage.call(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the program prints all of these.
    async fn says(&self, arguments: &[&str], parts: &[&str]) {
        let began = Instant::now();
        loop {
            let text = self.printed(arguments);
            let Some(missing) = parts.iter().find(|part| !text.contains(**part)) else { return };
            assert!(began.elapsed() < DEADLINE, "{missing:?} is not in\n{text}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn json(&self, about: &str) -> Value {
        let mut line: Value = serde_json::from_str(&self.printed(&["why", about, "--json"])).unwrap();
        line["why"].take()
    }

    async fn stopped(self) {
        self.running.watch().stop();
        let finished = tokio::time::timeout(DEADLINE, self.running.finished()).await;
        finished.expect("it stops").unwrap_or_else(|error| panic!("{error}"));
    }
}

fn rests(path: &PathReport, resting: Resting) -> bool {
    path.binding == Binding::Hold && path.hold.as_ref().is_some_and(|hold| hold.resting == resting)
}

fn rule_of(share: &BindingShare) -> Option<&str> {
    share.cause.as_ref()?.rule.as_deref()
}

/// Reply and rule of what binds.
#[track_caller]
fn assert_caused(path: &PathReport, reply: &str, rule: &str) {
    let cause = path.cause().unwrap_or_else(|| panic!("{path:#?}"));
    assert!(cause.reply.as_deref().is_some_and(|said| said.contains(reply)), "{cause:?}");
    assert_eq!(cause.rule.as_deref(), Some(rule));
    assert!(Timestamp::try_from(cause.since).unwrap() <= Timestamp::now());
}

/// It ends so far from now at most.
#[track_caller]
fn assert_ends(until: Option<Timestamp>, within: Duration) {
    let until = until.expect("it has an end");
    let ahead = until.duration_since(Timestamp::now());
    // The answer took a moment.
    assert!(ahead > jiff::SignedDuration::from_secs(-1), "{ahead:?}");
    assert!(ahead <= jiff::SignedDuration::try_from(within).unwrap(), "{ahead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_limit_shows_as_the_adapted_rate() {
    let settings = format!(
        "{A}[shaping.provider.p]\nmx = [\".p.test\"]\nsessions = 4\nmessages = \"unlimited\"\n\
         connections = \"unlimited\"\nmessages_per_session = 1000\n"
    );
    let list = list(4_000, |_| "settle.test".into());
    let asked = Asked::begun(Stage::new(&shipped("settle"), &settings), &list).await;
    let adapted = Binding::Rate(Limit::AdaptedPath);
    // 120 a minute, which is a second of the clock.
    let about = 90.0 * 60.0..=130.0 * 60.0;
    let is_known = |path: &PathReport| {
        let is_there = path.rate.per_minute.is_some_and(|rate| about.contains(&rate));
        is_there && path.binding == adapted && path.rate.state == RateWord::AtCeiling && path.until.is_some()
    };
    let path = asked.path("a@settle.test", is_known).await;
    let rate = path.rate.per_minute.expect("it is paced");
    assert!(path.rate.ceiling_per_minute.is_some_and(|ceiling| ceiling >= rate));
    assert_ends(path.until, Duration::from_secs(1));
    // Ten minutes until a little more is tried.
    assert_ends(path.rate.until, Duration::from_secs(60));
    assert_caused(&path, "Too many messages from your host", "rule rate-policyd");
    // Whoever looks again is told the same, as long as it is so.
    for _ in 0..20 {
        let path = asked.path("a@settle.test", |_| true).await;
        assert_eq!(path.binding, adapted, "{path:#?}");
        tokio::time::sleep(LOOK).await;
    }
    let domain = asked.domain("settle.test", |domain| !domain.paths.is_empty()).await;
    assert_eq!((domain.paths[0].binding, domain.site.as_deref()), (adapted, Some(path.site.as_str())));
    let is_adapted =
        |campaign: &CampaignReport| campaign.bindings.first().is_some_and(|share| share.binding == adapted);
    let campaign = asked.campaign(is_adapted).await;
    let share = &campaign.bindings[0];
    assert_eq!((share.binding, rule_of(share), &campaign.hold), (adapted, Some("rule rate-policyd"), &None));
    asked
        .says(
            &["why", "*@p"],
            &[
                "adapted-path rate:",
                "rate-policyd",
                "just below what the site takes",
                "a little more is tried",
            ],
        )
        .await;
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_one_provider_blocks_is_out_there_and_nowhere_else() {
    let settings = format!(
        "[shaping.default]\nsessions = 2\nmessages = \"40/s\"\n[shaping.provider.q]\nmx = [\".q.test\"]\n\
         [shaping.provider.outlook]\nmx = [\".p.test\"]\nreplace = true\n{A}{B}"
    );
    let domain = |number: usize| ["blocking.test", "welcoming.test"][number % 2].to_owned();
    let asked = Asked::begun(Stage::new(&shipped("blocked_source"), &settings), &list(1_200, domain)).await;
    let path = asked.path("a@outlook", |path| rests(path, Resting::Source)).await;
    assert_caused(
        &path,
        "part of their network is on our block list (S3140)",
        "rule outlook-block-list-network",
    );
    // Six hours of two seconds each.
    assert_ends(path.until, Duration::from_secs(12));
    let hold = path.hold.unwrap();
    assert_eq!((hold.until, hold.then_probe, hold.overflows), (path.until, true, true));
    let other = asked.path("b@outlook", |path| path.is_awake).await;
    assert_eq!(other.hold, None);
    assert_eq!(asked.path("a@welcoming.test", |path| path.is_awake).await.hold, None);
    let campaign = asked.campaign(|campaign| campaign.bindings.len() > 1).await;
    let share = campaign.bindings.iter().find(|share| share.resting == Some(Resting::Source)).unwrap();
    assert_eq!((share.such_as.as_str(), rule_of(share)), ("a@mx1.p.test", hold.cause.rule.as_deref()));
    assert!(share.until >= path.until.map(|until| until - MOMENT), "{share:?}");
    assert_eq!(campaign.hold, None);
    let parts = [
        "source taken out:",
        ", until ",
        "(rule outlook-block-list-network)",
        "other sources take its mail meanwhile",
    ];
    asked.says(&["why", "a@blocking.test"], &parts).await;
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tss04_shows_as_a_suspension_then_a_probe_then_a_slow_return() {
    // Round trips so slow that the probe can be watched, and a limit that is exceeded all the same.
    let world = shipped("tss04").replace("\"5ms\"", "\"80ms\"").replace("\"300/h\"", "\"24/h\"");
    let settings = format!(
        "{A}[shaping.provider.yahoo]\nmx = [\".p.test\"]\nreplace = true\nsessions = 4\n\
         messages = \"12/s\"\nconnections = \"unlimited\"\n"
    );
    let asked = Asked::begun(Stage::new(&world, &settings), &list(600, |_| "penalty.test".into())).await;
    let rule = "rule yahoo-deferred-tss04";
    let path = asked.path("a@penalty.test", |path| rests(path, Resting::Path)).await;
    assert_caused(&path, "[TSS04]", rule);
    // Two hours of three seconds each.
    assert_ends(path.until, Duration::from_secs(6));
    assert!(path.hold.as_ref().is_some_and(|hold| hold.then_probe));
    let about = asked.json("a@penalty.test");
    let said: PathReport = serde_json::from_value(about["paths"][0].clone()).unwrap();
    assert!(about["count"] == 1 && rests(&said, Resting::Path), "{said:?}");
    assert_caused(&said, "[TSS04]", rule);
    // What was under way when it began may still be heard of.
    assert!(said.until >= path.until.map(|until| until - MOMENT), "{said:?}");
    asked
        .says(
            &["why", "a@penalty.test"],
            &["suspended:", ", until ", "[TSS04]", &format!("({rule})"), "then one message alone"],
        )
        .await;

    let probing = asked.path("a@penalty.test", |path| path.binding == Binding::Probe).await;
    assert_caused(&probing, "[TSS04]", rule);
    assert_eq!(probing.until, None, "nobody knows how long a message takes");

    let adapted = Binding::Rate(Limit::AdaptedPath);
    let back = asked.path("a@penalty.test", |path| path.binding == adapted).await;
    assert_eq!((&back.hold, back.rate.state), (&None, RateWord::Growing));
    assert!(back.rate.ceiling_per_minute > back.rate.per_minute, "{:?}", back.rate);
    assert_caused(&back, "[TSS04]", rule);
    asked
        .says(&["why", "a@penalty.test"], &["adapted-path rate:", "[TSS04]", "it grows back by itself"])
        .await;
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greylisted_recipient_waits_and_comes_back_from_the_same_source() {
    // The five minutes are five seconds.
    let world = shipped("greylist").replace("time_factor = 600", "time_factor = 60");
    let settings = format!("[shaping.provider.p]\nmx = [\".p.test\"]\nmessages = \"unlimited\"\n{A}{B}");
    let asked = Asked::begun(Stage::new(&world, &settings), &list(40, |_| "greylist.test".into())).await;
    let campaign = asked.campaign(|campaign| campaign.deferred == 40).await;
    assert_eq!(campaign.hold, None, "nothing of ours holds them");
    // Six minutes, until it is surely over.
    assert_ends(campaign.next_due, Duration::from_secs(7));
    let about = asked.json("u7@greylist.test");
    assert_eq!((&about["state"], &about["last"]["class"]), (&"deferred".into(), &"greylisted".into()));
    assert!(about["last"]["reply"].as_str().is_some_and(|reply| reply.contains("Greylisted")));
    assert!(about["last"]["rule"].is_string());
    assert_eq!(about["bound_to"], about["last"]["source"]);
    let due: Timestamp = about["due"].as_str().unwrap().parse().unwrap();
    assert_ends(Some(due), Duration::from_secs(7));
    let source = about["bound_to"].as_str().unwrap();
    let again = format!(", from {source} again");
    asked.says(&["why", "u7@greylist.test"], &["deferred until", "greylisted", "attempt 2 at", &again]).await;
    for path in asked.domain("greylist.test", |domain| domain.waiting == 0).await.paths {
        assert_eq!((path.binding, path.hold), (Binding::Work, None));
    }
    let began = Instant::now();
    let after = loop {
        let after = asked.json("u7@greylist.test");
        if after["state"] == "delivered" {
            break after;
        }
        assert!(began.elapsed() < DEADLINE, "{after:#}");
        tokio::time::sleep(LOOK).await;
    };
    assert_eq!((&after["attempts"], &after["last"]["source"]), (&2.into(), &about["bound_to"]));
    assert_eq!(after["bound_to"], Value::Null);
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_cap_shows_as_warm_up_until_the_next_day() {
    // A day is five seconds.
    const DAY: Duration = Duration::from_secs(5);
    let world = shipped("warmup").replace("8640", "17280");
    let settings = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\n\
        [shaping.provider.q]\nmx = [\".q.test\"]\n[sources.new]\nipv4 = \"127.30.0.1\"\nwarmup = \"mine\"\n\
        [warmup.schedules.mine]\nper = \"day\"\ncaps = [30, 50, 70]\n";
    let asked = Asked::begun(Stage::new(&world, settings), &list(400, |_| "tepid.test".into())).await;
    // So much of the day is left that the rest is asked in it.
    let has_time = |path: &PathReport| path.until > Some(Timestamp::now() + DAY / 2);
    let path = asked.path("new@tepid.test", |path| rests(path, Resting::WarmUp) && has_time(path)).await;
    assert_ends(path.until, DAY);
    let cause = path.cause().unwrap();
    let caps = ["warm-up: 30 messages a day on sending day 1", "warm-up: 50 messages a day on sending day 2"];
    assert!(caps.contains(&cause.text.as_str()), "{cause:?}");
    assert_eq!((&cause.reply, &cause.rule), (&None, &None));
    let hold = path.hold.as_ref().unwrap();
    assert_eq!((hold.then_probe, hold.until), (false, path.until));
    // A message that was granted and not sent is made up for first.
    let is_spent = |share: &BindingShare| share.resting == Some(Resting::WarmUp) && share.waiting > 0;
    let campaign = asked.campaign(|campaign| campaign.bindings.first().is_some_and(is_spent)).await;
    assert_eq!(campaign.hold, None);
    asked
        .says(
            &["why", "tepid.test"],
            &["warm-up: the cap is spent, until ", "messages a day on sending day", "then it goes on"],
        )
        .await;
    let is_next = |other: &PathReport| {
        rests(other, Resting::WarmUp) && path.until.is_some_and(|until| other.until > Some(until + DAY / 2))
    };
    let next = asked.path("new@tepid.test", is_next).await;
    assert_ne!(next.cause().unwrap().text, cause.text, "another day, another cap");
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tripped_breaker_shows_as_a_paused_campaign_that_waits_for_a_person() {
    let settings = format!(
        "{A}[shaping.default]\nmessages = \"25/s\"\nsessions = 1\n[shaping.provider.p]\nmx = [\".p.test\"]\n\
         [breakers.hard-bounce.short]\nsends_min = 100\nevents_min = 10\nwarn = \"5%\"\nslow = \"off\"\npause = \"10%\"\n"
    );
    let asked =
        Asked::begun(Stage::new(&shipped("breaker"), &settings), &list(700, |_| "stale.test".into())).await;
    let path = asked.path("a@stale.test", |path| path.binding == Binding::Rate(Limit::Path)).await;
    assert_eq!((&path.hold, path.cause()), (&None, None));

    let campaign = asked.campaign(|campaign| campaign.hold.is_some()).await;
    let hold = campaign.hold.unwrap();
    assert_eq!((hold.resting, hold.until, hold.then_probe), (Resting::Campaign, None, false));
    assert_eq!((hold.cause.rule.as_deref(), &hold.cause.reply), (Some("breaker"), &None));
    assert!(hold.cause.text.contains('%'), "{}", hold.cause.text);
    assert!(campaign.held.is_some_and(|line| line.starts_with("the campaign is paused: ")));
    let path = asked.path("a@stale.test", |path| rests(path, Resting::Campaign)).await;
    assert_eq!((path.until, path.cause()), (None, Some(&hold.cause)));
    let waits = "it waits for a person: `postroad adjust resume`";
    asked.says(&["why"], &["campaign paused:", &hold.cause.text, "(breaker)", waits]).await;
    asked
        .says(&["why", "u699@stale.test"], &["waiting for its first attempt", "campaign paused:", waits])
        .await;

    assert!(matches!(asked.ask(&Request::Resume(Paused::All)), Some(Reply::Done(_))));
    let path = asked.path("a@stale.test", |path| path.binding == Binding::Rate(Limit::Path)).await;
    assert_eq!(path.hold, None);
    asked.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_ceiling_shows_as_its_sessions() {
    let sources: String = (1..=4).map(|n| format!("[sources.s{n}]\nipv4 = \"127.30.0.{n}\"\n")).collect();
    let settings = format!(
        "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nsessions = 10\n\
         [shaping.provider.p]\nmx = [\".p.test\"]\nsessions_total = 12\nmessages_per_session = 20\n{sources}"
    );
    let world = shipped("ceiling").replace("\"10ms\"", "\"40ms\"");
    let list = list(3_000, |number| format!("d{}.test", number % 3 + 1));
    let asked = Asked::begun(Stage::new(&world, &settings), &list).await;
    let path = asked.path("*@p", |path| path.binding == Binding::ProviderSessions).await;
    assert!(path.sessions.open < path.sessions.allowed, "{:?}", path.sessions);
    assert_eq!((path.sessions.allowed, path.sessions.limit, &path.hold), (10, 10, &None));
    assert_eq!((path.until, path.cause()), (None, None));
    let ceiling = path.limits.iter().find(|[key, ..]| key == "sessions_total").expect("its origin is told");
    assert_eq!(ceiling[1], "12");
    let binds = |share: &BindingShare| share.binding == Binding::ProviderSessions;
    let campaign = asked.campaign(|campaign| campaign.bindings.first().is_some_and(binds)).await;
    assert_eq!((campaign.bindings[0].resting, &campaign.bindings[0].cause), (None, &None));
    asked
        .says(
            &["why", "*@p"],
            &[
                "provider-sessions: all sessions that the provider bears over all paths are taken",
                "as soon as another of these ends",
            ],
        )
        .await;
    asked.stopped().await;
}
