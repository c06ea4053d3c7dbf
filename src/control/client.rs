//! Asking a running engine. Blocks, for a few seconds at most.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::protocol::{PATIENCE, REPLY_OCTETS_MAX, Reply, Request};
use super::socket;
use crate::campaign::run::{Run, RunError};
use crate::config::units::format_duration;

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

/// Longer than the engine takes for any answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

/// Asks the engine that works on `run`.
///
/// # Errors
/// None does, it does not answer, or it refuses.
pub fn ask(state: &Path, run: &Run, request: &Request) -> Result<Reply, ControlError> {
    let id = || run.id.clone();
    let stream = socket::connect(state, &run.id, PATIENCE).map_err(|error| match run.is_locked() {
        true => ControlError::Unreachable { run: id(), error: in_time(error, PATIENCE) },
        false => ControlError::NotRunning(id()),
    })?;
    let line = exchanged(stream, request, ANSWER_WAIT)
        .map_err(|error| ControlError::Silent { run: id(), error: in_time(error, ANSWER_WAIT) })?;
    match serde_json::from_slice(&line).map_err(|error| ControlError::Foreign { run: id(), error })? {
        Reply::Refused(why) => Err(ControlError::Refused(why)),
        reply => Ok(reply),
    }
}

/// A wait that is over is told by the system as a resource that is not there at the moment.
fn in_time(error: io::Error, wait: Duration) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            let what = format!("nothing came in {}", format_duration(wait));
            io::Error::new(io::ErrorKind::TimedOut, what)
        }
        _ => error,
    }
}

/// `wait`: for the answer, from octet to octet; what writing waits for was set with the connection.
fn exchanged(mut stream: UnixStream, request: &Request, wait: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(wait))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_says_nothing_is_given_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wait = Duration::from_millis(50);
        let error = in_time(exchanged(ours, &Request::Campaign, wait).unwrap_err(), wait);
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::TimedOut, "nothing came in 50ms".into())
        );
        drop(theirs);
    }

    #[test]
    fn half_an_answer_is_none() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"done\":[").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let error = exchanged(ours, &Request::Campaign, ANSWER_WAIT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
