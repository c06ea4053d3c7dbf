//! The ways out that a plan counts on, from the settings alone: whether their addresses are this machine's
//! is not asked, so that a plan can be made elsewhere.

use std::sync::Arc;

use crate::campaign::manifest::Manifest;
use crate::config::source::{Relay, RelayHost};
use crate::config::{self, Node};
use crate::plan::Source;
use crate::shaping::Limits;

/// The sources of the manifest's pool.
pub(super) fn sources(node: &Node, manifest: &Manifest) -> Vec<Source> {
    let pool = manifest.pool.as_deref().unwrap_or(config::DEFAULT);
    let weights = node.pools.get(pool).into_iter().flatten();
    let source = |(name, weight): (&String, &u32)| {
        let relay = node.sources.get(name).and_then(|source| source.relay.as_ref());
        let account = relay.map_or(&[][..], |relay| &relay.messages).iter().copied();
        let sessions =
            relay.and_then(|relay| relay.sessions).map_or(node.sessions_per_source as f64, f64::from);
        let account = account.filter(|rate| !rate.is_unlimited()).collect();
        Source { name: name.clone(), weight: (*weight).max(1), account, sessions }
    };
    weights.map(source).collect()
}

/// As the paths of a relay have them: what its account allows holds instead.
pub(super) fn of_relay(relay: &Relay, shaped: Limits) -> Limits {
    let has_account = relay.messages.iter().any(|rate| !rate.is_unlimited());
    Limits {
        sessions: relay.sessions.unwrap_or(shaped.sessions),
        messages: if has_account { Vec::new() } else { shaped.messages },
        messages_per_session: relay.messages_per_session.or(shaped.messages_per_session),
        ..shaped
    }
}

/// Of each source: whether it is a relay, and then of which provider.
pub(super) fn relays(node: &Node, sources: &[Source]) -> Vec<Option<Option<Arc<str>>>> {
    let providers = node.shaping.grouping().providers;
    let relay = |source: &Source| {
        let relay = node.sources.get(&source.name)?.relay.as_ref()?;
        Some(match relay.machine() {
            Some(RelayHost::Name(host)) => providers.of([&host]),
            _ => None,
        })
    };
    sources.iter().map(relay).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_relay_brings_the_limits_of_its_account() {
        let settings = "[sources.a]\nrelay = { host = \"smtp.sendgrid.net\", messages = \"14/s\", sessions = 3 }\n\
                        [sources.b]\n[pools.bulk]\na = 3\nb = 1\n";
        let node = Node::parse(Path::new("f"), settings).unwrap();
        let text = "name = \"n\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"b.sender.test\"\n\
                    subject = \"s\"\ntext = \"m.txt\"\npool = \"bulk\"\n[list]\nfile = \"l.csv\"\n";
        let manifest = Manifest::parse(Path::new("m"), text).unwrap();
        let sources = sources(&node, &manifest);
        let told: Vec<_> =
            sources.iter().map(|source| (source.name.as_str(), source.weight, source.sessions)).collect();
        assert_eq!(told, [("a", 3, 3.0), ("b", 1, 500.0)]);
        assert_eq!(sources[0].account, ["14/s".parse().unwrap()]);
        let relays = relays(&node, &sources);
        assert_eq!((relays[0].clone().flatten().as_deref(), &relays[1]), (Some("sendgrid"), &None));
        let shaped = Limits { messages: vec!["1/s".parse().unwrap()], sessions: 10, ..Limits::default() };
        let limits = of_relay(node.sources["a"].relay.as_ref().unwrap(), shaped);
        assert_eq!((limits.sessions, limits.messages.len()), (3, 0), "the account's rate holds instead");
    }
}
