//! What `<domain …>` says: our limits, or why there is none like it.

use super::super::limits::{Section, Value};
use super::super::providers;
use super::super::report::Place;
use super::super::units;
use super::parse::Item;
use super::sources::Cold;
use super::{Reading, hidden};
use crate::address::Domain;

/// Whom a `<domain>` is about.
#[derive(Debug, Clone)]
struct Target {
    section: Section,
    /// Whose reply rules its patterns are: any (`*`), a provider's, or nobody's.
    whose: Option<Vec<String>>,
    /// As it stands there.
    name: String,
}

enum Key {
    Count(&'static str),
    Rate(&'static str),
    Time(&'static str),
}

fn key(name: &str) -> Option<Key> {
    Some(match name {
        "max-smtp-out" => Key::Count("sessions"),
        "max-msg-per-connection" => Key::Count("messages_per_session"),
        "max-msg-rate" => Key::Rate("messages"),
        "max-connect-rate" => Key::Rate("connections"),
        "connection-idle-timeout" => Key::Time("idle"),
        "bounce-after" => Key::Time("expiry"),
        "connect-timeout" => Key::Time("timeouts.connect"),
        "smtp-greeting-timeout" => Key::Time("timeouts.greeting"),
        "data-send-timeout" => Key::Time("timeouts.content_write"),
        "smtp-data-termination-timeout" => Key::Time("timeouts.content_end"),
        _ => return None,
    })
}

/// Why a directive has no equivalent, and what to do instead; `None`: it is none of a domain's.
fn why_not(name: &str) -> Option<&'static str> {
    Some(match name {
        "source-ip-max-smtp-out"
        | "source-ip-max-connect-rate"
        | "source-ip-max-msg-rate"
        | "max-smtp-out-per-source-ip" => {
            "a limit holds for each source already; one of a source alone is [source.NAME] of shaping.toml, towards all"
        }
        "smtp-out-rampup-interval" => "sessions grow with what is waiting, within `connections`",
        "max-rcpt-per-transaction" | "max-rcpt-per-message" => {
            "every recipient has a message of their own here"
        }
        "max-errors-per-connection" => "sessions that are refused again and again are given up by themselves",
        "max-data-volume-rate" | "source-ip-max-data-volume-rate" | "backoff-max-data-volume-rate" => {
            "octets are not limited; lower `messages` by the size of yours"
        }
        "max-msg-per-hour" | "backoff-max-msg-per-hour" => "write it as a rate of `messages`, \"N/h\"",
        "retry-recipients-after" => "each recipient has their own waits: it is the first of `retry`",
        "retry-after-dns-error" => "what a name server does not answer is asked again by itself",
        "retry-upon-new-mail" => "each recipient has their own waits",
        "bounce-upon-no-mx" => {
            "a domain without MX is tried at its address (RFC 5321 §5.1), one with a null MX is not"
        }
        "bounce-upon-5xx-greeting" => {
            "a refusal before RCPT is about us: it never gives up on a recipient; `expiry` does in the end"
        }
        "bounce-upon-transfer-failure"
        | "bounce-upon-pix-transfer-failure"
        | "assume-delivery-upon-data-termination-timeout" => {
            "who is in doubt after a transfer broke is in the journal, and tried again; see `in doubt` of the status"
        }
        "smtp-421-means-mx-unavailable" => "421 always ends the session, and the next host is tried",
        "smtp-553-means-invalid-mailbox" => {
            "write a rule of replies.toml with code = 553 if a site means it so"
        }
        "replace-smtp-421-service-response" => "replies are kept as they were said",
        "ignore-chunking" | "ignore-pipelining" | "ignore-dsn" | "ignore-8bitmime" => {
            "what a server offers is used; it cannot be left unused for one"
        }
        "check-spf-outbound" => {
            "nothing is checked for you: `postroad rehearse` verifies SPF and DKIM in the world"
        }
        "queue-priority"
        | "allow-priority-interruption"
        | "allow-priority-interruption-during-transfer"
        | "delivery-priority" => "domains take turns fairly, and campaigns too",
        "type" => "mail goes out by SMTP only",
        "queue-to" => {
            "mail cannot be led to another queue; put sources into pools and name one in the manifest"
        }
        "reroute-to-virtual-mta" => "put the sources into one pool: what one cannot carry the others do",
        "backoff-reroute-to-virtual-mta" => {
            "a source that is refused is taken out by a rule (\"take source out 6h\"), and the pool's others carry on"
        }
        "backoff-max-smtp-out" | "backoff-max-msg-rate" | "backoff-max-connect-rate" => {
            "there is no second set of limits: rates adapt to what a site says, down by a part (\"slow 0.5\") and up again \
             by themselves"
        }
        "backoff-retry-after" => "a path that is slowed down or suspended comes back by itself, with a probe",
        "backoff-to-normal-after" | "backoff-to-normal-after-delivery" => {
            "rates grow back by themselves with what is accepted"
        }
        "backoff-upon-all-sources-disabled" => "mail waits until a source is back",
        "backoff-notify" | "disabled-source-ip-notify" => {
            "rules say \"alert\", which is an event of the run; no mail is sent about it"
        }
        "notify-of-delay-every" | "dsn-format" | "deliver-local-dsn" | "bcc-upon-delivery" => {
            "no mail is made about mail: what became of it is in the run's records"
        }
        "disable-mx-rollup" => "a [domain] section is a site of its own already",
        "disable-acct-records"
        | "log-resolution"
        | "log-transfer-failures"
        | "log-disabled-ips"
        | "log-commands"
        | "log-connections"
        | "log-data"
        | "max-events-recorded"
        | "track-recipient-events" => "what is recorded is not set by domain",
        "smtp-hosts" => "mail to a domain goes to its MX; a relay is a source's, [sources.NAME.relay]",
        "allow-cancel-during-transfer" => "a transfer is never cancelled",
        "use-unencrypted-plain-auth" => "passwords are never sent in clear",
        "deliver-only" | "dk-sign" => "there is nothing like it",
        _ if name.starts_with("dkim-") => {
            "signing is the manifest's: [dkim] of a campaign; it holds for all domains"
        }
        _ => return None,
    })
}

/// Whether it may stand in a `<domain>`.
pub(super) fn is_domains(name: &str) -> bool {
    let others = [
        "retry-after",
        "use-starttls",
        "require-starttls",
        "route",
        "auth-username",
        "auth-password",
        "smtp-pattern-list",
        "max-cold-virtual-mta-msg",
        "reenable-source-ip-after",
    ];
    key(name).is_some() || others.contains(&name) || why_not(name).is_some()
}

/// What says its piece only together with others of its block.
#[derive(Default)]
struct Together {
    starttls: Option<(bool, Place)>,
    required: Option<(bool, Place)>,
    route: Option<(String, Place)>,
    user: Option<(String, Place)>,
    password: Option<Place>,
}

impl Reading<'_> {
    /// A `<domain>` outside of any `<virtual-mta>`.
    pub(super) fn domain(&mut self, argument: &str, items: &[Item], place: &Place) {
        for target in self.targets(argument, place, true) {
            self.directives(&target, None, items);
        }
    }

    /// A `<domain>` within a `<virtual-mta>`.
    pub(super) fn domain_of_source(&mut self, source: &str, argument: &str, items: &[Item], place: &Place) {
        for target in self.targets(argument, place, false) {
            if matches!(target.section, Section::Default) {
                let target = Target { section: Section::Source(source.to_owned()), ..target };
                self.directives(&target, Some(source), items);
                continue;
            }
            for item in items {
                let Item::Directive { name, value, place } = item else { continue };
                match name.as_str() {
                    "max-cold-virtual-mta-msg" => self.cold(source, &target.name, value, place),
                    "smtp-pattern-list" => self.uses(value, &target.whose, place),
                    _ => {
                        let subject = format!("<virtual-mta {source}> <domain {}> {name}", target.name);
                        let why = "there are no limits of one source towards one domain: [source.NAME] holds towards all, \
                                   [domain.\"…\"] for all sources";
                        self.work.report.lost(place, subject, why);
                    }
                }
            }
        }
    }

    /// What would stand in `<domain *>`, outside of any block.
    pub(super) fn domain_directive_for_all(&mut self, name: &str, value: &str, place: &Place) {
        let target = Target { section: Section::Default, whose: Some(Vec::new()), name: "*".to_owned() };
        let item = Item::Directive { name: name.to_owned(), value: value.to_owned(), place: place.clone() };
        self.directives(&target, None, std::slice::from_ref(&item));
    }

    /// `has_limits`: what it says of a domain becomes that domain's section.
    fn targets(&mut self, argument: &str, place: &Place, has_limits: bool) -> Vec<Target> {
        let names = self.document.names(argument, place, &mut self.work.report);
        let mut targets = Vec::new();
        for name in names {
            if name == "*" {
                targets.push(Target { section: Section::Default, whose: Some(Vec::new()), name });
                continue;
            }
            let suffixes: Vec<String> = self
                .rollups
                .iter()
                .filter(|(rollup, _)| *rollup == name)
                .map(|(_, suffix)| suffix.clone())
                .collect();
            let subject = format!("<domain {name}>");
            if !suffixes.is_empty() {
                let shares = providers::sharing(name.trim_end_matches(".rollup"), &suffixes);
                if let Some(several) = providers::several(&shares).filter(|_| has_limits) {
                    self.work.report.changed(place, subject, several);
                }
                let whose = Some(providers::replying(&shares));
                for (provider, suffixes) in shares {
                    self.work.limits.say_mx(&provider, &suffixes, place, &mut self.work.report);
                    let section = Section::Provider(provider);
                    targets.push(Target { section, whose: whose.clone(), name: name.clone() });
                }
                continue;
            }
            if name.ends_with(".queue") {
                let why = "there are no queues by name; put sources into pools and name one in the manifest";
                self.work.report.lost(place, subject, why);
                continue;
            }
            match Domain::parse(&name) {
                Ok(domain) => {
                    let provider = providers::of_domain(domain.as_str());
                    if let Some(provider) = provider.filter(|_| has_limits) {
                        let why = format!(
                            "it holds for this domain alone; for all that {provider} serves say it in [provider.{provider}]"
                        );
                        self.work.report.changed(place, subject, why);
                    }
                    let section = Section::Domain(domain.as_str().to_owned());
                    targets.push(Target { section, whose: provider.map(|name| vec![name.to_owned()]), name });
                }
                Err(error) => {
                    let why =
                        format!("{error}; a part of a name cannot be matched, name the domains in full");
                    self.work.report.lost(place, subject, why);
                }
            }
        }
        targets
    }

    fn directives(&mut self, target: &Target, source: Option<&str>, items: &[Item]) {
        let mut together = Together::default();
        for item in items {
            match item {
                Item::Directive { name, value, place } => {
                    self.directive(target, source, (name, value), place, &mut together);
                }
                Item::Block { name, place, .. } => {
                    self.work.report.lost(place, format!("<{name}>"), "it cannot stand in a <domain>");
                }
                Item::Pattern { line, place } => {
                    self.work.report.lost(place, line.as_str(), "it cannot stand in a <domain>");
                }
            }
        }
        self.tls(target, &together);
        self.relay(target, source, together);
    }

    fn directive(
        &mut self,
        target: &Target,
        source: Option<&str>,
        (name, value): (&str, &str),
        place: &Place,
        together: &mut Together,
    ) {
        let subject = format!("{name} {}", hidden(name, value));
        let at = (place, subject.as_str());
        let section = &target.section;
        let is_on = matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on");
        if let Some(key) = key(name) {
            let super::super::Work { limits, report, .. } = &mut *self.work;
            match key {
                // None is as many as the peer takes.
                Key::Count("messages_per_session") if matches!(value, "0" | "unlimited") => {
                    report.lost(
                        place,
                        subject,
                        "write `unset = [\"messages_per_session\"]` in its section of shaping.toml",
                    );
                }
                Key::Count(key) => limits.say_count(section, (key, value), at, report),
                Key::Rate(key) => limits.say_rate(section, (key, value), at, report),
                Key::Time(key) => limits.say_time(section, (key, value), at, report),
            }
            return;
        }
        match name {
            "retry-after" => {
                let times: Option<Vec<_>> = value.split(',').map(units::duration).collect();
                let times = times.filter(|times| times.iter().all(|time| !time.is_zero()));
                let super::super::Work { limits, report, .. } = &mut *self.work;
                match times {
                    Some(times) => limits.say(section, ("retry", &Value::Times(times)), at, report),
                    None => report.lost(place, subject, "it is no list of times"),
                }
            }
            "use-starttls" => together.starttls = Some((is_on, place.clone())),
            "require-starttls" => together.required = Some((is_on, place.clone())),
            "route" => together.route = Some((value.to_owned(), place.clone())),
            "auth-username" => together.user = Some((value.to_owned(), place.clone())),
            "auth-password" => together.password = Some(place.clone()),
            "smtp-pattern-list" => self.uses(value, &target.whose, place),
            "reenable-source-ip-after" => self.reenable_after(value, place),
            "max-cold-virtual-mta-msg" => match source {
                Some(source) => self.cold(source, &target.name, value, place),
                None => self.cold.push(Cold::of_all(&target.name, value, place)),
            },
            _ => {
                let why = why_not(name).unwrap_or("there is nothing like it");
                self.work.report.lost(place, subject, why);
            }
        }
    }

    fn tls(&mut self, target: &Target, together: &Together) {
        let policy = match (&together.starttls, &together.required) {
            (_, Some((true, place))) => ("required", place),
            (Some((true, place)), _) => ("opportunistic", place),
            (Some((false, place)), _) => ("off", place),
            // Not required says nothing about what is used.
            (None, Some((false, place))) => ("opportunistic", place),
            (None, None) => return,
        };
        let super::super::Work { limits, report, .. } = &mut *self.work;
        limits.say(&target.section, ("tls", &Value::Word(policy.0)), (policy.1, "use-starttls"), report);
    }

    fn relay(&mut self, target: &Target, source: Option<&str>, together: Together) {
        let Together { route, user, password, .. } = together;
        if let Some(place) = &password {
            let why =
                "passwords are not copied: put it into the variable that `password_env` of the relay names";
            self.work.report.lost(place, "auth-password", why);
        }
        let Some((route, place)) = route else {
            if let Some((_, place)) = user {
                let why = "it belongs to a `route`: a user is known to a relay, [sources.NAME.relay]";
                self.work.report.lost(&place, "auth-username", why);
            }
            return;
        };
        if source.is_none() && !matches!(target.section, Section::Default) {
            let why = "one domain cannot take another way: make a source with [sources.NAME.relay], and a pool of it for \
                       the campaign";
            return self.work.report.lost(&place, format!("route {route}"), why);
        }
        self.relay_of(source, &route, user.map(|(user, _)| user), &place);
    }
}
