//! `kill -9` at random moments, again and again: nobody is lost, and nobody is mailed twice but those
//! whom the report names in doubt, and those only under `resend`.

mod support;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postroad::address::AddressRef;
use postroad::campaign::spool::Spool;
use postroad::journal;
use postroad::world::Fate;
use support::{Stage, list};

/// Lockstep, pipelining and chunking servers; users that are unknown, mail that is deferred across the
/// kills, and acceptances that nobody hears of.
const WORLD: &str = r#"
seed = 20

[[provider]]
name = "lockstep"
domains = ["one.test", "two.test"]
extensions = []
latency = "1ms"
mx = [{ host = "mx.lockstep.test" }]

[[provider]]
name = "pipelining"
generate = { count = 40, pattern = "p{n}.test", operators = 4 }
extensions = ["pipelining", "size"]
latency = "2ms"
mx = [{ host = "mx.{o}.pipelining.test" }]
trouble = [{ fault = "unknown-user", share = 0.03 }]

[[provider]]
name = "chunking"
generate = { count = 40, pattern = "c{n}.test", operators = 2 }
extensions = ["pipelining", "chunking", "size"]
latency = "5ms"
mx = [{ host = "mx.{o}.chunking.test" }]
trouble = [
    { fault = "disconnect", stage = "after-accept", share = 0.002, attempts = [1] },
    { fault = "unknown-user", share = 0.03 },
]

[[provider]]
name = "greylisting"
domains = ["grey.test"]
extensions = ["pipelining", "chunking"]
latency = "5ms"
greylist = { delay = "200ms" }
mx = [{ host = "mx.grey.test" }]
"#;

const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\nconnections = \"unlimited\"\nmessages_per_session = 1000\nsessions = 3\ngreylist = \"300ms\"\n";
const INVALID: u64 = 60;
const DUPLICATE: u64 = 50;
const SUPPRESSED: u64 = 40;

/// Splitmix64: what it gives depends on the seed alone.
struct Chance(u64);

impl Chance {
    fn from_environment() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("POSTROAD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(clock);
        println!("POSTROAD_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

fn domain(number: usize) -> String {
    match number % 10 {
        0 => ["one.test", "two.test"][number / 10 % 2].into(),
        1..=4 => format!("p{}.test", number / 10 % 40 + 1),
        5..=8 => format!("c{}.test", number / 10 % 40 + 1),
        _ => "grey.test".into(),
    }
}

/// `count` recipients, and spread among them rows that are none.
fn rows(count: usize) -> String {
    let is_place = |times: u64, number: usize| {
        let distance = count / times as usize;
        number % distance == 7 && number / distance < times as usize
    };
    let mut list = String::from("email,name\n");
    for number in 0..count {
        list.push_str(&format!("u{number}@{},Person {number}\n", domain(number)));
        if is_place(INVALID, number) {
            list.push_str(&format!("nobody{number}.test,Nobody\n"));
        }
        if is_place(DUPLICATE, number) {
            list.push_str(&format!("U{}@{},Again\n", number / 2, domain(number / 2)));
        }
        if is_place(SUPPRESSED, number) {
            list.push_str(&format!("gone{number}@suppressed.test,Gone\n"));
        }
    }
    list
}

fn killed_again_and_again(policy: &str, recipients: usize, kills: u64) {
    let mut chance = Chance::from_environment();
    let stage = Stage::new(WORLD, SETTINGS);
    let manifest = format!(
        "in_doubt = \"{policy}\"\nsuppression = [\"suppressed.txt\"]\n\
         [retry]\nschedule = [\"300ms\"]\nexpiry = \"10m\"\n"
    );
    let campaign = stage.campaign(&rows(recipients), &manifest);
    std::fs::write(campaign.join("suppressed.txt"), "@suppressed.test\n").unwrap();
    let campaign = campaign.to_str().unwrap().to_owned();
    let start = || match stage.only_run() {
        None => stage.spawn(&["run", "--no-check", &campaign]),
        Some(run) => stage.spawn(&["resume", &run.id]),
    };

    for kill in 0..kills {
        let before = stage.counts().addresses;
        let share = (recipients as u64 - before) / (kills - kill + 1);
        let mut program = start();
        // By the clock alone it dies while it starts, recovers and reads the list; by what has
        // arrived, and a little later, while it sends.
        let by_clock = kill < kills / 5 || chance.below(3) == 0;
        let goal = if by_clock { 0 } else { before + chance.below(share * 5 / 4) };
        let later = Duration::from_micros(chance.below(if by_clock { 250_000 } else { 20_000 }));
        program.wait_until("messages arrive", || stage.counts().addresses >= goal);
        std::thread::sleep(later);
        assert!(program.kill(), "kill {kill} came too late");
        let read = stage
            .only_run()
            .map_or(0, |run| Spool::open(&run.spool_folder()).map_or(0, |spool| spool.totals().last_row));
        println!(
            "kill {kill}: {later:?} after {goal}; {read} rows read, {} arrived",
            stage.counts().addresses
        );
    }

    let (code, errors) = start().end();
    assert_eq!(code, Some(0), "{errors}");
    check(&stage, policy, recipients);
}

fn check(stage: &Stage, policy: &str, recipients: usize) {
    let report = stage.report();
    assert!(report.finished, "{report:?}");
    report.totals.check().unwrap();
    let mut named: HashMap<&str, u32> = HashMap::new();
    for line in &report.in_doubt {
        assert_eq!(line.policy, policy);
        *named.entry(&line.address).or_default() += 1;
    }

    let (mut delivered, mut bounced, mut missing) = (0, 0, 0);
    for number in 0..recipients {
        let address = format!("u{number}@{}", domain(number));
        let parsed = AddressRef::parse(&address).unwrap();
        let (times, fate) = (stage.world.accepted(&parsed), stage.world.expect(&parsed));
        let doubts = named.get(address.as_str()).copied().unwrap_or_default();
        match fate {
            Fate::Delivered => delivered += 1,
            Fate::Bounced => bounced += 1,
            Fate::Expired => panic!("{address} should not expire"),
        }
        match (policy, fate) {
            (_, Fate::Bounced) => assert_eq!(times, 0, "{address} is unknown there"),
            ("resend", _) => {
                assert!(times >= 1, "{address} was lost");
                assert!(times <= 1 + doubts, "{address}: {times} times, {doubts} times in doubt");
            }
            _ => {
                assert!(times + doubts >= 1, "{address} was lost");
                assert!(times <= 1 && doubts <= 1, "{address}: {times} times, {doubts} times in doubt");
                missing += u64::from(times == 0);
            }
        }
    }
    println!("{} in doubt, {missing} of them without the message", report.in_doubt.len());

    let totals = report.totals;
    assert_eq!((totals.invalid, totals.duplicate, totals.suppressed), (INVALID, DUPLICATE, SUPPRESSED));
    assert_eq!(totals.rows, recipients as u64 + INVALID + DUPLICATE + SUPPRESSED);
    if policy == "resend" {
        assert_eq!((totals.delivered, totals.bounced, totals.in_doubt), (delivered, bounced, 0));
    } else {
        assert_eq!(totals.in_doubt, report.in_doubt.len() as u64);
        assert_eq!(totals.delivered + totals.bounced + totals.in_doubt, delivered + bounced);
    }
    // No more can be in doubt than were on the wire; the list's other rows are told once each.
    let run = stage.only_run().unwrap();
    let replay = journal::replay(&run.journal_folder()).unwrap();
    assert_eq!((replay.repeated, replay.waiting().len()), (0, 0));
    let rejected = std::fs::read_to_string(run.rejected_path()).unwrap();
    assert_eq!(rejected.lines().count() as u64, 1 + INVALID, "{rejected}");
    let counts = stage.counts();
    assert_eq!((counts.violations, counts.misrouted), (0, 0), "{counts:?}");
}

#[test]
fn a_retry_that_was_in_flight_when_killed_is_not_tried_again_where_it_should_not_be() {
    let world = "[[provider]]\nname = \"slow\"\ndomains = [\"slow.test\"]\nlatency = \"200ms\"\n\
        extensions = [\"pipelining\", \"chunking\"]\nmx = [{ host = \"mx.slow.test\" }]\n\
        trouble = [{ fault = \"4yz\", stage = \"rcpt\", attempts = [1] }]\n";
    for policy in ["skip", "hold"] {
        let stage = Stage::new(world, SETTINGS);
        let manifest = format!("in_doubt = \"{policy}\"\n[retry]\nschedule = [\"500ms\"]\njitter = 0\n");
        let campaign = stage.campaign(&list(60, |_| "slow.test".into()), &manifest);
        let mut program = stage.spawn(&["run", "--no-check", campaign.to_str().unwrap()]);
        // Its reply is on its way for another 200 ms.
        assert!(program.wait_until("a message arrives", || stage.counts().accepted >= 1));
        assert!(program.kill());
        let (code, errors) = stage.spawn(&["resume"]).end();
        assert_eq!(code, Some(0), "{errors}");
        let (report, counts) = (stage.report(), stage.counts());
        report.totals.check().unwrap();
        assert!(!report.in_doubt.is_empty());
        assert_eq!(report.totals.in_doubt, report.in_doubt.len() as u64);
        assert_eq!(report.totals.delivered + report.totals.in_doubt, 60);
        assert_eq!(counts.repeated, 0, "{:?}", counts.repeats);
    }
}

#[test]
fn ten_kills_in_a_run_of_twenty_thousand_repeat_only_those_named_in_doubt() {
    killed_again_and_again("resend", 20_000, 10);
}

#[test]
fn nobody_is_mailed_twice_where_those_in_doubt_are_skipped() {
    killed_again_and_again("skip", 3_000, 3);
}

#[test]
fn nobody_is_mailed_twice_where_those_in_doubt_are_held() {
    killed_again_and_again("hold", 3_000, 3);
}
