//! The fields of an egress path, one by one: which of our keys they are, or why none.

use std::time::Duration;

use toml::de::DeValue;

use super::super::Work;
use super::super::limits::Section;
use super::super::report::Place;
use super::super::units;
use super::{text_of, tls};

/// RFC 5321 §4.5.3.2.6.
const CONTENT_END: Duration = Duration::from_secs(600);

/// What kind of value a field has, and our key for it.
enum Field {
    Count(&'static str),
    Rate(&'static str),
    Time(&'static str),
}

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "connection_limit" => Field::Count("sessions"),
        "provider_connection_limit" => Field::Count("sessions_total"),
        "max_deliveries_per_connection" => Field::Count("messages_per_session"),
        "max_message_rate" => Field::Rate("messages"),
        "provider_max_message_rate" => Field::Rate("messages_total"),
        "max_connection_rate" => Field::Rate("connections"),
        "idle_timeout" => Field::Time("idle"),
        "connect_timeout" => Field::Time("timeouts.connect"),
        "banner_timeout" => Field::Time("timeouts.greeting"),
        "ehlo_timeout" => Field::Time("timeouts.ehlo"),
        "starttls_timeout" => Field::Time("timeouts.starttls"),
        "mail_from_timeout" => Field::Time("timeouts.mail"),
        "rcpt_to_timeout" => Field::Time("timeouts.rcpt"),
        "data_timeout" => Field::Time("timeouts.data_start"),
        "data_dot_timeout" => Field::Time("timeouts.content_end"),
        _ => return None,
    })
}

/// Why a field has no key here, and what there is instead.
fn why_not(name: &str) -> &'static str {
    match name {
        "additional_connection_limits" | "additional_message_rate_throttles" => {
            "limits across paths go by provider: sessions_total and messages_total of a [provider.NAME]"
        }
        "source_selection_rate" | "additional_source_selection_rates" | "provider_source_selection_rate" => {
            "sources are chosen by weight and by what sites say; limit a source with [source.NAME] or a warm-up schedule"
        }
        "max_recipients_per_batch" => "every recipient has a message of their own here",
        "max_ready" | "readyq_pool_name" | "refresh_interval" | "refresh_strategy" | "reconnect_strategy" => {
            "queues need no settings here: their memory is bounded"
        }
        "consecutive_connection_failures_before_delay" => {
            "hosts that cannot be reached are left alone by themselves"
        }
        "enable_mta_sts" | "enable_dane" => {
            "there is neither MTA-STS nor DANE; tls = \"verified\" asks for a certificate that is valid for the exchange"
        }
        "enable_pipelining" | "enable_rset" | "ignore_8bit_checks" => {
            "what a server offers is used, and what it does not offer is not"
        }
        "tls_certificate" | "tls_private_key" => "there are no client certificates",
        "ip_lookup_strategy" => "a source that has only one of ipv4 and ipv6 uses that one",
        "prohibited_hosts" | "skip_hosts" => "no host can be left out by its address",
        "smtp_auth_plain_username" | "smtp_auth_plain_password" => {
            "it is a relay: [sources.NAME.relay] of postroad.toml has `host`, and `auth` with `user` and `password_env`; \
             passwords are not copied"
        }
        "use_lmtp" => "only SMTP is spoken",
        "smtp_port" => {
            "there is one port for all exchanges, `smtp_port` of postroad.toml, or the port of a relay"
        }
        "ehlo_domain" => {
            "the name in EHLO is the node's (`ehlo_name`) or a source's (`ehlo`), towards everybody"
        }
        "rset_timeout" | "system_shutdown_timeout" => "there is no such timeout",
        _ if name.starts_with("tls_") || name.starts_with("openssl_") || name.starts_with("rustls_") => {
            "ciphers are rustls's own, and what failed is not remembered"
        }
        "opportunistic_tls_reconnect_on_failed_handshake" | "remember_broken_tls" => {
            "with tls = \"opportunistic\" a session goes on in clear after a failed handshake by itself"
        }
        "try_next_host_on_transport_error" => "the next host is always tried",
        _ if name.starts_with("dispatcher_") || name.ends_with("_policy") || name.ends_with("_strategy") => {
            "it tunes KumoMTA's own works"
        }
        "provider_name" => "a provider is known by its exchanges",
        _ => "there is nothing like it",
    }
}

/// Carries one field of `section` over, or reports it.
pub(super) fn say(work: &mut Work, section: &Section, name: &str, value: &DeValue<'_>, place: &Place) {
    let Work { limits, report, settings, .. } = work;
    if matches!(name, "match" | "automation" | "sources" | "mx_rollup" | "replace_base") {
        return;
    }
    let at = (place, name);
    let text = text_of(value);
    if let Some(field) = field(name) {
        let Some(text) = text else { return report.lost(place, name, "its value is of another kind") };
        match field {
            Field::Count(key) => limits.say_count(section, (key, &text), at, report),
            Field::Rate(key) => limits.say_rate(section, (key, &text), at, report),
            Field::Time(key) => limits.say_time(section, (key, &text), at, report),
        }
        return match name {
            "provider_connection_limit" | "provider_max_message_rate" => {
                report.changed(place, name, "KumoMTA counts it for each source, here it is over all of them");
            }
            "data_dot_timeout" if units::duration(&text).is_some_and(|time| time < CONTENT_END) => report.changed(
                place,
                name,
                "less than 10m (RFC 5321 §4.5.3.2.6) can make duplicates: leave it out if you have no reason",
            ),
            _ => {}
        };
    }
    match (name, section, text.as_deref()) {
        ("enable_tls", _, Some(text)) => match tls(text) {
            Some(policy) => {
                limits.say(section, ("tls", &policy), at, report);
                if text == "Opportunistic" {
                    report.changed(place, name, "a certificate that is not valid is taken here");
                }
            }
            None => report.lost(place, name, format!("`{text}` is no TLS policy")),
        },
        ("smtp_port", Section::Default, Some(text)) => match text.parse() {
            Ok(port) if port > 0 => settings.smtp_port = Some(port),
            _ => report.lost(place, name, "it is no port"),
        },
        ("ehlo_domain", Section::Default | Section::Source(_), Some(text)) => {
            match crate::address::Domain::parse(text) {
                Ok(domain) => match section {
                    Section::Source(source) => {
                        settings.sources.entry(source.clone()).or_default().ehlo =
                            Some(domain.as_str().to_owned());
                    }
                    _ => settings.ehlo_name = Some(domain.as_str().to_owned()),
                },
                Err(error) => report.lost(place, name, error.to_string()),
            }
        }
        _ => report.lost(place, name, why_not(name)),
    }
}
