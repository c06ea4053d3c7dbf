//! What is wrong with a source's settings that types cannot rule out: keys below the source's, what it is,
//! what to do.

use super::{Auth, Mechanism, Relay, RelayHost, RelayTls, Socks5, Source};
use crate::address::Domain;

/// Octets of a SOCKS5 user name or password at most (RFC 1929 §2).
const SOCKS5_OCTETS_MAX: usize = 255;

impl Source {
    /// The first mistake.
    pub(in crate::config) fn mistake(&self) -> Option<(Vec<&'static str>, String, &'static str)> {
        if let Some(ehlo) = &self.ehlo
            && let Err(error) = Domain::parse(ehlo)
        {
            let what = format!("`{ehlo}` is no host name for EHLO: {error}");
            return Some((vec!["ehlo"], what, "give a full name like mail.sender.example"));
        }
        if self.proxy_protocol.is_some() {
            if self.socks5.is_some() {
                let what = "a source goes out through one proxy, and this has two".to_owned();
                return Some((vec!["socks5"], what, "leave out `socks5` or `proxy_protocol`"));
            }
            if self.ipv4.is_none() && self.ipv6.is_none() {
                let what = "the PROXY protocol says from which address to connect, and there is none";
                let advice = "give `ipv4` or `ipv6`, an address of the proxy's machine";
                return Some((vec!["proxy_protocol"], what.to_owned(), advice));
            }
        }
        let of_socks5 = self.socks5.as_ref().and_then(Socks5::mistake);
        if let Some((key, what, advice)) = of_socks5 {
            return Some((vec!["socks5", key], what, advice));
        }
        let (keys, what, advice) = self.relay.as_ref()?.mistake()?;
        Some(([vec!["relay"], keys].concat(), what, advice))
    }
}

impl Socks5 {
    fn mistake(&self) -> Option<(&'static str, String, &'static str)> {
        let passwords = usize::from(self.password_env.is_some()) + usize::from(self.password_file.is_some());
        match (&self.user, passwords) {
            (None, 0) => None,
            (Some(user), 1) => (user.is_empty() || user.len() > SOCKS5_OCTETS_MAX).then(|| {
                let what = format!("a SOCKS5 user name has 1 to {SOCKS5_OCTETS_MAX} octets");
                ("user", what, "give the name that the proxy knows")
            }),
            _ => Some((
                "user",
                "a user name and one place of its password go together".to_owned(),
                "give `user` and either `password_env` or `password_file`, or none of them",
            )),
        }
    }
}

impl Relay {
    fn mistake(&self) -> Option<(Vec<&'static str>, String, &'static str)> {
        let Some(machine) = self.machine() else {
            let what = format!("`{}` is neither a host name nor an IP address", self.host);
            return Some((vec!["host"], what, "give a full name like smtp.relay.example"));
        };
        for (key, zero) in [
            ("port", self.port == Some(0)),
            ("sessions", self.sessions == Some(0)),
            ("messages_per_session", self.messages_per_session == Some(0)),
        ] {
            if zero {
                return Some((vec![key], format!("{key} is 0"), "at least 1 is needed to send"));
            }
        }
        let is_here = match machine {
            RelayHost::Localhost => true,
            RelayHost::Address(address) => address.is_loopback(),
            RelayHost::Name(_) => false,
        };
        if self.tls == RelayTls::Off && !is_here {
            if self.auth.is_some() {
                let what = "without TLS the user's secret could be had by anybody on the way".to_owned();
                return Some((vec!["tls"], what, "use \"starttls\" or \"implicit\""));
            }
            if !self.insecure {
                let what = "without TLS anybody on the way can read the mail".to_owned();
                let advice = "use \"starttls\" or \"implicit\", or say `insecure = true` if it is meant";
                return Some((vec!["tls"], what, advice));
            }
        }
        let (key, what, advice) = self.auth.as_ref()?.mistake()?;
        Some((vec!["auth", key], what, advice))
    }
}

impl Auth {
    fn mistake(&self) -> Option<(&'static str, String, &'static str)> {
        if self.user.is_empty() || self.user.chars().any(char::is_control) {
            let what = "the user name is empty or has a control character in it".to_owned();
            return Some(("user", what, "give the name that the relay knows"));
        }
        let places = [self.password_env.is_some(), self.password_file.is_some()];
        let places = places.into_iter().chain([self.token_env.is_some(), self.token_file.is_some()]);
        if places.filter(|is_there| *is_there).count() != 1 {
            let what = "one place of a password or a token is needed".to_owned();
            let advice = "give one of `password_env`, `password_file`, `token_env`, `token_file`";
            return Some(("user", what, advice));
        }
        match self.method {
            Some(method) if method.is_for_tokens() != self.is_token() => {
                let (what, advice) = match self.is_token() {
                    true => ("takes a password, not a token", "use \"xoauth2\" or \"oauthbearer\""),
                    false => ("takes a token, not a password", "give `token_env` or `token_file`"),
                };
                Some(("method", format!("{} {what}", written(method)), advice))
            }
            _ => None,
        }
    }
}

/// As it stands in settings.
fn written(method: Mechanism) -> &'static str {
    match method {
        Mechanism::Plain => "plain",
        Mechanism::Login => "login",
        Mechanism::CramMd5 => "cram-md5",
        Mechanism::ScramSha256 => "scram-sha-256",
        Mechanism::Xoauth2 => "xoauth2",
        Mechanism::Oauthbearer => "oauthbearer",
    }
}
