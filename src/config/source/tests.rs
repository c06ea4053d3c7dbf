//! Settings of sources, as people write them.

use super::*;
use crate::config::Node;

fn parse(text: &str) -> Result<Node, String> {
    Node::parse(Path::new("f"), text).map_err(|error| error.to_string())
}

fn fault(text: &str) -> String {
    parse(text).expect_err(text)
}

#[test]
fn the_shipped_examples_are_settings() {
    let node = parse(include_str!("../../../data/relays.toml")).unwrap();
    for name in ["ses", "sendgrid", "mailgun", "emaillabs", "mailslurp", "company"] {
        let relay = node.sources[name].relay.as_ref().unwrap_or_else(|| panic!("{name} is no relay"));
        assert!(matches!(relay.machine(), Some(RelayHost::Name(_))), "{name}");
        assert_ne!(relay.tls, RelayTls::Off, "{name}");
        assert!(relay.auth.is_some(), "{name}");
    }
    assert_eq!(parse(&node.merged_toml()).unwrap(), node);
}

#[test]
fn a_relay_needs_next_to_nothing() {
    let node = parse("[sources.a.relay]\nhost = \"smtp.relay.example\"\n").unwrap();
    let relay = node.sources["a"].relay.clone().unwrap();
    assert_eq!((relay.tls, relay.port(), relay.auth), (RelayTls::Starttls, 587, None));
    let of = |tls: &str| {
        let text = format!("[sources.a.relay]\nhost = \"127.0.0.1\"\ntls = \"{tls}\"\n");
        parse(&text).unwrap().sources["a"].relay.as_ref().unwrap().port()
    };
    assert_eq!((of("implicit"), of("off")), (465, 25));
}

#[test]
fn account_limits_are_one_rate_or_several() {
    let rates = |messages: &str| {
        let text = format!("[sources.a.relay]\nhost = \"smtp.relay.example\"\nmessages = {messages}\n");
        let node = parse(&text)?;
        assert_eq!(parse(&node.merged_toml()).unwrap(), node);
        Ok::<_, String>(node.sources["a"].relay.clone().unwrap().messages)
    };
    assert_eq!(rates("\"14/s\"").unwrap(), ["14/s".parse().unwrap()]);
    let both: [Rate; 2] = ["14/s".parse().unwrap(), "50,000/day".parse().unwrap()];
    assert_eq!(rates("[\"14/s\", \"50,000/day\"]").unwrap(), both);
    assert!(rates("14").unwrap_err().contains("a rate like"));
    assert!(rates("[\"fast\"]").unwrap_err().contains("is no rate"));
}

#[test]
fn what_cannot_work_or_would_show_a_secret_is_refused() {
    const RELAY: &str = "[sources.a.relay]\nhost = \"smtp.relay.example\"\n";
    const AUTH: &str = "auth = { user = \"me\", password_env = \"P\" }\n";
    for (text, wanted) in [
        ("[sources.a.relay]\nhost = \"not a name\"\n".into(), "neither a host name"),
        (format!("{RELAY}port = 0\n"), "port is 0"),
        (format!("{RELAY}sessions = 0\n"), "sessions is 0"),
        (format!("{RELAY}tls = \"off\"\n"), "insecure = true"),
        (format!("{RELAY}tls = \"off\"\ninsecure = true\n{AUTH}"), "secret could be had"),
        (format!("{RELAY}auth = {{ user = \"me\" }}\n"), "one place of a password"),
        (format!("{RELAY}auth = {{ user = \"me\", password = \"x\" }}\n"), "unknown key `password`"),
        (
            format!("{RELAY}auth = {{ user = \"m\", password_env = \"P\", token_file = \"t\" }}\n"),
            "one place",
        ),
        (
            format!("{RELAY}auth = {{ user = \"m\", password_env = \"P\", method = \"xoauth2\" }}\n"),
            "takes a token",
        ),
        (
            format!("{RELAY}auth = {{ user = \"m\", token_env = \"T\", method = \"plain\" }}\n"),
            "takes a password",
        ),
        ("[sources.a]\nproxy_protocol = { address = \"127.0.0.1:1\" }\n".into(), "there is none"),
        (
            "[sources.a]\nipv4 = \"127.0.0.1\"\nproxy_protocol = { address = \"127.0.0.1:1\" }\n\
             socks5 = { address = \"127.0.0.1:1\" }\n"
                .into(),
            "has two",
        ),
        ("[sources.a]\nsocks5 = { address = \"127.0.0.1:1\", user = \"u\" }\n".into(), "go together"),
        ("[sources.a]\nehlo = \"nodots\"\n".into(), "no host name for EHLO"),
    ] {
        let said = fault(&text);
        assert!(said.contains(wanted), "{text}\n{said}");
    }
    let meant = format!("{RELAY}tls = \"off\"\ninsecure = true\n");
    assert!(parse(&meant).is_ok());
    assert!(parse(&format!("[sources.a.relay]\nhost = \"localhost\"\ntls = \"off\"\n{AUTH}")).is_ok());
}

#[test]
fn secrets_are_read_without_their_line_end_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "päss word\r\n").unwrap();
    let place = SecretPlace::File(file.clone());
    let secret = place.read().unwrap();
    assert_eq!(secret.expose(), "päss word");
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    for bad in ["", "\n", "two\nlines", "nul\0"] {
        std::fs::write(&file, bad).unwrap();
        let error = place.read().unwrap_err();
        assert!(matches!(error, SecretError::Unusable(_)), "{bad:?}: {error}");
    }
    assert!(SecretPlace::File(folder.path().join("gone")).read().is_err());
    assert!(SecretPlace::Env("POSTROAD_NO_SUCH_VARIABLE".into()).read().is_err());
}

#[test]
fn files_of_secrets_are_relative_to_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let text = "[sources.a]\nsocks5 = { address = \"127.0.0.1:1\", user = \"u\", password_file = \"s\" }\n\
                [sources.a.relay]\nhost = \"smtp.relay.example\"\n\
                auth = { user = \"m\", token_file = \"t\" }\n";
    std::fs::write(&file, text).unwrap();
    let source = &Node::load(Some(&file)).unwrap().sources["a"];
    assert_eq!(source.socks5.as_ref().unwrap().password_file, Some(folder.path().join("s")));
    let auth = source.relay.as_ref().unwrap().auth.as_ref().unwrap();
    assert_eq!(auth.secret(), Some(SecretPlace::File(folder.path().join("t"))));
}
