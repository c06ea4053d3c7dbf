//! Timelines against what a person computes by hand.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{Node, Rate};
use crate::policy::warmup::Warmup;
use crate::policy::{Party, Tempo};
use crate::shaping::Limits;

// date -u -d '2026-11-23' +%s
const MIDNIGHT: u64 = 1_795_392_000;
const DAY: f64 = 86_400.0;

fn midnight() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MIDNIGHT)
}

fn rates(texts: &[&str]) -> Vec<Rate> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// So many sources alike, nothing limited but by a machine that makes a million a second.
fn question(sources: usize) -> Question {
    let source =
        |number| Source { name: format!("s{number}"), weight: 1, account: Vec::new(), sessions: 500.0 };
    Question {
        start: midnight(),
        sources: (0..sources).map(source).collect(),
        providers: vec![Provider { name: "p".into(), ..Provider::default() }],
        sites: Vec::new(),
        campaign: Vec::new(),
        machine: 1e6,
        sessions: 1_000.0,
        retry: vec![Duration::from_secs(300), Duration::from_secs(900)],
        jitter: 0.0,
        expiry: Duration::from_secs(30 * 86_400),
        warmup: Warmup::new(&Node::default(), Tempo(1.0), Vec::new()),
        unreachable: 0,
    }
}

/// A site of the first provider, near and generous.
fn site(sources: usize, limits: Limits, load: Vec<Cohort>) -> Site {
    let limits = Arc::new(limits);
    Site {
        provider: 0,
        limits: vec![limits; sources],
        learned: vec![None; sources],
        rests: vec![None; sources],
        round_trip: Duration::from_millis(1),
        held: Duration::ZERO,
        load,
    }
}

fn limits(messages: &[&str]) -> Limits {
    Limits { sessions: 100, messages: rates(messages), ..Limits::default() }
}

fn good(count: f64) -> Vec<Cohort> {
    vec![Cohort::fresh(count, Some(0), false)]
}

/// Within half a percent.
fn assert_near(actual: Duration, expected: f64) {
    let actual = actual.as_secs_f64();
    assert!((actual - expected).abs() <= 0.005 * expected + 0.02, "{actual} s, not {expected}");
}

fn binds(answer: &Answer) -> Vec<Binds> {
    answer.providers[answer.last.unwrap()].binds.iter().map(|(binds, _)| *binds).collect()
}

#[test]
fn a_path_sends_its_burst_and_then_its_rate() {
    let mut question = question(1);
    question.sites.push(site(1, limits(&["10/s burst 1"]), good(601.0)));
    let answer = plan(question);
    assert_near(answer.settled, 60.0);
    assert_eq!((binds(&answer), answer.ended, answer.expired), (vec![Binds::Path], answer.settled, 0.0));
}

#[test]
fn of_two_rates_each_binds_in_its_time() {
    // 500 are let go at 10 a second while the hour's burst lasts: 10 t = 500 + t / 3.6. Then 1,000 an hour.
    let mut question = question(1);
    question.sites.push(site(1, limits(&["10/s burst 1", "1,000/h burst 500"]), good(1_500.0)));
    assert_near(plan(question).settled, 3_600.0);
}

#[test]
fn what_a_provider_bears_over_all_is_shared_by_sites_and_sources() {
    let mut question = question(2);
    question.providers[0].messages = rates(&["15/s burst 1"]);
    question.sites.push(site(2, limits(&["10/s burst 1"]), good(1_000.0)));
    question.sites.push(site(2, limits(&["10/s burst 1"]), good(501.0)));
    let answer = plan(question);
    assert_near(answer.settled, 100.0);
    assert_eq!(binds(&answer), [Binds::Provider]);
}

#[test]
fn sources_add_up_on_a_site_with_work_for_both() {
    let mut question = question(2);
    question.sites.push(site(2, limits(&["10/s burst 1"]), good(2_000.0)));
    assert_near(plan(question).settled, 100.0);
}

#[test]
fn a_campaigns_own_rate_holds_over_all_providers() {
    let mut question = question(1);
    question.campaign = rates(&["20/s burst 1"]);
    question.providers.push(Provider { name: "q".into(), ..Provider::default() });
    question.sites.push(site(1, limits(&[]), good(1_000.0)));
    question.sites.push(Site { provider: 1, ..site(1, limits(&[]), good(1_000.0)) });
    let answer = plan(question);
    assert_near(answer.settled, 100.0);
    assert_eq!(binds(&answer), [Binds::Campaign]);
}

#[test]
fn sessions_carry_a_message_a_round_trip_and_few_recipients_have_but_one() {
    // 24 messages and an opening are 30 round trips: 8 a second. Two sessions until fewer than 64 wait.
    let mut question = question(1);
    let limits = Limits { sessions: 2, messages_per_session: Some(24), ..Limits::default() };
    let far = Duration::from_millis(100);
    question.sites.push(Site { round_trip: far, ..site(1, limits, good(1_600.0)) });
    let answer = plan(question);
    assert_near(answer.settled, 1_536.0 / 16.0 + 64.0 / 8.0);
    assert_eq!(binds(&answer), [Binds::Sessions]);
}

#[test]
fn sessions_over_all_paths_are_shared() {
    let mut question = question(1);
    question.providers[0].sessions = Some(2);
    let far = |count| {
        let limits = Limits { sessions: 10, messages_per_session: Some(24), ..Limits::default() };
        Site { round_trip: Duration::from_millis(100), ..site(1, limits, good(count)) }
    };
    question.sites.extend([far(6_400.0), far(6_400.0)]);
    let answer = plan(question);
    assert_near(answer.settled, 12_800.0 / 16.0);
    assert_eq!(binds(&answer), [Binds::ProviderSessions]);
}

#[test]
fn connections_bind_where_each_carries_few_messages() {
    let mut question = question(1);
    let limits = Limits {
        sessions: 100,
        connections: rates(&["60/min burst 1"]),
        messages_per_session: Some(5),
        ..Limits::default()
    };
    question.sites.push(site(1, limits, good(505.0)));
    let answer = plan(question);
    assert_near(answer.settled, 100.0);
    assert_eq!(binds(&answer), [Binds::Connections]);
}

#[test]
fn whoever_is_deferred_comes_again_and_whoever_always_is_expires_with_the_last_attempt() {
    let mut question = question(1);
    question.expiry = Duration::from_secs(4_000);
    let often = |deferrals| Cohort::fresh(10.0, deferrals, false);
    question.sites.push(site(1, limits(&[]), vec![often(Some(0)), often(Some(2))]));
    let answer = plan(question);
    assert_near(answer.settled, 1_200.0);
    assert!(answer.tried < Duration::from_secs(1));
    assert_eq!(binds(&answer), [Binds::Retry]);

    let mut question = self::question(1);
    question.expiry = Duration::from_secs(4_000);
    question.sites.push(site(1, limits(&[]), vec![often(None)]));
    // At 0, 300, 1,200, 2,100, 3,000 and 3,900; the next would be too late.
    let answer = plan(question);
    assert_near(answer.settled, 3_900.0);
    assert_eq!(answer.expired.round(), 10.0);
}

#[test]
fn a_greylisting_has_a_wait_of_its_own() {
    let mut question = question(1);
    let limits = Limits { greylist: Duration::from_secs(60), ..limits(&[]) };
    question.sites.push(site(1, limits, vec![Cohort::fresh(10.0, Some(1), true)]));
    // The second deferral has the second wait.
    assert_near(plan(question).settled, 60.0 + 900.0);
}

#[test]
fn who_cannot_be_reached_is_tried_until_the_expiry() {
    let mut question = question(1);
    question.unreachable = 3;
    question.sites.push(site(1, limits(&["10/s burst 1"]), good(101.0)));
    let answer = plan(question);
    assert_near(answer.settled, 10.0);
    assert_eq!((answer.ended.as_secs_f64(), answer.expired), (30.0 * DAY, 3.0));
}

#[test]
fn what_is_not_sent_by_the_expiry_expires() {
    let mut question = question(1);
    question.expiry = Duration::from_secs(100);
    question.sites.push(site(1, limits(&["1/s burst 1"]), good(301.0)));
    let answer = plan(question);
    assert_eq!((answer.settled.as_secs_f64(), answer.expired.round()), (100.0, 200.0));
}

#[test]
fn a_source_that_rests_is_waited_for_if_there_is_no_other() {
    let rest = Some(Rest::Until(midnight() + Duration::from_secs(3_600)));
    let mut one = question(1);
    one.sites.push(Site { rests: vec![rest], ..site(1, limits(&["10/s burst 1"]), good(601.0)) });
    let answer = plan(one);
    assert_near(answer.settled, 3_660.0);
    assert_eq!(binds(&answer), [Binds::Rest]);
    let mut two = question(2);
    two.sites.push(Site { rests: vec![rest, None], ..site(2, limits(&["10/s burst 1"]), good(601.0)) });
    assert_near(plan(two).settled, 60.0);
}

#[test]
fn what_was_learned_binds_where_it_is_tighter() {
    let mut question = question(1);
    question.sites.push(Site { learned: vec![Some(4.0)], ..site(1, limits(&["10/s"]), good(400.0)) });
    let answer = plan(question);
    assert_near(answer.settled, 100.0);
    assert_eq!(binds(&answer), [Binds::Learned]);
}

/// One source that warms up by caps of 10, 20 and 400 a day, and perhaps a warm one.
fn warming(sources: usize, is_overflowing: bool) -> Question {
    let settings = format!(
        "[sources.s0]\nwarmup = {{ schedule = \"mine\", overflow = {is_overflowing} }}\n[sources.s1]\n\
         [warmup.schedules.mine]\nper = \"day\"\ncaps = [10, 20, 400]\n"
    );
    let node = Node::parse(Path::new("f"), &settings).unwrap();
    let mut question = question(sources);
    question.warmup = Warmup::new(&node, Tempo(1.0), Vec::new());
    let slot = question.warmup.slot(&Party::Source("s0".into()), Some("p"));
    question.providers[0].warmup = vec![slot.into_iter().collect(), Vec::new()];
    question
}

#[test]
fn a_cap_is_spent_each_day_and_after_the_last_nothing_is_capped() {
    for (recipients, days) in [(10.0, 0.0), (11.0, 1.0), (30.0, 1.0), (430.0, 2.0), (5_000.0, 3.0)] {
        let mut question = warming(1, true);
        question.sites.push(site(1, limits(&[]), good(recipients)));
        let answer = plan(question);
        assert_near(answer.settled, days * DAY);
        assert!(days == 0.0 || binds(&answer) == [Binds::WarmUp], "{answer:?}");
    }
}

#[test]
fn days_are_the_clocks_whenever_it_starts() {
    let mut question = warming(1, true);
    question.start += Duration::from_secs(20 * 3_600);
    question.sites.push(site(1, limits(&[]), good(31.0)));
    assert_near(plan(question).settled, DAY + 4.0 * 3_600.0);
}

#[test]
fn what_is_over_a_cap_goes_over_the_warm_source() {
    // 250 of 300 at 100 a day: 10 + 100 on the first day, 20 + 100 on the second; the other 70 of the third
    // day are within its cap.
    let mut question = warming(2, true);
    let slow = site(2, limits(&["100/day burst 1"]), good(301.0));
    let open = Arc::new(limits(&[]));
    question.sites.push(Site { limits: vec![open, slow.limits[1].clone()], ..slow });
    let answer = plan(question);
    assert_near(answer.settled, 2.0 * DAY);
    assert_eq!(binds(&answer).len(), 2, "{answer:?}");
}

#[test]
fn the_sites_of_a_long_tail_are_planned_for_together() {
    let mut question = question(4);
    question.expiry = Duration::from_secs(3 * 86_400);
    let shared = Arc::new(limits(&["100/s"]));
    for number in 0..2_000 {
        let load = vec![Cohort::fresh(4.0, Some(0), false), Cohort::fresh(0.1, Some(1), false)];
        let site = Site { limits: vec![shared.clone(); 4], ..site(4, Limits::default(), load) };
        question.sites.push(Site { held: Duration::from_millis(number / 20), ..site });
    }
    question.machine = 40.0;
    let answer = plan(question);
    // In larger portions, so less exactly.
    let tried = answer.tried.as_secs_f64();
    assert!((tried / 205.0 - 1.0).abs() < 0.01, "{tried}");
}
