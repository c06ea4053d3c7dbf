//! The real program as a child of the test: started, watched, stopped and killed.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use postroad::campaign::run::Run;
use postroad::metrics::Report;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::{PATIENCE, Stage};

/// How often the world or a child is looked at.
const LOOK: Duration = Duration::from_millis(2);

impl Stage {
    /// Writes this stage's node as a settings file, if it is not there: a program at work may read it.
    pub fn settings(&self) -> PathBuf {
        let (file, text) = (self.folder.path().join("postroad.toml"), self.node.merged_toml());
        if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
            return file;
        }
        let draft = file.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &file).unwrap();
        file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postroad"));
        command.arg("--config").arg(self.settings()).args(arguments).env_remove("RUST_LOG");
        command
    }

    /// Starts the program in the background.
    pub fn spawn(&self, arguments: &[&str]) -> Program {
        let [out, err] = ["stdout", "stderr"].map(|name| self.folder.path().join(name));
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .expect("the program starts");
        Program { child, err }
    }

    /// Runs the program to its end.
    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// The one run of this stage, if it has begun.
    pub fn only_run(&self) -> Option<Run> {
        let runs = Run::list(&self.node.state).unwrap();
        assert!(runs.len() <= 1, "{runs:?}");
        runs.first().map(|id| Run::open(&self.node.state, id).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The report that the program wrote.
    pub fn report(&self) -> Report {
        let path = self.only_run().expect("a run").report_path();
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

/// A program under way; killed when dropped.
pub struct Program {
    child: Child,
    err: PathBuf,
}

impl Program {
    /// Waits until `condition`; `false` when the program ended before.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        while !condition() {
            if self.child.try_wait().unwrap().is_some() {
                return condition();
            }
            assert!(began.elapsed() < PATIENCE, "{what}: in vain\n{}", self.errors());
            std::thread::sleep(LOOK);
        }
        true
    }

    /// `kill -9`; `false` when it had ended by itself.
    pub fn kill(mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap().signal() == Some(Signal::KILL.as_raw())
    }

    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the exit code and what it said on the standard error.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut status: Option<ExitStatus> = None;
        let began = Instant::now();
        while status.is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.errors());
            std::thread::sleep(LOOK);
            status = self.child.try_wait().unwrap();
        }
        (status.and_then(|status| status.code()), self.errors())
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not permitted.
    pub fn mount(octets: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={octets}"), "none"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it with a file until `left` octets are free.
    pub fn fill(&self, left: u64) -> PathBuf {
        let filler = self.path().join("filler");
        let mut file = File::create(&filler).unwrap();
        let free = rustix::fs::statvfs(self.path()).unwrap();
        let octets = (free.f_bavail * free.f_frsize).saturating_sub(left);
        let zeros = std::io::repeat(0);
        // A run may write meanwhile: full is full.
        let _ = std::io::copy(&mut std::io::Read::take(zeros, octets), &mut file);
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
