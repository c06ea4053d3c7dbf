//! Asking a running engine. Blocks, for a few seconds at most.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use super::protocol::{PATIENCE, REPLY_OCTETS_MAX, Reply, Request};
use super::socket;
use crate::campaign::run::{Run, RunError};

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error(
        "no engine is running for {0}; start it with `postroad resume {0}`, or name another run with --run"
    )]
    NotRunning(String),
    #[error("no engine is running; start a run, or name the folder where one runs with --state")]
    NoneRunning,
    #[error("several engines are running: name one with --run ({})", .0.join(", "))]
    Several(Vec<String>),
    #[error("an engine works on {run}, but it cannot be asked (it may be starting or stopping): {error}")]
    Unreachable { run: String, error: io::Error },
    #[error("the engine of {run} did not answer: {error}")]
    Silent { run: String, error: io::Error },
    #[error(
        "the engine of {run} answered what this version does not understand ({error}); is it another version?"
    )]
    Foreign { run: String, error: serde_json::Error },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// The run that an engine works on: that of the name, or the only one.
///
/// # Errors
/// None, or several and none was named.
pub fn running(state: &Path, id: Option<&str>) -> Result<Run, ControlError> {
    if let Some(id) = id {
        let run = Run::open(state, id)?;
        return if run.is_locked() { Ok(run) } else { Err(ControlError::NotRunning(run.id)) };
    }
    // What was damaged or half removed is not what runs.
    let runs = Run::list(state)?.into_iter().filter_map(|id| Run::open(state, &id).ok());
    let mut running: Vec<Run> = runs.filter(Run::is_locked).collect();
    match running.len() {
        0 => Err(ControlError::NoneRunning),
        1 => Ok(running.remove(0)),
        _ => Err(ControlError::Several(running.into_iter().map(|run| run.id).collect())),
    }
}

/// Asks the engine that works on `run`.
///
/// # Errors
/// None does, it does not answer, or it refuses.
pub fn ask(state: &Path, run: &Run, request: &Request) -> Result<Reply, ControlError> {
    let id = || run.id.clone();
    let stream = socket::connect(state, &run.id).map_err(|error| match run.is_locked() {
        true => ControlError::Unreachable { run: id(), error },
        false => ControlError::NotRunning(id()),
    })?;
    let line = exchanged(stream, request).map_err(|error| ControlError::Silent { run: id(), error })?;
    match serde_json::from_slice(&line).map_err(|error| ControlError::Foreign { run: id(), error })? {
        Reply::Refused(why) => Err(ControlError::Refused(why)),
        reply => Ok(reply),
    }
}

fn exchanged(mut stream: std::os::unix::net::UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    // Longer than the engine takes for any answer.
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_OCTETS_MAX as u64)).read_until(b'\n', &mut reply)?;
    if reply.last() == Some(&b'\n') {
        return Ok(reply);
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off"))
}
