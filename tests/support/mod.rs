//! A world, a campaign and an engine in one place, for tests that watch a promise being kept.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod ends;
pub mod program;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postroad::address::AddressRef;
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::config::Node;
use postroad::config::policy::Breakers;
use postroad::engine::{self, EngineError, Options, Running};
use postroad::metrics::Report;
use postroad::policy::Tempo;
use postroad::smtp::Reach;
use postroad::world::{self, Counts, World, WorldFile};
use tempfile::TempDir;

/// A world of `tests/worlds`.
pub fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds");
    std::fs::read_to_string(folder.join(name).with_extension("toml")).unwrap()
}

/// Waits until `condition`, looking at it now and then; not for ever.
pub async fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < within, "{what}: in vain for {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// No test waits longer than this for a run to end.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Stage {
    pub folder: TempDir,
    pub world: World,
    pub node: Node,
}

impl Stage {
    /// A world from TOML, seen from a node whose settings are `settings` and what the world needs.
    pub fn new(world: &str, settings: &str) -> Self {
        Self::with_options(world, settings, world::Options { capture: true, ..world::Options::default() })
    }

    pub fn with_options(world: &str, settings: &str, options: world::Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = WorldFile::parse("world.toml", world).unwrap_or_else(|error| panic!("{error}"));
        let world = World::start(&file, options).unwrap();
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, world.ca_pem()).unwrap();
        let mut node =
            Node::parse(Path::new("postroad.toml"), settings).unwrap_or_else(|error| panic!("{error}"));
        node.state = folder.path().join("state");
        if !settings.contains("[breakers") {
            without_breakers(&mut node);
        }
        node.dns.servers = vec![world.dns_server()];
        node.dns.negative_ttl = Duration::from_millis(100);
        node.smtp_port = world.smtp_port();
        node.tls_ca_file = Some(authority);
        Self { folder, world, node }
    }

    /// Writes a campaign whose list is `list` and whose manifest has `extra` besides what it needs.
    pub fn campaign(&self, list: &str, extra: &str) -> PathBuf {
        let folder = self.folder.path().join("campaign");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("recipients.csv"), list).unwrap();
        std::fs::write(folder.join("message.txt"), "Hello {{ name }},\n\nthis is for {{ address }}.\n")
            .unwrap();
        let manifest = format!(
            "name = \"test\"\nfrom = \"News <news@sender.test>\"\nreturn_path_domain = \"bounces.sender.test\"\n\
             subject = \"Hello {{{{ name }}}}\"\ntext = \"message.txt\"\n{extra}\n[list]\nfile = \"recipients.csv\"\n"
        );
        std::fs::write(folder.join("campaign.toml"), manifest).unwrap();
        folder
    }

    pub fn run(&self, campaign: &Path) -> Run {
        let mut manifest = Manifest::open(campaign).unwrap_or_else(|error| panic!("{error}"));
        manifest.scale_time(self.world.time_factor());
        Run::create(&self.node.state, manifest, None).unwrap()
    }

    pub async fn start(&self, run: Run) -> Result<Running, EngineError> {
        let reach = Reach::World(Arc::new(self.world.smtp_addresses()));
        let tempo = Tempo(self.world.time_factor());
        engine::start(self.node.clone(), run, Options { reach, tempo }).await
    }

    /// Sends a campaign to its end.
    pub async fn send(&self, list: &str, extra: &str) -> Report {
        self.send_all(self.run(&self.campaign(list, extra))).await
    }

    /// Carries a run to its end.
    pub async fn send_all(&self, run: Run) -> Report {
        let running = self.start(run).await.unwrap_or_else(|error| panic!("{error}"));
        let finished = tokio::time::timeout(PATIENCE, running.finished()).await;
        finished.expect("the run should have ended").unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn accepted(&self, address: &str) -> u32 {
        self.world.accepted(&AddressRef::parse(address).unwrap())
    }

    pub fn attempts(&self, address: &str) -> u32 {
        self.world.attempts(&AddressRef::parse(address).unwrap())
    }

    pub fn counts(&self) -> Counts {
        self.world.counts()
    }
}

/// Worlds are worse than any breaker would bear; only tests of breakers have them.
fn without_breakers(node: &mut Node) {
    let Breakers { hard_bounce, complaint, deferral } = &mut node.breakers;
    for windows in [hard_bounce, complaint, deferral] {
        for thresholds in [&mut windows.short, &mut windows.long] {
            (thresholds.warn, thresholds.slow, thresholds.pause) = (None, None, None);
        }
    }
}

/// A list of `count` recipients `u0@domain` and on.
pub fn list(count: usize, domain: impl Fn(usize) -> String) -> String {
    let mut list = String::from("email,name\n");
    for number in 0..count {
        list.push_str(&format!("u{number}@{},Person {number}\n", domain(number)));
    }
    list
}
