//! A client as plain as can be, that shares nothing with the engine: a blocking socket and lines.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use postroad::address::AddressRef;
use postroad::world::{Options, World, WorldFile};
use rustix::net::{AddressFamily, SocketType};

pub fn start(text: &str) -> World {
    start_with(text, Options { capture: true, ..Options::default() })
}

pub fn start_with(text: &str, options: Options) -> World {
    let file = WorldFile::parse("test.toml", text).expect("the test's file is right");
    World::start(&file, options).expect("loopback has room")
}

pub fn address(text: &str) -> AddressRef<'_> {
    AddressRef::parse(text).expect("the test's address is right")
}

/// Real time since then; the world's clock is the machine's.
pub fn since(begun: SystemTime) -> Duration {
    begun.elapsed().expect("the clock does not go backwards in a test")
}

/// What a client saw of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Reply(u16),
    Garbage,
    Closed,
    Reset,
}

pub struct Client {
    pub reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the host listens"))
    }

    /// As `connect`, from 127.30.0.`source`.
    pub fn connect_from(source: u8, address: SocketAddr) -> Self {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((source_address(source), 0))).unwrap();
        rustix::net::connect(&socket, &address).expect("the host listens");
        Self::over(TcpStream::from(socket))
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub fn greeted(world: &World, host: &str) -> Self {
        Self::connect(world.host(host).expect("a host of the world")).after_hello()
    }

    pub fn greeted_from(source: u8, world: &World, host: &str) -> Self {
        Self::connect_from(source, world.host(host).expect("a host of the world")).after_hello()
    }

    fn after_hello(self) -> Self {
        let mut client = self;
        assert_eq!(client.seen(), Seen::Reply(220));
        assert_eq!(client.say("EHLO client.test"), Seen::Reply(250));
        client
    }

    pub fn write(&mut self, octets: &[u8]) {
        // A host that closed on purpose shows it when we read.
        let _ = self.reader.get_mut().write_all(octets);
    }

    /// All lines of one reply.
    pub fn reply(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            text.push_str(&line);
            if !goes_on {
                return Ok(text);
            }
        }
    }

    pub fn seen(&mut self) -> Seen {
        match self.reply() {
            Ok(text) => text.get(..3).and_then(|code| code.parse().ok()).map_or(Seen::Garbage, Seen::Reply),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Seen::Closed,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Seen::Reset,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn all_seen<const N: usize>(&mut self) -> [Seen; N] {
        std::array::from_fn(|_| self.seen())
    }

    pub fn say(&mut self, line: &str) -> Seen {
        self.write(format!("{line}\r\n").as_bytes());
        self.seen()
    }

    pub fn send(&mut self, to: &str) -> Seen {
        assert_eq!(self.say("MAIL FROM:<bounce@sender.test>"), Seen::Reply(250));
        match self.say(&format!("RCPT TO:<{to}>")) {
            Seen::Reply(250) => {}
            other => return other,
        }
        match self.say("DATA") {
            Seen::Reply(354) => {}
            other => return other,
        }
        self.say(&format!("To: {to}\r\nMessage-ID: <{to}>\r\n\r\nhello\r\n."))
    }
}

pub fn source_address(source: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 30, 0, source))
}

/// Goes step by step until something is not as it should be: the name of that step and what was seen.
pub fn deliver(world: &World, host: &str, to: &str) -> (&'static str, Seen) {
    let mut client = Client::connect(world.host(host).expect("a host of the world"));
    let steps = [
        ("greeting", String::new(), 220),
        ("ehlo", "EHLO client.test\r\n".to_owned(), 250),
        ("mail", "MAIL FROM:<bounce@sender.test>\r\n".to_owned(), 250),
        ("rcpt", format!("RCPT TO:<{to}>\r\n"), 250),
        ("data", "DATA\r\n".to_owned(), 354),
        ("content", format!("To: {to}\r\n\r\nhello\r\n.\r\n"), 250),
    ];
    for (stage, command, expected) in steps {
        client.write(command.as_bytes());
        let seen = client.seen();
        if seen != Seen::Reply(expected) {
            return (stage, seen);
        }
    }
    ("done", Seen::Reply(250))
}
