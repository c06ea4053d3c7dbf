//! `<virtual-mta>`, `<virtual-mta-pool>` and what warms up: sources, pools, schedules.
//!
//! `max-cold-virtual-mta-msg N/day` sends the first N messages of a day for a domain that would take `foo`
//! over `foo-cold`. Here `foo-cold` is a source with a schedule of such caps, in the pools of `foo`; what is
//! over a cap goes over the others.

use std::net::IpAddr;

use super::super::providers;
use super::super::report::Place;
use super::super::settings::{Relay, Schedule, Source};
use super::parse::Item;
use super::{Reading, hidden};
use crate::address::Domain;
use crate::config::policy::{CAP_MAX, CAPS_MAX};

/// Messages a day that a cold source takes off a warm one.
#[derive(Debug, Clone)]
pub(super) struct Cold {
    /// `None`: off every source that has a cold twin.
    source: Option<String>,
    domain: String,
    value: String,
    place: Place,
}

impl Cold {
    pub fn of_all(domain: &str, value: &str, place: &Place) -> Self {
        Self { source: None, domain: domain.to_owned(), value: value.to_owned(), place: place.clone() }
    }
}

/// `50/day`, `50/d, 100/d`: day by day.
fn caps(value: &str) -> Option<Vec<u64>> {
    let caps = value.split([',', ' ']).filter(|part| !part.is_empty()).map(|part| {
        let (count, per) = part.split_once('/')?;
        let count: u64 = count.trim().parse().ok()?;
        (matches!(per, "d" | "day") && (1..=CAP_MAX).contains(&count)).then_some(count)
    });
    let mut caps: Vec<u64> = caps.take(CAPS_MAX).collect::<Option<_>>()?;
    // There the last holds until somebody changes it.
    let last = *caps.last()?;
    caps.resize(CAPS_MAX, last);
    Some(caps)
}

impl Reading<'_> {
    pub(super) fn virtual_mta(&mut self, name: &str, items: &[Item], place: &Place) {
        let known = self.work.settings.sources.keys().any(|known| known == name);
        if name.is_empty() || known {
            let why = if known {
                "there is one of that name already: what both say holds"
            } else {
                "it has no name"
            };
            self.work.report.changed(place, format!("<virtual-mta {name}>"), why);
            if !known {
                return;
            }
        }
        self.work.settings.sources.entry(name.to_owned()).or_default();
        let mut others = Vec::new();
        for item in items {
            match item {
                Item::Directive { name: directive, value, place } => {
                    self.of_source(name, directive, value, place, &mut others);
                }
                Item::Block { name: block, argument, items, place } if block == "domain" => {
                    self.domain_of_source(name, argument, items, place);
                }
                Item::Block { name: block, place, .. } => {
                    let why = "it cannot stand in a <virtual-mta>";
                    self.work.report.lost(place, format!("<{block}>"), why);
                }
                Item::Pattern { line, place } => {
                    self.work.report.lost(place, line.as_str(), "it cannot stand in a <virtual-mta>");
                }
            }
        }
        if !others.is_empty() {
            // One source has one address of each kind: the others are sources beside it, in a pool of its name.
            let pool = self.work.settings.pools.entry(name.to_owned()).or_default();
            pool.insert(name.to_owned(), 1);
            pool.extend(others.into_iter().map(|other| (other, 1)));
        }
    }

    fn of_source(
        &mut self,
        name: &str,
        directive: &str,
        value: &str,
        place: &Place,
        others: &mut Vec<String>,
    ) {
        let subject = format!("{directive} {}", hidden(directive, value));
        match directive {
            "smtp-source-host" | "smtp-source-ip" | "source-ip" | "host-name" => {
                if let Some(other) = self.address(name, directive, value, place) {
                    others.push(other);
                }
            }
            "auto-cold-virtual-mta" => {
                let cold = format!("{name}-cold");
                self.work.settings.sources.entry(cold.clone()).or_default();
                let _ = self.address(&cold, directive, value, place);
            }
            "domain-key" => {
                let why = "keys are the manifest's: [dkim] of a campaign";
                self.work.report.lost(place, subject, why);
            }
            _ if directive.starts_with("smtp-proxy") => {
                let why = "a proxy is `socks5` or `proxy_protocol` of [sources.NAME]";
                self.work.report.lost(place, subject, why);
            }
            _ if super::domains::is_domains(directive) => {
                let item = Item::Directive {
                    name: directive.to_owned(),
                    value: value.to_owned(),
                    place: place.clone(),
                };
                self.domain_of_source(name, "*", std::slice::from_ref(&item), place);
            }
            _ => self.work.report.lost(place, subject, "there is nothing like it"),
        }
    }

    /// Takes addresses and a name; a second address of a kind makes another source, whose name it returns.
    fn address(&mut self, name: &str, directive: &str, value: &str, place: &Place) -> Option<String> {
        let super::super::Work { settings, report, .. } = &mut *self.work;
        let subject = format!("{directive} {value}");
        let mut ehlo = None;
        let mut addresses = Vec::new();
        for word in value.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            match (word.parse::<IpAddr>(), Domain::parse(word)) {
                (Ok(address), _) => addresses.push(address),
                (_, Ok(domain)) => ehlo = Some(domain.as_str().to_owned()),
                (_, Err(error)) => report.lost(place, &subject, format!("`{word}`: {error}")),
            }
        }
        let source = settings.sources.entry(name.to_owned()).or_default();
        let is_taken = addresses.iter().any(|address| match address {
            IpAddr::V4(_) => source.ipv4.is_some(),
            IpAddr::V6(_) => source.ipv6.is_some(),
        });
        let mut other = None;
        let source = if is_taken {
            let names = (2..).map(|number| format!("{name}-{number}"));
            let free = names.into_iter().find(|name| !settings.sources.contains_key(name))?;
            report.changed(
                place,
                &subject,
                format!("a source has one address of a kind: this one is the source `{free}`, and both are the pool `{name}`"),
            );
            other = Some(free.clone());
            settings.sources.entry(free).or_default()
        } else {
            source
        };
        for address in addresses {
            match address {
                IpAddr::V4(address) => source.ipv4 = Some(address),
                IpAddr::V6(address) => source.ipv6 = Some(address),
            }
        }
        if ehlo.is_some() {
            source.ehlo = ehlo;
        }
        other
    }

    /// `host-name` outside of any block.
    pub(super) fn host_name(&mut self, value: &str, place: &Place) {
        match Domain::parse(value) {
            Ok(domain) => self.work.settings.ehlo_name = Some(domain.as_str().to_owned()),
            Err(error) => self.work.report.lost(place, format!("host-name {value}"), error.to_string()),
        }
    }

    /// An address outside of any `<virtual-mta>`: what is sent from where none is named.
    pub(super) fn source_of_all(&mut self, directive: &str, value: &str, place: &Place) {
        if let Some(other) = self.address("default", directive, value, place) {
            let pool = self.work.settings.pools.entry("default".to_owned()).or_default();
            pool.insert("default".to_owned(), 1);
            pool.insert(other, 1);
        }
    }

    pub(super) fn pool(&mut self, name: &str, items: &[Item], place: &Place) {
        let mut weights = Vec::new();
        for item in items {
            let Item::Directive { name: directive, value, place } = item else {
                let (subject, place) = match item {
                    Item::Block { name, place, .. } => (format!("<{name}>"), place),
                    Item::Pattern { line, place } | Item::Directive { value: line, place, .. } => {
                        (line.clone(), place)
                    }
                };
                let why =
                    "limits of a pool have no equivalent: limits are a path's, from one source to one site";
                self.work.report.lost(place, format!("<virtual-mta-pool {name}> {subject}"), why);
                continue;
            };
            let subject = format!("{directive} {value}");
            if directive != "virtual-mta" {
                self.work.report.lost(
                    place,
                    subject,
                    "a pool is sources and their weights, and nothing else",
                );
                continue;
            }
            let (source, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
            let weight = rest.trim().trim_start_matches("weight").trim_start_matches('=').trim();
            let weight = match weight {
                "" => Some(1),
                text => text.parse::<u32>().ok(),
            };
            let Some(weight) = weight else {
                self.work.report.lost(place, subject, "it is no name with a weight");
                continue;
            };
            if !self.work.settings.sources.contains_key(source) {
                self.work.report.lost(place, subject, format!("there is no <virtual-mta {source}>"));
                continue;
            }
            // A virtual MTA of several addresses is several sources.
            let several = self.work.settings.pools.get(source).filter(|_| source != name).cloned();
            let sources = several.map_or_else(|| vec![source.to_owned()], |pool| pool.into_keys().collect());
            weights.extend(sources.into_iter().map(|source| (source, weight)));
        }
        if weights.iter().all(|(_, weight)| *weight == 0) {
            let why = "it has no source that is there and has a weight";
            return self.work.report.lost(place, format!("<virtual-mta-pool {name}>"), why);
        }
        self.work.settings.pools.entry(name.to_owned()).or_default().extend(weights);
    }

    /// See the head of the file.
    pub(super) fn cold(&mut self, source: &str, domain: &str, value: &str, place: &Place) {
        let cold = Cold { source: Some(source.to_owned()), ..Cold::of_all(domain, value, place) };
        self.cold.push(cold);
    }

    /// Makes schedules, once all sources are known.
    pub(super) fn warm_up(&mut self) {
        for Cold { source, domain, value, place } in std::mem::take(&mut self.cold) {
            let subject = format!("max-cold-virtual-mta-msg {value}");
            if caps_of_none(&value) {
                continue;
            }
            let Some(caps) = caps(&value) else {
                self.work.report.lost(&place, subject, "it is no list of N/day");
                continue;
            };
            let super::super::Work { settings, report, .. } = &mut *self.work;
            let twins: Vec<(String, String)> = settings
                .sources
                .keys()
                .filter(|name| source.as_ref().is_none_or(|source| source == *name))
                .map(|name| (name.clone(), format!("{name}-cold")))
                .filter(|(_, cold)| settings.sources.contains_key(cold))
                .collect();
            if twins.is_empty() {
                let of = source.as_deref().unwrap_or("any source");
                let why = format!(
                    "no source is warmed up by it: there is no cold virtual MTA beside {of}; give the new source a \
                     schedule, `warmup = \"daily\"` in its [sources.NAME]"
                );
                report.lost(&place, subject, why);
                continue;
            }
            let provider = if domain == "*" { None } else { providers::of_domain(&domain) };
            if domain != "*" && provider.is_none() {
                let why = "caps go by provider, and that of the domain is not known here: give the schedule its \
                           [warmup.schedules.NAME.providers.PROVIDER]";
                report.lost(&place, subject, why);
                continue;
            }
            report.changed(
                &place,
                subject,
                "the cold source is one of its twin's pools and takes its share of the mail, up to the cap at each \
                 provider; the rest goes over the others",
            );
            for (warm, cold) in twins {
                let schedule = settings
                    .schedules
                    .entry(cold.clone())
                    .or_insert_with(|| Schedule { caps: caps.clone(), ..Schedule::default() });
                match provider {
                    Some(provider) => {
                        schedule.providers.insert(provider.to_owned(), caps.clone());
                    }
                    None => schedule.caps.clone_from(&caps),
                }
                if let Some(source) = settings.sources.get_mut(&cold) {
                    source.warmup = Some(cold.clone());
                }
                let mut is_in_one = false;
                for weights in settings.pools.values_mut() {
                    if let Some(weight) = weights.get(&warm).copied() {
                        weights.entry(cold.clone()).or_insert(weight.max(1));
                        is_in_one = true;
                    }
                }
                if !is_in_one {
                    let pool = [(warm.clone(), 1), (cold, 1)];
                    settings.pools.entry(warm).or_default().extend(pool);
                }
            }
        }
    }

    /// `route` of one source, or of all there are.
    pub(super) fn relay_of(
        &mut self,
        source: Option<&str>,
        route: &str,
        user: Option<String>,
        place: &Place,
    ) {
        let super::super::Work { settings, report, .. } = &mut *self.work;
        let subject = format!("route {route}");
        let (host, port) = split_host(route);
        let is_host = host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || Domain::parse(&host).is_ok();
        let is_port = port.as_deref().is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if !is_host || !is_port {
            return report.lost(place, subject, "it is no host with a port");
        }
        let relay = Relay { host, port: port.and_then(|port| port.parse().ok()), user };
        let names: Vec<String> = match source {
            Some(source) => vec![source.to_owned()],
            None if settings.sources.is_empty() => vec!["default".to_owned()],
            None => settings.sources.keys().cloned().collect(),
        };
        report.changed(
            place,
            subject,
            "the session with the relay is encrypted: say `tls = \"off\"` if it must not be",
        );
        for name in names {
            let source: &mut Source = settings.sources.entry(name).or_default();
            if source.relay.is_none() {
                source.relay = Some(relay.clone());
            }
        }
    }
}

/// `0/d`, the default: none.
fn caps_of_none(value: &str) -> bool {
    value == "0" || value.split_once('/').is_some_and(|(count, _)| count.trim() == "0")
}

/// `[192.0.2.1]:25`, `smtp.relay.example:587`, `smtp.relay.example`.
fn split_host(route: &str) -> (String, Option<String>) {
    let route = route.trim();
    if let Some((host, rest)) = route.strip_prefix('[').and_then(|route| route.split_once(']')) {
        return (host.to_owned(), rest.strip_prefix(':').map(str::to_owned));
    }
    match route.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host.to_owned(), Some(port.to_owned())),
        _ => (route.to_owned(), None),
    }
}
