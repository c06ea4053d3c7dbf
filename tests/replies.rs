//! The reply rules that come with the program, against what is known of the replies: every sample lands on
//! its rule, every row of the field's table comes out as it says, and no verdict about the sender ever gives
//! up on a recipient. Expectations are the field's, not this program's.

use postroad::classify::line::bare;
use postroad::classify::{By, Class, Measure, RecipientAction, Rules, Verdict};
use postroad::outcome::{Scope, Stage};
use postroad::reply::{Reply, Severity};

use Class::*;
use Scope::{Campaign, Message, Path, Recipient, SendingDomain, Session, Source};

/// Where a server can answer.
const STAGES: [Stage; 8] = [
    Stage::Connect,
    Stage::Greeting,
    Stage::Ehlo,
    Stage::StartTls,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Content,
];

/// What becomes of the recipient, without how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Again,
    Bounce,
    Suppress,
}
use Fate::{Again, Bounce, Suppress};

/// A provider's name ("" for one that no rule knows), the reply with its stage, and the verdict: class, scope,
/// recipient, and how the measure begins in the words of a rule ("" for none).
type Row = (&'static str, &'static str, Class, Scope, Fate, &'static str);

fn fate(verdict: &Verdict) -> Fate {
    match verdict.recipient {
        RecipientAction::Retry | RecipientAction::RetryAfter(_) => Again,
        RecipientAction::Bounce => Bounce,
        RecipientAction::Suppress => Suppress,
        RecipientAction::Delivered => panic!("a refusal delivers nothing"),
    }
}

fn measure(verdict: &Verdict) -> String {
    match verdict.measure {
        None => String::new(),
        Some(Measure::Slow(part)) => format!("slow {part}"),
        Some(Measure::Narrow) => "narrow".into(),
        Some(Measure::Reconnect) => "reconnect".into(),
        Some(Measure::Suspend { lasting, resume }) => {
            format!("suspend {}m resume {resume}", lasting.as_secs() / 60)
        }
        Some(Measure::TakeOut(lasting)) => format!("take out {}h", lasting.as_secs() / 3600),
        Some(Measure::PauseDomain(lasting)) => format!("pause domain {}h", lasting.as_secs() / 3600),
        Some(Measure::PauseCampaign) => "pause campaign".into(),
    }
}

fn verdict(rules: &Rules, provider: &str, line: &str) -> Verdict {
    let found = bare(line).unwrap_or_else(|| panic!("{line:?} is no reply"));
    let stage = found.stage.unwrap_or(Stage::Rcpt);
    rules.classify(Some(provider).filter(|name| !name.is_empty()), stage, &found.reply)
}

/// Says all rows that come out otherwise, not only the first.
fn hold(rows: &[Row]) {
    let rules = Rules::shipped();
    let mut wrong = Vec::new();
    for &(provider, line, class, scope, expected, does) in rows {
        let got = verdict(&rules, provider, line);
        let did = measure(&got);
        let fits = got.class == class
            && got.scope == scope
            && fate(&got) == expected
            && if does.is_empty() { did.is_empty() } else { did.starts_with(does) };
        if !fits {
            let rule = match got.by {
                By::Rule(id) => rules.rule(id).name.to_string(),
                by => format!("{by:?}"),
            };
            wrong.push(format!(
                "{provider}: {line}\n  wants {class:?} {scope:?} {expected:?} {does:?}\n  \
                 got   {:?} {:?} {:?} {did:?} by {rule}",
                got.class,
                got.scope,
                fate(&got)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn every_sample_lands_on_its_rule() {
    let rules = Rules::shipped();
    let mut samples = 0;
    for rule in rules.rules() {
        let provider = rule.providers.first().map(|name| &**name);
        for sample in &rule.samples {
            samples += 1;
            match rules.classify(provider, sample.stage, &sample.reply).by {
                By::Rule(id) => assert_eq!(rules.rule(id).name, rule.name, "{}", sample.place),
                by => panic!("{}: known by {by:?}, not by {}", sample.place, rule.name),
            }
        }
    }
    assert!(rules.rules().count() >= 430 && samples >= rules.rules().count());
}

#[test]
#[rustfmt::skip]
fn google() {
    hold(&[
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address [192.0.2.1].",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of email originating from your IP Netblock [192.0.2.0/24].",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain [example.test 35].",
            RateLimited,
            SendingDomain,
            Again,
            "slow",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your SPF domain [example.test 35].",
            RateLimited,
            SendingDomain,
            Again,
            "slow",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of unsolicited mail containing one of your URL domains.",
            RateLimited,
            Campaign,
            Again,
            "slow",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected this message exceeded its quota for sending messages with the same Message-ID.",
            Malformed,
            Campaign,
            Again,
            "pause campaign",
        ),
        (
            "google",
            "CONTENT: 421 4.7.26 This mail has been rate limited because it is unauthenticated.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 421 4.7.27 Your email has been rate limited because SPF authentication didn't pass for this message.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 421 4.7.30 Your email has been rate limited because DKIM authentication didn't pass for this message.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 421 4.7.32 Your email has been rate limited because the From: header isn't aligned",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 550 5.7.24 The SPF record of the sending domain has one or more suspicious entries.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "google",
            "CONTENT: 421 4.7.29 Your email has been rate limited because this message wasn't sent over a TLS connection.",
            TlsRequired,
            Path,
            Again,
            "",
        ),
        (
            "google",
            "RCPT: 421 4.7.0 TLS required for RCPT domain, closing connection.",
            TlsRequired,
            Path,
            Again,
            "",
        ),
        (
            "google",
            "CONTENT: 421 4.7.23 The sending IP address for this message doesn't have a PTR record",
            ReverseDns,
            Source,
            Again,
            "take out",
        ),
        (
            "google",
            "CONTENT: 550 5.7.25 The sending IP address for this message doesn't have a PTR record",
            ReverseDns,
            Source,
            Again,
            "take out",
        ),
        (
            "google",
            "CONTENT: 421 4.7.0 [192.0.2.1 15] Our system has detected that this message is suspicious due to the very low reputation of the sending IP address.",
            PoorReputation,
            Path,
            Again,
            "slow 0.1",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 [192.0.2.1 19] Our system has detected that this message is likely suspicious due to the very low reputation of the sending domain.",
            DomainReputation,
            SendingDomain,
            Again,
            "slow 0.1",
        ),
        (
            "google",
            "RCPT: 450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.",
            RecipientRate,
            Recipient,
            Again,
            "",
        ),
        (
            "google",
            "RCPT: 550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.",
            RecipientRate,
            Recipient,
            Again,
            "",
        ),
        (
            "google",
            "RCPT: 452 4.2.2 The email account that you tried to reach is over quota.",
            MailboxFull,
            Recipient,
            Again,
            "",
        ),
        (
            "google",
            "RCPT: 552 5.2.2 The email account that you tried to reach is over quota and inactive.",
            MailboxFullInactive,
            Recipient,
            Bounce,
            "",
        ),
        (
            "google",
            "RCPT: 550 5.1.1 The email account that you tried to reach does not exist. Learn more at https://support.google.com/mail/?p=NoSuchUser",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
        (
            "google",
            "RCPT: 550 5.2.1 The email account that you tried to reach is disabled.",
            InactiveMailbox,
            Recipient,
            Suppress,
            "",
        ),
        (
            "google",
            "RCPT: 550 5.2.1 The email account that you tried to reach is inactive.",
            InactiveMailbox,
            Recipient,
            Suppress,
            "",
        ),
        (
            "google",
            "RCPT: 451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again.",
            TooManyRecipients,
            Message,
            Again,
            "",
        ),
        (
            "google",
            "RCPT: 452 4.5.3 Domain policy size per transaction exceeded. Please try this recipient in a separate transaction.",
            TooManyRecipients,
            Message,
            Again,
            "",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 [192.0.2.1] Our system has detected that this message is not RFC 5322 compliant, the issue is: duplicate headers.",
            Malformed,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 [192.0.2.1] Messages missing a valid messageId header are not accepted.",
            Malformed,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 [192.0.2.1] Messages missing a valid address in From: header, or having no From: header, are not accepted.",
            Malformed,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "google",
            "CONTENT: 552 5.7.0 This message was blocked because its content presents a potential security issue.",
            ForbiddenContent,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail.",
            SpamContent,
            Campaign,
            Bounce,
            "pause campaign",
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn yahoo() {
    hold(&[
        (
            "yahoo",
            "MAIL: 421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1",
            PoorReputation,
            Path,
            Again,
            "suspend 120m resume 0.25",
        ),
        (
            "yahoo",
            "MAIL: 421 4.7.0 [TSS05] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
            PoorReputation,
            Path,
            Again,
            "suspend 240m resume 0.25",
        ),
        (
            "yahoo",
            "MAIL: 421 4.7.0 [TS01] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1",
            PoorReputation,
            Path,
            Again,
            "suspend 240m resume 0.25",
        ),
        (
            "yahoo",
            "MAIL: 421 4.7.0 [TS02] Messages from 192.0.2.1 temporarily deferred due to user complaints",
            PoorReputation,
            Path,
            Again,
            "suspend 240m resume 0.25",
        ),
        (
            "yahoo",
            "GREETING: 421 4.7.0 [IPTS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
            PoorReputation,
            Path,
            Again,
            "suspend 240m resume 0.25",
        ),
        (
            "yahoo",
            "MAIL: 421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "MAIL: 553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "MAIL: 553 5.7.2 [TSS11] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "MAIL: 421 Max message per connection reached, closing transmission channel",
            TooManyMessagesInSession,
            Session,
            Again,
            "reconnect",
        ),
        (
            "yahoo",
            "GREETING: 553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",
            SourceListed,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "GREETING: 553 5.7.1 [BL23] Connections not accepted from IP addresses on Spamhaus XBL",
            SourceListed,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "GREETING: 553 5.7.1 [TSS07] Connections will not be accepted from 192.0.2.1",
            SourceListed,
            Source,
            Again,
            "take out",
        ),
        (
            "yahoo",
            "MAIL: 451 Message temporarily deferred due to unresolvable RFC.5321 from domain",
            SenderRefused,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "yahoo",
            "CONTENT: 554 Message not allowed - [PH01] Email not accepted for policy reasons.",
            SpamContent,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "yahoo",
            "CONTENT: 554 30 Sorry, your message to user@example.test cannot be delivered. This mailbox is disabled (554.30).",
            InactiveMailbox,
            Recipient,
            Suppress,
            "",
        ),
        ("yahoo", "RCPT: 450 User is receiving mail too quickly", RecipientRate, Recipient, Again, ""),
        (
            "yahoo",
            "CONTENT: 552 1 Requested mail action aborted, mailbox not found",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn microsoft() {
    hold(&[
        (
            "outlook",
            "GREETING: 421 RP-001 (BAY004-MC1F2) Unfortunately, some messages from 192.0.2.1 weren't sent.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "outlook",
            "GREETING: 421 RP-002 The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed on this connection.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "outlook",
            "GREETING: 421 RP-003 The mail server IP connecting to Outlook.com server has exceeded the connection limit allowed.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "outlook",
            "MAIL: 451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
            PoorReputation,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "office365",
            "MAIL: 451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "office365",
            "MAIL: 451 4.7.700 PFA agent busy, please try again later.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "office365",
            "MAIL: 451 4.7.899 Access denied, please try again later.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        (
            "outlook",
            "MAIL: 550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140).",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "MAIL: 550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150).",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "CONTENT: 550 5.7.515 Access denied, sending domain EXAMPLE.TEST does not meet the required authentication level.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "office365",
            "MAIL: 550 5.7.606 Access denied, banned sending IP [192.0.2.1].",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "office365",
            "RCPT: 550 5.7.649 Access denied, banned sending IP [192.0.2.1].",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "office365",
            "RCPT: 550 5.7.511 Access denied, banned sender[192.0.2.1].",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "office365",
            "MAIL: 550 5.7.25 Access denied, the sending IPv6 address [2001:db8::1] must have a reverse DNS record",
            ReverseDns,
            Source,
            Again,
            "take out",
        ),
        ("office365", "MAIL: 550 5.7.506 Access Denied, Bad HELO", BadHelo, Source, Again, "take out"),
        (
            "outlook",
            "GREETING: 550 DY-001 (COL004-MC5F9) Unfortunately, messages from 192.0.2.1 weren't sent.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "MAIL: 550 SC-001 (BAY004-MC3F10) Unfortunately, messages from 192.0.2.1 weren't sent.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "MAIL: 550 SC-004 (BAY004-MC3F10) Unfortunately, messages from 192.0.2.1 weren't sent.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "MAIL: 550 OU-002 (SNT004-MC4F5) Unfortunately, messages from 192.0.2.1 weren't sent.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "outlook",
            "RCPT: 550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
        (
            "office365",
            "RCPT: 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
        (
            "office365",
            "RCPT: 550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
        (
            "office365",
            "CONTENT: 554 5.2.121 Recipient's per hour message receive limit from specific sender exceeded",
            RecipientRate,
            Recipient,
            Again,
            "",
        ),
        (
            "office365",
            "CONTENT: 554 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour.",
            RecipientRate,
            Recipient,
            Again,
            "",
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn other_providers() {
    hold(&[
        (
            "apple",
            "RCPT: 421 4.7.1 Messages to user@example.test deferred due to excessive volume.",
            RateLimited,
            Path,
            Again,
            "slow 0.5",
        ),
        ("apple", "RCPT: 421 4.7.0 [HCM1] Message rate", RateLimited, Path, Again, "slow 0.5"),
        ("apple", "MAIL: 451 4.7.1 [BS02] Service unavailable", RateLimited, Path, Again, "slow 0.5"),
        (
            "apple",
            "CONTENT: 550 5.7.1 [CS01] Message rejected due to local policy.",
            Policy,
            Campaign,
            Bounce,
            "pause campaign",
        ),
        (
            "apple",
            "CONTENT: 554 5.7.1 [HME1] This message was blocked for failing both SPF and DKIM authentication checks.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "apple",
            "CONTENT: 550 5.7.1 Your email was rejected due to having a domain present in the Spamhaus DBL",
            DomainReputation,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "comcast",
            "MAIL: 421 4.1.0 192.0.2.1 Throttled - try again later. Please see http://postmaster.comcast.net/smtp-error-codes.php#RL000001",
            RateLimited,
            Path,
            Again,
            "slow",
        ),
        (
            "comcast",
            "MAIL: 421 4.1.0 192.0.2.1 Throttled - try again later. Please see http://postmaster.comcast.net/smtp-error-codes.php#RL000010",
            RateLimited,
            Path,
            Again,
            "suspend 5m",
        ),
        (
            "gmx",
            "GREETING: 421 gmx.net (mxgmx117) Nemesis ESMTP Service not available Service closing transmission channel Too many connections",
            TooManyConnections,
            Path,
            Again,
            "narrow",
        ),
        (
            "gmx",
            "CONTENT: 554 Transaction failed Reject due to policy restrictions.",
            PoorReputation,
            Path,
            Again,
            "suspend 120m",
        ),
        (
            "gmx",
            "GREETING: 421 gmx.net (mxgmx005) Nemesis ESMTP Service not available Reject due to policy violations.",
            PoorReputation,
            Path,
            Again,
            "suspend 120m",
        ),
        (
            "orange",
            "GREETING: 421 smtp.orange.fr Trop de connexions, veuillez verifier votre configuration. OFR_104 [104]",
            TooManyConnections,
            Path,
            Again,
            "narrow",
        ),
        (
            "orange",
            "MAIL: 550 mwinf5c10 ME Service refuse. Veuillez essayer plus tard. Service refused, please try later. OFR006_103 192.0.2.1 [103]",
            PoorReputation,
            Path,
            Again,
            "suspend 60m",
        ),
        (
            "laposte",
            "CONTENT: 550 5.5.0 Service refuse. Veuillez essayer plus tard. service refused, please try later. LPN005_510",
            PoorReputation,
            Path,
            Again,
            "suspend 60m",
        ),
        (
            "orange",
            "MAIL: 501 5.1.0 Emetteur invalide. Invalid Sender. OFR004_405 [405]",
            SenderRefused,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "orange",
            "GREETING: 550 mwinf5c04 ME Adresse IP source bloquee pour incident de spam. Client host blocked for spamming issues. OFR006_102 Ref http://csi.cloudmark.com",
            SourceListed,
            Source,
            Again,
            "take out",
        ),
        (
            "qq",
            "MAIL: 550 Ip frequency limited [00000000000000000000 IP: 192.0.2.1].",
            RateLimited,
            Path,
            Again,
            "slow",
        ),
        ("qq", "GREETING: 550 Connection frequency limited.", RateLimited, Path, Again, "slow"),
        ("qq", "MAIL: 550 Domain frequency limited.", RateLimited, SendingDomain, Again, "slow"),
        ("qq", "MAIL: 550 Sender frequency limited.", RateLimited, SendingDomain, Again, "slow"),
        ("qq", "GREETING: 550 Suspected spam ip.", PoorReputation, Path, Again, "slow"),
        ("qq", "CONTENT: 550 Mail content denied.", SpamContent, Campaign, Bounce, "pause campaign"),
        ("netease", "CONTENT: 451 DT:SPM ,please try again", SpamContent, Path, Again, "suspend 60m"),
        (
            "netease",
            "CONTENT: 554 DT:SPM 163 mx27,please see http://mail.163.com/help/help_spam_16.htm",
            SpamContent,
            Path,
            Again,
            "suspend 60m",
        ),
        ("netease", "RCPT: 550 RP:ORQ 163 mx27", RateLimited, Path, Again, "suspend"),
        ("netease", "GREETING: 554 HL:ITC 163 mx12", RateLimited, Path, Again, "suspend"),
        (
            "mimecast",
            "RCPT: 451 Internal resources are temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451",
            PoorReputation,
            Source,
            Again,
            "take out",
        ),
        (
            "proofpoint",
            "GREETING: 554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "barracuda",
            "RCPT: 554 Service unavailable; Client host [192.0.2.1] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/?r=1&ip=192.0.2.1",
            SourceListed,
            Source,
            Again,
            "take out 6h",
        ),
    ]);
}

#[test]
#[rustfmt::skip]
fn any_provider() {
    hold(&[
        (
            "",
            "RCPT: 450 4.2.0 <user@example.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.test.html",
            Greylisted,
            Recipient,
            Again,
            "",
        ),
        (
            "",
            "RCPT: 451 4.7.1 Greylisting in action, please come back in 00:05:00",
            Greylisted,
            Recipient,
            Again,
            "",
        ),
        ("google", "RCPT: 451 4.7.1 Please try again later (greylisted)", Greylisted, Recipient, Again, ""),
        (
            "",
            "RCPT: 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
            SourceListed,
            Source,
            Again,
            "take out 6h",
        ),
        (
            "",
            "RCPT: 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using rbl.example.test",
            SourceListed,
            Source,
            Again,
            "take out 6h",
        ),
        (
            "zoho",
            "RCPT: 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.spamcop.net",
            SourceListed,
            Source,
            Again,
            "take out 6h",
        ),
        (
            "",
            "RCPT: 550 5.1.1 <user@example.test>: Recipient address rejected: User unknown in virtual mailbox table",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
        (
            "",
            "RCPT: 450 4.1.1 <user@example.test>: Recipient address rejected: User unknown in virtual mailbox table",
            UnknownUser,
            Recipient,
            Again,
            "",
        ),
        // After the content only 5.1.x and 5.2.1 are believed about a mailbox.
        ("", "CONTENT: 550 5.1.1 User unknown", UnknownUser, Recipient, Suppress, ""),
        ("", "CONTENT: 550 User unknown", UnknownUser, Recipient, Bounce, ""),
        // Our own return path, in the words that others use for recipients.
        (
            "",
            "RCPT: 550 Verification failed for <bounce@example.test> No such user here Sender verify failed",
            SenderRefused,
            SendingDomain,
            Again,
            "pause domain",
        ),
    ]);
    // 5yz before any recipient was named is about us, whatever it says.
    let rules = Rules::shipped();
    for stage in ["CONNECT", "GREETING", "EHLO", "MAIL"] {
        for reply in ["550 5.1.1 User unknown", "554 5.7.1 Rejected", "550 no", "521 5.2.1 Mailbox disabled"]
        {
            let got = verdict(&rules, "", &format!("{stage}: {reply}"));
            assert_eq!(fate(&got), Again, "{stage}: {reply}");
        }
    }
}

/// What the classifier of another engine made of these is why its users lost live recipients.
#[test]
#[rustfmt::skip]
fn replies_that_are_often_misread() {
    hold(&[
        (
            "google",
            "RCPT: 450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered.",
            RecipientRate,
            Recipient,
            Again,
            "",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
            RateLimited,
            Path,
            Again,
            "slow",
        ),
        (
            "google",
            "CONTENT: 421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your SPF domain [example.test 35].",
            RateLimited,
            SendingDomain,
            Again,
            "slow",
        ),
        (
            "yahoo",
            "MAIL: 421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
            PoorReputation,
            Path,
            Again,
            "suspend",
        ),
        (
            "office365",
            "MAIL: 451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
            RateLimited,
            Path,
            Again,
            "slow",
        ),
        (
            "outlook",
            "GREETING: 421 RP-001 (BAY004-MC1F2) Unfortunately, some messages from 192.0.2.1 weren't sent.",
            RateLimited,
            Path,
            Again,
            "slow",
        ),
        (
            "google",
            "CONTENT: 550 5.7.1 Unauthenticated email from example.test is not accepted due to domain's DMARC policy.",
            Authentication,
            SendingDomain,
            Again,
            "pause domain",
        ),
        (
            "yahoo",
            "MAIL: 553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
            SourceBlocked,
            Source,
            Again,
            "take out",
        ),
        (
            "google",
            "RCPT: 552 5.2.2 The email account that you tried to reach is over quota and inactive. https://support.google.com/mail/?p=OverQuotaPerm",
            MailboxFullInactive,
            Recipient,
            Bounce,
            "",
        ),
        (
            "yahoo",
            "CONTENT: 554 30 Sorry, your message to user@example.test cannot be delivered. This mailbox is disabled (554.30)",
            InactiveMailbox,
            Recipient,
            Suppress,
            "",
        ),
        ("", "CONTENT: 554 Quota exceeded (mailbox for user is full)", MailboxFull, Recipient, Bounce, ""),
        (
            "outlook",
            "RCPT: 550 5.5.0 Requested action not taken: mailbox unavailable",
            UnknownUser,
            Recipient,
            Suppress,
            "",
        ),
    ]);
}

/// Who has to look: at DNS and keys, at a block list, at a provider's form.
#[test]
#[rustfmt::skip]
fn a_person_hears_of_what_needs_one() {
    let rules = Rules::shipped();
    for (provider, line) in [
        ("google", "CONTENT: 421 4.7.28 Gmail has detected this message exceeded its quota for sending messages with the same Message-ID."),
        ("google", "CONTENT: 550 5.7.26 This mail has been blocked because the sender is unauthenticated."),
        ("google", "CONTENT: 421 4.7.0 Our system has detected that this message is suspicious due to the very low reputation of the sending IP address."),
        ("google", "CONTENT: 550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of the sending domain."),
        ("yahoo", "MAIL: 553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed."),
        ("outlook", "MAIL: 550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent, since part of their network is on our block list (S3150)."),
        ("outlook", "CONTENT: 550 5.7.515 Access denied, sending domain EXAMPLE.TEST does not meet the required authentication level."),
        ("mimecast", "RCPT: 451 Internal resources are temporarily unavailable"),
        ("proofpoint", "GREETING: 554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1"),
        ("", "RCPT: 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    ] {
        assert!(verdict(&rules, provider, line).alert, "{provider}: {line}");
    }
}

/// Provider, reply, and the shortest and longest wait in minutes that the field gives.
#[test]
#[rustfmt::skip]
fn recipients_wait_as_long_as_the_provider_asks() {
    let rules = Rules::shipped();
    for (provider, line, least, most) in [
        ("outlook", "GREETING: 421 RP-001 Unfortunately, some messages from 192.0.2.1 weren't sent.", 15, 30),
        ("outlook", "MAIL: 451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.", 15, 30),
        ("office365", "MAIL: 451 4.7.500 Server busy. Please try again later from [192.0.2.1].", 15, 30),
        ("apple", "RCPT: 421 4.7.1 Messages to user@example.test deferred due to excessive volume.", 15, 15),
        ("comcast", "MAIL: 421 4.1.0 192.0.2.1 Throttled - try again later. #RL000010", 5, 5),
        ("yahoo", "MAIL: 421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", 120, 240),
        ("yahoo", "MAIL: 421 4.7.0 [TSS05] Messages from 192.0.2.1 temporarily deferred", 120, 240),
        ("", "RCPT: 450 4.2.0 <user@example.test>: Recipient address rejected: Greylisted", 5, 10),
    ] {
        match verdict(&rules, provider, line).recipient {
            RecipientAction::RetryAfter(wait) => {
                assert!((least..=most).contains(&(wait.as_secs() / 60)), "{provider}: {line}: {wait:?}");
            }
            other => panic!("{provider}: {line}: {other:?}"),
        }
    }
}

/// One word, two meanings: the stage or the word beside it decides.
#[test]
#[rustfmt::skip]
fn the_same_words_about_sender_and_recipient() {
    hold(&[
        ("", "MAIL: 550 5.1.8 <bounce@example.test>: Sender address rejected: Domain not found", SenderRefused, SendingDomain, Again, "pause domain"),
        ("", "RCPT: 550 5.1.2 <user@example.test>: Recipient address rejected: Domain not found", BadDomain, Recipient, Bounce, ""),
        ("", "RCPT: 550 5.1.0 sender address does not exist", SenderRefused, SendingDomain, Again, ""),
        ("", "RCPT: 550 5.1.1 recipient address does not exist", UnknownUser, Recipient, Suppress, ""),
        // A source on a list, and a domain or a link on one.
        ("", "RCPT: 554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.test", SourceListed, Source, Again, "take out"),
        ("", "MAIL: 554 5.7.1 Service unavailable; Sender address [bounce@example.test] blocked using dbl.spamhaus.org", DomainReputation, SendingDomain, Again, "pause domain"),
        ("", "CONTENT: 554 5.7.1 Message contains a URL listed in multi.surbl.org", SpamContent, Message, Bounce, ""),
        // Before its content nobody has seen a message.
        ("", "CONTENT: 550 5.7.1 suspected spam", SpamContent, Message, Bounce, ""),
        ("", "RCPT: 550 5.7.1 suspected spam", PoorReputation, Path, Again, "suspend"),
        // Ours to send, theirs to store.
        ("", "RCPT: 450 4.7.1 sending quota exceeded", RateLimited, Path, Again, "slow"),
        ("", "RCPT: 452 4.2.2 mailbox quota exceeded", MailboxFull, Recipient, Again, ""),
    ]);
}

/// Words of a dead mailbox that are said of a session, a server, an IP address or our own return path.
#[test]
fn what_is_said_of_something_else_suppresses_nobody() {
    let rules = Rules::shipped();
    for line in [
        "554 Disconnected due to inactivity",
        "550 5.3.2 This server no longer accepts mail for this domain",
        "550 This mail server is no longer in use, use mx2.example.test",
        "554 domain no longer active",
        "550 IP address no longer allowed",
        "554 the sending domain is unknown to us",
        "550 your IP is unknown to us",
        "550 domain is not known at this server",
        "554 Connection has been terminated",
        "550 5.7.1 hostname of your server does not exist here",
        "550 5.7.1 user agent claims a name that is unknown",
        "550 5.7.1 The ratio of invalid recipients is too high",
        "554 5.7.1 We are not accepting mail from your network",
        "550 We do not accept mail from your IP",
        "550 5.1.7 Invalid mailbox for sender",
        "550 5.1.8 Invalid user in MAIL FROM",
        "550 5.1.8 No such user",
        "550 Sender mailbox does not exist",
        "550 Sender: no such user",
        "550 5.1.0 sender user unknown",
        "550 sender's mailbox unavailable",
        "550 return address user not found",
    ] {
        for stage in ["RCPT", "CONTENT"] {
            let got = verdict(&rules, "", &format!("{stage}: {line}"));
            assert_ne!(fate(&got), Suppress, "{stage}: {line}: {got:?}");
            assert!(!matches!(got.class, UnknownUser | InactiveMailbox), "{stage}: {line}: {got:?}");
        }
    }
    for line in ["451 4.7.1 Your IP address is temporarily suspended", "451 delivery temporarily suspended"] {
        assert_ne!(verdict(&rules, "", line).class, InactiveMailbox, "{line}");
    }
    // One exchange that asks one recipient's sender to log in is no relay that lost our password.
    let got = verdict(&rules, "google", "RCPT: 550 5.7.1 Authentication required");
    assert!(got.threshold.is_some(), "{got:?}");
    assert!(verdict(&rules, "", "MAIL: 530 5.7.0 Authentication required").threshold.is_none());
}

/// No provider of its own, no say about a campaign.
#[test]
fn an_unknown_provider_pauses_no_campaign() {
    let rules = Rules::shipped();
    for sample in rules.rules().flat_map(|rule| rule.samples.iter()) {
        for stage in STAGES {
            let got = rules.classify(None, stage, &sample.reply);
            assert_ne!(got.measure, Some(Measure::PauseCampaign), "{stage:?}: {}", sample.reply);
        }
    }
}

/// Every sample, from every provider that a rule names and from none, at every stage.
#[test]
fn what_is_about_the_sender_never_gives_up_on_a_recipient() {
    let rules = Rules::shipped();
    let mut providers: Vec<Option<&str>> = vec![None];
    providers.extend(rules.rules().flat_map(|rule| rule.providers.iter().map(|name| Some(&**name))));
    providers.sort_unstable();
    providers.dedup();
    for sample in rules.rules().flat_map(|rule| rule.samples.iter()) {
        for stage in STAGES {
            for provider in &providers {
                holds_bounds(&rules, *provider, stage, &sample.reply);
            }
        }
    }
}

fn holds_bounds(rules: &Rules, provider: Option<&str>, stage: Stage, reply: &Reply) {
    let got = rules.classify(provider, stage, reply);
    let fate = fate(&got);
    let case = || format!("{provider:?} at {stage:?}: {reply} is {got:?}");
    if matches!(got.scope, Session | Path | Source | SendingDomain) {
        assert_eq!(fate, Again, "{}", case());
    }
    if stage < Stage::Rcpt || reply.severity() == Severity::Transient {
        assert_eq!(fate, Again, "{}", case());
    }
    if fate == Suppress {
        assert_eq!(got.scope, Recipient, "{}", case());
        assert!(matches!(got.class, UnknownUser | InactiveMailbox), "{}", case());
    }
}

#[test]
fn a_campaign_is_paused_for_one_reply_only_where_that_is_proof() {
    let rules = Rules::shipped();
    let at_once: Vec<&str> = rules
        .rules()
        .filter(|rule| rule.measure == Some(Measure::PauseCampaign) && rule.threshold.is_none())
        .map(|rule| &*rule.name)
        .collect();
    // Two messages with one Message-ID: no filter's opinion.
    assert_eq!(at_once, ["google-rate-message-id"]);
}
