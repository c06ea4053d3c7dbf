//! What the shipped world says must become of people does become of them, for a client as plain as
//! can be: one message a connection, lockstep, in the clear, and again until it is settled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RData;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use postroad::address::AddressRef;
use postroad::world::{Fate, Options, World, WorldFile};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// After so many tries an address counts as expired.
const TRIES_MAX: usize = 80;
const PAUSE: Duration = Duration::from_millis(10);
/// An answer that takes longer counts as none; stalls are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// How one try ended: settled, or to be tried again.
type Try = Option<Fate>;

async fn addresses(resolver: &TokioResolver, domain: &str) -> Result<Vec<IpAddr>, Try> {
    let mut hosts = match resolver.mx_lookup(format!("{domain}.")).await {
        Ok(lookup) => {
            let answers = lookup.answers().iter().filter_map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, mx.exchange.clone())),
                _ => None,
            });
            answers.collect::<Vec<_>>()
        }
        Err(error) if error.is_nx_domain() => return Err(Some(Fate::Bounced)),
        Err(error) if error.is_no_records_found() => {
            return match resolver.lookup_ip(format!("{domain}.")).await {
                Ok(lookup) => Ok(lookup.iter().collect()),
                Err(error) if error.is_no_records_found() => Err(Some(Fate::Bounced)),
                Err(_) => Err(None),
            };
        }
        Err(_) => return Err(None),
    };
    if hosts.iter().any(|(_, host)| host.is_root()) {
        return Err(Some(Fate::Bounced));
    }
    hosts.sort();
    let mut found = Vec::new();
    for (_, host) in hosts {
        if let Ok(lookup) = resolver.lookup_ip(host).await {
            found.extend(lookup.iter());
        }
    }
    Ok(found)
}

/// The code of the next reply; `None` for anything that is none.
async fn code(reader: &mut BufReader<TcpStream>) -> Option<u16> {
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await.ok()?.ok()?;
        let code = line.get(..3)?.parse().ok().filter(|_| read > 0)?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Some(code);
        }
    }
}

async fn converse(stream: TcpStream, to: &str) -> Try {
    let mut reader = BufReader::new(stream);
    let mut say = async |command: String| -> Option<u16> {
        reader.get_mut().write_all(command.as_bytes()).await.ok()?;
        code(&mut reader).await
    };
    if say(String::new()).await? != 220 {
        return None;
    }
    let hello = say("EHLO client.test\r\n".to_owned()).await?;
    if hello >= 500 && say("HELO client.test\r\n".to_owned()).await? != 250 {
        return None;
    }
    if hello < 500 && hello != 250 {
        return None;
    }
    if say("MAIL FROM:<bounce@sender.test>\r\n".to_owned()).await? != 250 {
        return None;
    }
    let content = format!("To: {to}\r\nMessage-ID: <{to}>\r\n\r\nhello\r\n.\r\n");
    for (command, wanted) in
        [(format!("RCPT TO:<{to}>\r\n"), 250), ("DATA\r\n".to_owned(), 354), (content, 250)]
    {
        let code = say(command).await?;
        if code >= 500 {
            return Some(Fate::Bounced);
        }
        if code != wanted {
            return None;
        }
    }
    Some(Fate::Delivered)
}

async fn deliver(resolver: &TokioResolver, port: u16, to: &str) -> Fate {
    let domain = to.rsplit('@').next().expect("rsplit gives at least one part");
    for _ in 0..TRIES_MAX {
        match addresses(resolver, domain).await {
            Err(Some(fate)) => return fate,
            Err(None) => {}
            Ok(found) => {
                for address in found {
                    let Ok(stream) = TcpStream::connect((address, port)).await else { continue };
                    if let Some(fate) = converse(stream, to).await {
                        return fate;
                    }
                    break;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Fate::Expired
}

#[tokio::test]
async fn a_client_that_tries_again_ends_where_the_world_said() {
    let mut file = WorldFile::parse("world.toml", postroad::world::default_world()).expect("it ships");
    // Time that a plain client spends waiting proves nothing here.
    file.stall.0 = Duration::from_millis(5);
    for provider in &mut file.providers {
        provider.latency.0 = Duration::ZERO;
    }
    let world = Arc::new(World::start(&file, Options::default()).expect("loopback has room"));
    let mut connection = ConnectionConfig::udp();
    connection.port = world.dns_server().port();
    let server = NameServerConfig::new(world.dns_server().ip(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().timeout = Duration::from_millis(200);
    let resolver = Arc::new(builder.build().expect("a resolver needs no network to be made"));

    let people: Vec<String> = world.sample(2_000).into_iter().map(|person| person.email).collect();
    let mut tasks: JoinSet<(String, Fate)> = JoinSet::new();
    let mut differing = Vec::new();
    let mut settle = |world: &World, (to, fate): (String, Fate)| {
        let expected = world.expect(&AddressRef::parse(&to).expect("people have addresses"));
        if fate != expected {
            differing.push(format!("{to}: {fate:?}, not {expected:?}"));
        }
    };
    for to in &people {
        if tasks.len() >= 24 {
            let done = tasks.join_next().await.expect("some are under way");
            settle(&world, done.expect("no client panics"));
        }
        let (resolver, to, port) = (Arc::clone(&resolver), to.clone(), world.smtp_port());
        tasks.spawn(async move {
            let fate = deliver(&resolver, port, &to).await;
            (to, fate)
        });
    }
    while let Some(done) = tasks.join_next().await {
        settle(&world, done.expect("no client panics"));
    }
    assert!(differing.is_empty(), "seed {}: {differing:#?}", world.seed());
    let list = people.iter().map(|to| AddressRef::parse(to).expect("people have addresses"));
    let audit = world.audit(list);
    assert!(audit.is_clean(), "{audit:?}");
    assert!(audit.expected.total.bounced > 20 && audit.expected.total.expired > 5);
    assert_eq!((world.counts().misrouted, world.counts().violations), (0, 0));
}
