//! The check of the sending side's DNS: silent where all is well, and for each mistake exactly its finding.

mod dns_stage;

use std::time::Duration;

use base64::Engine as _;
use dns_stage::{Stage, domain, ok};
use postroad::preflight::Severity::{Error, Note, Warning};
use postroad::preflight::dns::Way;
use postroad::world::{NameFault, RecordKind};
use rsa::pkcs8::EncodePublicKey;

#[tokio::test]
async fn a_clean_sender_is_told_nothing() {
    Stage::clean().await.holds(&[]).await;
}

#[tokio::test]
async fn a_return_path_without_spf() {
    let stage = Stage::clean().await;
    stage.txt("bounce.sender.test", &["site-verification=abc"]);
    stage.holds(&[(Error, "spf-missing")]).await;
    let advice = &stage.all().await[0].advice;
    assert!(advice.contains("v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"), "{advice}");
}

#[tokio::test]
async fn two_spf_records() {
    let stage = Stage::clean().await;
    stage.txt("bounce.sender.test", &["v=spf1 ip4:192.0.2.10 -all", "v=spf1 ip6:2001:db8::10 -all"]);
    stage.holds(&[(Error, "spf-several")]).await;
}

#[tokio::test]
async fn a_source_that_spf_does_not_name() {
    let stage = Stage::clean().await;
    for end in ["-all", "~all", "?all", ""] {
        stage.spf(&format!("v=spf1 ip4:192.0.2.10 {end}"));
        stage.holds(&[(Error, "spf-source")]).await;
    }
    let finding = &stage.all().await[0];
    assert_eq!((finding.count, &*finding.examples[0]), (1, "2001:db8::10 (source `one`)"));
    assert!(finding.advice.contains("ip6:2001:db8::10"), "{}", finding.advice);
}

#[tokio::test]
async fn an_spf_record_of_too_many_lookups() {
    let stage = Stage::clean().await;
    stage.txt("other.test", &["v=spf1 ip4:198.51.100.1 -all"]);
    let includes = ["include:other.test"; 11].join(" ");
    stage.spf(&format!("v=spf1 {includes} ip4:192.0.2.10 ip6:2001:db8::10 -all"));
    stage.holds(&[(Error, "spf-lookups")]).await;
    // Ours are let through before the limit: others are not, and it is a warning.
    stage.spf(&format!("v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 {includes} -all"));
    stage.holds(&[(Warning, "spf-lookups")]).await;
}

#[tokio::test]
async fn an_spf_record_that_lets_all_through() {
    let stage = Stage::clean().await;
    for record in ["v=spf1 +all", "v=spf1 all", "v=spf1 include:open.test -all"] {
        stage.txt("open.test", &["v=spf1 all"]);
        stage.spf(record);
        stage.holds(&[(Warning, "spf-all")]).await;
    }
}

#[tokio::test]
async fn an_spf_record_with_ptr_or_a_mistake() {
    let stage = Stage::clean().await;
    stage.spf("v=spf1 ptr:sender.test -all");
    stage.holds(&[(Warning, "spf-ptr")]).await;
    for record in ["v=spf1 ipv4:192.0.2.10 -all", "v=spf1 include:nowhere.test ip4:192.0.2.0/24 -all"] {
        stage.spf(record);
        stage.holds(&[(Error, "spf-broken")]).await;
    }
}

#[tokio::test]
async fn an_ehlo_name_whose_spf_refuses_the_source() {
    let stage = Stage::clean().await;
    stage.txt("out1.sender.test", &["v=spf1 ip6:2001:db8::10 -all"]);
    stage.holds(&[(Warning, "spf-ehlo")]).await;
    stage.txt("out1.sender.test", &[]);
    stage.holds(&[]).await;
}

#[tokio::test]
async fn a_key_without_its_record() {
    let stage = Stage::clean().await;
    stage.txt(&stage.key().name, &[]);
    stage.holds(&[(Error, "dkim-missing")]).await;
}

#[tokio::test]
async fn a_record_of_another_key() {
    let stage = Stage::clean().await;
    stage.dkim(&format!("v=DKIM1; k=rsa; p={}", public_key_of_1024_bits()));
    stage.holds(&[(Error, "dkim-mismatch")]).await;
    stage.dkim(&stage.sending.keys[1].record);
    stage.holds(&[(Error, "dkim-mismatch")]).await;
}

#[tokio::test]
async fn an_rsa_record_may_leave_the_algorithm_out_of_the_key() {
    let stage = Stage::clean().await;
    let key = stage.key().record.rsplit_once("p=").unwrap().1.to_owned();
    let spki = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    // RFC 8017 §A.1.1 within RFC 5280 §4.1: 24 octets name the algorithm of a key of 2048 bits.
    let bare = base64::engine::general_purpose::STANDARD.encode(&spki[24..]);
    stage.dkim(&format!("p={bare}"));
    stage.holds(&[]).await;
}

#[tokio::test]
async fn a_revoked_key() {
    let stage = Stage::clean().await;
    stage.dkim("v=DKIM1; p=");
    stage.holds(&[(Error, "dkim-revoked")]).await;
}

#[tokio::test]
async fn a_record_that_says_it_is_a_test_or_not_for_mail_or_not_for_sha256() {
    let stage = Stage::clean().await;
    for (tags, severity, check) in [
        ("t=y", Warning, "dkim-testing"),
        ("t=s:y", Warning, "dkim-testing"),
        ("s=tlsrpt", Error, "dkim-service"),
        ("h=sha1", Error, "dkim-hash"),
    ] {
        stage.dkim(&stage.key().record.replace("; p=", &format!("; {tags}; p=")));
        stage.holds(&[(severity, check)]).await;
    }
    stage.dkim(&stage.key().record.replace("; p=", "; t=s; s=email; h=sha1:sha256; p="));
    stage.holds(&[]).await;
}

#[tokio::test]
async fn a_malformed_or_doubled_key_record() {
    let stage = Stage::clean().await;
    let record = stage.key().record.clone();
    for malformed in
        ["v=DKIM1; k=rsa", "v=DKIM1; k=rsa; p=?", "v=DKIM2; p=abcd", "k=rsa; v=DKIM1; p=abcd", "p"]
    {
        stage.dkim(malformed);
        stage.holds(&[(Error, "dkim-malformed")]).await;
    }
    stage.txt(&stage.key().name, &[&record, "v=DKIM1; p="]);
    stage.holds(&[(Error, "dkim-several")]).await;
}

#[tokio::test]
async fn a_from_domain_without_dmarc() {
    let stage = Stage::clean().await;
    stage.txt("_dmarc.sender.test", &[]);
    stage.holds(&[(Error, "dmarc-missing")]).await;
}

#[tokio::test]
async fn a_malformed_dmarc_record() {
    let stage = Stage::clean().await;
    for record in ["v=DMARC1 p=reject", "v=dmarc1; p=reject", "v=DMARC1; p=rejct", "v=DMARC1"] {
        stage.dmarc(record);
        stage.holds(&[(Error, "dmarc-malformed")]).await;
    }
    // With an address for reports it counts as p=none (RFC 9989 §4.10.1).
    stage.dmarc("v=DMARC1; rua=mailto:dmarc@sender.test");
    stage.holds(&[(Warning, "dmarc-malformed")]).await;
    stage.dmarc("v=DMARC1; p=reject; sp=no");
    stage.holds(&[(Error, "dmarc-malformed")]).await;
    stage.dmarc("v=DMARC1; p=reject; adkim=strict; rua=mailto:dmarc@sender.test");
    stage.holds(&[(Warning, "dmarc-malformed")]).await;
    let right = "v=DMARC1; p=reject; rua=mailto:dmarc@sender.test";
    stage.txt("_dmarc.sender.test", &[right, right]);
    stage.holds(&[(Error, "dmarc-several")]).await;
}

#[tokio::test]
async fn dmarc_notes() {
    let stage = Stage::clean().await;
    for (record, check) in [
        ("v=DMARC1; p=none; rua=mailto:dmarc@sender.test", "dmarc-none"),
        ("v=DMARC1; p=reject", "dmarc-reports"),
        ("v=DMARC1; p=reject; t=y; rua=mailto:dmarc@sender.test", "dmarc-testing"),
        ("v=DMARC1; p=reject; pct=50; rf=afrf; ri=3600; rua=mailto:dmarc@sender.test", "dmarc-obsolete"),
    ] {
        stage.dmarc(record);
        stage.holds(&[(Note, check)]).await;
    }
}

#[tokio::test]
async fn reports_to_somebody_who_does_not_want_them() {
    let stage = Stage::clean().await;
    stage.dmarc("v=DMARC1; p=reject; rua=mailto:dmarc@sender.test,mailto:a@reports.test!10m");
    stage.holds(&[(Warning, "dmarc-reports-refused")]).await;
    stage.txt("sender.test._report._dmarc.reports.test", &["v=DMARC1;"]);
    stage.holds(&[]).await;
}

#[tokio::test]
async fn nothing_aligned() {
    let mut stage = Stage::clean().await;
    stage.sending.from = domain("elsewhere.test");
    stage.txt("_dmarc.elsewhere.test", &["v=DMARC1; p=reject; rua=mailto:d@elsewhere.test"]);
    stage.world.publish("elsewhere.test", RecordKind::Mx, &["10 mx.sender.test"]);
    stage.holds(&[(Error, "dmarc-unaligned")]).await;
}

#[tokio::test]
async fn only_one_aligned() {
    let stage = Stage::clean().await;
    stage.dmarc("v=DMARC1; p=reject; aspf=s; rua=mailto:dmarc@sender.test");
    stage.holds(&[(Warning, "dmarc-half-aligned")]).await;
    // The From domain is its own organisation; what is below it is too.
    stage.dmarc("v=DMARC1; p=reject; psd=n; rua=mailto:dmarc@sender.test");
    stage.holds(&[]).await;
    stage.txt("_dmarc.bounce.sender.test", &["v=DMARC1; p=reject; psd=n; rua=mailto:dmarc@sender.test"]);
    stage.holds(&[(Warning, "dmarc-half-aligned")]).await;
}

#[tokio::test]
async fn a_policy_above_the_from_domain_is_found() {
    let mut stage = Stage::clean().await;
    stage.sending.from = domain("news.sender.test");
    stage.world.publish("news.sender.test", RecordKind::Mx, &["10 mx.sender.test"]);
    stage.holds(&[]).await;
    stage.dmarc("v=DMARC1; p=reject; sp=none; rua=mailto:dmarc@sender.test");
    stage.holds(&[(Note, "dmarc-none")]).await;
}

#[tokio::test]
async fn an_address_without_a_name() {
    let stage = Stage::clean().await;
    stage.world.publish("192.0.2.10", RecordKind::Ptr, &[]);
    stage.holds(&[(Error, "ptr-missing")]).await;
}

#[tokio::test]
async fn a_name_that_does_not_lead_back() {
    let stage = Stage::clean().await;
    stage.world.publish("192.0.2.10", RecordKind::Ptr, &["mx.sender.test"]);
    stage.holds(&[(Error, "ptr-unconfirmed")]).await;
    stage.world.publish("192.0.2.10", RecordKind::Ptr, &["mx.sender.test", "out1.sender.test"]);
    stage.holds(&[]).await;
}

#[tokio::test]
async fn a_name_made_from_the_address() {
    let stage = Stage::clean().await;
    stage.world.publish("192-0-2-10.pool.isp.test", RecordKind::A, &["192.0.2.10"]);
    stage.world.publish("192.0.2.10", RecordKind::Ptr, &["192-0-2-10.pool.isp.test"]);
    stage.holds(&[(Warning, "ptr-generic")]).await;
}

#[tokio::test]
async fn an_ehlo_name_that_leads_nowhere_or_elsewhere() {
    let mut stage = Stage::clean().await;
    stage.sending.sources[0].ehlo = "nowhere.sender.test".to_owned();
    stage.holds(&[(Error, "ehlo-address")]).await;
    stage.sending.sources[0].ehlo = "mx.sender.test".to_owned();
    stage.holds(&[(Warning, "ehlo-address"), (Warning, "ehlo-address")]).await;
    for ehlo in ["localhost", "[192.0.2.10]", "mailer", "mail.local", "localhost.localdomain"] {
        stage.sending.sources[0].ehlo = ehlo.to_owned();
        stage.holds(&[(Error, "ehlo-name")]).await;
    }
}

#[tokio::test]
async fn sources_that_cannot_be_checked_are_notes() {
    let mut stage = Stage::clean().await;
    for way in [Way::Relay, Way::Proxy] {
        stage.sending.sources[0].way = way;
        stage.holds(&[(Note, "source-unknown")]).await;
    }
    stage.sending.sources[0].way = Way::Own;
    (stage.sending.sources[0].ipv4, stage.sending.sources[0].ipv6) = (None, None);
    stage.holds(&[(Note, "source-unknown")]).await;
    stage.sending.sources[0].ipv4 = Some([10, 1, 2, 3].into());
    stage.holds(&[(Note, "source-private")]).await;
    // A private address that the DNS knows is checked like any other.
    stage.world.publish("10.1.2.3", RecordKind::Ptr, &["out1.sender.test"]);
    stage.world.publish("out1.sender.test", RecordKind::A, &["10.1.2.3"]);
    stage.holds(&[(Error, "spf-source")]).await;
}

#[tokio::test]
async fn a_return_path_that_takes_no_mail() {
    let stage = Stage::clean().await;
    for exchanges in [&[][..], &["0 ."], &["10 mx9.bounce.sender.test"]] {
        stage.world.publish("bounce.sender.test", RecordKind::Mx, exchanges);
        stage.holds(&[(Error, "return-path-mx")]).await;
    }
}

#[tokio::test]
async fn a_from_or_reply_to_domain_that_takes_no_mail() {
    let mut stage = Stage::clean().await;
    stage.sending.reply_to = Some(domain("answers.test"));
    stage.holds(&[(Warning, "reply-to-mx")]).await;
    stage.world.publish("answers.test", RecordKind::A, &["192.0.2.40"]);
    stage.holds(&[]).await;
    stage.world.publish("sender.test", RecordKind::Mx, &["0 ."]);
    stage.holds(&[(Error, "from-mx")]).await;
    stage.world.publish("sender.test", RecordKind::Mx, &[]);
    stage.holds(&[(Warning, "from-mx")]).await;
}

#[tokio::test]
async fn an_mta_sts_record_or_policy_that_is_malformed() {
    let stage = Stage::clean().await;
    for records in [&["v=STSv1;"][..], &["v=STSv1; id=2026-11-22"], &["v=STSv1; id=1", "v=STSv1; id=2"]] {
        stage.txt("_mta-sts.bounce.sender.test", records);
        stage.holds(&[(Warning, "mta-sts-record")]).await;
    }
    stage.txt("_mta-sts.bounce.sender.test", &["v=STSv1; id=1;"]);
    stage.policy("version: STSv1\nmode: enforced\nmx: *.bounce.sender.test\nmax_age: 86400\n");
    stage.holds(&[(Warning, "mta-sts-policy")]).await;
    stage.policy("version: STSv1\nmode: testing\nmx: *.bounce.sender.test\nmax_age: 86400\n");
    stage.holds(&[(Note, "mta-sts-testing")]).await;
    stage.txt("_mta-sts.bounce.sender.test", &[]);
    stage.holds(&[(Note, "mta-sts-missing")]).await;
}

#[tokio::test]
async fn an_mta_sts_policy_that_does_not_fit_the_mx() {
    let stage = Stage::clean().await;
    stage.policy("version: STSv1\nmode: enforce\nmx: mx1.bounce.sender.test\nmax_age: 86400\n");
    stage.holds(&[(Warning, "mta-sts-mx")]).await;
    assert_eq!(stage.all().await[0].examples, ["mx2.bounce.sender.test"]);
}

#[tokio::test]
async fn an_mta_sts_policy_that_cannot_be_had() {
    let mut stage = Stage::clean().await;
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: https://sender.test/\r\nContent-Length: 0\r\n\r\n";
    let long = ok(&"mx: a.test\n".repeat(7_000));
    for answer in [elsewhere, &long, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "what?\r\n"] {
        answer.clone_into(&mut stage.answer.lock().unwrap());
        stage.holds(&[(Warning, "mta-sts-unreachable")]).await;
    }
    stage.policy("version: STSv1\nmode: enforce\nmx: *.bounce.sender.test\nmax_age: 86400\n");
    stage.holds(&[]).await;
    stage.distrust();
    stage.holds(&[(Warning, "mta-sts-unreachable")]).await;
    stage.world.publish("mta-sts.bounce.sender.test", RecordKind::A, &[]);
    stage.holds(&[(Warning, "mta-sts-unreachable")]).await;
}

#[tokio::test]
async fn tls_reporting_malformed_or_missing() {
    let stage = Stage::clean().await;
    for records in
        [&["v=TLSRPTv1"][..], &["v=TLSRPTv1; rua=tls@sender.test"], &["v=TLSRPTv1;rua=mailto:a@b.test"; 2]]
    {
        stage.txt("_smtp._tls.bounce.sender.test", records);
        stage.holds(&[(Warning, "tls-rpt-record")]).await;
    }
    stage.txt("_smtp._tls.bounce.sender.test", &[]);
    stage.holds(&[(Note, "tls-rpt-missing")]).await;
}

#[tokio::test]
async fn a_listed_source() {
    let stage = Stage::clean().await;
    stage.world.publish("10.2.0.192.zen.blocks.test", RecordKind::A, &["127.0.0.3"]);
    stage.txt("10.2.0.192.zen.blocks.test", &["seen spamming"]);
    stage.holds(&[(Error, "source-listed")]).await;
    assert!(stage.all().await[0].what.ends_with("(127.0.0.3): seen spamming"));
}

#[tokio::test]
async fn a_listed_domain() {
    let stage = Stage::clean().await;
    for name in ["click.shop.test", "shop.test", "sender.test", "bounce.sender.test", "out1.sender.test"] {
        let entry = format!("{name}.domains.blocks.test");
        stage.world.publish(&entry, RecordKind::A, &["127.0.1.2"]);
        stage.holds(&[(Error, "domain-listed")]).await;
        stage.world.publish(&entry, RecordKind::A, &[]);
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_believed_lists_nobody() {
    let stage = Stage::clean().await;
    stage.world.publish("10.2.0.192.zen.blocks.test", RecordKind::A, &["127.0.0.2"]);
    stage.world.publish("2.0.0.127.zen.blocks.test", RecordKind::A, &[]);
    stage.holds(&[(Warning, "blocklist-untested")]).await;
    for code in ["127.255.255.254", "192.0.2.99", "127.0.0.2"] {
        stage.world.publish("1.0.0.127.zen.blocks.test", RecordKind::A, &[code]);
        stage.holds(&[(Warning, "blocklist-silent")]).await;
    }
    stage.world.publish_fault("1.0.0.127.zen.blocks.test", Some(NameFault::Servfail));
    stage.holds(&[(Warning, "dns-unanswered")]).await;
}

#[tokio::test]
async fn a_refused_question_in_the_middle_is_no_listing() {
    let stage = Stage::clean().await;
    stage.world.publish("10.2.0.192.zen.blocks.test", RecordKind::A, &["127.255.255.255"]);
    stage.holds(&[(Warning, "blocklist-silent")]).await;
}

#[tokio::test]
async fn a_name_server_that_fails_makes_nothing_missing() {
    for name in [
        "bounce.sender.test",
        "sender.test",
        "_dmarc.sender.test",
        "r1._domainkey.sender.test",
        "out1.sender.test",
        "10.2.0.192.in-addr.arpa",
        "_mta-sts.bounce.sender.test",
        "mta-sts.bounce.sender.test",
        "_smtp._tls.bounce.sender.test",
    ] {
        let stage = Stage::clean().await;
        stage.fail(name);
        stage.holds(&[(Warning, "dns-unanswered")]).await;
        let finding = &stage.all().await[0];
        assert!(finding.examples[0].contains(name), "{finding:?}");
    }
}

#[tokio::test]
async fn no_name_server_at_all_is_one_finding() {
    let mut stage = Stage::clean().await;
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    stage.node.dns.servers = vec![closed];
    stage.node.dns.timeout = Duration::from_millis(100);
    stage.holds(&[(Warning, "dns-unanswered")]).await;
}

/// In base64, by an implementation that is not the signer's.
fn public_key_of_1024_bits() -> String {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1_024).unwrap();
    let der = key.to_public_key().to_public_key_der().unwrap();
    base64::engine::general_purpose::STANDARD.encode(der.as_bytes())
}
