//! A sender whose DNS is as it should be, in a world of its own, with its policy on an HTTPS server.

use std::sync::{Arc, Mutex};

use postroad::address::Domain;
use postroad::campaign::manifest::Manifest;
use postroad::config::Node;
use postroad::message::Signer;
use postroad::preflight::dns::{Lookup, PublicKey, Sending, check};
use postroad::preflight::{Finding, Findings, Severity};
use postroad::smtp::TlsConnectors;
use postroad::world::{NameFault, Options, RecordKind, World, WorldFile};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const RSA: &str = include_str!("../keys/rsa2048.pkcs8.pem");
const ED25519: &str = include_str!("../keys/ed25519.pkcs8.pem");

const WORLD: &str = r#"
[[records]]
name = "sender.test"
type = "MX"
value = "10 mx.sender.test"
[[records]]
name = "mx.sender.test"
type = "A"
value = "192.0.2.30"
[[records]]
name = "bounce.sender.test"
type = "MX"
value = ["10 mx1.bounce.sender.test", "20 mx2.bounce.sender.test"]
[[records]]
name = "mx1.bounce.sender.test"
type = "A"
value = "192.0.2.31"
[[records]]
name = "bounce.sender.test"
type = "TXT"
value = ["site-verification=abc", "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"]
[[records]]
name = "out1.sender.test"
type = "TXT"
value = "v=spf1 a -all"
[[records]]
name = "out1.sender.test"
type = "A"
value = "192.0.2.10"
[[records]]
name = "out1.sender.test"
type = "AAAA"
value = "2001:db8::10"
[[records]]
name = "192.0.2.10"
type = "PTR"
value = "out1.sender.test"
[[records]]
name = "2001:db8::10"
type = "PTR"
value = "out1.sender.test"
[[records]]
name = "_dmarc.sender.test"
type = "TXT"
value = "v=DMARC1; p=reject; rua=mailto:dmarc@sender.test"
[[records]]
name = "_mta-sts.bounce.sender.test"
type = "TXT"
value = "v=STSv1; id=20261122;"
[[records]]
name = "mta-sts.bounce.sender.test"
type = "A"
value = "127.0.0.1"
[[records]]
name = "_smtp._tls.bounce.sender.test"
type = "TXT"
value = "v=TLSRPTv1; rua=mailto:tls@sender.test"
[[records]]
name = "2.0.0.127.zen.blocks.test"
type = "A"
value = "127.0.0.2"
[[records]]
name = "test.domains.blocks.test"
type = "A"
value = "127.0.1.2"
"#;

const MANIFEST: &str = r#"
name = "m"
from = "News <news@sender.test>"
return_path_domain = "bounce.sender.test"
subject = "s"
text = "m.txt"
[list]
file = "l.csv"
"#;

const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: *.bounce.sender.test\r\nmax_age: 1209600\r\n";

/// All that the check needs; change what should be wrong.
pub struct Stage {
    pub world: World,
    pub node: Node,
    pub sending: Sending,
    /// The HTTP answer to whoever asks for the policy.
    pub answer: Arc<Mutex<String>>,
    tls: TlsConnectors,
    https_port: u16,
}

impl Stage {
    pub async fn clean() -> Self {
        let file = WorldFile::parse("dns.toml", WORLD).unwrap();
        let world = World::start(&file, Options::default()).unwrap();
        let settings = format!(
            "[dns]\nservers = [\"{}\"]\n[sources.one]\nipv4 = \"192.0.2.10\"\nipv6 = \"2001:db8::10\"\n\
             ehlo = \"out1.sender.test\"\n[check]\ndnsbl = [\"zen.blocks.test\"]\n\
             domain_dnsbl = [\"domains.blocks.test\"]\n",
            world.dns_server()
        );
        let node = Node::parse("postroad.toml".as_ref(), &settings).unwrap();
        let manifest = Manifest::parse("campaign.toml".as_ref(), MANIFEST).unwrap();
        let signer = |selector, pem| Signer::from_pem(domain("sender.test"), selector, pem).unwrap();
        let signers = [signer("r1", RSA), signer("e1", ED25519)];
        for signer in &signers {
            world.publish_txt(&signer.name(), &signer.public_record());
        }
        let sending = Sending::new(&manifest, &node, &signers, vec![domain("click.shop.test")]);
        let answer = Arc::new(Mutex::new(ok(POLICY)));
        let (https_port, ca) = serve(Arc::clone(&answer), "mta-sts.bounce.sender.test").await;
        let tls = TlsConnectors::new(Some(ca.as_bytes())).unwrap();
        Self { world, node, sending, answer, tls, https_port }
    }

    pub fn txt(&self, name: &str, texts: &[&str]) {
        self.world.publish(name, RecordKind::Txt, texts);
    }

    pub fn spf(&self, record: &str) {
        self.txt("bounce.sender.test", &[record]);
    }

    pub fn dmarc(&self, record: &str) {
        self.txt("_dmarc.sender.test", &[record]);
    }

    pub fn fail(&self, name: &str) {
        self.world.publish_fault(name, Some(NameFault::Servfail));
    }

    pub fn policy(&self, text: &str) {
        *self.answer.lock().unwrap() = ok(text);
    }

    /// Publishes another record for the first key.
    pub fn dkim(&self, record: &str) {
        self.txt(&self.key().name, &[record]);
    }

    pub fn key(&self) -> &PublicKey {
        &self.sending.keys[0]
    }

    /// The policy server's certificate is of an authority that nobody trusts.
    pub fn distrust(&mut self) {
        self.tls = TlsConnectors::new(None).unwrap();
    }

    pub async fn all(&self) -> Vec<Finding> {
        let lookup = Lookup::new(&self.node, &self.tls).unwrap().with_https_port(self.https_port);
        let mut findings = Findings::default();
        check(&self.sending, &lookup, &mut findings).await;
        findings.sorted()
    }

    /// Holds the check to exactly these findings, worst first.
    #[track_caller]
    pub fn holds(&self, expected: &[(Severity, &str)]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let findings = self.all().await;
            let short: Vec<_> = findings.iter().map(|finding| (finding.severity, finding.check)).collect();
            assert_eq!(short, expected, "from {caller}: {findings:#?}");
        }
    }
}

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// An HTTPS server of this name on a free port; the port, and the CA that signed its certificate.
async fn serve(answer: Arc<Mutex<String>>, name: &str) -> (u16, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let request = String::from_utf8_lossy(&request).into_owned();
            assert!(request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{request}");
            let text = answer.lock().unwrap().clone();
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, issuer.pem())
}
