//! What a set of rules promises: which rule counts, what may become of whom, and which mistakes are told.

use super::*;
use crate::config::Node;
use RecipientAction::{Bounce, Retry, Suppress};

fn alone(text: &str) -> Rules {
    Rules::alone(Path::new("f.toml"), text).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn rule(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\n{rest}\n")
}

fn reply(text: &str) -> Reply {
    super::super::line::bare(text).unwrap().reply
}

/// The rule that a reply lands on.
fn landed<'a>(rules: &'a Rules, provider: Option<&str>, text: &str) -> Option<&'a str> {
    match rules.classify(provider, Stage::Rcpt, &reply(text)).by {
        By::Rule(id) => Some(&rules.rule(id).name),
        _ => None,
    }
}

#[test]
fn the_shipped_rules_have_no_faults() {
    let faults = Rules::alone(Path::new(SHIPPED_FILE), SHIPPED).err().unwrap_or_default();
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), lines.join("\n"));
    let node = Node::default();
    let providers: Vec<&str> = node.shaping.providers().map(|(name, _)| name).collect();
    assert_eq!(Rules::shipped().unknown_providers(&providers), []);
}

#[test]
fn rules_with_a_provider_come_first_then_the_order_of_the_file() {
    let rules = alone(
        &[
            rule("any", "text = \"too many\"\nclass = \"rate-limited\"\nsamples = [\"450 too many\"]"),
            rule(
                "p-connections",
                "provider = \"p\"\ntext = \"too many connections\"\nclass = \"too-many-connections\"\nsamples = [\"421 too many connections\"]",
            ),
            rule(
                "p",
                "provider = [\"p\", \"q\"]\ntext = \"too many\"\nclass = \"rate-limited\"\nsamples = [\"450 too many\"]",
            ),
            rule("code", "code = 452\nclass = \"mailbox-full\"\nsamples = [\"452 x\"]"),
            rule(
                "range",
                "enhanced = [\"5.7.606-649\", \"4.9.*\"]\nclass = \"source-blocked\"\nsamples = [\"550 5.7.606 x\"]",
            ),
        ]
        .concat(),
    );
    assert_eq!(landed(&rules, None, "450 Too Many connections"), Some("any"));
    assert_eq!(landed(&rules, Some("p"), "450 too many connections"), Some("p-connections"));
    assert_eq!(landed(&rules, Some("p"), "450 too many"), Some("p"));
    assert_eq!(landed(&rules, Some("q"), "450 too many connections"), Some("p"));
    assert_eq!(landed(&rules, Some("r"), "450 too many connections"), Some("any"));
    assert_eq!(landed(&rules, None, "452 4.2.2 whatever"), Some("code"));
    // Before the rule with the code in the file, so it is asked first.
    assert_eq!(landed(&rules, None, "452 too many"), Some("any"));
    assert_eq!(landed(&rules, None, "550 5.7.649 x"), Some("range"));
    assert_eq!(landed(&rules, None, "550 5.7.650 x"), None);
    assert_eq!(landed(&rules, None, "450 4.9.77 x"), Some("range"));
    assert_eq!(landed(&rules, None, "450 4.8.77 x"), None);
}

#[test]
fn a_users_rule_comes_before_and_takes_the_place_of_a_shipped_one() {
    let mine = rule("mine", "text = \"greylisted\"\nclass = \"policy\"\nsamples = [\"450 greylisted\"]");
    let theirs = rule(
        "greylist-postgrey",
        "text = \"go away for now\"\nclass = \"greylisted\"\nsamples = [\"450 go away for now\"]",
    );
    let rules = Rules::read(&[(Path::new("a.toml"), &mine), (Path::new("b.toml"), &theirs)]).unwrap();
    assert_eq!(landed(&rules, None, "450 Greylisted"), Some("mine"));
    let named: Vec<&Rule> = rules.rules().filter(|rule| &*rule.name == "greylist-postgrey").collect();
    assert!(named.len() == 1 && !named[0].is_shipped(), "the shipped one is out");
    assert_eq!(landed(&rules, None, "450 go away for now"), Some("greylist-postgrey"));
    // A later file comes first, also where it takes all that a rule of an earlier one could.
    let later = rule("later", "text = \"greylist\"\nclass = \"policy\"\nsamples = [\"450 greylist\"]");
    let rules = Rules::read(&[(Path::new("a.toml"), &mine), (Path::new("b.toml"), &later)]).unwrap();
    assert_eq!(landed(&rules, None, "450 Greylisted"), Some("later"));
}

#[test]
fn before_rcpt_nobody_is_given_up_and_at_4yz_only_where_a_rule_insists() {
    let rules = alone(
        &[
            rule("unknown", "text = \"no such user\"\nclass = \"unknown-user\"\nsamples = [\"550 no such user\"]"),
            rule(
                "final",
                "text = \"will never succeed\"\nclass = \"policy\"\naction = \"bounce\"\nsamples = [\"450 will never succeed\"]",
            ),
            rule(
                "dead",
                "text = \"mailbox is disabled\"\nclass = \"inactive-mailbox\"\naction = \"suppress\"\nsamples = [\"554 mailbox is disabled\"]",
            ),
        ]
        .concat(),
    );
    let action = |stage, text| rules.classify(None, stage, &reply(text)).recipient;
    assert_eq!(action(Stage::Rcpt, "550 no such user"), Suppress);
    assert_eq!(action(Stage::Rcpt, "450 no such user"), Retry);
    assert_eq!(action(Stage::Content, "550 no such user"), Bounce);
    assert_eq!(action(Stage::Content, "550 5.1.1 no such user"), Suppress);
    assert_eq!(action(Stage::Content, "550 5.2.1 no such user"), Suppress);
    assert_eq!(action(Stage::Content, "550 5.2.2 no such user"), Bounce);
    assert_eq!(action(Stage::Rcpt, "450 will never succeed"), Bounce);
    assert_eq!(action(Stage::Content, "554 mailbox is disabled"), Suppress);
    assert_eq!(action(Stage::Content, "454 mailbox is disabled"), Retry);
    for stage in [Stage::Connect, Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Mail] {
        for text in
            ["550 no such user", "550 will never succeed", "554 mailbox is disabled", "550 5.1.1", "550"]
        {
            assert_eq!(action(stage, text), Retry, "{stage:?} {text}");
        }
    }
}

#[test]
fn a_code_about_the_sender_suppresses_nobody() {
    let rules = alone(&rule(
        "unknown",
        "text = \"no such user\"\nclass = \"unknown-user\"\naction = \"suppress\"\nsamples = [\"550 no such user\"]",
    ));
    let action = |text| rules.classify(None, Stage::Rcpt, &reply(text)).recipient;
    assert_eq!(action("550 5.1.1 no such user"), Suppress);
    // RFC 3463 §3.2: bad sender's mailbox address syntax, bad sender's system address.
    assert_eq!(action("550 5.1.7 no such user"), Bounce);
    assert_eq!(action("553 5.1.8 no such user"), Bounce);
}

#[test]
fn what_an_unknown_provider_says_may_be_anothers_words_and_is_believed_less() {
    let rules = alone(
        &[
            rule(
                "any",
                "text = \"no such user at all\"\nclass = \"unknown-user\"\nsamples = [\"550 no such user at all\"]",
            ),
            rule(
                "dead",
                "provider = \"p\"\ntext = \"no such user\"\nclass = \"unknown-user\"\naction = \"suppress\"\nsamples = [\"550 no such user\"]",
            ),
            rule(
                "spam",
                "provider = \"p\"\ntext = \"[SP1]\"\nclass = \"spam-content\"\nscope = \"campaign\"\n\
                 action = [\"bounce\", \"pause campaign\", \"alert\"]\nafter = \"3/h\"\nsamples = [\"550 [SP1]\"]",
            ),
            rule(
                "slower",
                "provider = \"p\"\ntext = \"[RT1]\"\nclass = \"rate-limited\"\nafter = \"3/h\"\nsamples = [\"421 [RT1]\"]",
            ),
            rule(
                "code",
                "provider = \"p\"\nenhanced = \"5.7.999\"\nclass = \"source-blocked\"\nsamples = [\"550 5.7.999 x\"]",
            ),
        ]
        .concat(),
    );
    let verdict = |provider, text| rules.classify(provider, Stage::Rcpt, &reply(text));
    // A rule for any comes before all rules of providers, and no provider means what another says.
    assert_eq!(landed(&rules, None, "550 no such user at all"), Some("any"));
    assert_eq!(landed(&rules, None, "550 no such user"), Some("dead"));
    assert_eq!(landed(&rules, Some("q"), "550 no such user"), None);
    // Without a text a code is one provider's own.
    assert_eq!(landed(&rules, Some("p"), "550 5.7.999 x"), Some("code"));
    assert_eq!(landed(&rules, None, "550 5.7.999 x"), None);
    // For good only if the code says so too.
    assert_eq!(verdict(Some("p"), "550 no such user").recipient, Suppress);
    assert_eq!(verdict(None, "550 no such user").recipient, Bounce);
    assert_eq!(verdict(None, "550 5.1.1 no such user").recipient, Suppress);
    // The campaign goes on; what concerns this host alone is done.
    let paused = verdict(Some("p"), "550 [SP1]");
    assert_eq!((paused.measure, paused.recipient), (Some(Measure::PauseCampaign), Bounce));
    let stranger = verdict(None, "550 [SP1]");
    assert_eq!((stranger.measure, stranger.threshold, stranger.recipient), (None, None, Bounce));
    assert!(stranger.alert);
    assert_eq!(verdict(None, "421 [RT1]"), verdict(Some("p"), "421 [RT1]"));
}

#[test]
fn where_no_rule_fits_the_codes_speak() {
    let rules = alone("");
    let known = |stage, text: &str| {
        let verdict = rules.classify(None, stage, &reply(text));
        (verdict.class, verdict.scope, verdict.recipient, verdict.by)
    };
    use Scope::{Message, Path, Recipient, SendingDomain, Session};
    for (stage, text, expected) in [
        (Stage::Rcpt, "550 5.1.1 x", (Class::UnknownUser, Recipient, Suppress, By::Registry)),
        (Stage::Rcpt, "450 4.1.1 x", (Class::UnknownUser, Recipient, Retry, By::Registry)),
        (Stage::Content, "550 5.7.26 x", (Class::Authentication, SendingDomain, Retry, By::Registry)),
        (Stage::Content, "421 4.7.26 x", (Class::Authentication, SendingDomain, Retry, By::Registry)),
        (Stage::Rcpt, "421 4.7.0 x", (Class::Closing, Session, Retry, By::Code)),
        (Stage::Greeting, "421 x", (Class::Closing, Session, Retry, By::Code)),
        (Stage::Greeting, "554 x", (Class::UnclassifiedPermanent, Path, Retry, By::Code)),
        (Stage::Mail, "550 x", (Class::UnclassifiedPermanent, Path, Retry, By::Code)),
        (Stage::Rcpt, "550 x", (Class::UnclassifiedPermanent, Recipient, Bounce, By::Code)),
        (Stage::Content, "554 5.0.0 x", (Class::UnclassifiedPermanent, Message, Bounce, By::Code)),
        (Stage::Rcpt, "450 x", (Class::UnclassifiedTransient, Recipient, Retry, By::Code)),
        // RFC 3463 §3.4: the mail system, and for good; before RCPT that is about us.
        (Stage::Rcpt, "550 5.3.0 x", (Class::SystemTrouble, Message, Bounce, By::Registry)),
        (Stage::Content, "554 5.3.5 x", (Class::SystemTrouble, Message, Bounce, By::Registry)),
        (Stage::Greeting, "554 5.3.2 x", (Class::SystemTrouble, Path, Retry, By::Registry)),
        (Stage::Rcpt, "450 4.3.0 x", (Class::SystemTrouble, Path, Retry, By::Registry)),
        // User name and password are refused where they are asked for.
        (Stage::Auth, "535 5.7.8 x", (Class::CredentialsRefused, Path, Retry, By::Registry)),
        (Stage::Auth, "535 x", (Class::CredentialsRefused, Path, Retry, By::Code)),
        (Stage::Rcpt, "535 5.7.8 x", (Class::Policy, Message, Bounce, By::Registry)),
        (Stage::Content, "554 5.7.9 x", (Class::Policy, Message, Bounce, By::Registry)),
        (Stage::Content, "250 2.0.0 ok", (Class::Accepted, Recipient, RecipientAction::Delivered, By::Code)),
        (Stage::Data, "250 2.0.0 ok", (Class::Protocol, Session, Retry, By::Code)),
    ] {
        assert_eq!(known(stage, text), expected, "{stage:?} {text}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = "[[rule]]\nname = \"a\"\ntext = \"ab\"\nclass = \"polcy\"\nsamples = [\"550 x\"]\n\n\
                [[rule]]\nnme = \"b\"\n\n\
                [[rule]]\nname = \"c\"\ncode = 250\nstage = \"rctp\"\nclass = \"policy\"\n\
                action = [\"bounce\", \"suppress\"]\nafter = \"often\"\nsamples = [\"hello\"]\n\n\
                [[rule]]\nname = \"d\"\ntext = \"blocked\"\nclass = \"source-blocked\"\naction = \"suppress\"\nsamples = [\"550 blocked\"]\n\n\
                [[rule]]\nname = \"e\"\nclass = \"policy\"\nafter = \"3/h\"\n\n\
                [[rule]]\nname = \"f\"\ntext = \"slow down\"\nclass = \"spam-content\"\naction = \"slow 0.5\"\nsamples = [\"550 slow down\"]\n\n\
                [[rule]]\nname = \"g\"\ntext = \"later\"\nclass = \"policy\"\nafter = \"3/h\"\nsamples = [\"550 later\"]\n\n\
                [other]\n";
    let faults = Rules::alone(Path::new("f.toml"), text).unwrap_err();
    let mut told: Vec<String> =
        faults.iter().map(|f| format!("{}:{} {}", f.line, f.column, f.what)).collect();
    told.sort_by_key(|line| line.split(':').next().and_then(|line| line.parse::<u32>().ok()));
    for (place, part) in [
        ("3:8 ", "the text \"ab\" has no 3 characters in a row"),
        ("4:9 ", "`polcy` is no class"),
        ("8:1 ", "unknown key `nme`"),
        ("12:8 ", "`250` is no reply code"),
        ("13:9 ", "`rctp` is no stage"),
        ("15:10 ", "`suppress` is a second action"),
        ("16:9 ", "`often` is no count"),
        ("17:12 ", "the sample \"hello\" is no refusal"),
        ("23:10 ", "not about the recipient and suppresses"),
        ("27:8 ", "the rule `e` has no sample"),
        ("27:8 ", "the rule `e` has no condition"),
        ("42:9 ", "no measure that `after` could hold back"),
        ("35:10 ", "reaches nothing"),
        ("45:2 ", "unknown key `other`"),
    ] {
        let is_told = told.iter().any(|line| line.starts_with(place) && line.contains(part));
        assert!(is_told, "{place}{part} is not in {told:#?}");
    }
    assert_eq!(told.len(), 14, "{told:#?}");
}

#[test]
fn rules_that_are_never_reached_and_stray_samples_are_told() {
    let faults = |text: &str| -> Vec<String> {
        let faults = Rules::alone(Path::new("f.toml"), text).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    };
    let one = |name: &str, text: &str, sample: &str| {
        rule(name, &format!("text = \"{text}\"\nclass = \"policy\"\nsamples = [\"{sample}\"]"))
    };
    let told =
        faults(&(one("wide", "denied", "550 denied") + &one("narrow", "access denied", "550 access denied")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("f.toml:7:8: the rule `narrow` is never reached: `wide` (f.toml:2)"),
        "{told:?}"
    );
    let told = faults(&(one("a", "denied", "550 denied") + &one("b", "DENIED", "550 denied")));
    assert!(told[0].contains("the rule `b` has the same conditions as `a` (f.toml:2)"), "{told:?}");
    let told = faults(&(one("a", "denied", "550 denied") + &one("b", "refused", "550 refused, denied")));
    assert!(
        told[0].starts_with("f.toml:10:12: this sample of `b` lands on the rule `a` (f.toml:2)"),
        "{told:?}"
    );
    let told = faults(&one("a", "denied", "550 refused"));
    assert!(told[0].contains("this sample of `a` lands on no rule"), "{told:?}");
    let told = faults(&(one("a", "denied", "550 denied") + &one("a", "refused", "550 refused")));
    assert!(told[0].starts_with("f.toml:7:8: the name `a` is used twice: f.toml:2 has it too"), "{told:?}");
    let rules =
        alone(&rule("a", "provider = \"gogle\"\ncode = 450\nclass = \"policy\"\nsamples = [\"450 x\"]"));
    let told = rules.unknown_providers(&["google", "yahoo"]);
    assert!(
        told[0]
            .to_string()
            .starts_with("f.toml:3:12: the provider `gogle` is not known; did you mean `google`?")
    );
}

#[test]
fn what_actions_leave_out_is_the_classs() {
    let rules = alone(
        &[
            rule(
                "a",
                "text = \"aaa\"\nclass = \"rate-limited\"\naction = \"retry after 15m\"\nafter = \"3/h\"\nsamples = [\"450 aaa\"]",
            ),
            rule(
                "b",
                "text = \"bbb\"\nclass = \"poor-reputation\"\naction = [\"suspend 2h resume 0.5\", \"alert\"]\nscope = \"source\"\nsamples = [\"450 bbb\"]",
            ),
            rule(
                "c",
                "text = \"ccc\"\nclass = \"authentication\"\naction = [\"no measure\", \"no alert\"]\nsamples = [\"450 ccc\"]",
            ),
            rule(
                "d",
                "text = \"ddd\"\nclass = \"spam-content\"\nscope = \"path\"\nsamples = [\"550 ddd\"]",
            ),
            rule(
                "e",
                "text = \"eee\"\nclass = \"spam-content\"\naction = \"pause campaign\"\nafter = \"100/30m\"\nsamples = [\"550 eee\"]",
            ),
        ]
        .concat(),
    );
    let verdict = |text| rules.classify(None, Stage::Rcpt, &reply(text));
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3600);
    let a = verdict("450 aaa");
    assert_eq!(a.recipient, RecipientAction::RetryAfter(hours(1) / 4));
    assert_eq!((a.measure, a.scope, a.alert), (Some(Measure::Slow(0.5)), Scope::Path, false));
    assert_eq!(a.threshold, Some(Threshold { count: 3, within: hours(1) }));
    let b = verdict("450 bbb");
    assert_eq!(b.measure, Some(Measure::Suspend { lasting: hours(2), resume: 0.5 }));
    assert_eq!((b.scope, b.recipient, b.alert), (Scope::Source, Retry, true));
    let c = verdict("450 ccc");
    assert_eq!((c.scope, c.measure, c.alert), (Scope::SendingDomain, None, false));
    // Said to be about us: not held against the recipient.
    assert_eq!(verdict("550 ddd").recipient, Retry);
    let e = verdict("550 eee");
    assert_eq!((e.measure, e.recipient), (Some(Measure::PauseCampaign), Bounce));
}

proptest::proptest! {
    #[test]
    fn a_file_of_anything_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Rules::alone(Path::new("f.toml"), &text);
    }

    #[test]
    fn no_reply_before_rcpt_gives_anybody_up(code in 400u16..600, text in "\\PC{0,100}", google: bool) {
        let rules = Rules::alone(Path::new("f.toml"), "").unwrap();
        let reply = Reply::new(code, &text).unwrap();
        for stage in [Stage::Connect, Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Mail] {
            let verdict = rules.classify(google.then_some("google"), stage, &reply);
            assert!(!matches!(verdict.recipient, Bounce | Suppress));
        }
    }

    /// The automaton finds what looking at every rule in turn would.
    #[test]
    fn the_search_finds_the_first_rule_that_fits(
        texts in proptest::collection::vec(("[abc#]{3,5}(\\*[abc]{1,4})?", 0u8..4, 0u8..3), 1..20),
        replies in proptest::collection::vec(("[abc1]{0,30}", 0u8..4, 0u8..2), 1..20),
    ) {
        let provider = |number: u8| ["", "p", "q", "r"][usize::from(number)];
        let code = |number: u8| ["450", "550", "4yz"][usize::from(number)];
        let mut file = String::new();
        for (number, (text, from, codes)) in texts.iter().enumerate() {
            let from = match provider(*from) {
                "" => String::new(),
                name => format!("provider = \"{name}\"\n"),
            };
            file += &rule(
                &format!("r{number}"),
                &format!("{from}code = \"{}\"\ntext = \"{text}\"\nclass = \"policy\"\nsamples = [\"450 x\"]", code(*codes)),
            );
        }
        let (rules, _) = grammar::parse(Path::new("f.toml"), &file);
        let rules = Rules::new(in_order(rules)).unwrap();
        for (text, from, codes) in replies {
            let reply = Reply::new(if codes == 0 { 450 } else { 550 }, &text).unwrap();
            let from = Some(provider(from)).filter(|name| !name.is_empty());
            let folded = super::super::pattern::Folded::new(&reply);
            let slow = rules.rules.iter().position(|rule| {
                (rule.providers.is_empty() || from.is_some_and(|from| rule.providers.iter().any(|name| &**name == from)))
                    && rule.codes.fit(&reply)
                    && rule.texts.iter().any(|text| text.fits(folded.octets()))
            });
            let fast = rules.matcher.first(&rules.rules, from, Stage::Rcpt, &reply);
            assert_eq!(fast.map(usize::from), slow);
        }
    }
}
