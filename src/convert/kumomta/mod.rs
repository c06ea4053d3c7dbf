//! KumoMTA's traffic shaping files: sections, who they are about, and what of them carries over.
//!
//! ```text
//! ["default"]  ["domain.tld"]  [provider."NAME"]   each with  .sources."SRC"  and  [[….automation]]
//! ```
//!
//! Provider and domain sections keep their meaning. What a section says of one source towards one domain
//! has no place here; what it says of a source towards all has. Rules go by provider, see [`automation`].

mod automation;
mod bounces;
mod keys;

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::limits::{Section, Value};
use super::report::Place;
use super::{Lines, Work, providers};
use crate::address::Domain;
use crate::config::Fault;

pub(super) use bounces::{bounces, effect, note_on};

/// Whose reply rules those of a section become.
#[derive(Debug, Clone)]
enum Whose {
    Any,
    Providers(Vec<String>),
    /// Nobody's; why.
    None(String),
}

/// Keys and values in the order of the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// # Errors
/// The text is no TOML.
pub(super) fn shaping(file: &Path, text: &str, work: &mut Work) -> Result<(), Fault> {
    let document = DeTable::parse(text).map_err(|error| Fault::from_toml(file, text, &error))?;
    let lines = Lines::new(file, text);
    let mut reader = Reader { lines, work };
    for (key, value) in in_order(document.get_ref()) {
        let place = reader.lines.place(key.span().start);
        let name = key.get_ref().as_ref();
        let Some(table) = value.get_ref().as_table() else {
            reader.work.report.lost(&place, name, "it is no section");
            continue;
        };
        match name {
            "provider" => {
                for (key, value) in in_order(table) {
                    let place = reader.lines.place(key.span().start);
                    match value.get_ref().as_table() {
                        Some(table) => reader.provider(key.get_ref(), table, &place),
                        None => reader.work.report.lost(&place, key.get_ref().as_ref(), "it is no section"),
                    }
                }
            }
            "default" => reader.default(table, &place),
            domain => reader.domain(domain, table, &place),
        }
    }
    Ok(())
}

struct Reader<'a> {
    lines: Lines,
    work: &'a mut Work,
}

impl Reader<'_> {
    fn place(&self, value: &Spanned<DeValue<'_>>) -> Place {
        self.lines.place(value.span().start)
    }

    fn default(&mut self, table: &DeTable<'_>, place: &Place) {
        self.section(&[Section::Default], table, place);
        if let Some(sources) = table.get("sources").and_then(|sources| sources.get_ref().as_table()) {
            for (key, value) in in_order(sources) {
                let place = self.lines.place(key.span().start);
                let name = key.get_ref().as_ref();
                let Some(table) = value.get_ref().as_table() else { continue };
                let section = Section::Source(name.to_owned());
                self.work.settings.sources.entry(name.to_owned()).or_default();
                self.section(std::slice::from_ref(&section), table, &place);
            }
        }
        self.automation(table, &Whose::Any, "default");
    }

    fn domain(&mut self, name: &str, table: &DeTable<'_>, place: &Place) {
        let domain = match Domain::parse(name) {
            Ok(domain) if name.contains('.') => domain,
            _ => {
                let why = "it is no domain; in TOML a name with dots needs quotes, [\"example.com\"]";
                self.work.report.lost(place, format!("[{name}]"), why);
                return;
            }
        };
        let subject = format!("[\"{name}\"]");
        let provider = providers::of_domain(domain.as_str());
        let is_rolled_up = table.get("mx_rollup").and_then(|value| value.get_ref().as_bool()) != Some(false);
        if is_rolled_up && self.says_limits(table) {
            let instead = match provider {
                Some(provider) => format!("for all of them say it in [provider.{provider}]"),
                None => {
                    "for all of them name an exchange, [site.\"mx1…\"], or make a [provider.NAME] with `mx`"
                        .into()
                }
            };
            let why = format!(
                "here it holds for this domain alone, not for all that share its exchanges; {instead}"
            );
            self.work.report.changed(place, subject.clone(), why);
        }
        self.section(&[Section::Domain(domain.as_str().to_owned())], table, place);
        self.sources_of_one(table, &subject);
        let whose = match provider {
            Some(provider) => Whose::Providers(vec![provider.to_owned()]),
            None => Whose::None(format!(
                "reply rules go by provider, and that of {domain} is not known here: make a [provider.NAME] with \
                 its `mx` and give the rule that `provider`"
            )),
        };
        self.automation(table, &whose, name);
    }

    fn says_limits(&self, table: &DeTable<'_>) -> bool {
        let idle = ["mx_rollup", "replace_base", "automation", "sources"];
        table.iter().any(|(key, _)| !idle.contains(&key.get_ref().as_ref()))
    }

    fn provider(&mut self, name: &str, table: &DeTable<'_>, place: &Place) {
        let subject = format!("[provider.\"{name}\"]");
        let (suffixes, domains) = self.matches(table);
        let mut shares = providers::sharing(name, &suffixes);
        let rules = table
            .get("automation")
            .and_then(|rules| rules.get_ref().as_array())
            .map_or(0, |rules| rules.len());
        let has_match = table.get("match").is_some();
        if shares.is_empty() && !has_match {
            match providers::named(name) {
                Some(known) => {
                    let what = format!(
                        "it has no `match` in these files: unless another file has it, none of it ever held there, \
                         {rules} rules among it; here it holds for the provider `{known}`"
                    );
                    self.work.report.changed(place, subject.clone(), what);
                    shares.push((known, Vec::new()));
                }
                None => {
                    let why = format!(
                        "it has no `match`, so that it holds for nobody and none of its {rules} rules ever fires: \
                         make a [provider.NAME] with `mx`"
                    );
                    self.work.report.lost(place, subject, why);
                    return;
                }
            }
        }
        if let Some(several) = providers::several(&shares) {
            self.work.report.changed(place, subject.clone(), several);
        } else if let [(owner, _)] = &shares[..]
            && owner != name
            && has_match
        {
            self.work.report.changed(place, subject.clone(), format!("it is called `{owner}` here"));
        }
        let mut sections: Vec<Section> =
            shares.iter().map(|(owner, _)| Section::Provider(owner.clone())).collect();
        sections.extend(domains.into_iter().map(Section::Domain));
        self.section(&sections, table, place);
        for (owner, suffixes) in &shares {
            self.work.limits.say_mx(owner, suffixes, place, &mut self.work.report);
        }
        self.sources_of_one(table, &subject);
        let whose = if shares.is_empty() {
            Whose::None("reply rules go by provider, and a provider is known by its exchanges".to_owned())
        } else {
            Whose::Providers(providers::replying(&shares))
        };
        self.automation(table, &whose, name);
    }

    /// Suffixes of exchanges, and domains.
    fn matches(&mut self, table: &DeTable<'_>) -> (Vec<String>, Vec<String>) {
        let (mut suffixes, mut domains) = (Vec::new(), Vec::new());
        let Some(items) = table.get("match").map(|value| value.get_ref()) else { return (suffixes, domains) };
        let items: Vec<&Spanned<DeValue<'_>>> =
            items.as_array().map(|items| items.iter().collect()).unwrap_or_default();
        for item in items {
            let place = self.place(item);
            let Some(item) = item.get_ref().as_table() else {
                self.work.report.lost(&place, "match", "it is no {MXSuffix = \"…\"} or the like");
                continue;
            };
            for (key, value) in in_order(item) {
                let (kind, text) = (key.get_ref().as_ref(), value.get_ref().as_str().unwrap_or_default());
                let subject = format!("match {kind} = {text:?}");
                match kind {
                    "MXSuffix" | "HostName" => match providers::suffix(text) {
                        Ok((suffix, repair)) => {
                            if let Some(repair) = repair {
                                self.work.report.changed(&place, &subject, repair);
                            }
                            if kind == "MXSuffix" && !suffix.starts_with('.') {
                                // KumoMTA compares ends of names, also within a label.
                                suffixes.push(format!(".{suffix}"));
                            }
                            suffixes.push(suffix);
                        }
                        Err(why) => self.work.report.lost(&place, &subject, why),
                    },
                    "DomainSuffix" => match Domain::parse(text.trim_start_matches('.').trim_end_matches('.'))
                    {
                        Ok(domain) => {
                            let why = "a provider is known by its exchanges here: the limits hold for this domain, \
                                       as a site of its own, and not for those below it";
                            self.work.report.changed(&place, &subject, why);
                            domains.push(domain.as_str().to_owned());
                        }
                        Err(error) => self.work.report.lost(&place, &subject, error.to_string()),
                    },
                    _ => self.work.report.lost(&place, &subject, "there is no such way to match a provider"),
                }
            }
        }
        suffixes.dedup();
        (suffixes, domains)
    }

    /// What a section says of one source only.
    fn sources_of_one(&mut self, table: &DeTable<'_>, subject: &str) {
        let Some(sources) = table.get("sources").and_then(|sources| sources.get_ref().as_table()) else {
            return;
        };
        for (key, value) in in_order(sources) {
            let name = key.get_ref().as_ref();
            self.work.settings.sources.entry(name.to_owned()).or_default();
            let Some(table) = value.get_ref().as_table() else { continue };
            for (key, _) in in_order(table) {
                let place = self.lines.place(key.span().start);
                let subject = format!("{subject} sources.\"{name}\" {}", key.get_ref());
                let why = "there are no limits of one source towards one domain or provider: [source.NAME] of \
                           shaping.toml holds towards all";
                self.work.report.lost(&place, subject, why);
            }
        }
    }

    fn section(&mut self, sections: &[Section], table: &DeTable<'_>, place: &Place) {
        let is_replaced = table.get("replace_base").and_then(|value| value.get_ref().as_bool()) == Some(true);
        for section in sections.iter().filter(|_| is_replaced) {
            self.work.limits.replace(section, place);
        }
        for (key, value) in in_order(table) {
            let place = self.lines.place(key.span().start);
            for section in sections {
                keys::say(self.work, section, key.get_ref(), value.get_ref(), &place);
            }
            if sections.is_empty() && !matches!(key.get_ref().as_ref(), "match" | "automation" | "sources") {
                self.work.report.lost(&place, key.get_ref().as_ref(), "its section holds for nobody");
            }
        }
    }
}

/// A value as its text would be: numbers too can be in quotes.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// What KumoMTA says of TLS, in our words.
fn tls(text: &str) -> Option<Value> {
    Some(Value::Word(match text {
        "Opportunistic" | "OpportunisticInsecure" => "opportunistic",
        "Required" => "verified",
        "RequiredInsecure" => "required",
        "Disabled" => "off",
        _ => return None,
    }))
}
