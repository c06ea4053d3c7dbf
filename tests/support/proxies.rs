//! Proxies: microsocks, HAProxy.

use super::*;

impl Server {
    /// microsocks for `user` with `password`, which connects from `from`.
    pub fn microsocks(user: &str, password: &str, from: Ipv4Addr) -> Option<Self> {
        let Some(program) = find("microsocks") else {
            skipped("microsocks", "not installed");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-i", "127.0.0.1", "-u", user, "-P", password]);
        command.args(["-p", &port.to_string(), "-b", &from.to_string()]);
        Self::started(command, folder(), port, None, |address| TcpStream::connect(address).is_ok())
    }

    /// HAProxy that goes by the PROXY header alone: to the address in it, from the address in it.
    pub fn haproxy() -> Option<Self> {
        let Some(program) = find("haproxy") else {
            skipped("HAProxy", "not installed");
            return None;
        };
        if !is_root() {
            skipped("HAProxy", "only root lets it choose the address it connects from");
            return None;
        }
        let (folder, port) = (folder(), free_port());
        let settings = folder.path().join("haproxy.cfg");
        fs::write(&settings, haproxy_settings(port)).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(settings);
        Self::started(command, folder, port, None, |address| TcpStream::connect(address).is_ok())
    }
}

fn haproxy_settings(port: u16) -> String {
    format!(
        "global\n maxconn 200\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend in\n bind 127.0.0.1:{port} accept-proxy\n default_backend out\n\
         backend out\n source 0.0.0.0 usesrc clientip\n server any 0.0.0.0\n"
    )
}
