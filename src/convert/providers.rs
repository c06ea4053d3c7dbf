//! Which of our providers a peer's words mean: by domain, by name, by the names of exchanges.

use std::sync::LazyLock;

use crate::shaping::{OTHER_NAMES, Tables};

static SHIPPED: LazyLock<Tables> = LazyLock::new(Tables::shipped);

/// Domains of mailboxes and the provider whose exchanges serve them. Facts, from their MX records.
const DOMAINS: [(&str, &str); 44] = [
    ("gmail.com", "google"),
    ("googlemail.com", "google"),
    ("yahoo.com", "yahoo"),
    ("yahoo.co.uk", "yahoo"),
    ("yahoo.fr", "yahoo"),
    ("yahoo.de", "yahoo"),
    ("yahoo.it", "yahoo"),
    ("yahoo.es", "yahoo"),
    ("yahoo.ca", "yahoo"),
    ("yahoo.com.br", "yahoo"),
    ("yahoo.co.in", "yahoo"),
    ("ymail.com", "yahoo"),
    ("rocketmail.com", "yahoo"),
    ("aol.com", "yahoo"),
    ("aim.com", "yahoo"),
    ("verizon.net", "yahoo"),
    ("att.net", "yahoo"),
    ("sbcglobal.net", "yahoo"),
    ("outlook.com", "outlook"),
    ("hotmail.com", "outlook"),
    ("hotmail.co.uk", "outlook"),
    ("hotmail.fr", "outlook"),
    ("hotmail.it", "outlook"),
    ("live.com", "outlook"),
    ("msn.com", "outlook"),
    ("icloud.com", "apple"),
    ("me.com", "apple"),
    ("mac.com", "apple"),
    ("comcast.net", "comcast"),
    ("mail.com", "mail-com"),
    ("orange.fr", "orange"),
    ("wanadoo.fr", "orange"),
    ("gmx.net", "gmx"),
    ("gmx.de", "gmx"),
    ("web.de", "gmx"),
    ("t-online.de", "t-online"),
    ("yahoo.co.jp", "yahoo-japan"),
    ("qq.com", "qq"),
    ("foxmail.com", "qq"),
    ("163.com", "netease"),
    ("126.com", "netease"),
    ("mail.ru", "mail-ru"),
    ("yandex.ru", "yandex"),
    ("yandex.com", "yandex"),
];

/// The provider that serves a well-known domain.
pub(super) fn of_domain(domain: &str) -> Option<&'static str> {
    let found = DOMAINS.iter().find(|(known, _)| known.eq_ignore_ascii_case(domain));
    found.map(|(_, provider)| *provider).filter(|provider| is_shipped(provider))
}

fn is_shipped(name: &str) -> bool {
    SHIPPED.provider(name).is_some()
}

/// The shipped provider of that name, or called so elsewhere.
pub(super) fn named(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if is_shipped(&lower) {
        return Some(lower);
    }
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
    other.filter(|name| is_shipped(name)).or_else(|| of_domain(&lower)).map(str::to_owned)
}

/// The shipped provider that has `suffix`, or a wider one.
pub(super) fn of_suffix(suffix: &str) -> Option<String> {
    let dots = suffix.match_indices('.').map(|(dot, _)| &suffix[dot..]);
    let mut candidates = std::iter::once(suffix).chain(dots);
    candidates.find_map(|candidate| {
        let mut providers = SHIPPED.providers();
        providers
            .find(|(_, layer)| layer.suffixes().iter().any(|known| known == candidate))
            .map(|(name, _)| name.to_owned())
    })
}

/// The suffixes of a shipped provider.
pub(super) fn suffixes(name: &str) -> Vec<String> {
    SHIPPED.provider(name).map(|layer| layer.suffixes().to_vec()).unwrap_or_default()
}

/// A suffix as ours are written, without what makes a peer's never match; the repairs that took.
///
/// # Errors
/// Why it could never match whatever is done.
pub(super) fn suffix(text: &str) -> Result<(String, Option<&'static str>), String> {
    let mut repair = None;
    let mut suffix = text.trim().to_owned();
    if let Some(stripped) = suffix.strip_suffix('.') {
        suffix = stripped.to_owned();
        repair = Some("it ends in a dot and never matched; here it is written without");
    }
    if suffix.bytes().any(|octet| octet.is_ascii_uppercase()) {
        suffix.make_ascii_lowercase();
        repair = repair.or(Some("it has capital letters and never matched; here it is in lower case"));
    }
    match crate::site::Providers::can_match(&suffix) {
        Ok(()) => Ok((suffix, repair)),
        Err(why) => Err(format!("it can never match an exchange: {why}")),
    }
}
