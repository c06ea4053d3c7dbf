//! Servers nobody here wrote, run for the length of a test: Postfix, its `smtp-sink`, OpenSMTPD, Dovecot,
//! microsocks, HAProxy.
//!
//! Each has its own folder for settings, queue and mail, and listens on loopback only; what it has
//! accepted is read back from its files. A server that is not here, or cannot run here, says so with
//! [`skipped`] and the test ends. Each stops when dropped.
#![allow(dead_code, reason = "each test file uses its own part")]

mod proxies;
pub mod relay;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// No server takes longer to greet.
const START_MAX: Duration = Duration::from_secs(30);
/// No server takes longer to put what it has accepted where mail is read.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// Says by name that something is not here, past the test runner, which shows only what failed.
pub fn skipped(name: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {name} ({why})");
}

/// A server that runs until this is dropped.
pub struct Server {
    pub port: u16,
    folder: TempDir,
    child: Child,
    /// What ends it; without, it is killed.
    stop: Option<Command>,
}

impl Server {
    /// `smtp-sink` with `switches`; each message goes into a file of its own.
    pub fn smtp_sink(switches: &[&str]) -> Option<Self> {
        let Some(program) = find("smtp-sink") else {
            skipped("smtp-sink", "not installed");
            return None;
        };
        let (folder, port) = (folder(), free_port());
        let mail = folder.path().join("mail");
        fs::create_dir(&mail).unwrap();
        let mut command = Command::new(program);
        if is_root() {
            allow_all(&mail);
            command.args(["-u", "nobody"]);
        }
        command.args(switches).arg("-d").arg(mail.join("m.")).arg(format!("127.0.0.1:{port}")).arg("64");
        // A sink that refuses to talk does not greet either: that it listens is enough.
        Self::started(command, folder, port, None, |address| TcpStream::connect(address).is_ok())
    }

    /// Postfix with three faces, alike but for what they announce: 127.0.0.1 has CHUNKING and
    /// PIPELINING, 127.0.0.2 only PIPELINING, 127.0.0.3 neither. All offer STARTTLS with the
    /// certificate in [`Server::certificate`], refuse `gone…` as unknown, and want nothing sent
    /// ahead that RFC 2920 does not allow.
    pub fn postfix() -> Option<Self> {
        let port = free_port();
        let names = ["mx.chunking.test", "mx.pipelining.test", "mx.lockstep.test"];
        Self::postfix_with(port, &names, POSTFIX_EXCHANGE, &postfix_faces(port))
    }

    /// Postfix with `settings` besides those it always has and `faces` to listen with, of which one is at
    /// `port` of 127.0.0.1, and a certificate for `names`.
    fn postfix_with(port: u16, names: &[&str], settings: &str, faces: &str) -> Option<Self> {
        let Some(program) = find("postfix") else {
            skipped("Postfix", "not installed");
            return None;
        };
        if !is_root() {
            skipped("Postfix", "only root can run it");
            return None;
        }
        let (Some(user), Some(group)) = (account("passwd", "postfix"), account("group", "postfix")) else {
            skipped("Postfix", "there is no user postfix");
            return None;
        };
        let folder = folder();
        let at = folder.path();
        for part in ["conf", "queue", "data", "mail"] {
            fs::create_dir(at.join(part)).unwrap();
        }
        for part in ["data", "mail"] {
            chown(at.join(part), Some(user), None).unwrap();
        }
        make_certificate(at, names);
        fs::write(at.join("conf/main.cf"), postfix_main(at, user, group) + settings).unwrap();
        fs::write(at.join("conf/master.cf"), faces.to_owned() + POSTFIX_SERVICES).unwrap();
        let command = |verb: &str| {
            let mut command = Command::new(&program);
            command.arg("-c").arg(at.join("conf")).arg(verb);
            command
        };
        let stop = command("abort");
        Self::started(command("start-fg"), folder, port, Some(stop), greets)
    }

    /// OpenSMTPD, with neither PIPELINING nor CHUNKING; one file a message.
    ///
    /// It wants users, folders and helpers at fixed places; a mount namespace gives it those without a
    /// trace on the machine, so that it runs where its package is only unpacked (at POSTROAD_OPENSMTPD).
    pub fn open_smtpd() -> Option<Self> {
        let root = PathBuf::from(std::env::var_os("POSTROAD_OPENSMTPD").unwrap_or_else(|| "/".into()));
        let program = root.join("usr/sbin/smtpd");
        let helpers = root.join("usr/libexec");
        if !program.is_file() || !helpers.join("opensmtpd").is_dir() {
            skipped("OpenSMTPD", "not installed, and not unpacked at POSTROAD_OPENSMTPD");
            return None;
        }
        let namespace = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).output();
        if !namespace.is_ok_and(|run| run.status.success()) {
            skipped("OpenSMTPD", "only root can give it a mount namespace");
            return None;
        }
        let (folder, port) = (folder(), free_port());
        let at = folder.path();
        fs::create_dir(at.join("mail")).unwrap();
        allow_all(&at.join("mail"));
        for (name, lines) in [("passwd", OPEN_USERS), ("group", OPEN_GROUPS)] {
            let own = fs::read_to_string(Path::new("/etc").join(name)).unwrap();
            let others = own.lines().filter(|line| !line.starts_with("opensmtp"));
            let all: String = others.chain(lines.lines()).map(|line| format!("{line}\n")).collect();
            fs::write(at.join(name), all).unwrap();
        }
        fs::write(at.join("smtpd.conf"), open_conf(at, port)).unwrap();
        fs::set_permissions(at.join("smtpd.conf"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", OPEN_START, "sh"]);
        command.arg(at).arg(&helpers).arg(&program);
        if let Ok(libraries) = fs::read_dir(root.join("usr/lib")) {
            let folders = libraries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
            command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
        }
        Self::started(command, folder, port, None, greets)
    }

    fn started(
        mut command: Command,
        folder: TempDir,
        port: u16,
        stop: Option<Command>,
        is_up: impl Fn(SocketAddr) -> bool,
    ) -> Option<Self> {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let mut server = Self { port, folder, child, stop };
        let deadline = Instant::now() + START_MAX;
        while !is_up(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended with {ended:?}:\n{}", server.log());
            assert!(Instant::now() < deadline, "{command:?} does not listen:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// What it wrote about its doings.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The certificate it shows, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// All messages in its mailboxes, with CRLF as on the wire, once there are `count` or more.
    pub fn mail(&self, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + DELIVERY_MAX;
        let files = loop {
            let mut files = Vec::new();
            collect(&self.folder.path().join("mail"), &mut files);
            if files.len() >= count {
                break files;
            }
            let (found, log) = (files.len(), self.log());
            assert!(Instant::now() < deadline, "{found} of {count} messages arrived:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        };
        files.iter().map(|file| with_crlf(&fs::read(file).unwrap())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.stop {
            Some(stop) => drop(stop.output()),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

fn postfix_main(at: &Path, user: u32, group: u32) -> String {
    let at = at.display();
    let helpers = ["/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix"]
        .into_iter()
        .find(|folder| Path::new(folder).join("master").exists())
        .expect("Postfix is installed");
    format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\n\
         daemon_directory = {helpers}\nmail_owner = postfix\nsetgid_group = postdrop\n\
         myhostname = mx.postfix.test\nmydestination =\n\
         inet_interfaces = loopback-only\ninet_protocols = ipv4\nalias_maps =\nlocal_recipient_maps =\n\
         maillog_file = /dev/stdout\n\
         virtual_mailbox_base = {at}/mail\nvirtual_mailbox_maps = static:all/\n\
         virtual_uid_maps = static:{user}\nvirtual_gid_maps = static:{group}\n\
         smtpd_data_restrictions = reject_unauth_pipelining\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {at}/cert.pem\n\
         smtpd_tls_key_file = {at}/key.pem\nsmtpd_tls_received_header = yes\n"
    )
}

/// An exchange: for its own domains, but for those it does not know.
const POSTFIX_EXCHANGE: &str = "\
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = chunking.test, pipelining.test, lockstep.test
smtpd_recipient_restrictions =
  check_recipient_access inline:{ { gone@ = 550 5.1.1 No such user here } }, reject_unauth_destination
";

fn postfix_faces(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\n\
         127.0.0.2:{port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=chunking\n\
         127.0.0.3:{port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=chunking,pipelining\n"
    )
}

const POSTFIX_SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
";

const OPEN_USERS: &str = "\
opensmtpd:x:64990:64990::/var/lib/opensmtpd/empty:/bin/false
opensmtpq:x:64991:64991::/var/lib/opensmtpd/empty:/bin/false
opensmtpr:x:64992:64992::/var/lib/opensmtpd/home:/bin/sh";
const OPEN_GROUPS: &str = "opensmtpd:x:64990:\nopensmtpq:x:64991:\nopensmtpr:x:64992:";

/// Arguments: the test's folder, the helpers, the program.
const OPEN_START: &str = "
mount --make-rprivate /
mount --bind $1/passwd /etc/passwd
mount --bind $1/group /etc/group
[ $2 -ef /usr/libexec ] || mount --bind $2 /usr/libexec
for folder in /run /var/lib /var/spool; do mount -t tmpfs none $folder; done
mkdir -p /var/lib/opensmtpd/empty /var/lib/opensmtpd/home
chown 64992:64992 /var/lib/opensmtpd/home
mkdir -m 711 /var/spool/smtpd
exec $3 -d -f $1/smtpd.conf";

fn open_conf(at: &Path, port: u16) -> String {
    let at = at.display();
    format!(
        "listen on 127.0.0.1 port {port} hostname mx.open.test\n\
         table people {{ \"@\" = \"opensmtpr\" }}\n\
         action \"keep\" mda \"umask 022; exec cat > $(mktemp {at}/mail/XXXXXXXXXXXX)\" virtual <people>\n\
         match from any for any action \"keep\"\n"
    )
}

/// `cert.pem` and `key.pem` for the names Postfix is known by.
fn make_certificate(at: &Path, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(at.join("cert.pem"), key.cert.pem()).unwrap();
    fs::write(at.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(at.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Files only: a maildir's `tmp` holds what has not arrived.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.file_name().is_some_and(|name| name == "tmp") => {}
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                out.extend_from_slice(&[line.strip_suffix(b"\r").unwrap_or(line), b"\r\n"].concat())
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(START_MAX)).unwrap();
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).is_ok_and(|_| greeting.starts_with("220"))
}

/// Like a temporary folder of one's own, but a server that gives up root's rights can pass.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn allow_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A program of this name in PATH, or where mail servers are even if PATH does not say so.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The number of a user (`passwd`) or group (`group`).
fn account(table: &str, name: &str) -> Option<u32> {
    let lines = fs::read_to_string(Path::new("/etc").join(table)).ok()?;
    let line = lines.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}
