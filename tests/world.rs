//! The world does what its file says: every fault at every stage, limits, delays, counts.

mod world_client;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use postroad::world::counts::Limit;
use postroad::world::{Expectation, Fate, Options, World, WorldFile};
use world_client::{Client, Seen, address, deliver, since, start, start_with};

#[test]
fn every_fault_strikes_at_its_stage_once_and_the_next_attempt_gets_through() {
    let stages =
        ["connect", "greeting", "ehlo", "mail", "rcpt", "data", "content", "before-reply", "after-accept"];
    let faults = ["421", "4yz", "disconnect", "reset", "garbage", "stall"];
    let mut text = "stall = \"20ms\"\n".to_owned();
    let mut cases = Vec::new();
    for stage in stages {
        for fault in faults {
            let silent = ["connect", "before-reply", "after-accept"].contains(&stage);
            if silent && ["421", "4yz"].contains(&fault) {
                continue;
            }
            let name = format!("{stage}-{fault}");
            text.push_str(&format!(
                "[[provider]]\nname = \"{name}\"\ndomains = [\"{name}.test\"]\n\
                 mx = [{{ host = \"mx.{name}.test\" }}]\n\
                 [[provider.trouble]]\nstage = \"{stage}\"\nfault = \"{fault}\"\nattempts = [1]\n"
            ));
            cases.push((stage, fault, name));
        }
    }
    let world = start(&text);
    for (stage, fault, name) in cases {
        let (host, to) = (format!("mx.{name}.test"), format!("ann@{name}.test"));
        let seen_at = match stage {
            "connect" => "greeting",
            "before-reply" | "after-accept" => "content",
            other => other,
        };
        let seen = match fault {
            "421" => Seen::Reply(421),
            "4yz" => Seen::Reply(451),
            "garbage" => Seen::Garbage,
            "reset" => Seen::Reset,
            _ => Seen::Closed,
        };
        assert_eq!(world.expect(&address(&to)), Fate::Delivered, "{name}");
        assert_eq!(deliver(&world, &host, &to), (seen_at, seen), "{name}");
        assert_eq!(deliver(&world, &host, &to), ("done", Seen::Reply(250)), "{name} again");
        let accepted = if stage == "after-accept" { 2 } else { 1 };
        assert_eq!(world.accepted(&address(&to)), accepted, "{name}");
    }
    let counts = world.stop();
    assert_eq!(counts.accepted_unanswered, 4);
    assert!(counts.repeats.iter().all(|repeat| repeat.times == 2 && repeat.unanswered == 1));
    assert_eq!((counts.repeated, counts.violations, counts.misrouted), (4, 0, 0));
}

#[test]
fn refusals_have_the_providers_own_words_and_the_fate_they_mean() {
    let world = start(
        "[[provider]]\nname = \"g\"\nstyle = \"gmail\"\ndomains = [\"g.test\"]\nmx = [{ host = \"mx.g.test\" }]\n\
         [[provider.trouble]]\nfault = \"unknown-user\"\nshare = 0.25\n\
         [[provider.trouble]]\nfault = \"mailbox-full\"\nshare = 0.25\n\
         [[provider.trouble]]\nfault = \"content-refused\"\nshare = 0.25\n",
    );
    let mut met = [0; 4];
    for number in 0..200 {
        let to = format!("user{number}@g.test");
        let kind = match deliver(&world, "mx.g.test", &to) {
            ("rcpt", Seen::Reply(550)) => (0, Fate::Bounced),
            ("rcpt", Seen::Reply(452)) => (1, Fate::Expired),
            ("content", Seen::Reply(552)) => (2, Fate::Bounced),
            ("done", _) => (3, Fate::Delivered),
            other => panic!("{to}: {other:?}"),
        };
        assert_eq!(world.expect(&address(&to)), kind.1, "{to}");
        met[kind.0] += 1;
    }
    assert!(met.iter().all(|times| (25..75).contains(times)), "shares of a quarter gave {met:?}");
    let words = "S: 550-5.1.1 The email account that you tried to reach does not exist.";
    assert!(world.dialogs().concat().contains(words));
}

#[test]
fn fates_of_domains_follow_from_the_dns_and_the_hosts() {
    let world = start(
        "[[provider]]\nname = \"dead\"\ndomains = [\"dead.test\"]\nmx = [{ host = \"mx.dead.test\", state = \"dead\" }]\n\
         [[provider]]\nname = \"half\"\ndomains = [\"half.test\"]\n\
         mx = [{ host = \"mx1.half.test\", state = \"dead\", preference = 1 }, { host = \"mx2.half.test\" }]\n\
         [[provider]]\nname = \"null\"\ndomains = [\"null.test\"]\ndns = \"null-mx\"\n\
         [[provider]]\nname = \"servfail\"\ndomains = [\"servfail.test\"]\ndns = \"servfail\"\n\
         [[provider]]\nname = \"block\"\ndomains = [\"block.test\"]\nmx = [{ host = \"mx.block.test\" }]\n\
         [[provider.trouble]]\nstage = \"mail\"\nfault = \"5yz\"\n",
    );
    let mut expectation = Expectation::default();
    for (domain, fate) in [
        ("dead", Fate::Expired),
        ("half", Fate::Delivered),
        ("null", Fate::Bounced),
        ("servfail", Fate::Expired),
        ("block", Fate::Expired),
        ("nowhere", Fate::Bounced),
    ] {
        let to = format!("ann@{domain}.test");
        assert_eq!(world.expect(&address(&to)), fate, "{domain}");
        world.expect_into(&address(&to), &mut expectation);
    }
    let total = expectation.total;
    assert_eq!((total.delivered, total.bounced, total.expired), (1, 2, 3));
    assert_eq!(expectation.providers["-"].bounced, 1);
    let refused = TcpStream::connect(world.host("mx.dead.test").unwrap()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(deliver(&world, "mx.block.test", "ann@block.test"), ("mail", Seen::Reply(554)));
}

const PLAIN: &str = "[[provider]]\nname = \"p\"\ndomains = [\"p.test\"]\nmx = [{ host = \"mx.p.test\" }]\n";

#[test]
fn a_group_of_commands_is_answered_in_order_however_replies_flow() {
    for flow in ["joined", "single", "octets"] {
        for multiline in [false, true] {
            let world = start(&format!("{PLAIN}replies = \"{flow}\"\nmultiline = {multiline}\n"));
            let mut client = Client::greeted(&world, "mx.p.test");
            client.write(
                b"MAIL FROM:<>\r\nRCPT TO:<a@p.test>\r\nRCPT TO:<b@other.test>\r\nRCPT TO:<>\r\nDATA\r\n",
            );
            assert_eq!(client.all_seen(), [250, 250, 550, 501, 354].map(Seen::Reply), "{flow} {multiline}");
            client.write(b"Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n");
            assert_eq!(client.all_seen(), [250, 221].map(Seen::Reply));
            assert_eq!(client.seen(), Seen::Closed);
            assert_eq!(world.messages()[0].content, b"Subject: x\r\n\r\n.\r\n");
            let counts = world.stop();
            assert_eq!((counts.accepted, counts.misrouted, counts.violations), (1, 1, 0));
        }
    }
}

#[test]
fn chunks_ride_behind_their_envelope_and_a_refused_one_is_read_over() {
    let world = start(&format!("{PLAIN}extensions = [\"pipelining\", \"chunking\"]\n"));
    let mut client = Client::greeted(&world, "mx.p.test");
    client.write(b"MAIL FROM:<>\r\nRCPT TO:<a@p.test>\r\nBDAT 3\r\nabcBDAT 5 LAST\r\nMAIL\n");
    client.write(b"MAIL FROM:<>\r\nRCPT TO:<a@elsewhere.test>\r\nBDAT 6 LAST\r\nQUIT\r\n");
    client.write(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@p.test>\r\nBDAT 0 LAST\r\n");
    let codes = [250, 250, 250, 250, 250, 550, 503, 250, 250, 250, 250];
    assert_eq!(client.all_seen(), codes.map(Seen::Reply));
    let contents: Vec<Vec<u8>> = world.messages().into_iter().map(|message| message.content).collect();
    assert_eq!(contents, [b"abcMAIL\n".to_vec(), Vec::new()]);
}

#[test]
fn commands_before_their_turn_are_counted_where_pipelining_is_not_offered() {
    let world = start(&format!("{PLAIN}extensions = []\n"));
    let mut client = Client::greeted(&world, "mx.p.test");
    client.write(b"MAIL FROM:<>\r\nRCPT TO:<a@p.test>\r\n");
    assert_eq!(client.all_seen(), [250, 250].map(Seen::Reply));
    assert_eq!(client.say("RSET"), Seen::Reply(250));
    assert_eq!(client.say("MAIL FROM:<> SIZE=5"), Seen::Reply(555));
    assert_eq!(world.counts().violations, 1);
}

#[test]
fn a_helo_only_host_takes_mail_after_helo() {
    let world = start(&format!("{PLAIN}ehlo = false\n"));
    let mut client = Client::connect(world.host("mx.p.test").unwrap());
    assert_eq!(client.seen(), Seen::Reply(220));
    assert_eq!(client.say("EHLO client.test"), Seen::Reply(502));
    assert_eq!(client.say("HELO client.test"), Seen::Reply(250));
    assert_eq!(client.send("a@p.test"), Seen::Reply(250));
}

#[test]
fn data_without_recipients_is_refused_or_leniently_taken_and_dropped() {
    for (lenient, codes) in [(false, [250, 550, 503]), (true, [250, 550, 354])] {
        let world = start(&format!("{PLAIN}lenient_data = {lenient}\n"));
        let mut client = Client::greeted(&world, "mx.p.test");
        client.write(b"MAIL FROM:<>\r\nRCPT TO:<a@no.test>\r\nDATA\r\n");
        assert_eq!(client.all_seen(), codes.map(Seen::Reply));
        if lenient {
            assert_eq!(client.say("."), Seen::Reply(554));
        }
        assert_eq!(world.counts().accepted, 0);
    }
}

#[test]
fn a_connection_too_many_at_once_is_refused_and_a_closed_one_makes_room() {
    let world = start(&format!("{PLAIN}style = \"gmx\"\nlimits = {{ connections_per_source = 2 }}\n"));
    let host = world.host("mx.p.test").unwrap();
    let first = Client::greeted(&world, "mx.p.test");
    let _second = Client::greeted(&world, "mx.p.test");
    let refusal = "421-gmx.example Service not available\r\n421 Too many connections\r\n";
    assert_eq!(Client::connect(host).reply().unwrap(), refusal);
    drop(first);
    let _third = Client::greeted(&world, "mx.p.test");
    let breaches = world.counts().breaches;
    assert_eq!(breaches.len(), 1);
    assert_eq!((breaches[0].limit, breaches[0].times), (Limit::ConnectionsPerSource, 1));
}

#[test]
fn closing_and_opening_again_at_once_is_never_one_too_many() {
    let world = start(&format!("{PLAIN}limits = {{ connections_per_source = 1 }}\n"));
    for _ in 0..200 {
        drop(Client::greeted(&world, "mx.p.test"));
    }
    let counts = world.stop();
    assert!(counts.breaches.is_empty(), "{:?}", counts.breaches);
    assert_eq!(counts.paths[0].connections_peak, 1);
}

#[test]
fn a_message_too_many_on_a_connection_ends_it_and_mailmax_announced_it() {
    let world = start(&format!(
        "{PLAIN}style = \"yahoo\"\nextensions = [\"pipelining\", \"limits\"]\n\
         limits = {{ messages_per_connection = 2 }}\n"
    ));
    let mut client = Client::connect(world.host("mx.p.test").unwrap());
    client.reply().unwrap();
    client.write(b"EHLO client.test\r\n");
    assert!(client.reply().unwrap().contains("250 LIMITS MAILMAX=2\r\n"));
    assert_eq!(client.send("a@p.test"), Seen::Reply(250));
    assert_eq!(client.send("b@p.test"), Seen::Reply(250));
    client.write(b"MAIL FROM:<>\r\n");
    let refusal = "421 Max message per connection reached, closing transmission channel\r\n";
    assert_eq!(client.reply().unwrap(), refusal);
    assert_eq!(client.seen(), Seen::Closed);
    assert_eq!(world.counts().breaches[0].limit, Limit::MessagesPerConnection);
}

#[test]
fn rates_count_in_the_worlds_time() {
    // 3 an hour, 3,600 times as fast: 3 in a second.
    let text = format!("time_factor = 3600\n{PLAIN}style = \"outlook\"\nlimits = {{ messages = \"3/h\" }}\n");
    let world = start(&text);
    let mut client = Client::greeted(&world, "mx.p.test");
    let mail = |client: &mut Client| {
        let seen = client.say("MAIL FROM:<>");
        client.say("RSET");
        seen
    };
    let begun = SystemTime::now();
    let first: Vec<Seen> = (0..4).map(|_| mail(&mut client)).collect();
    assert_eq!(first, [250, 250, 250, 451].map(Seen::Reply));
    while mail(&mut client) != Seen::Reply(250) {
        assert!(since(begun) < Duration::from_secs(15));
    }
    assert!(since(begun) >= Duration::from_millis(990));
    let breaches = world.counts().breaches;
    assert_eq!((breaches.len(), breaches[0].limit), (1, Limit::MessageRate));
}

#[test]
fn the_greylist_opens_after_its_delay_and_greylisted_attempts_do_not_count() {
    // Five minutes are half a second here.
    let world = start(&format!("time_factor = 600\n{PLAIN}greylist = {{ delay = \"5m\" }}\n"));
    let begun = SystemTime::now();
    assert_eq!(deliver(&world, "mx.p.test", "ann@p.test"), ("rcpt", Seen::Reply(450)));
    while deliver(&world, "mx.p.test", "ann@p.test") != ("done", Seen::Reply(250)) {
        assert!(since(begun) < Duration::from_secs(15));
    }
    assert!(since(begun) >= Duration::from_millis(490));
    assert_eq!(world.attempts(&address("ann@p.test")), 1);
    assert!(world.counts().providers[0].greylisted > 0);
}

#[test]
fn latency_costs_a_round_trip_a_group_and_not_a_command() {
    let each_way = Duration::from_millis(30);
    let world = start(&format!("{PLAIN}latency = \"30ms\"\nextensions = [\"pipelining\", \"chunking\"]\n"));
    let begun = SystemTime::now();
    let mut client = Client::greeted(&world, "mx.p.test");
    // Greeting: three ways after the connection and one back; EHLO: there and back.
    assert!(since(begun) >= each_way * 6);
    let message = b"MAIL FROM:<>\r\nRCPT TO:<a@p.test>\r\nBDAT 10000 LAST\r\n";
    let group: Vec<u8> = [&message[..], &[b'x'; 10_000]].concat().repeat(100);
    let begun = SystemTime::now();
    let mut writer = client.reader.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&group).unwrap());
    for _ in 0..300 {
        assert_eq!(client.seen(), Seen::Reply(250));
    }
    let together = since(begun);
    sender.join().unwrap();
    let begun = SystemTime::now();
    for _ in 0..5 {
        assert_eq!(client.say("NOOP"), Seen::Reply(250));
    }
    let apart = since(begun);
    assert!(together >= each_way * 2, "{together:?}");
    assert!(apart >= each_way * 10, "{apart:?}");
    assert!(together / 100 < apart / 5 / 4, "a message in the window took {:?}", together / 100);
}

#[test]
fn a_slow_reader_reads_as_slowly_as_it_says() {
    let world = start(&format!("{PLAIN}slow = {{ octets_per_second = 2000 }}\n"));
    let begun = SystemTime::now();
    let mut client = Client::connect(world.host("mx.p.test").unwrap());
    assert_eq!(client.seen(), Seen::Reply(220));
    client.write(format!("NOOP {}\r\n", "x".repeat(993)).as_bytes());
    assert_eq!(client.seen(), Seen::Reply(250));
    assert!(since(begun) >= Duration::from_millis(450), "{:?}", since(begun));
}

#[test]
fn what_one_path_did_each_second_is_counted() {
    let world = start(PLAIN);
    let mut client = Client::greeted(&world, "mx.p.test");
    for number in 0..5 {
        assert_eq!(client.send(&format!("u{number}@p.test")), Seen::Reply(250));
    }
    assert_eq!(client.say("QUIT"), Seen::Reply(221));
    let counts = world.stop();
    let path = &counts.paths[0];
    assert_eq!((path.host.as_str(), path.provider.as_str()), ("mx.p.test", "p"));
    let sum = path.seconds.iter().fold((0, 0, 0), |sum, second| {
        (sum.0 + second.connections, sum.1 + second.transactions, sum.2 + second.accepted)
    });
    assert_eq!(sum, (1, 5, 5));
    assert_eq!((counts.addresses, counts.message_id_repeats), (5, 0));
}

#[test]
fn the_same_message_id_for_two_people_is_noticed() {
    let world = start(PLAIN);
    let mut client = Client::greeted(&world, "mx.p.test");
    for to in ["a@p.test", "a@p.test", "b@p.test"] {
        client.say("MAIL FROM:<>");
        client.say(&format!("RCPT TO:<{to}>"));
        client.say("DATA");
        assert_eq!(client.say("Message-Id: <one@sender.test>\r\n\r\n."), Seen::Reply(250));
    }
    let counts = world.stop();
    assert_eq!((counts.message_id_repeats, counts.repeated), (1, 1));
}

#[test]
fn accepted_mail_is_written_to_the_maildir() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { maildir: Some(folder.path().to_owned()), ..Options::default() };
    let world = start_with(PLAIN, options);
    assert_eq!(Client::greeted(&world, "mx.p.test").send("a@p.test"), Seen::Reply(250));
    drop(world);
    let entry = std::fs::read_dir(folder.path().join("new")).unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    std::fs::File::open(entry.path()).unwrap().read_to_string(&mut text).unwrap();
    let head = "Return-Path: <bounce@sender.test>\nDelivered-To: a@p.test\n";
    assert_eq!(text, format!("{head}To: a@p.test\nMessage-ID: <a@p.test>\n\nhello\n"));
}

#[test]
fn a_host_that_drops_syns_lets_connecting_time_out() {
    let world = start(
        "[[provider]]\nname = \"s\"\ndomains = [\"s.test\"]\n\
         mx = [{ host = \"mx.s.test\", state = \"silent\" }]\n",
    );
    let address = world.host("mx.s.test").unwrap();
    let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn the_world_that_ships_has_people_with_every_fate_and_answers() {
    let file = WorldFile::parse("world.toml", postroad::world::default_world()).expect("it ships");
    let world = World::start(&file, Options::default()).expect("loopback has room");
    let people = world.sample(10_000);
    assert_eq!(people, world.sample(10_000), "the same seed gives the same people");
    let mut expectation = Expectation::default();
    let mut different = std::collections::HashSet::new();
    for person in &people {
        world.expect_into(&address(&person.email), &mut expectation);
        different.insert(address(&person.email).key());
    }
    assert_eq!(different.len(), 10_000);
    let total = expectation.total;
    assert!(total.delivered > 9_000 && total.bounced > 100 && total.expired > 50, "{total:?}");
    assert_eq!(expectation.providers.len(), file.providers.len(), "somebody lives everywhere");
    assert!(world.domains().count() > 300);
    Client::greeted(&world, "gmail-smtp-in.l.google.test");
}

#[test]
fn starttls_is_refused_or_broken_as_told() {
    let mut text = "stall = \"20ms\"\n".to_owned();
    let cases = [
        ("4yz", Seen::Reply(451)),
        ("5yz", Seen::Reply(554)),
        ("421", Seen::Reply(421)),
        ("disconnect", Seen::Closed),
        ("garbage", Seen::Garbage),
        ("stall", Seen::Closed),
    ];
    for (fault, _) in &cases {
        text.push_str(&format!(
            "[[provider]]\nname = \"{fault}\"\ndomains = [\"{fault}.test\"]\nmx = [{{ host = \"mx.{fault}.test\" }}]\n\
             trouble = [{{ stage = \"starttls\", fault = \"{fault}\", attempts = [1] }}]\n"
        ));
    }
    let world = start(&text);
    for (fault, seen) in cases {
        let host = format!("mx.{fault}.test");
        assert_eq!(Client::greeted(&world, &host).say("STARTTLS"), seen, "{fault}");
        assert_eq!(Client::greeted(&world, &host).say("STARTTLS"), Seen::Reply(220), "{fault}");
    }
}

#[test]
fn an_audit_names_who_is_missing_unexpected_or_came_too_often() {
    let world = start(&format!(
        "{PLAIN}[[provider]]\nname = \"e\"\ndomains = [\"e.test\"]\nexpect = \"expired\"\nmx = [{{ host = \"mx.e.test\" }}]\n"
    ));
    for (host, to) in [
        ("mx.p.test", "good@p.test"),
        ("mx.p.test", "twice@p.test"),
        ("mx.p.test", "twice@p.test"),
        ("mx.e.test", "x@e.test"),
    ] {
        assert_eq!(deliver(&world, host, to), ("done", Seen::Reply(250)));
    }
    let list = ["good@p.test", "missing@p.test", "twice@p.test", "x@e.test", "y@e.test"];
    let audit = world.audit(list.map(address));
    assert_eq!(audit.missing_examples, ["missing@p.test"]);
    assert_eq!(audit.unexpected_examples, ["x@e.test"]);
    assert_eq!(audit.repeated_examples, ["twice@p.test"]);
    assert_eq!((audit.expected.total.delivered, audit.expected.total.expired), (3, 2));
}

#[test]
fn limits_are_an_operators_own_unless_the_provider_counts_together() {
    for (provider_wide, second) in [(false, 220), (true, 421)] {
        let world = start(&format!(
            "[[provider]]\nname = \"two\"\ngenerate = {{ count = 2, pattern = \"d{{n}}.test\", operators = 2 }}\n\
             mx = [{{ host = \"mx.o{{o}}.test\" }}]\n\
             limits = {{ connections_per_source = 1, provider_wide = {provider_wide} }}\n"
        ));
        let _first = Client::greeted(&world, "mx.o1.test");
        let mut client = Client::connect(world.host("mx.o2.test").unwrap());
        assert_eq!(client.seen(), Seen::Reply(second));
    }
}
