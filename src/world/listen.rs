//! Sockets of a world and the thread that serves them.
//!
//! The DNS server and all MX hosts have the same port, each its own loopback address.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio_util::sync::CancellationToken;

use super::file::HostState;
use super::plan::Plan;
use super::shared::Shared;
use super::{dns, server};

/// Ports tried before giving up, when any will do.
const PORTS_TRIED_MAX: usize = 50;
/// Connections that wait to be accepted, a host.
const BACKLOG: i32 = 1_024;
/// Receive buffer where senders are to feel a slow reader.
const SLOW_BUFFER_OCTETS: usize = 8_192;

pub(crate) struct Sockets {
    pub port: u16,
    dns_udp: UdpSocket,
    dns_tcp: TcpListener,
    /// With the number of the host.
    smtp: Vec<(usize, TcpListener)>,
    /// Full queues that make SYNs go unanswered, and what fills them.
    silent: Vec<(TcpListener, TcpStream)>,
    addresses: Vec<SocketAddr>,
}

impl Sockets {
    pub fn bind(plan: &Plan, port: u16) -> io::Result<Self> {
        raise_file_limit();
        let mut tried = 0;
        loop {
            tried += 1;
            match Self::bind_once(plan, port) {
                Err(error)
                    if port == 0 && tried < PORTS_TRIED_MAX && error.kind() == io::ErrorKind::AddrInUse => {}
                result => return result,
            }
        }
    }

    fn bind_once(plan: &Plan, port: u16) -> io::Result<Self> {
        let dns_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = dns_udp.local_addr()?.port();
        let mut sockets = Self {
            port,
            dns_udp,
            dns_tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, port))?,
            smtp: Vec::new(),
            silent: Vec::new(),
            addresses: Vec::new(),
        };
        for (number, host) in plan.hosts.iter().enumerate() {
            let v6 = host.ipv6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
            for ip in std::iter::once(IpAddr::V4(host.address)).chain(v6) {
                let address = SocketAddr::new(ip, port);
                sockets.addresses.push(address);
                match host.state {
                    HostState::Live if host.is_served_elsewhere => {}
                    HostState::Live => {
                        let slow = plan.providers[host.provider].file.slow.is_some();
                        sockets.smtp.push((number, listener(address, BACKLOG, slow)?));
                    }
                    HostState::Silent => {
                        let queue = listener(address, 0, false)?;
                        let filler = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
                        sockets.silent.push((queue, filler));
                    }
                    HostState::Dead | HostState::Unresolvable => {}
                }
            }
        }
        Ok(sockets)
    }

    pub fn addresses(&self) -> HashSet<SocketAddr> {
        self.addresses.iter().copied().collect()
    }
}

fn listener(address: SocketAddr, backlog: i32, slow: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if slow {
        sockopt::set_socket_recv_buffer_size(&socket, SLOW_BUFFER_OCTETS)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(TcpListener::from(socket))
}

/// Every host and every session is a file; the soft limit is often 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(65_536, |maximum| maximum.min(65_536));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Serves until `stop`, on a thread of its own.
pub(crate) fn run(
    shared: Arc<Shared>,
    sockets: Sockets,
    stop: CancellationToken,
) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    sockets.dns_udp.set_nonblocking(true)?;
    sockets.dns_tcp.set_nonblocking(true)?;
    let Sockets { dns_udp, dns_tcp, smtp, silent, .. } = sockets;
    let context = runtime.enter();
    let dns_udp = tokio::net::UdpSocket::from_std(dns_udp)?;
    let dns_tcp = tokio::net::TcpListener::from_std(dns_tcp)?;
    runtime.spawn(dns::serve_udp(Arc::clone(&shared), dns_udp));
    runtime.spawn(dns::serve_tcp(Arc::clone(&shared), dns_tcp));
    for (host, listener) in smtp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(server::accept(Arc::clone(&shared), host, listener));
    }
    drop(context);
    std::thread::Builder::new().name("world".to_owned()).spawn(move || {
        let _silent = silent;
        runtime.block_on(stop.cancelled());
    })
}
