//! AUTH over an open connection (RFC 4954): carries the lines of an [`Exchange`].

use std::fmt::Display;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Talk, failed};
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::reply::Reply;
use crate::smtp::auth::{Exchange, Login};
use crate::smtp::{Capabilities, Dial, Endpoint};

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Says who we are (RFC 4954). Whatever the relay does not like about that is about the source.
    pub(super) async fn log_in(
        &mut self,
        dial: &Dial<'_>,
        endpoint: &Endpoint,
        login: &Login,
        capabilities: &Capabilities,
    ) -> Result<(), Finding> {
        let (wait, quit) = (dial.timeouts.ehlo, dial.timeouts.quit);
        let mut exchange = match begin(endpoint, login, capabilities) {
            Ok(exchange) => exchange,
            Err(finding) => {
                self.leave(quit).await;
                return Err(finding);
            }
        };
        let mut line = exchange.command();
        loop {
            let answer = self.command(line.as_bytes(), wait).await.map_err(|failure| match failure {
                Failure::Garbage(text) => failed(Stage::Auth, Failure::Garbage(unsaid(&text, &line))),
                other => failed(Stage::Auth, other),
            })?;
            let code = answer.code();
            let next = match code {
                235 => exchange.accepted().map(|()| None),
                334 => exchange.respond(answer.lines().next().unwrap_or_default()).map(Some),
                _ => {
                    let scope = if code == 421 { Scope::Path } else { Scope::Source };
                    let reply = without_echo(answer.to_reply(), &line);
                    self.leave(quit).await;
                    return Err(Finding::Refused { stage: Stage::Auth, scope, reply });
                }
            };
            match next {
                Ok(Some(response)) => line = response,
                Ok(None) => return Ok(()),
                Err(fault) => {
                    if code == 334 {
                        // So an exchange is given up (RFC 4954 §4); that it is refused then is no news.
                        let _ = self.command(b"*\r\n", wait).await;
                    }
                    self.leave(quit).await;
                    return Err(no_login(fault));
                }
            }
        }
    }
}

fn begin(endpoint: &Endpoint, login: &Login, capabilities: &Capabilities) -> Result<Exchange, Finding> {
    let mechanism = login.choose(capabilities.auth).map_err(|missing| Finding::Failed {
        stage: Stage::Auth,
        scope: Scope::Source,
        failure: Failure::NotOffered(missing),
    })?;
    let secret = login.secret.read().map_err(no_login)?;
    let port = endpoint.address.port();
    Exchange::new(mechanism, &login.user, secret, &endpoint.host, port).map_err(no_login)
}

/// Servers that do not know a command often quote it, and what they say goes into records and reports.
fn without_echo(reply: Reply, line: &str) -> Reply {
    let text = unsaid(&reply.to_string(), line);
    text.get(3..).and_then(|text| Reply::new(reply.code(), text)).unwrap_or(reply)
}

/// `text` without what the response in `line` says, or a part of it.
fn unsaid(text: &str, line: &str) -> String {
    /// Base64 comes in groups of so many.
    const GROUP: usize = 4;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let response = match words[..] {
        ["AUTH", _, response] | [response] => response,
        _ => return text.to_owned(),
    };
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let words = text.split_inclusive(|c| !is_base64(c)).map(|word| {
        let bare = word.trim_end_matches(|c| !is_base64(c));
        match bare.len() >= GROUP && response.contains(bare) {
            true => format!("…{}", &word[bare.len()..]),
            false => word.to_owned(),
        }
    });
    words.collect()
}

/// Why we could not say who we are; about the source.
pub(super) fn no_login(why: impl Display) -> Finding {
    Finding::Failed { stage: Stage::Auth, scope: Scope::Source, failure: Failure::Login(why.to_string()) }
}
