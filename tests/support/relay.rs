//! A smart host: Postfix that relays for those whom Dovecot knows.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

/// Whom the relay knows, and what shows that it is them.
pub const USER: &str = "bulk@sender.test";
pub const PASSWORD: &str = "päss word, and = signs";
/// What tokens are signed with (HS256).
pub const TOKEN_KEY: &[u8] = b"a key that only this test and its relay know";

/// Postfix at 127.0.0.1 (STARTTLS) and 127.0.0.2 (TLS from the start), the same port at both. It takes mail for
/// everybody from whoever has logged in, and from nobody else.
pub struct Relay {
    pub postfix: Server,
    /// Ends with it.
    _dovecot: Server,
}

impl Relay {
    /// With a certificate for `names`.
    pub fn start(names: &[&str]) -> Option<Self> {
        let dovecot = Server::dovecot()?;
        let port = free_port();
        let settings = format!(
            "virtual_mailbox_domains = static:all\nmynetworks =\nsmtpd_sasl_auth_enable = yes\n\
             smtpd_sasl_type = dovecot\nsmtpd_sasl_path = inet:127.0.0.1:{}\n\
             smtpd_sasl_security_options = noanonymous\nsmtpd_sasl_authenticated_header = yes\n\
             smtpd_tls_auth_only = yes\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject\n\
             smtpd_recipient_restrictions = permit_sasl_authenticated, reject\n",
            dovecot.port
        );
        let faces = format!(
            "127.0.0.1:{port} inet n - n - - smtpd\n\
             127.0.0.2:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"
        );
        let postfix = Server::postfix_with(port, names, &settings, &faces)?;
        Some(Self { postfix, _dovecot: dovecot })
    }
}

impl Server {
    /// Dovecot that answers Postfix's questions about logins, and nothing else.
    fn dovecot() -> Option<Self> {
        let Some(program) = find("dovecot") else {
            skipped("Dovecot", "not installed");
            return None;
        };
        if !is_root() {
            skipped("Dovecot", "only root can run it");
            return None;
        }
        let (folder, port) = (folder(), free_port());
        let at = folder.path();
        let keys = at.join("keys/default/HS256");
        for part in [&keys, &at.join("run")] {
            fs::create_dir_all(part).unwrap();
        }
        fs::write(keys.join("default"), BASE64_STANDARD.encode(TOKEN_KEY)).unwrap();
        fs::write(at.join("people"), format!("{USER}:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let tokens = format!(
            "introspection_mode = local\nusername_attribute = sub\n\
             local_validation_key_dict = fs:posix:prefix={}/keys/\n",
            at.display()
        );
        fs::write(at.join("tokens.conf"), tokens).unwrap();
        fs::write(at.join("dovecot.conf"), dovecot_settings(at, port)).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.arg("-c").arg(at.join("dovecot.conf")).args(arguments);
            command
        };
        // Killed, it would leave its helpers behind.
        let stop = command(&["stop"]);
        Self::started(command(&["-F"]), folder, port, Some(stop), |address| {
            TcpStream::connect(address).is_ok()
        })
    }
}

fn dovecot_settings(at: &Path, port: u16) -> String {
    let at = at.display();
    format!(
        "base_dir = {at}/run\nstate_dir = {at}/run\nprotocols =\nssl = no\nlog_path = /dev/stderr\n\
         auth_verbose = yes\nauth_failure_delay = 0\ndisable_plaintext_auth = no\n\
         auth_mechanisms = plain login cram-md5 scram-sha-256 xoauth2 oauthbearer\n\
         service anvil {{\n chroot =\n}}\nservice stats {{\n chroot =\n}}\n\
         service anvil {{\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n\
         service auth {{\n inet_listener {{\n address = 127.0.0.1\n port = {port}\n }}\n}}\n\
         passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {at}/tokens.conf\n}}\n\
         passdb {{\n driver = passwd-file\n mechanisms = plain login cram-md5 scram-sha-256\n\
         args = {at}/people\n}}\n\
         userdb {{\n driver = static\n args = uid=65534 gid=65534 home=/nonexistent\n}}\n"
    )
}
