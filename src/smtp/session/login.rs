//! AUTH over an open connection (RFC 4954): carries the lines of an [`Exchange`].

use std::fmt::Display;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Talk, failed};
use crate::outcome::{Failure, Finding, Scope, Stage};
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
        let at_auth = |failure| failed(Stage::Auth, failure);
        let mut line = exchange.command();
        loop {
            let answer = self.command(line.as_bytes(), wait).await.map_err(at_auth)?;
            let code = answer.code();
            let next = match code {
                235 => exchange.accepted().map(|()| None),
                334 => exchange.respond(answer.lines().next().unwrap_or_default()).map(Some),
                _ => {
                    let scope = if code == 421 { Scope::Path } else { Scope::Source };
                    let reply = answer.to_reply();
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

/// Why we could not say who we are; about the source.
pub(super) fn no_login(why: impl Display) -> Finding {
    Finding::Failed { stage: Stage::Auth, scope: Scope::Source, failure: Failure::Login(why.to_string()) }
}
