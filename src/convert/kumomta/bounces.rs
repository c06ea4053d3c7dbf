//! The rules of KumoMTA's bounce classifier: `[rules]`, a list of expressions a category. The first that
//! matches counts, there and here.

use std::path::Path;

use toml::de::DeTable;

use super::super::conditions::Line;
use super::super::report::Report;
use super::super::rules::Effect;
use super::super::{Lines, Work};
use super::in_order;
use crate::classify::Class;
use crate::config::Fault;

/// Our class for a category of either peer; in lower case without hyphens.
fn class(category: &str) -> Option<&'static str> {
    Some(match category {
        "invalidrecipient" | "badmailbox" => "unknown-user",
        "inactivemailbox" => "inactive-mailbox",
        "quotaissues" => "mailbox-full",
        "baddomain" | "dnsfailure" => "bad-domain",
        "spamblock" => "source-blocked",
        "spamcontent" | "spamrelated" | "contentrelated" => "spam-content",
        "prohibitedattachment" | "virusrelated" => "forbidden-content",
        "relaydenied" | "relayingissues" => "relay-denied",
        "routingerrors" => "routing-loop",
        "transientfailure" | "badconfiguration" | "noanswerfromhost" | "badconnection" => "system-trouble",
        "invalidsender" => "sender-refused",
        "policyrelated" => "policy",
        "protocolerrors" => "protocol",
        "authenticationfailed" => "authentication",
        "toomanyrecipients" => "too-many-recipients",
        _ => return None,
    })
}

/// What a category's rules do: what its class does, but for measures, which no category takes there.
///
/// # Errors
/// Why there is no class for it.
pub(in super::super) fn effect(category: &str) -> Result<Effect, &'static str> {
    let folded: String =
        category.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let Some(class) = class(&folded) else {
        return Err(match folded.as_str() {
            "uncategorized" | "other" => {
                "what no rule knows is classified by its enhanced code, then by its code"
            }
            "messageexpired" => "no reply says so: what expires is known here",
            "success" => "what was accepted meets no rule",
            "autoreply" | "subscribe" | "unsubscribe" | "challengeresponse" => {
                "it is about messages that come later, and rules here are about replies"
            }
            _ => "there is no class for this category: give its rules one of ours",
        });
    };
    let measured = Class::from_name(class).is_some_and(|class| class.defaults().measure.is_some());
    let actions = if measured { vec!["no measure".to_owned()] } else { Vec::new() };
    Ok(Effect { class, scope: None, actions, after: None })
}

/// That a class is used without its measure is said once a category.
pub(in super::super) fn note_on(effect: &Effect) -> Option<String> {
    (!effect.actions.is_empty()).then(|| {
        format!(
            "the category is the class `{}`, without the measure of that class, since a category takes none there: \
             delete \"no measure\" to have it",
            effect.class
        )
    })
}

/// # Errors
/// The text is no TOML.
pub(in super::super) fn bounces(file: &Path, text: &str, work: &mut Work) -> Result<(), Fault> {
    let document = DeTable::parse(text).map_err(|error| Fault::from_toml(file, text, &error))?;
    let lines = Lines::new(file, text);
    for (key, value) in in_order(document.get_ref()) {
        let place = lines.place(key.span().start);
        match (key.get_ref().as_ref(), value.get_ref().as_table()) {
            ("rules", Some(rules)) => categories(rules, &lines, work),
            (other, _) => work.report.lost(&place, other, "a file of the bounce classifier has only [rules]"),
        }
    }
    Ok(())
}

fn categories(rules: &DeTable<'_>, lines: &Lines, work: &mut Work) {
    for (key, value) in in_order(rules) {
        let place = lines.place(key.span().start);
        let category = key.get_ref().as_ref();
        let Work { rules, report, .. } = &mut *work;
        let Some(regexes) = value.get_ref().as_array() else {
            report.lost(&place, category, "it is no list of expressions");
            continue;
        };
        if regexes.is_empty() {
            continue;
        }
        let effect = match effect(category) {
            Ok(effect) => effect,
            Err(why) => {
                lose_all(
                    regexes.iter().filter_map(|regex| {
                        Some((regex.get_ref().as_str()?, lines.place(regex.span().start)))
                    }),
                    why,
                    report,
                );
                continue;
            }
        };
        if let Some(note) = note_on(&effect) {
            report.changed(&place, category, note);
        }
        for regex in regexes.iter() {
            let place = lines.place(regex.span().start);
            match regex.get_ref().as_str() {
                Some(text) => rules.add((category, text, Line::Reply), &[], &effect, &place, report),
                None => report.lost(&place, category, "it is no expression"),
            }
        }
    }
}

fn lose_all<'a>(
    regexes: impl Iterator<Item = (&'a str, super::super::report::Place)>,
    why: &str,
    report: &mut Report,
) {
    for (regex, place) in regexes {
        report.lost(&place, format!("/{regex}/"), why);
    }
}
