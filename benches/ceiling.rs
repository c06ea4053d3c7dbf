//! What this machine could do at best: the raw RSA-2048 rate, and a client that only substitutes and
//! writes, pipelined, over a few threads. `campaign.sh` prints these beside the engine's own figures.
//!
//! `cargo bench --bench ceiling -- rsa` or `-- client HOST:PORT MESSAGES CONNECTIONS TEMPLATE`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use tokio::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("client") => client(&arguments[1..]),
        _ => rsa(),
    }
}

/// Signatures a second on one core, and microseconds each.
fn rsa() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let random = SystemRandom::new();
    let mut signature = vec![0; key.public_modulus_len()];
    let began = Instant::now();
    let mut count = 0u32;
    while began.elapsed() < Duration::from_secs(2) {
        for _ in 0..50 {
            key.sign(&RSA_PKCS1_SHA256, &random, &[0x2a; 300], &mut signature).expect("a signature");
            count += 1;
        }
    }
    let each = began.elapsed().as_secs_f64() / f64::from(count);
    println!("rsa2048 {:.0} signatures/s/core {:.1} us each", 1.0 / each, each * 1e6);
}

fn client(arguments: &[String]) {
    let [peer, messages, connections, template] = arguments else {
        panic!("client HOST:PORT MESSAGES CONNECTIONS TEMPLATE");
    };
    let messages: usize = messages.parse().expect("a number of messages");
    let connections: usize = connections.parse().expect("a number of connections");
    let template = std::fs::read_to_string(template).expect("the template");
    let chunks: Arc<Vec<String>> = Arc::new(template.split("{{ id }}").map(str::to_owned).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            let (chunks, next) = (chunks.clone(), next.clone());
            scope.spawn(move || connection(peer, messages, &chunks, &next));
        }
    });
    println!("client {:.0} messages/s", messages as f64 / began.elapsed().as_secs_f64());
}

fn connection(peer: &str, messages: usize, chunks: &[String], next: &AtomicUsize) {
    let mut stream = TcpStream::connect(peer).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle"));
    expect(&mut replies, "220");
    stream.write_all(b"EHLO ceiling.test\r\n").expect("EHLO");
    expect(&mut replies, "250");
    let mut group = Vec::with_capacity(1 << 15);
    let mut current = next.fetch_add(1, Ordering::Relaxed);
    if current >= messages {
        return;
    }
    envelope(&mut group, current);
    stream.write_all(&group).expect("the first envelope");
    loop {
        for code in ["250", "250", "354"] {
            expect(&mut replies, code);
        }
        group.clear();
        let id = current.to_string();
        for (place, chunk) in chunks.iter().enumerate() {
            if place > 0 {
                group.extend_from_slice(id.as_bytes());
            }
            group.extend_from_slice(chunk.as_bytes());
        }
        group.extend_from_slice(b"\r\n.\r\n");
        current = next.fetch_add(1, Ordering::Relaxed);
        if current < messages {
            envelope(&mut group, current);
        }
        stream.write_all(&group).expect("a content");
        expect(&mut replies, "250");
        if current >= messages {
            break;
        }
    }
    stream.write_all(b"QUIT\r\n").expect("QUIT");
    let _ = replies.read(&mut [0; 256]);
}

fn envelope(group: &mut Vec<u8>, id: usize) {
    write!(
        group,
        "MAIL FROM:<bounce+{id}@sender.test>\r\nRCPT TO:<user{id}@d{}.bulk.test>\r\nDATA\r\n",
        id % 50
    )
    .expect("writing to a Vec does not fail");
}

fn expect(replies: &mut impl BufRead, code: &str) {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(replies.read_line(&mut line).expect("a reply") > 0, "the sink closed");
        assert!(line.starts_with(code), "{code} was due, not {line}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return;
        }
    }
}
