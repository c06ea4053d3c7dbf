//! The checks of what a manifest says of leaving the list, tracking and complaints.

use super::Manifest;
use super::check::{Mistake, mailbox, one_line};
use crate::address::is_within;
use crate::message;

pub(super) fn values(manifest: &Manifest) -> Result<(), Mistake> {
    unsubscribe(manifest)?;
    tracking(manifest)?;
    feedback_id(manifest)?;
    cfbl(manifest)
}

fn unsubscribe(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(unsubscribe) = &manifest.unsubscribe else { return Ok(()) };
    match (&unsubscribe.url, &unsubscribe.base_url) {
        (Some(_), Some(_)) => {
            let what = "`url` and `base_url` both say where one click leads";
            let advice = "keep base_url for signed tokens, or url for links of your own";
            return Err(Mistake::new(&["unsubscribe", "base_url"], what, advice));
        }
        (None, None) if unsubscribe.mailto.is_none() => {
            let what = "[unsubscribe] does not say how to leave the list";
            let advice = "give one of base_url and url, or mailto, or both kinds";
            return Err(Mistake::new(&["unsubscribe"], what, advice));
        }
        (_, Some(url)) => base_url(url, &["unsubscribe", "base_url"])?,
        _ => {}
    }
    if let Some(url) = &unsubscribe.url {
        let keys = ["unsubscribe", "url"];
        one_line("the URL", url, &keys)?;
        if !url.starts_with("https://") {
            let what = format!("`{url}` is no https URL");
            let advice = "one-click unsubscription wants https:// (RFC 8058)";
            return Err(Mistake::new(&keys, what, advice));
        }
    }
    if let Some(mailto) = &unsubscribe.mailto {
        let keys = ["unsubscribe", "mailto"];
        one_line("the address", mailto, &keys)?;
        if !mailto.contains('@') {
            let what = format!("`{mailto}` is no address");
            return Err(Mistake::new(&keys, what, "write it like leave@lists.example"));
        }
    }
    Ok(())
}

fn tracking(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(tracking) = &manifest.tracking else { return Ok(()) };
    base_url(&tracking.base_url, &["tracking", "base_url"])?;
    if !tracking.clicks && !tracking.opens {
        let what = "[tracking] tracks nothing";
        return Err(Mistake::new(&["tracking"], what, "add clicks = true or opens = true, or take it out"));
    }
    if manifest.html.is_none() && manifest.variants.iter().all(|variant| variant.html.is_none()) {
        let what = "only HTML can be tracked, and there is none";
        return Err(Mistake::new(&["tracking"], what, "give `html`, or take [tracking] out"));
    }
    Ok(())
}

/// A token is put behind it.
fn base_url(url: &str, keys: &[&str]) -> Result<(), Mistake> {
    message::check_base_url(url).map_err(|reason| {
        let what = format!("no token can be put behind `{url}`: {reason}");
        Mistake::new(keys, what, "write it like https://mail.sender.example/u/")
    })
}

fn feedback_id(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(text) = &manifest.feedback_id else { return Ok(()) };
    one_line("feedback_id", text, &["feedback_id"])?;
    message::check_feedback_id(text).map_err(|reason| {
        let advice = "write it like autumn:{{ plan }}:newsletter:sender";
        Mistake::new(&["feedback_id"], reason, advice)
    })
}

/// RFC 9477 §3.1: complaints go to the domain of From, one below it, or one that signs the message; others
/// could have them sent to anyone.
fn cfbl(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(text) = &manifest.cfbl_address else { return Ok(()) };
    let refuse = |what: String, advice: &str| Err(Mistake::new(&["cfbl_address"], what, advice));
    let advice = "write it like complaints@sender.example";
    let address = match mailbox(text) {
        Ok((name, address)) if name.is_empty() && !text.contains('<') => address,
        Ok(_) => return refuse(format!("`{text}` is an address with a name"), advice),
        Err(reason) => return refuse(format!("`{text}` is no address: {reason}"), advice),
    };
    let from = manifest.from_address();
    let keys = manifest.dkim.iter().map(|key| key.domain.as_str());
    let (domain, from) = (address.domain().as_str(), from.domain().as_str());
    // Without keys of its own it is signed by the settings', which may be of a domain above.
    let may_sign = manifest.dkim.is_empty() && domain.contains('.') && is_within(from, domain);
    if !may_sign && !keys.chain([from]).any(|above| is_within(domain, above)) {
        let what = format!("{} is neither the domain of `from` nor one that signs", address.domain());
        let advice =
            "take an address of the From domain, or add a [[dkim]] key of that domain (RFC 9477 §3.1)";
        return refuse(what, advice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::campaign::manifest::Manifest;

    #[test]
    fn complaints_may_come_to_a_domain_that_the_settings_may_sign_for() {
        let parsed = |address: &str, keys: &str| {
            let text = format!(
                "name = \"a\"\nfrom = \"us@news.sender.test\"\nreturn_path_domain = \"b.test\"\nsubject = \"x\"\n\
                 text = \"m.txt\"\ncfbl_address = \"{address}\"\n[list]\nfile = \"l.csv\"\n{keys}"
            );
            Manifest::parse(Path::new("campaign.toml"), &text).map(|_| ())
        };
        let own = "[[dkim]]\ndomain = \"news.sender.test\"\nselector = \"s\"\nkey_file = \"k\"\n";
        for address in ["fbl@news.sender.test", "fbl@in.news.sender.test", "fbl@sender.test"] {
            parsed(address, "").unwrap_or_else(|error| panic!("{address}: {error}"));
        }
        for (address, keys) in [("fbl@sender.test", own), ("fbl@other.test", ""), ("fbl@xsender.test", "")] {
            parsed(address, keys).expect_err(address);
        }
    }
}
