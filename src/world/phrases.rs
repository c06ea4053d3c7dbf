//! What real providers say when they refuse, by style; texts as their postmaster pages and logs show them.
//!
//! A text may have several lines (`\n`); codes stand in front, the server formats the rest.

use serde::Deserialize;

/// Whose wording a provider of the world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    #[default]
    Plain,
    Gmail,
    Yahoo,
    Outlook,
    M365,
    Apple,
    Gmx,
    Tonline,
    Comcast,
    Orange,
    Qq,
    Mimecast,
    Proofpoint,
}

/// The texts of one style.
#[derive(Debug, Clone, Copy)]
pub struct Phrases {
    pub unknown_user: &'static str,
    pub mailbox_full: &'static str,
    pub content_refused: &'static str,
    /// Too many messages or connections in a time.
    pub rate: &'static str,
    /// Too many connections at once.
    pub connections: &'static str,
    /// Too many messages on one connection.
    pub messages_per_connection: &'static str,
    pub greylist: &'static str,
    pub closing: &'static str,
    pub temporary: &'static str,
    pub permanent: &'static str,
}

const PLAIN: Phrases = Phrases {
    unknown_user: "550 5.1.1 <{address}>: Recipient address rejected: User unknown in virtual mailbox table",
    mailbox_full: "452 4.2.2 <{address}>: Mailbox is full",
    content_refused: "550 5.7.1 Message content rejected as spam",
    rate: "451 4.7.1 Too many messages from your host, try again later",
    connections: "421 4.7.0 Error: too many connections from your host",
    messages_per_connection: "421 4.7.0 Too many messages in this session, closing connection",
    greylist: "450 4.2.0 <{address}>: Recipient address rejected: Greylisted, please try again later",
    closing: "421 4.3.2 Service shutting down, closing channel",
    temporary: "451 4.3.0 Temporary lookup failure",
    permanent: "554 5.7.1 Service unavailable; rejected by local policy",
};

const GMAIL: Phrases = Phrases {
    unknown_user: "550-5.1.1 The email account that you tried to reach does not exist. Please try\n\
        550-5.1.1 double-checking the recipient's email address for typos or\n\
        550 5.1.1 unnecessary spaces. https://support.google.example/mail/?p=NoSuchUser - gsmtp",
    mailbox_full: "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\n\
        452 4.2.2 recipient to https://support.google.example/mail/?p=OverQuotaTemp - gsmtp",
    content_refused: "552-5.7.0 This message was blocked because its content presents a potential\n\
        552 5.7.0 security issue. https://support.google.example/mail/?p=BlockedMessage - gsmtp",
    rate: "421-4.7.28 Gmail has detected an unusual rate of mail originating from your IP\n\
        421-4.7.28 address. To protect our users from spam, mail sent from your IP\n\
        421 4.7.28 address has been temporarily rate limited. - gsmtp",
    connections: "421 4.7.0 Too many concurrent SMTP connections; please try again later. - gsmtp",
    messages_per_connection: "421 4.7.0 Too many messages on this connection; please reconnect. - gsmtp",
    greylist: "450 4.2.1 The user you are trying to contact is receiving mail at a rate that - gsmtp",
    closing: "421 4.3.0 Temporary System Problem. Try again later (10). - gsmtp",
    temporary: "451 4.3.0 Mail server temporarily rejected message. - gsmtp",
    permanent: "550-5.7.1 Our system has detected that this message is likely unsolicited mail.\n\
        550 5.7.1 To reduce the amount of spam, this message has been blocked. - gsmtp",
};

const YAHOO: Phrases = Phrases {
    unknown_user: "554 delivery error: dd This user doesn't have a yahoo.test account ({address}) [0] - mta",
    mailbox_full: "452 4.2.2 Mailbox full or over quota - mta",
    content_refused: "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahoo.example",
    rate: "421 4.7.0 [TSS04] Messages from {source} temporarily deferred due to unexpected volume or user \
        complaints - 4.16.55.1; see https://postmaster.yahoo.example",
    connections: "421 4.7.0 [TS01] Too many concurrent connections from {source}",
    messages_per_connection: "421 Max message per connection reached, closing transmission channel",
    greylist: "451 4.7.1 Resources temporarily unavailable. Please try again later [#4.16.5].",
    closing: "421 4.3.2 Resources temporarily unavailable. Please try again later",
    temporary: "451 4.3.2 Internal error reading data",
    permanent: "553 5.7.1 [BL21] Connections will not be accepted from {source}",
};

const OUTLOOK: Phrases = Phrases {
    unknown_user: "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
    mailbox_full: "452 4.2.2 The recipient's mailbox is full and can't accept messages now.",
    content_refused: "550 5.7.1 Message rejected as spam by Content Filtering.",
    rate: "451 4.7.650 The mail server [{source}] has been temporarily rate limited due to IP reputation. For \
        e-mail delivery information, see https://postmaster.live.example (S775)",
    connections: "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing \
        transmission channel",
    messages_per_connection: "421 4.3.2 The maximum number of messages per connection has been reached",
    greylist: "451 4.7.500 Server busy. Please try again later from [{source}]. (S77714)",
    closing: "421 4.3.2 Service not active",
    temporary: "451 4.3.2 Temporary server error. Please try again later ATTR5",
    permanent: "550 5.7.1 Unfortunately, messages from [{source}] weren't sent. Please contact your Internet \
        service provider since part of their network is on our block list (S3140).",
};

const M365: Phrases = Phrases {
    unknown_user: "550 5.4.1 Recipient address rejected: Access denied. For more information see \
        https://aka.example/EXOSmtpErrors [PAXEUR01.prod]",
    mailbox_full: "452 4.2.2 RESOLVER.ADR.MailboxFull; recipient's mailbox is full",
    rate: "451 4.7.500 Server busy. Please try again later from [{source}]. (S77714) [DB8EUR05.prod]",
    ..OUTLOOK
};

const APPLE: Phrases = Phrases {
    unknown_user: "550 5.1.1 <{address}>: user does not exist",
    mailbox_full: "452 4.2.2 <{address}>: user is over quota",
    content_refused: "550 5.7.1 [CS01] Message rejected due to local policy. See https://support.apple.example",
    rate: "421 4.7.1 Messages to this server are deferred due to excessive volume. [HCM1]",
    ..PLAIN
};

const GMX: Phrases = Phrases {
    unknown_user: "550 Requested action not taken: mailbox unavailable",
    mailbox_full: "452 4.2.2 Requested action aborted: mailbox full",
    content_refused: "554 Transaction failed\n554 Reject due to policy violations",
    rate: "450 Requested mail action not taken: mailbox unavailable\n450 Too many mails from your address, \
        try again later",
    connections: "421 gmx.example Service not available\n421 Too many connections",
    greylist: "450 Requested mail action not taken: mailbox unavailable\n450 Graylisted",
    permanent: "554 Transaction failed\n554 Reject due to policy restrictions",
    ..PLAIN
};

const TONLINE: Phrases = Phrases {
    unknown_user: "550 5.1.1 unknown recipient <{address}>",
    rate: "452 4.7.1 Too many mails from {source}, please slow down",
    connections: "421 4.7.0 Connection limit reached for {source}",
    permanent: "554 None/bad reputation, ask tosa@rx.t-online.example for reset (GPR)",
    ..PLAIN
};

const COMCAST: Phrases = Phrases {
    unknown_user: "550 5.1.1 Not our Customer",
    mailbox_full: "452 4.2.2 Account is over quota",
    rate: "421 4.1.0 {source} Throttled - try again later. RL000010",
    connections: "421 4.1.0 {source} Too many sessions opened. RL000001",
    content_refused: "554 5.2.0 Message rejected due to spam content. BL000010",
    ..PLAIN
};

const ORANGE: Phrases = Phrases {
    unknown_user: "550 5.1.1 Adresse d au moins un destinataire invalide. OFR_416 [416]",
    mailbox_full: "452 4.2.2 Boite du destinataire archivee. OFR_417 [417]",
    connections: "421 opmta.example Service refuse. Trop de connexions, veuillez verifier votre configuration. \
        OFR_104 [104]",
    rate: "421 opmta.example Service refuse. Veuillez essayer plus tard. OFR_999 [999]",
    content_refused: "550 5.7.1 Service refuse. Veuillez contacter le support. OFR_506 [506]",
    ..PLAIN
};

const QQ: Phrases = Phrases {
    unknown_user: "550 Mailbox not found. http://service.mail.qq.example/cgi-bin/help?id=20022",
    rate: "550 Ip frequency limited. http://service.mail.qq.example/cgi-bin/help?id=20022",
    connections: "421 Connection frequency limited",
    content_refused: "550 Mail content denied. http://service.mail.qq.example/cgi-bin/help?id=20022",
    ..PLAIN
};

const MIMECAST: Phrases = Phrases {
    unknown_user: "550 Invalid Recipient - https://community.mimecast.example/docs/DOC-1369#550 [x1]",
    greylist: "451 Internal resources are temporarily unavailable - https://community.mimecast.example#451",
    rate: "451 Account inbounds are temporarily rate limited - https://community.mimecast.example#451",
    content_refused: "554 Email rejected due to security policies - https://community.mimecast.example#554",
    ..PLAIN
};

const PROOFPOINT: Phrases = Phrases {
    unknown_user: "550 5.1.1 User Unknown",
    rate: "452 4.3.0 Too many messages from {source}; try again later",
    permanent: "554 Blocked - see https://ipcheck.proofpoint.example/?ip={source}",
    content_refused: "550 5.7.1 Message rejected: content - pphosted",
    ..PLAIN
};

impl Style {
    pub fn phrases(self) -> &'static Phrases {
        match self {
            Self::Plain => &PLAIN,
            Self::Gmail => &GMAIL,
            Self::Yahoo => &YAHOO,
            Self::Outlook => &OUTLOOK,
            Self::M365 => &M365,
            Self::Apple => &APPLE,
            Self::Gmx => &GMX,
            Self::Tonline => &TONLINE,
            Self::Comcast => &COMCAST,
            Self::Orange => &ORANGE,
            Self::Qq => &QQ,
            Self::Mimecast => &MIMECAST,
            Self::Proofpoint => &PROOFPOINT,
        }
    }
}
