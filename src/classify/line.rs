//! A reply out of a line of text: a bare one as servers say it, or one inside a log's line.
//!
//! Knows how Postfix, KumoMTA and PowerMTA write the replies they got: after `said:`, as a JSON object
//! with the code beside the text, as a field that begins with `smtp;`. What is not a refusal or an
//! acceptance is nobody's reply.

use crate::outcome::Stage;
use crate::reply::Reply;

/// A reply, and the stage if the line says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub stage: Option<Stage>,
    pub reply: Reply,
}

/// Stages by the names that rules give them.
pub const STAGES: [(&str, Stage); 9] = [
    ("connect", Stage::Connect),
    ("greeting", Stage::Greeting),
    ("ehlo", Stage::Ehlo),
    ("starttls", Stage::StartTls),
    ("auth", Stage::Auth),
    ("mail", Stage::Mail),
    ("rcpt", Stage::Rcpt),
    ("data", Stage::Data),
    ("content", Stage::Content),
];

/// Words with which logs tell the stage, in lower case; longer ones first where one begins another.
const STAGE_WORDS: [(&str, Stage); 14] = [
    ("end of data command", Stage::Content),
    ("end of data", Stage::Content),
    ("in reply to data command", Stage::Data),
    ("rcpt to", Stage::Rcpt),
    ("mail from", Stage::Mail),
    ("in reply to starttls", Stage::StartTls),
    ("in reply to ehlo", Stage::Ehlo),
    ("in reply to helo", Stage::Ehlo),
    ("\"command\":\"rcpt", Stage::Rcpt),
    ("\"command\":\"mail", Stage::Mail),
    ("\"command\":\".", Stage::Content),
    ("\"command\":\"data", Stage::Data),
    ("while performing the initial protocol greeting", Stage::Greeting),
    ("initial server greeting", Stage::Greeting),
];

/// The stage of that name in a rule; any case.
pub fn stage_named(name: &str) -> Option<Stage> {
    STAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, stage)| *stage)
}

/// A stage's name in rules; the two that have none never have a reply.
pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Route => "route",
        Stage::Local => "local",
        _ => STAGES.iter().find(|(_, known)| *known == stage).map_or("", |(name, _)| name),
    }
}

/// A reply as a server says it, its lines joined by blanks or not: `550 5.1.1 ...`, `550-5.1.1 ...`. A
/// stage may stand before it: `RCPT: 550 ...`.
pub fn bare(line: &str) -> Option<Found> {
    let line = line.trim();
    if let Some((word, rest)) = line.split_once(':')
        && let Some(stage) = stage_named(word.trim())
    {
        return Some(Found { stage: Some(stage), reply: reply_at(rest.trim_start())? });
    }
    Some(Found { stage: None, reply: reply_at(line)? })
}

/// A bare reply, or the one inside a log's line.
pub fn find(line: &str) -> Option<Found> {
    if let Some(found) = bare(line) {
        return Some(found);
    }
    let reply = json(line).or_else(|| logged(line))?;
    let lower = line.to_ascii_lowercase().replace("\": \"", "\":\"");
    let stage = STAGE_WORDS.iter().find(|(words, _)| lower.contains(words)).map(|(_, stage)| *stage);
    Some(Found { stage, reply })
}

/// A reply whose code `text` begins with.
fn reply_at(text: &str) -> Option<Reply> {
    let digits = text.as_bytes().get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(digits[0], b'2' | b'4' | b'5') {
        return None;
    }
    // All three are ASCII: a boundary.
    let rest = text.get(3..)?;
    let rest = match rest.as_bytes().first() {
        None => rest,
        Some(b' ' | b'-') => &rest[1..],
        _ => return None,
    };
    Reply::new(text[..3].parse().ok()?, rest)
}

/// After the words that logs put before a reply, else the first code that anything like a reply follows.
fn logged(line: &str) -> Option<Reply> {
    let lower = line.to_ascii_lowercase();
    for words in ["said: ", "refused to talk to me: ", "smtp; ", "smtp;", "response: ", "reply: "] {
        for (at, _) in lower.match_indices(words) {
            let rest = &line[at + words.len()..];
            if let Some(reply) = reply_at(without_context(rest)) {
                return Some(reply);
            }
        }
    }
    let mut word_starts = line.match_indices([' ', '"', '(', ';', ',', ':', '=']).map(|(at, _)| at + 1);
    word_starts.find_map(|at| {
        let rest = &line[at..];
        let reply = reply_at(without_context(rest))?;
        // A bare number is a count or a size more often than a code.
        (reply.enhanced().is_some() || rest.as_bytes().get(3) == Some(&b'-')).then_some(reply)
    })
}

/// Without what Postfix says after the reply, and without the rest of a CSV field that was quoted.
fn without_context(text: &str) -> &str {
    let text = text.split(" (in reply to ").next().unwrap_or(text);
    text.split("\",").next().unwrap_or(text).trim_end_matches(['"', ')'])
}

/// `{"code": 550, "enhanced_code": {...}, "content": "..."}` anywhere in a JSON line.
fn json(line: &str) -> Option<Reply> {
    let start = line.find('{')?;
    find_in(&serde_json::from_str(&line[start..]).ok()?)
}

fn find_in(value: &serde_json::Value) -> Option<Reply> {
    match value {
        serde_json::Value::Object(fields) => {
            let code = ["code", "status", "smtp_code"].iter().find_map(|key| fields.get(*key)?.as_u64());
            let text = ["content", "text", "message"].iter().find_map(|key| fields.get(*key)?.as_str());
            if let (Some(code), Some(text)) = (code, text)
                && let Some(reply) = Reply::new(u16::try_from(code).ok()?, &with_enhanced(fields, text))
            {
                return Some(reply);
            }
            fields.values().find_map(find_in)
        }
        serde_json::Value::Array(items) => items.iter().find_map(find_in),
        serde_json::Value::String(text) => reply_at(text),
        _ => None,
    }
}

/// The text with its enhanced code before it, which some logs keep apart.
fn with_enhanced(fields: &serde_json::Map<String, serde_json::Value>, text: &str) -> String {
    let enhanced = ["enhanced_code", "enhanced"].iter().find_map(|key| fields.get(*key));
    match enhanced {
        Some(serde_json::Value::String(code)) => format!("{code} {text}"),
        Some(serde_json::Value::Object(parts)) => {
            let part = |key: &str| parts.get(key).and_then(serde_json::Value::as_u64);
            match (part("class"), part("subject"), part("detail")) {
                (Some(class), Some(subject), Some(detail)) => format!("{class}.{subject}.{detail} {text}"),
                _ => text.to_owned(),
            }
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> (Option<Stage>, String) {
        let found = find(line).unwrap_or_else(|| panic!("no reply in {line}"));
        (found.stage, found.reply.to_string())
    }

    #[test]
    fn a_bare_reply_may_say_its_stage() {
        assert_eq!(found("550 5.1.1 No such user"), (None, "550 5.1.1 No such user".into()));
        assert_eq!(found("421-4.7.28 one"), (None, "421 4.7.28 one".into()));
        assert_eq!(found("MAIL: 550 no"), (Some(Stage::Mail), "550 no".into()));
        assert_eq!(found("421"), (None, "421".into()));
        for line in ["", "550x", "350 go on", "5.1.1 no code", "hello", "55", "é50 x"] {
            assert_eq!(find(line), None, "{line}");
        }
    }

    #[test]
    fn logs_of_other_mailers_hold_a_reply() {
        // Postfix's smtp(8).
        let line = "Nov 20 10:00:00 mx postfix/smtp[812]: 4F1: to=<a@b.example>, relay=mx.b.example[192.0.2.1]:25, \
                    delay=1.2, delays=0.1/0/0.5/0.6, dsn=5.1.1, status=bounced (host mx.b.example[192.0.2.1] said: \
                    550 5.1.1 <a@b.example>: Recipient address rejected: User unknown (in reply to RCPT TO command))";
        let reply = "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown";
        assert_eq!(found(line), (Some(Stage::Rcpt), reply.into()));
        let line = "status=deferred (host mx.b.example[192.0.2.1] refused to talk to me: 421 4.7.0 Too busy)";
        assert_eq!(found(line).1, "421 4.7.0 Too busy");
        let line = "said: 552-5.7.0 one 552 5.7.0 two (in reply to end of DATA command))";
        assert_eq!(found(line), (Some(Stage::Content), "552 5.7.0 one 552 5.7.0 two".into()));
        // KumoMTA's log records.
        let line = r#"{"type":"Bounce","response":{"code":550,"enhanced_code":{"class":5,"subject":1,"detail":1},
            "content":"No such user","command":"RCPT TO:<a@b.example>"}}"#;
        assert_eq!(found(line), (Some(Stage::Rcpt), "550 5.1.1 No such user".into()));
        // PowerMTA's accounting file: type, times, addresses, dsnAction, dsnStatus, dsnDiag, ...
        let line = "b,2026-11-20,a@s.example,a@b.example,failed,5.1.1 (bad),\"smtp;550 5.1.1 No, not here\",mx.b.example";
        assert_eq!(found(line).1, "550 5.1.1 No, not here");
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in "\\PC{0,200}") {
            let _ = find(&line);
        }

        #[test]
        fn what_a_reply_prints_is_found_again(code in 400u16..600, text in "[a-z][a-z ]{0,20}[a-z]") {
            let reply = Reply::new(code, &text).unwrap();
            assert_eq!(find(&reply.to_string()).map(|found| found.reply), Some(reply));
        }
    }
}
