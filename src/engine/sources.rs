//! The sources of a run, from the settings: which can be used on this machine, and how.
//!
//! An address that this machine does not have is told when a run starts; what else the source has goes on
//! being used. Only where nothing is left does the run not start.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::EngineError;
use crate::campaign::manifest::Manifest;
use crate::config::{self, Node};
use crate::egress::{Pool, Relay, Source};
use crate::shaping::rate::{Credit, Pace};
use crate::site::{Providers, Site};
use crate::smtp::auth::Login;
use crate::smtp::{LocalEnd, Socks5, Submission, Via};

/// The pool that the manifest names, made of the sources that can be used; what cannot is in `warnings`.
///
/// # Errors
/// There is no such pool, a secret cannot be read, or no source is left.
pub(super) fn pool(
    node: &Node,
    manifest: &Manifest,
    providers: &Providers,
    credit: Credit,
    warnings: &mut Vec<String>,
) -> Result<Pool, EngineError> {
    let name = manifest.pool.as_deref().unwrap_or(config::DEFAULT);
    let weights: Vec<(String, u32)> = match node.pools.get(name) {
        Some(weights) => weights.iter().map(|(source, weight)| (source.clone(), *weight)).collect(),
        None if manifest.pool.is_some() => {
            return Err(EngineError::Settings(format!(
                "the manifest wants pool {name:?}, which postroad.toml does not have; add [pools.{name}]"
            )));
        }
        None if node.sources.is_empty() => vec![(config::DEFAULT.to_owned(), 1)],
        None => node.sources.keys().map(|source| (source.clone(), 1)).collect(),
    };
    let nothing = config::Source::default();
    let mut sources = Vec::with_capacity(weights.len());
    let told = warnings.len();
    for (name, weight) in weights {
        let settings = node.sources.get(&name).unwrap_or(&nothing);
        let Some(end) = local_end(node, &name, settings, warnings) else { continue };
        let (via, relay) = (via(&name, settings)?, relay(&name, settings, providers, credit)?);
        sources.push(Source { name, end, via, relay, weight: weight.max(1) });
    }
    if sources.is_empty() {
        return Err(EngineError::Settings(format!(
            "no source of pool {name:?} has an address of this machine: {}",
            warnings[told..].join("; ")
        )));
    }
    Ok(Pool::new(sources))
}

/// The site that stands for all domains where every source is a relay.
pub(super) fn relay_site(pool: &Pool) -> Option<Arc<Site>> {
    if !pool.is_all_relays() {
        return None;
    }
    let mut providers =
        pool.ids().map(|id| pool.source(id).relay.as_ref().and_then(|relay| relay.provider.clone()));
    let first = providers.next().flatten();
    let provider = first.filter(|first| providers.all(|other| other.as_ref() == Some(first)));
    Some(Arc::new(Site {
        name: "relay".into(),
        exchanges: Vec::new(),
        provider,
        implicit: false,
        own_limits_of: None,
    }))
}

/// `None` where the source has addresses, and none of them is this machine's.
fn local_end(
    node: &Node,
    name: &str,
    settings: &config::Source,
    warnings: &mut Vec<String>,
) -> Option<LocalEnd> {
    let mut end = LocalEnd { ipv4: settings.ipv4, ipv6: settings.ipv6, ehlo: node.ehlo_of(name) };
    if settings.proxy_protocol.is_some() {
        // Addresses of the proxy's machine.
        return Some(end);
    }
    let mut check = |address: Option<IpAddr>| {
        let Err(error) = assigned(address?) else { return address };
        let told = format!(
            "source `{name}`: {} cannot be used on this machine and is left out ({error}); assign it, or \
             change [sources.{name}]",
            address?
        );
        // Now, and once more in the report.
        tracing::warn!("{told}");
        warnings.push(told);
        None
    };
    let had_any = end.ipv4.is_some() || end.ipv6.is_some();
    if check(end.ipv4.map(IpAddr::V4)).is_none() {
        end.ipv4 = None;
    }
    if check(end.ipv6.map(IpAddr::V6)).is_none() {
        end.ipv6 = None;
    }
    (!had_any || end.ipv4.is_some() || end.ipv6.is_some()).then_some(end)
}

/// Whether a socket can be bound to it, which sends nothing.
fn assigned(address: IpAddr) -> io::Result<()> {
    UdpSocket::bind(SocketAddr::new(address, 0)).map(drop)
}

fn via(name: &str, settings: &config::Source) -> Result<Via, EngineError> {
    if let Some(proxy) = &settings.proxy_protocol {
        return Ok(Via::ProxyProtocol(proxy.address));
    }
    let Some(proxy) = &settings.socks5 else { return Ok(Via::Direct) };
    let login = proxy.user.clone().zip(proxy.password());
    if let Some((_, place)) = &login {
        place.read().map_err(|error| unreadable(name, error))?;
    }
    Ok(Via::Socks5(Socks5 { address: proxy.address, login }))
}

fn relay(
    name: &str,
    settings: &config::Source,
    providers: &Providers,
    credit: Credit,
) -> Result<Option<Relay>, EngineError> {
    let Some(relay) = &settings.relay else { return Ok(None) };
    let Some(host) = relay.machine() else {
        return Err(EngineError::Settings(format!("source `{name}`: `{}` is no host", relay.host)));
    };
    let login = match &relay.auth {
        Some(auth) => {
            let secret = auth.secret().ok_or_else(|| {
                EngineError::Settings(format!("source `{name}`: there is no password and no token"))
            })?;
            secret.read().map_err(|error| unreadable(name, error))?;
            Some(Login { user: auth.user.clone(), secret, is_token: auth.is_token(), method: auth.method })
        }
        None => None,
    };
    let provider = match &host {
        config::source::RelayHost::Name(host) => providers.of([host]),
        _ => None,
    };
    let limited = relay.messages.iter().filter(|rate| !rate.is_unlimited());
    Ok(Some(Relay {
        host,
        port: relay.port(),
        submission: Submission { tls: relay.tls, login },
        provider,
        messages: limited.map(|rate| Arc::new(Pace::new(rate, credit))).collect(),
        sessions: relay.sessions,
        messages_per_session: relay.messages_per_session,
    }))
}

fn unreadable(name: &str, error: config::source::SecretError) -> EngineError {
    EngineError::Settings(format!("source `{name}`: {error}"))
}
