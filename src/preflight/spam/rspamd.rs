//! Rspamd by HTTP: the message is posted to `/checkv2`, the verdict comes as JSON.

use std::collections::BTreeMap;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{ANSWER_OCTETS_MAX, Judgement, Rule, ScorerError, Verdict, connect};
use crate::config::spam::Place;

/// Rspamd takes 50 MiB unless it is told otherwise; no mail is as large as this.
pub(super) const MESSAGE_OCTETS_MAX: usize = 25 << 20;

/// Of the answer, what is used.
#[derive(Deserialize)]
struct Answer {
    score: f64,
    /// Of the action `reject`; null where that is switched off.
    required_score: Option<f64>,
    action: String,
    #[serde(default)]
    symbols: BTreeMap<String, Symbol>,
}

#[derive(Deserialize)]
struct Symbol {
    score: f64,
    #[serde(default)]
    description: String,
}

/// Asks for score and symbols; `password` is the environment variable that holds one.
///
/// # Errors
/// No connection, no password where one is wanted, or an answer that is no verdict.
pub(super) async fn ask(
    place: &Place,
    password: Option<&str>,
    message: &[u8],
) -> Result<Verdict, ScorerError> {
    let read =
        |variable: &str| std::env::var(variable).map_err(|_| ScorerError::Password(variable.to_owned()));
    let password = password.map(read).transpose()?;
    let stream = connect(place).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this function, whether it has got its answer or not.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let host = match place {
        Place::Tcp(place) => place.as_str(),
        Place::Unix(_) => "localhost",
    };
    // A message that is refused early is judged by all rules all the same.
    let mut request = Request::post("/checkv2").header("Host", host).header("Pass", "all");
    if let Some(password) = password {
        request = request.header("Password", password);
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(message)))
        .map_err(|_| ScorerError::Answer("its host or password is no value of a header".to_owned()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect().await;
    let body = body
        .map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => ScorerError::Http(*error),
            Err(_) => ScorerError::Long,
        })?
        .to_bytes();
    if status != StatusCode::OK {
        return Err(ScorerError::Answer(format!("it answers {status}{}", advice(status))));
    }
    parse(&body)
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; it wants a password: set `rspamd_password_env`"
        }
        StatusCode::NOT_FOUND => "; is it the proxy or another server?",
        _ => "",
    }
}

fn parse(body: &[u8]) -> Result<Verdict, ScorerError> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| ScorerError::Answer(format!("it does not answer as Rspamd does: {error}")))?;
    let rules = answer.symbols.into_iter().map(|(name, symbol)| Rule {
        name,
        score: Some(symbol.score),
        description: symbol.description,
    });
    Ok(Verdict {
        score: answer.score,
        threshold: answer.required_score,
        judgement: judgement(&answer.action),
        action: Some(answer.action),
        rules: rules.collect(),
    })
}

fn judgement(action: &str) -> Judgement {
    match action {
        "no action" => Judgement::Clean,
        "greylist" | "soft reject" => Judgement::Doubtful,
        // Refused, marked, put aside; or an action of one's own, which nobody makes for good mail.
        _ => Judgement::Spam,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gives_score_threshold_action_and_rules() {
        let body = br#"{"is_skipped":false,"score":6.5,"required_score":15.0,"action":"add header",
            "symbols":{"A":{"name":"A","score":6.5,"metric_score":6.5,"description":"All of it","options":["x"]},
            "B":{"name":"B","score":0.0,"metric_score":0.0}},"messages":{},"time_real":0.01}"#;
        let verdict = parse(body).unwrap();
        assert_eq!((verdict.score, verdict.threshold), (6.5, Some(15.0)));
        assert_eq!(
            (verdict.judgement, verdict.in_words().as_str()),
            (Judgement::Spam, "a score of 6.5 of 15.0 (add header)")
        );
        let rules: Vec<String> = verdict.telling_rules().iter().map(Rule::to_string).collect();
        assert_eq!(rules, ["A 6.5: All of it"]);
    }

    #[test]
    fn actions_are_clean_doubtful_or_spam() {
        let actions = ["no action", "greylist", "soft reject", "add header", "rewrite subject", "reject"];
        use Judgement::{Clean, Doubtful, Spam};
        assert_eq!(actions.map(judgement), [Clean, Doubtful, Doubtful, Spam, Spam, Spam]);
    }

    #[test]
    fn what_is_no_verdict_is_told() {
        for body in [b"<html>" as &[u8], b"{}", b"{\"error\":\"x\"}", b""] {
            let error = parse(body).expect_err("no verdict").to_string();
            assert!(error.contains("does not answer as Rspamd does"), "{error}");
        }
    }
}
