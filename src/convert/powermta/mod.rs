//! PowerMTA's configuration made into ours.
//!
//! ```text
//! parse     lines, blocks, includes, macros         domains   <domain …> → limits, and which patterns hold
//! sources   <virtual-mta …>, pools, cold ones       patterns  lists of patterns → reply rules
//! ```
//!
//! `<domain *>` is what holds by default, `<domain x>` a domain of its own, `<domain x.rollup>` of an
//! `<mx-rollup-list>` a provider. A `<domain *>` inside a `<virtual-mta>` is what holds for that source.

mod domains;
mod parse;
mod patterns;
mod sources;

use std::path::Path;

use super::Work;
use parse::{Document, Item, Open};
use patterns::Uses;

/// What all parts of a conversion know.
struct Reading<'a> {
    document: &'a Document,
    work: &'a mut Work,
    /// Suffixes of exchanges by the name they roll up to.
    rollups: Vec<(String, String)>,
    uses: Uses,
    /// What goes to the cold twin of a source first, by day: source, domain or `*`, messages.
    cold: Vec<sources::Cold>,
}

pub(super) fn convert(file: &Path, text: &str, open: Open<'_>, work: &mut Work) {
    let document = parse::parse(file, text, open, &mut work.report);
    let mut reading =
        Reading { document: &document, work, rollups: Vec::new(), uses: Uses::default(), cold: Vec::new() };
    reading.rollups();
    // Sources first: a relay that is said for all of them has to find them.
    for item in &document.items {
        if let Item::Block { name, argument, items, place } = item
            && name == "virtual-mta"
        {
            reading.virtual_mta(argument, items, place);
        }
    }
    for item in &document.items {
        match item {
            Item::Block { name, argument, items, place } => reading.block(name, argument, items, place),
            Item::Directive { name, value, place } => reading.global(name, value, place),
            Item::Pattern { line, place } => {
                reading.work.report.lost(place, line.as_str(), "it stands in no list")
            }
        }
    }
    reading.warm_up();
    // What acts comes before what only sorts: there both hold, here the first that fits.
    reading.pattern_lists();
    for item in &document.items {
        if let Item::Block { name, items, .. } = item
            && name == "bounce-category-patterns"
        {
            reading.bounce_categories(items);
        }
    }
}

impl Reading<'_> {
    /// `<mx-rollup-list>`: `mx *.google.com gmail.rollup`.
    fn rollups(&mut self) {
        for item in &self.document.items {
            let Item::Block { name, items, .. } = item else { continue };
            if name != "mx-rollup-list" {
                continue;
            }
            for item in items {
                let Item::Directive { name, value, place } = item else { continue };
                let subject = format!("{name} {value}");
                let mut words = value.split_ascii_whitespace();
                let (Some(pattern), Some(rollup), "mx") = (words.next(), words.next(), name.as_str()) else {
                    self.work.report.lost(place, subject, "it is no `mx *.example.com name.rollup`");
                    continue;
                };
                match super::providers::suffix(pattern.strip_prefix('*').unwrap_or(pattern)) {
                    Ok((suffix, _)) => self.rollups.push((rollup.to_ascii_lowercase(), suffix)),
                    Err(why) => self.work.report.lost(place, subject, why),
                }
            }
        }
    }

    fn block(&mut self, name: &str, argument: &str, items: &[Item], place: &super::Place) {
        let subject = format!("<{name} {argument}>");
        let why = match name {
            "domain" => return self.domain(argument, items, place),
            "virtual-mta-pool" => return self.pool(argument, items, place),
            // Done before, or when the uses are known.
            "virtual-mta" | "mx-rollup-list" | "smtp-pattern-list" | "bounce-category-patterns" => return,
            "pattern-list" => {
                "which source a message takes is for the campaign to say: `pool` in its manifest"
            }
            "source" | "smtp-user" | "smtp-listener" => {
                "nothing is received: a campaign's list and message are files; where it says which virtual MTA is \
                 taken, name the pool in the manifest"
            }
            "acct-file" => {
                "every attempt is in the run's journal: `postroad status` and its records say what became of it"
            }
            "spool" => "there is no spool to set up: `state` in postroad.toml is where runs live",
            "http-access" | "feedback-loop-processor" | "bounce-processor" | "address-list" => {
                "there is nothing like it"
            }
            _ => "there is no such block here",
        };
        self.work.report.lost(place, subject, why);
    }

    fn global(&mut self, name: &str, value: &str, place: &super::Place) {
        let why = match name {
            "host-name" => return self.host_name(value, place),
            "smtp-source-host" | "smtp-source-ip" | "source-ip" => {
                return self.source_of_all(name, value, place);
            }
            "sync-msg-create" | "sync-msg-update" => {
                "what is lost by a power failure is bounded by `sync` in postroad.toml (100ms), and nothing by a crash"
            }
            "queue-to" => {
                "mail cannot be led to another queue; put sources into pools and name one in the manifest"
            }
            "domain-key" => "keys are the manifest's: [dkim] of a campaign",
            "total-max-smtp-out" => "it is `sessions_total` of postroad.toml",
            "smtp-pattern-list" => "name it in a <domain>; outside of one it has no effect",
            "postmaster" | "log-file" | "http-mgmt-port" | "http-access" | "run-as-root"
            | "smtp-listener" | "spool" | "license-file" | "edit-local-config" => {
                "nothing is received or served here, and everything runs as who starts it"
            }
            _ if super::powermta::domains::is_domains(name) => {
                return self.domain_directive_for_all(name, value, place);
            }
            _ => "there is nothing like it",
        };
        self.work.report.lost(place, format!("{name} {}", hidden(name, value)), why);
    }
}

/// A value as it may be shown.
fn hidden<'a>(name: &str, value: &'a str) -> &'a str {
    if name.contains("password") || value.contains("password") { "…" } else { value }
}
