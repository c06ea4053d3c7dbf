//! What sections say together and cannot mean: found before anything is sent.

use std::collections::BTreeMap;

use super::key::{Key, Section, Value};
use super::tables::{Layer, Tables};
use crate::config::{Fault, fault};

/// What people call providers that are shipped under another name.
pub(crate) const OTHER_NAMES: [(&str, &str); 22] = [
    ("gmail", "google"),
    ("googlemail", "google"),
    ("gsuite", "workspace"),
    ("google-workspace", "workspace"),
    ("aol", "yahoo"),
    ("verizon", "yahoo"),
    ("hotmail", "outlook"),
    ("live", "outlook"),
    ("msn", "outlook"),
    ("microsoft", "office365"),
    ("microsoft365", "office365"),
    ("m365", "office365"),
    ("o365", "office365"),
    ("icloud", "apple"),
    ("web.de", "gmx"),
    ("webde", "gmx"),
    ("163", "netease"),
    ("126", "netease"),
    ("tencent", "qq"),
    ("wanadoo", "orange"),
    ("mailru", "mail-ru"),
    ("ses", "amazon-ses"),
];

/// Every mistake in the whole; `sources` are those there are, if that is known.
pub(super) fn check(tables: &Tables, sources: Option<&[&str]>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let names: Vec<&str> = tables.providers().map(|(name, _)| name).collect();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, layer) in tables.providers() {
        if layer.suffixes().is_empty() {
            faults.push(without_mx(name, layer, &names));
        }
        for suffix in layer.suffixes() {
            if let Some(first) = owners.insert(suffix, name) {
                faults.push(claimed_twice(tables, suffix, first, name));
            }
        }
        faults.extend(unknown_replies(name, layer, &names));
    }
    for (name, layer) in tables.providers() {
        faults.extend(needless_suffixes(name, layer, &owners));
        faults.extend(low_totals(layer));
    }
    for (section, layer) in tables.sections() {
        if let (Section::Source(name), Some(known)) = (section, sources)
            && !known.contains(&name.as_str())
        {
            let what = format!("the source `{name}` is not in [sources]");
            faults.push(layer.origin.fault(what, fault::suggestion(name, known)));
        }
    }
    faults
}

/// A provider that no site is ever of; most likely a shipped one under another name.
fn without_mx(name: &str, layer: &Layer, names: &[&str]) -> Fault {
    let meant = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, meant)| *meant);
    let known: Vec<&str> = names.iter().copied().filter(|known| *known != name).collect();
    let advice = match meant.filter(|meant| known.contains(meant)) {
        Some(meant) => format!("it is called `{meant}` here: write [provider.{meant}]"),
        None => format!(
            "add `mx = [\".suffix.example\"]`, or, to change a shipped one: {}",
            fault::suggestion(name, &known)
        ),
    };
    layer.origin.fault(format!("the provider `{name}` has no `mx`, so that no site is ever its"), advice)
}

/// Of the two claims the one in a file of the user's is at fault.
fn claimed_twice(tables: &Tables, suffix: &str, first: &str, second: &str) -> Fault {
    let shipped = Tables::shipped();
    let is_shipped =
        |name| shipped.provider(name).is_some_and(|layer| layer.suffixes().iter().any(|s| s == suffix));
    let (theirs, mine) = if is_shipped(second) { (second, first) } else { (first, second) };
    let all = |name| tables.provider(name).map(Layer::suffixes);
    let what = format!("the suffix `{suffix}` belongs to both `{mine}` and `{theirs}`");
    let advice = if all(mine) == all(theirs) {
        format!("they are one provider under two names: write [provider.{theirs}]")
    } else {
        "leave it to one of them".to_owned()
    };
    match tables.provider(mine).and_then(|layer| layer.said.get(&Key::Mx)) {
        Some(said) => said.origin.fault(what, advice),
        None => unreachable!("it has claimed a suffix"),
    }
}

fn unknown_replies(name: &str, layer: &Layer, names: &[&str]) -> Option<Fault> {
    let said = layer.said.get(&Key::Replies)?;
    let Some(Value::Name(other)) = &said.value else { return None };
    if names.contains(&other.as_str()) {
        return None;
    }
    let what = format!("the replies of `{name}` are to be those of `{other}`, which is no provider");
    Some(said.origin.fault(what, fault::suggestion(other, names)))
}

/// Suffixes below another of the same provider: the longest counts, and it makes no difference here.
fn needless_suffixes(name: &str, layer: &Layer, owners: &BTreeMap<&str, &str>) -> Vec<Fault> {
    let Some(said) = layer.said.get(&Key::Mx) else { return Vec::new() };
    let above = |suffix: &'_ str| {
        let dots: Vec<usize> = suffix.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0).collect();
        dots.into_iter().find_map(|dot| owners.get_key_value(&suffix[dot..]).map(|(s, o)| (*s, *o)))
    };
    let faulty = layer.suffixes().iter().filter_map(|suffix| match above(suffix) {
        Some((wider, owner)) if owner == name => {
            let what = format!("`{suffix}` adds nothing: `{wider}` of `{name}` takes all it could match");
            Some(said.origin.fault(what, "leave one of them out"))
        }
        _ => None,
    });
    faulty.collect()
}

/// Totals below what one path of the provider may do, where one file says both in one section: the
/// larger number could never be reached.
fn low_totals(layer: &Layer) -> Vec<Fault> {
    let pairs = [
        (Key::Sessions, Key::SessionsTotal),
        (Key::Messages, Key::MessagesTotal),
        (Key::Connections, Key::ConnectionsTotal),
    ];
    let faulty = pairs.into_iter().filter_map(|(own, total)| {
        let (own_said, total_said) = (layer.said.get(&own)?, layer.said.get(&total)?);
        let is_low = match (own_said.value.as_ref()?, total_said.value.as_ref()?) {
            (Value::Count(own), Value::Count(total)) => total < own,
            (Value::Rates(own), Value::Rates(total)) => total
                .iter()
                .any(|total| own.iter().any(|own| total.per == own.per && total.count < own.count)),
            _ => false,
        };
        (is_low && own_said.origin.file == total_said.origin.file).then(|| {
            let what = format!("{total} is lower than {own}, which could never be reached");
            total_said.origin.fault(what, format!("lower {own} as well, or raise {total}"))
        })
    });
    faulty.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is wrong with `text` over what is shipped.
    fn faults(text: &str) -> Vec<String> {
        let mut tables = Tables::shipped();
        tables.lay(Tables::read(Path::new("s.toml"), text, None).unwrap());
        check(&tables, Some(&["a", "b"])).iter().map(ToString::to_string).collect()
    }

    fn fault(text: &str) -> String {
        let mut found = faults(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    #[test]
    fn two_names_for_one_provider_are_told() {
        let message = fault("[provider.gmail]\nsessions = 3\n");
        assert!(message.starts_with("s.toml:1:11: the provider `gmail` has no `mx`"), "{message}");
        assert!(message.ends_with("it is called `google` here: write [provider.google]"), "{message}");
        let message = fault("[provider.yaho]\nsessions = 3\n");
        assert!(message.contains("did you mean `yahoo`?"), "{message}");
        let message = fault("[provider.iphone]\nmx = [\".mail.icloud.com\"]\n");
        assert!(
            message.starts_with("s.toml:2:6: the suffix `.mail.icloud.com` belongs to both"),
            "{message}"
        );
        let both = faults("[provider.iphone]\nmx = [\".mail.icloud.com\", \".mail.me.com\"]\n");
        assert!(both.iter().all(|message| message.contains("one provider under two names")), "{both:?}");
    }

    #[test]
    fn a_shipped_provider_under_another_name_needs_only_its_exchanges() {
        let text =
            "[provider.apple]\nmx = [\".icloud.example\"]\n[provider.iphone]\nmx = [\".mail.icloud.com\"]\n";
        assert_eq!(faults(text), [""; 0]);
    }

    #[test]
    fn a_suffix_that_makes_no_difference_is_told() {
        let message = fault("[provider.x]\nmx = [\".x.test\", \"mx.in.x.test\"]\n");
        assert!(message.starts_with("s.toml:2:6: `mx.in.x.test` adds nothing: `.x.test`"), "{message}");
        // It does where another provider's is in between.
        let text =
            "[provider.x]\nmx = [\".x.test\", \"mx.in.x.test\"]\n[provider.y]\nmx = [\".in.x.test\"]\n";
        assert_eq!(faults(text), [""; 0]);
    }

    #[test]
    fn a_total_below_what_one_path_may_is_told() {
        let mx = "[provider.x]\nmx = [\".x.test\"]\n";
        let message = fault(&format!("{mx}sessions = 5\nsessions_total = 3\n"));
        assert!(message.starts_with("s.toml:4:18: sessions_total is lower than sessions"), "{message}");
        let message = fault(&format!("{mx}messages = [\"20/s\", \"9/h\"]\nmessages_total = \"8/h\"\n"));
        assert!(message.contains("messages_total is lower than messages"), "{message}");
        let text = format!("{mx}messages = \"20/s\"\nmessages_total = \"8/h\"\n");
        assert_eq!(faults(&text), [""; 0], "another time is another limit");
        assert_eq!(
            faults("[provider.office365]\nsessions_total = 3\n"),
            [""; 0],
            "the shipped one is theirs"
        );
    }

    #[test]
    fn names_that_are_nobodys_are_told() {
        let message = fault("[source.c]\nsessions = 3\n");
        assert!(message.starts_with("s.toml:1:9: the source `c` is not in [sources]"), "{message}");
        let message = fault("[provider.google]\nreplies = \"googel\"\n");
        assert!(
            message.starts_with("s.toml:2:11: ") && message.contains("did you mean `google`?"),
            "{message}"
        );
    }
}
