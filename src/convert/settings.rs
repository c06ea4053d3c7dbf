//! Sources, pools, warm-up and relays on their way into postroad.toml.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::write::{array, key, quoted};
use crate::config::policy::CAPS_MAX;

/// A smart host.
#[derive(Debug, Clone, Default)]
pub(super) struct Relay {
    pub host: String,
    pub port: Option<u16>,
    pub user: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub ehlo: Option<String>,
    pub relay: Option<Relay>,
    /// The name of a schedule.
    pub warmup: Option<String>,
}

/// Messages a day: to any provider, and to some.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule {
    pub caps: Vec<u64>,
    pub providers: BTreeMap<String, Vec<u64>>,
}

/// Everything for postroad.toml.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub smtp_port: Option<u16>,
    pub ehlo_name: Option<String>,
    pub sources: BTreeMap<String, Source>,
    /// Weights by pool.
    pub pools: BTreeMap<String, BTreeMap<String, u32>>,
    pub schedules: BTreeMap<String, Schedule>,
}

/// Caps on one line.
const CAPS_IN_LINE: usize = 24;

impl Settings {
    pub fn written(&self) -> String {
        let mut text = "# Settings, converted. Lay them beside shaping.toml and replies.toml.\n\n".to_owned();
        if let Some(port) = self.smtp_port {
            text.push_str(&format!("smtp_port = {port}\n"));
        }
        if let Some(name) = &self.ehlo_name {
            text.push_str(&format!("ehlo_name = {}\n", quoted(name)));
        }
        text.push_str(&format!("shaping_files = {}\n", array(&["shaping.toml".to_owned()])));
        text.push_str(&format!("reply_files = {}\n", array(&["replies.toml".to_owned()])));
        for (name, source) in &self.sources {
            text.push_str(&source.written(name));
        }
        for (name, weights) in &self.pools {
            text.push_str(&format!("\n[pools.{}]\n", key(name)));
            for (source, weight) in weights {
                text.push_str(&format!("{} = {weight}\n", key(source)));
            }
        }
        for (name, schedule) in &self.schedules {
            text.push_str(&schedule.written(name));
        }
        text
    }
}

impl Source {
    fn written(&self, name: &str) -> String {
        let mut text = format!("\n[sources.{}]\n", key(name));
        if self.ipv4.is_none() && self.ipv6.is_none() && self.relay.is_none() {
            text.push_str("# without an address the system chooses: give it its ipv4 or ipv6\n");
        }
        let mut say = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
        if let Some(address) = self.ipv4 {
            say("ipv4", quoted(&address.to_string()));
        }
        if let Some(address) = self.ipv6 {
            say("ipv6", quoted(&address.to_string()));
        }
        if let Some(name) = &self.ehlo {
            say("ehlo", quoted(name));
        }
        if let Some(schedule) = &self.warmup {
            say("warmup", quoted(schedule));
        }
        if let Some(relay) = &self.relay {
            say(&format!("\n[sources.{}.relay]\nhost", key(name)), quoted(&relay.host));
            if let Some(port) = relay.port {
                say("port", port.to_string());
            }
            // TLS from the first octet is what port 465 is for (RFC 8314 §3.3).
            say("tls", quoted(if relay.port == Some(465) { "implicit" } else { "starttls" }));
            if let Some(user) = &relay.user {
                let auth =
                    format!("{{ user = {}, password_env = {} }}", quoted(user), quoted(&variable(name)));
                say("auth", auth);
            }
        }
        text
    }
}

/// The variable of the environment that holds the password of a source's relay.
pub(super) fn variable(source: &str) -> String {
    let name = source.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("RELAY_PASSWORD_{}", name.collect::<String>())
}

impl Schedule {
    fn written(&self, name: &str) -> String {
        let mut text = format!("\n[warmup.schedules.{}]\nper = \"day\"\n", key(name));
        text.push_str(&format!("caps = {}\n", caps(&self.caps)));
        for (provider, own) in &self.providers {
            text.push_str(&format!(
                "\n[warmup.schedules.{}.providers.{}]\nper = \"day\"\n",
                key(name),
                key(provider)
            ));
            text.push_str(&format!("caps = {}\n", caps(own)));
        }
        text
    }
}

fn caps(caps: &[u64]) -> String {
    let mut text = "[\n".to_owned();
    for line in caps[..caps.len().min(CAPS_MAX)].chunks(CAPS_IN_LINE) {
        let line: Vec<String> = line.iter().map(u64::to_string).collect();
        text.push_str(&format!("    {},\n", line.join(", ")));
    }
    text + "]"
}
