//! Recipient → message: the 10 KB job of text and HTML with some thirty substitutions, unsigned and signed.
//!
//! Beside the signed figures stands the bare signature of the same key: the difference is what DKIM costs us.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postroad::address::{AddressRef, Domain};
use postroad::envelope::RecipientId;
use postroad::message::{Content, ContentSource, Extras, Merge, Scratch, Signer};

const WORDS: &str = "the quick brown fox offers autumn savings on every garden tool shipped free to members who \
    order before friday and reply with their favourite colour for a chance to win one of ten hampers";

/// Words in lines of 74 characters at most; the same ones each time.
fn paragraph(count: usize, seed: &mut u32, out: &mut String) {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut column = 0;
    for _ in 0..count {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = words[(*seed >> 16) as usize % words.len()];
        let blank = if column == 0 { "" } else { " " };
        if column + word.len() + blank.len() > 74 {
            out.push('\n');
            column = 0;
        } else {
            out.push_str(blank);
            column += blank.len();
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

fn text() -> String {
    let mut seed = 7;
    let mut out = "Hello {{ name }},\n\n".to_owned();
    for _ in 0..6 {
        paragraph(60, &mut seed, &mut out);
        out.push('\n');
    }
    out.push_str("Dear {{ name }}, your reference is {{ id }}.\n");
    out.push_str("Unsubscribe: https://lists.sender.test/u/{{ id }}\n");
    out
}

fn html() -> String {
    let mut seed = 11;
    let mut out = "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>Autumn offers</title>\n\
        <style>body{font-family:sans-serif;color:#222}td{padding:8px}a{color:#0645ad}</style></head><body>\n\
        <table width=\"600\" align=\"center\"><tr><td>\n<h1>Hello {{ name }}</h1>\n"
        .to_owned();
    for link in 0..17 {
        out.push_str("<p style=\"margin:0 0 12px 0;line-height:1.5\">\n");
        paragraph(52, &mut seed, &mut out);
        let _ = writeln!(
            out,
            "</p>\n<p><a href=\"https://lists.sender.test/c/{link}/{{{{ id }}}}\">Read more</a></p>"
        );
    }
    out.push_str(
        "<p>Sent to {{ email }}. <a href=\"https://lists.sender.test/u/{{ id }}\">Unsubscribe</a></p>\n",
    );
    out.push_str("</td></tr></table></body></html>\n");
    out
}

fn content(text: &str, html: &str, signers: Vec<Signer>) -> Content {
    let (headers, domain) = (BTreeMap::new(), Domain::parse("sender.test").unwrap());
    let columns = ["name", "id", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"].map(str::to_owned);
    let source = ContentSource {
        subject: "{{ name }}, our autumn offers",
        from: "Example Sender <news@sender.test>",
        to_name: Some("{{ name }}"),
        reply_to: None,
        text: Some(text),
        html: Some(html),
        headers: &headers,
        unsubscribe_url: Some("https://lists.sender.test/u/{{ id }}"),
        unsubscribe_mailto: Some("unsub-{{ id }}@sender.test"),
        list_id: None,
        columns: &columns,
        strict: true,
        run_token: "k3f9a2",
        date: UNIX_EPOCH + Duration::from_secs(1_795_316_400),
        message_id_domain: &domain,
        extras: Extras::default(),
    };
    Content::compile(&source, signers).unwrap()
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn render(criterion: &mut Criterion) {
    use aws_lc_rs::encoding::AsDer;
    let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_pem = pem(AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).unwrap().as_ref());
    let ed = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let ed_pem = pem(ed.to_pkcs8().unwrap().as_ref());
    let domain = || Domain::parse("sender.test").unwrap();
    let signer = |pem: &str| vec![Signer::from_pem(domain(), "s1", pem).unwrap()];

    let (text, html) = (text(), html());
    let logic = html.replacen("<h1>", "{% if name %}<h1>", 1).replacen("</h1>", "</h1>{% endif %}", 1);
    let indented = html.replace("\n<", "\n        <");
    let address = AddressRef::parse("ann.bell.04217@mx7.example.test").unwrap();
    let mut group = criterion.benchmark_group("render");
    group.throughput(Throughput::Elements(1));
    // Ten different variables, filters and a layout of files, as the issue of a shop would have it.
    let ten = html
        .replacen("{{ id }}", "{{ c1|title }} {{ c2|upper }} {{ c3|urlencode }} {{ c4|default('x') }}", 1)
        .replacen("{{ id }}", "{{ c5|number(2) }} {{ c6|currency('EUR', locale='de') }}", 1)
        .replacen("{{ id }}", "{{ c7|date('long', locale='fr') }} {{ c8 }}", 1);
    for (label, content, name) in [
        ("unsigned, ten variables, dates and money", content(&text, &ten, Vec::new()), "Ann Bell"),
        ("unsigned", content(&text, &html, Vec::new()), "Ann Bell"),
        ("unsigned, quoted-printable for a name", content(&text, &html, Vec::new()), "Jörg Bell"),
        ("unsigned, minijinja for the HTML", content(&text, &logic, Vec::new()), "Ann Bell"),
        ("ed25519", content(&text, &html, signer(&ed_pem)), "Ann Bell"),
        ("rsa-2048", content(&text, &html, signer(&rsa_pem)), "Ann Bell"),
        ("ed25519, indented HTML", content(&text, &indented, signer(&ed_pem)), "Ann Bell"),
    ] {
        let mut scratch = Scratch::default();
        let mut out = Vec::new();
        let mut index = 0;
        group.bench_function(label, |bencher| {
            bencher.iter(|| {
                index += 1;
                let fields = [
                    name,
                    "c0ffee0042",
                    "garden tools",
                    "gold",
                    "Upper Street",
                    "",
                    "1234.5",
                    "99.9",
                    "2026-12-01",
                    "8",
                ];
                let merge =
                    Merge { recipient: RecipientId::new(1, index), address: &address, fields: &fields };
                content.render(black_box(&merge), &mut scratch, &mut out).unwrap();
                out.len()
            });
        });
        println!("{label}: {} octets", out.len());
    }
    let message = vec![b'x'; 1000];
    let mut signature = vec![0; rsa.public_modulus_len()];
    group.bench_function("a bare rsa-2048 signature", |bencher| {
        bencher.iter(|| {
            rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), black_box(&message), &mut signature).unwrap();
        });
    });
    group.bench_function("a bare ed25519 signature", |bencher| {
        bencher.iter(|| ed.sign(black_box(&message[..32])))
    });
    let body = vec![b'x'; 10_000];
    group.bench_function("a bare SHA-256 of 10 kB", |bencher| {
        bencher.iter(|| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, black_box(&body)));
    });
    group.finish();
}

criterion_group!(benches, render);
criterion_main!(benches);
