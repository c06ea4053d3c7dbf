//! What tests of delivery policy need of the world: blocks, penalties, greylisting by triplet, exact
//! limits and counts by source and time; and the worlds they are given.

mod world_client;

use std::path::Path;
use std::time::{Duration, SystemTime};

use postroad::world::counts::{Limit, SLICE, Tally};
use postroad::world::{Fate, Options, World};
use world_client::{Client, Seen, address, since, source_address, start};

const PLAIN: &str = "[[provider]]\nname = \"p\"\ndomains = [\"p.test\"]\nmx = [{ host = \"mx.p.test\" }]\n";
const REFUSAL: &str = "reply = \"550 5.7.1 {source} is on our list (S3140)\"";

fn block(keys: &str) -> World {
    start(&format!("{PLAIN}[[provider.block]]\n{keys}\n{REFUSAL}\n"))
}

/// One message after the other on one connection; MAIL is reset where it was refused.
fn mail(client: &mut Client) -> Seen {
    let seen = client.say("MAIL FROM:<bounce@sender.test>");
    assert_eq!(client.say("RSET"), Seen::Reply(250));
    seen
}

#[test]
fn a_blocked_source_is_refused_at_the_stage_and_others_are_not() {
    let refused = "550 5.7.1 127.30.0.1 is on our list (S3140)\r\n";
    for stage in ["greeting", "ehlo", "mail", "rcpt", "content"] {
        let world = block(&format!("source = \"127.30.0.1\"\nstage = \"{stage}\""));
        let steps = [
            ("greeting", ""),
            ("ehlo", "EHLO client.test\r\n"),
            ("mail", "MAIL FROM:<bounce@sender.test>\r\n"),
            ("rcpt", "RCPT TO:<ann@p.test>\r\n"),
            ("data", "DATA\r\n"),
            ("content", "To: ann@p.test\r\n\r\nhello\r\n.\r\n"),
        ];
        let mut blocked = Client::connect_from(1, world.host("mx.p.test").unwrap());
        for (name, command) in steps {
            blocked.write(command.as_bytes());
            let reply = blocked.reply().unwrap();
            if name == stage {
                assert_eq!(reply, refused, "{stage}");
                break;
            }
            assert!(reply.starts_with(['2', '3']), "{stage}: {reply}");
        }
        match stage {
            "greeting" => assert_eq!(blocked.seen(), Seen::Closed),
            "ehlo" => assert_eq!(blocked.say("HELO client.test"), Seen::Reply(550), "nor by the old name"),
            _ => {}
        }
        assert_eq!(world.attempts(&address("ann@p.test")), 0, "{stage}: not the recipient's fault");
        assert_eq!(world.expect(&address("ann@p.test")), Fate::Delivered);
        assert_eq!(Client::greeted_from(2, &world, "mx.p.test").send("ann@p.test"), Seen::Reply(250));
        let counts = world.stop();
        let times = if stage == "ehlo" { 2 } else { 1 };
        assert_eq!(counts.tally("p", Some(source_address(1))).blocked, times, "{stage}");
        assert_eq!(counts.tally("p", Some(source_address(2))).blocked, 0);
        assert_eq!(counts.providers[0].blocked, u64::from(times));
        assert_eq!((counts.providers[0].permanent, counts.accepted), (0, 1));
        assert!(counts.breaches.is_empty());
    }
}

#[test]
fn a_block_begins_with_its_transaction_also_for_sessions_that_come_later() {
    let world = block("source = [\"127.30.0.1\", \"127.30.0.3\"]\nafter = 3");
    for source in [1, 2] {
        let mut client = Client::greeted_from(source, &world, "mx.p.test");
        let seen: [Seen; 4] = std::array::from_fn(|_| mail(&mut client));
        let codes = if source == 1 { [250, 250, 550, 550] } else { [250; 4] };
        assert_eq!(seen, codes.map(Seen::Reply));
    }
    let world = block("source = \"all\"\nafter = 2\nstage = \"greeting\"");
    let mut early = Client::greeted_from(1, &world, "mx.p.test");
    assert_eq!((mail(&mut early), mail(&mut early)), (Seen::Reply(250), Seen::Reply(250)));
    assert_eq!(Client::connect_from(1, world.host("mx.p.test").unwrap()).seen(), Seen::Reply(550));
    Client::greeted_from(2, &world, "mx.p.test");
}

#[test]
fn a_block_ends_when_its_time_is_over() {
    // An hour is two seconds.
    let world = start(&format!(
        "time_factor = 1800\n{PLAIN}style = \"outlook\"\n[[provider.block]]\nsource = \"all\"\nuntil = \"1h\"\n"
    ));
    let mut client = Client::greeted(&world, "mx.p.test");
    while mail(&mut client) == Seen::Reply(550) {
        assert!(world.age() < Duration::from_secs(15));
    }
    assert!(world.age() >= Duration::from_secs(2));
    assert!(world.dialogs().is_empty(), "the session goes on");
    drop(client);
    let counts = world.stop();
    assert!(counts.tally("p", None).blocked > 0);
}

#[test]
fn a_penalty_defers_everything_of_the_source_and_is_over_in_its_time() {
    // An hour is a second: the rate alone would allow three again after half the penalty.
    let world = start(&format!(
        "time_factor = 3600\n{PLAIN}style = \"yahoo\"\n\
         limits = {{ messages = \"3/h\", penalty = \"2h\", penalty_reply = \"451 4.7.1 Still no\" }}\n"
    ));
    let tries = |source| {
        let mut client = Client::greeted_from(source, &world, "mx.p.test");
        client.write(b"MAIL FROM:<>\r\n");
        client.reply().unwrap()
    };
    for _ in 0..3 {
        assert!(tries(1).starts_with("250"));
    }
    let begun = SystemTime::now();
    assert!(tries(1).starts_with("421 4.7.0 [TSS04] Messages from 127.30.0.1 temporarily deferred"));
    assert_eq!(tries(1), "451 4.7.1 Still no\r\n");
    assert!(tries(2).starts_with("250"), "another source is not meant");
    let mut last = tries(1);
    while !last.starts_with("250") {
        assert_eq!(last, "451 4.7.1 Still no\r\n");
        assert!(since(begun) < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(20));
        last = tries(1);
    }
    assert!(since(begun) >= Duration::from_millis(1_990), "{:?}", since(begun));
    let counts = world.stop();
    let tally = counts.tally("p", Some(source_address(1)));
    assert_eq!((tally.limited, tally.transactions), (1, 3 + 1 + tally.penalized + 1));
    let penalized = counts.breaches.iter().find(|breach| breach.limit == Limit::Penalty).unwrap();
    assert_eq!((penalized.source, penalized.times), (source_address(1), u64::from(tally.penalized)));
}

#[test]
fn a_triplet_passes_only_from_the_source_and_return_path_that_were_told_to_wait() {
    let world = start(&format!(
        "time_factor = 600\n{PLAIN}greylist = {{ delay = \"5m\", by = \"triplet\", reply = \"451 4.7.1 Later\" }}\n"
    ));
    let ann = address("ann@p.test");
    let ask = |source, return_path: &str| {
        let mut client = Client::greeted_from(source, &world, "mx.p.test");
        assert_eq!(client.say(&format!("MAIL FROM:<{return_path}>")), Seen::Reply(250));
        client.write(b"RCPT TO:<ann@p.test>\r\n");
        client.reply().unwrap()
    };
    assert_eq!(world.greylisting(&ann), None);
    assert_eq!(ask(1, "a@sender.test"), "451 4.7.1 Later\r\n");
    std::thread::sleep(Duration::from_millis(520));
    assert!(ask(2, "a@sender.test").starts_with("451"), "another source");
    assert!(ask(1, "b@sender.test").starts_with("451"), "another return path");
    assert!(ask(1, "a@sender.test").starts_with("250"));
    let said = world.greylisting(&ann).unwrap();
    assert_eq!((said.attempts, said.first_source), (4, source_address(1)));
    assert_eq!(said.passed_from, Some(source_address(1)));
    assert_eq!(world.attempts(&ann), 1);
    let tally = world.counts().tally("p", None);
    assert_eq!((tally.greylisted, tally.recipients_taken, tally.recipients_deferred), (3, 1, 0));
}

#[test]
fn limits_are_counted_to_the_message_and_are_never_held_against_recipients() {
    // 20 in a quarter of a second, tried by two sources as fast as they can; the code of the refusal
    // is one that is final elsewhere.
    let world = start(&format!(
        "{PLAIN}style = \"qq\"\nlimits = {{ messages = \"20/250ms\", window = \"sliding\" }}\n"
    ));
    assert_eq!(world.expect(&address("ann@p.test")), Fate::Delivered);
    let accepted: Vec<(u32, u32)> = std::thread::scope(|scope| {
        let clients = [1, 2].map(|source| {
            let world = &world;
            scope.spawn(move || {
                let mut client = Client::greeted_from(source, world, "mx.p.test");
                let (mut taken, mut refused) = (0, 0);
                while taken <= 60 {
                    assert!(world.age() < Duration::from_secs(15));
                    match mail(&mut client) {
                        Seen::Reply(250) => taken += 1,
                        Seen::Reply(550) => refused += 1,
                        other => panic!("{other:?}"),
                    }
                }
                (taken, refused)
            })
        });
        clients.map(|client| client.join().unwrap()).to_vec()
    });
    let age = world.age();
    assert!(age >= Duration::from_millis(750), "sixty take three windows");
    let counts = world.stop();
    for (source, (taken, refused)) in [1, 2].into_iter().zip(accepted) {
        let tally = counts.tally("p", Some(source_address(source)));
        assert_eq!((tally.transactions, tally.limited), (taken + refused, refused));
        // Two slices are less than a window, so never hold more than its count.
        for slice in 0..(age.as_millis() / SLICE.as_millis()) as u32 {
            let interval = SLICE * slice..SLICE * (slice + 2);
            let tally = counts.tally_in("p", Some(source_address(source)), interval);
            assert!(tally.transactions - tally.limited <= 20, "{slice}: {tally:?}");
        }
    }
    let all = counts.tally("p", None);
    assert_eq!(counts.tally_in("p", None, Duration::ZERO..Duration::MAX), all);
    assert_eq!(counts.tally("q", None), Tally::default());
}

#[test]
fn a_rate_is_shared_by_the_hosts_of_a_provider_that_counts_together() {
    for (provider_wide, third) in [(true, 451), (false, 250)] {
        let world = start(&format!(
            "[[provider]]\nname = \"two\"\ngenerate = {{ count = 2, pattern = \"d{{n}}.test\", operators = 2 }}\n\
             mx = [{{ host = \"mx.o{{o}}.test\" }}]\n\
             limits = {{ messages = \"2/h\", window = \"fixed\", provider_wide = {provider_wide} }}\n"
        ));
        let mut first = Client::greeted(&world, "mx.o1.test");
        let mut second = Client::greeted(&world, "mx.o2.test");
        assert_eq!((mail(&mut first), mail(&mut second)), (Seen::Reply(250), Seen::Reply(250)));
        assert_eq!(mail(&mut second), Seen::Reply(third), "{provider_wide}");
    }
}

#[test]
fn recipients_taken_and_refused_are_counted_by_source() {
    let world = start(&format!(
        "{PLAIN}trouble = [{{ fault = \"unknown-user\", share = 0.3 }}, {{ fault = \"mailbox-full\", share = 0.3 }}]\n"
    ));
    for source in [1, 2] {
        let (mut taken, mut deferred, mut refused) = (0, 0, 0);
        let mut client = Client::greeted_from(source, &world, "mx.p.test");
        for number in 0..40 {
            match client.send(&format!("u{number}@p.test")) {
                Seen::Reply(250) => taken += 1,
                Seen::Reply(452) => deferred += 1,
                Seen::Reply(550) => refused += 1,
                other => panic!("{other:?}"),
            }
            client.say("RSET");
        }
        let tally = world.counts().tally("p", Some(source_address(source)));
        let by_reply = (tally.recipients_taken, tally.recipients_deferred, tally.recipients_refused);
        assert_eq!(by_reply, (taken, deferred, refused));
        assert_eq!((tally.connections, tally.transactions, tally.accepted), (1, 40, taken));
        assert!(deferred > 0 && refused > 0);
    }
}

#[test]
fn sessions_at_once_are_counted_over_all_hosts_and_sources() {
    let world = start(
        "[[provider]]\nname = \"p\"\ngenerate = { count = 3, pattern = \"d{n}.test\", operators = 3 }\n\
         mx = [{ host = \"mx{o}.p.test\" }]\n",
    );
    // Twelve at once, all closed and as many opened again at once, from other sources.
    let mut open: Vec<Client> = Vec::new();
    for round in 0..40_u8 {
        drop(open);
        let opened = (0..12_u8).map(|number| {
            let host = world.host(&format!("mx{}.p.test", number % 3 + 1)).unwrap();
            Client::connect_from(number % 4 + 1 + round % 2 * 4, host)
        });
        open = opened.collect();
        assert!(open.iter_mut().all(|client| client.seen() == Seen::Reply(220)));
    }
    let counts = world.stop();
    assert_eq!(counts.providers[0].connections_peak, 12, "closed ones are never counted with the next");
    let peaks: Vec<u32> = counts.sources.iter().map(|source| source.connections_peak).collect();
    assert_eq!(peaks, [3; 8]);
}

#[test]
fn the_worlds_of_the_policy_tests_start_and_have_the_hosts_that_settings_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let file = World::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let world = World::start(&file, Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        for provider in &file.providers {
            let host = format!("mx1.{}.test", provider.name.get_ref());
            Client::greeted(&world, &host);
        }
        for domain in world.domains() {
            let to = format!("somebody@{domain}");
            assert_ne!(world.expect(&address(&to)), Fate::Expired, "{name}: {to}");
        }
        names.push(name);
    }
    names.sort();
    let expected = ["blocked_source", "breaker", "ceiling", "greylist", "settle", "tss04", "warmup"];
    assert_eq!(names, expected);
}
