//! The tokens of one campaign's messages: which there are, and each recipient's.
//!
//! What is the same in all messages (the address a token is put behind) is written once; a token that no
//! template asks for is not made, and one that two ask for is made once.

use std::collections::HashMap;

use crate::envelope::RecipientId;
use crate::token::{CHARACTERS, Claim, Key, Kind, RunToken};

/// Octets of a base URL at most: it stands in a header line with its token.
const BASE_URL_MAX: usize = 200;

/// What makes the tokens of a campaign.
pub(super) struct Tokens {
    key: Key,
    run: RunToken,
    made: Vec<Made>,
}

struct Made {
    before: String,
    kind: Kind,
    /// The first that is needed of the same kind, before it.
    same: Option<usize>,
    is_needed: bool,
}

impl Tokens {
    pub fn new(key: Key, run: RunToken) -> Self {
        Self { key, run, made: Vec::new() }
    }

    /// Adds `before` and a token; gives its place.
    pub fn add(&mut self, before: &str, kind: Kind) -> usize {
        self.made.push(Made { before: before.to_owned(), kind, same: None, is_needed: false });
        self.made.len() - 1
    }

    /// Messages need these, and no others.
    pub fn need(&mut self, places: impl IntoIterator<Item = usize>) {
        for place in places {
            self.made[place].is_needed = true;
        }
        let mut first = HashMap::new();
        for (place, made) in self.made.iter_mut().enumerate().filter(|(_, made)| made.is_needed) {
            let earliest = *first.entry(made.kind).or_insert(place);
            made.same = Some(earliest).filter(|earliest| *earliest != place);
        }
    }

    /// Writes the recipient's over `texts`.
    pub fn write(&self, recipient: RecipientId, texts: &mut Vec<String>) {
        texts.resize_with(self.made.len(), String::new);
        for (place, made) in self.made.iter().enumerate() {
            let (earlier, rest) = texts.split_at_mut(place);
            let text = &mut rest[0];
            text.clear();
            if !made.is_needed {
                continue;
            }
            text.push_str(&made.before);
            match made.same.map(|same| &earlier[same]) {
                Some(same) => text.push_str(&same[same.len() - CHARACTERS..]),
                None => self.key.seal(&Claim { kind: made.kind, run: self.run, recipient }, text),
            }
        }
    }
}

/// Whether tokens can be put behind a URL.
///
/// # Errors
/// What is wrong with it.
pub fn check_base_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("it must start with https://");
    };
    let host = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { "" });
    if crate::address::Domain::parse(name).is_err() {
        return Err("after https:// comes the name of a host");
    }
    if host.len() == rest.len() {
        return Err("it must end where the token goes: behind a / or a =");
    }
    if !rest.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !b"\"#'<>\\^`{|}".contains(&byte)) {
        return Err("it holds a blank or another character that no URL has before a token");
    }
    if url.len() > BASE_URL_MAX {
        return Err("it is longer than 200 characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_https_and_plain() {
        for good in
            ["https://a.test/", "https://a.test:8443/u/", "https://a.test/?l=1&t=", "https://a.test/u?t="]
        {
            check_base_url(good).unwrap();
        }
        for bad in [
            "",
            "http://a.test/",
            "https://",
            "https:///u/",
            "https://a.test",
            "https://a.test/ u/",
            "https://a.test/#",
            "https://a.test/{{ id }}/",
            "https://a.test/\r\nX: y/",
            "https://a b/",
            "https://a.test/\"",
            "https://a.test:x/",
            "HTTPS://a.test/",
            "https://u@a.test/",
            "https://a.test/\u{e9}",
        ] {
            assert!(check_base_url(bad).is_err(), "{bad}");
        }
        assert!(check_base_url(&format!("https://a.test/{}", "x".repeat(200))).is_err());
    }

    #[test]
    fn only_what_is_needed_is_made_and_once() {
        let (key, recipient) = (Key::new(1, &[7; 32]), RecipientId::new(0, 7));
        let mut tokens = Tokens::new(key.clone(), RunToken::new("k3f9"));
        tokens.add("a", Kind::Unsubscribe);
        let second = tokens.add("b", Kind::Unsubscribe);
        let third = tokens.add("", Kind::Unsubscribe);
        tokens.add("", Kind::Open);
        tokens.need([third, second]);
        let mut texts = vec!["left from before".to_owned()];
        tokens.write(recipient, &mut texts);
        let claim = Claim { kind: Kind::Unsubscribe, run: RunToken::new("k3f9"), recipient };
        assert_eq!(crate::token::verify(&texts[2], &key), Ok((claim, 1)));
        assert_eq!(
            (texts[0].as_str(), texts[1].clone(), texts[3].as_str()),
            ("", format!("b{}", texts[2]), "")
        );
    }
}
