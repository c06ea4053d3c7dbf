//! `postroad shaping`: what holds for the mail to a domain, and which line of which file says so.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::{Common, Exit, say};
use crate::address::Domain;
use crate::config::{Node, fault};
use crate::engine;
use crate::shaping::rate::Credit;
use crate::shaping::{Line, Shaping};
use crate::site::{Exchange, Route, Site};

/// Print the limits of the way to a domain, and which line of which file set each
#[derive(clap::Args)]
pub struct Arguments {
    /// The domain of the recipients
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// The way from this source [default: the only one, else what holds for any]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Its servers, the most preferred first, instead of a look-up
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    mx: Vec<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let domain =
        Domain::parse(&arguments.domain).with_context(|| format!("`{}` is no domain", arguments.domain))?;
    let source = source(&node, arguments.source.as_deref())?;
    let site = site(&node, &domain, &arguments.mx)?;
    let shaping = Shaping::new(node.shaping.clone(), None, Credit::Full);
    let lines = shaping.explain(&site, source.unwrap_or_default());
    let replies = site.provider.as_deref().map(|provider| shaping.replies_of(provider));
    if common.json {
        say(json(&domain, &site, source, replies, &lines))?;
    } else {
        say(text(&domain, &site, source, replies, &lines).trim_end())?;
    }
    Ok(Exit::Done)
}

/// The source that was named, or the only one there is.
fn source<'a>(node: &'a Node, named: Option<&'a str>) -> anyhow::Result<Option<&'a str>> {
    let known: Vec<&str> = node.sources.keys().map(String::as_str).collect();
    match (named, &known[..]) {
        (Some(name), known) if !known.contains(&name) => {
            bail!("the source `{name}` is not in [sources]; {}", fault::suggestion(name, known))
        }
        (None, [only]) => Ok(Some(only)),
        (named, _) => Ok(named),
    }
}

fn site(node: &Node, domain: &Domain, mx: &[String]) -> anyhow::Result<Arc<Site>> {
    if !mx.is_empty() {
        let exchange = |(preference, host): (u16, &String)| -> anyhow::Result<Exchange> {
            let host = Domain::parse(host).with_context(|| format!("`{host}` is no host name"))?;
            Ok(Exchange { preference, host })
        };
        let exchanges = (1..).zip(mx).map(exchange).collect::<Result<_, _>>()?;
        return Ok(Arc::new(node.shaping.grouping().site(domain, exchanges, false)));
    }
    let resolver = engine::resolver(node)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let routed = runtime.block_on(async { resolver.route(domain).await });
    runtime.shutdown_background();
    match routed.route {
        Route::Site(site) => Ok(site),
        Route::NullMx => bail!("{domain} says that it takes no mail (a null MX)"),
        Route::NoDomain { reason } => bail!("nothing can be sent to {domain}: {reason}"),
        Route::Unresolved { reason } => {
            bail!("the servers of {domain} are not known: {reason}; name them with --mx HOST,...")
        }
    }
}

fn text(domain: &Domain, site: &Site, source: Option<&str>, replies: Option<&str>, lines: &[Line]) -> String {
    let provider = site.provider.as_deref().unwrap_or("none known");
    let rows = lines.iter().map(|line| {
        let value = line.value.as_ref().map_or_else(|| "unset".to_owned(), ToString::to_string);
        [line.key.to_string(), value, line.origin.to_string(), line.section.to_string()]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    let mut text = format!("{domain}: site {}, provider {provider}", site.name);
    if let Some(other) = replies.filter(|other| site.provider.as_deref() != Some(other)) {
        let _ = write!(text, " (its replies mean what {other}'s do)");
    }
    let _ = writeln!(text, ", source {}\n", source.unwrap_or("any"));
    for [key, value, origin, section] in &rows {
        let [keys, values, origins] = widths;
        let _ = writeln!(text, "{key:keys$}  {value:values$}  {origin:origins$}  {section}");
    }
    text
}

fn json(
    domain: &Domain,
    site: &Site,
    source: Option<&str>,
    replies: Option<&str>,
    lines: &[Line],
) -> serde_json::Value {
    let lines = lines.iter().map(|line| {
        serde_json::json!({
            "key": line.key.to_string(),
            "value": line.value.as_ref().map(ToString::to_string),
            "file": line.origin.file.display().to_string(), "line": line.origin.line,
            "section": line.section.to_string(),
        })
    });
    let exchanges: Vec<&str> = site.exchanges.iter().map(|exchange| exchange.host.as_str()).collect();
    serde_json::json!({
        "domain": domain.as_str(), "site": site.name, "exchanges": exchanges, "provider": site.provider.as_deref(),
        "replies": replies, "source": source, "limits": lines.collect::<Vec<_>>(),
    })
}
