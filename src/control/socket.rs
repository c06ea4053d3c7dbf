//! Where a run's socket is, and how it comes to be: nobody but its owner can ever connect.
//!
//! It lies in a folder of mode 0700, checked to be ours, and has mode 0600 from its first moment: on
//! Linux a socket's file is made with the mode the socket has. Whoever holds the run's lock owns the
//! name, so that what a dead process left there is replaced. `sun_path` takes 107 octets; a longer
//! path goes through the opened folder, `/proc/self/fd/N/name`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 16;
/// Octets of a path that a socket's address has room for, without the NUL.
const PATH_OCTETS_MAX: usize = 107;

/// The folder of sockets under a state folder.
pub fn folder(state: &Path) -> PathBuf {
    state.join("control")
}

/// A socket that listens; its file goes when this is dropped.
#[derive(Debug)]
pub struct Door {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Of the file, so that another's is not removed.
    inode: Option<u64>,
}

impl Door {
    /// Opens the door of the run `id`, whose lock the caller holds. Needs a tokio runtime.
    ///
    /// # Errors
    /// No such folder can be had, it is another's, or its file system has no sockets.
    pub fn open(state: &Path, id: &str) -> io::Result<Self> {
        let folder = folder(state);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let opened = opened(&folder)?;
        let meta = opened.metadata()?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            let what = format!("{} belongs to another user", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        if meta.mode() & 0o077 != 0 {
            opened.set_permissions(PermissionsExt::from_mode(0o700))?;
        }
        let path = folder.join(file_name(id));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address(&path, &opened, id)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let inode = std::fs::symlink_metadata(&path).ok().map(|meta| meta.ino());
        Ok(Self { listener: UnixListener::from_std(socket.into())?, path, inode })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).ok().map(|meta| meta.ino()) == self.inode {
            // Whatever is left behind is replaced by the next engine of the run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Connects to the engine of the run `id`, within `wait`: one that was halted takes nobody in.
pub(super) fn connect(state: &Path, id: &str, wait: Duration) -> io::Result<UnixStream> {
    let folder = folder(state);
    let opened = opened(&folder)?;
    let stream = UnixStream::from(new_socket(SocketFlags::CLOEXEC)?);
    // On Linux it is this, too, which bounds a connect (unix(7), socket(7) on SO_SNDTIMEO).
    stream.set_write_timeout(Some(wait))?;
    rustix::net::connect(&stream, &address(&folder.join(file_name(id)), &opened, id)?)?;
    Ok(stream)
}

fn file_name(id: &str) -> String {
    format!("{id}.sock")
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn opened(folder: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(folder)
}

fn address(path: &Path, folder: &File, id: &str) -> io::Result<SocketAddrUnix> {
    if path.as_os_str().len() <= PATH_OCTETS_MAX {
        return Ok(SocketAddrUnix::new(path)?);
    }
    let short = PathBuf::from(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), file_name(id)));
    if short.as_os_str().len() > PATH_OCTETS_MAX {
        let what = format!("the path {} is too long for a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(SocketAddrUnix::new(short)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn only_its_owner_may_connect_from_the_first_moment_on() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder(state.path())).unwrap();
        std::fs::set_permissions(folder(state.path()), PermissionsExt::from_mode(0o777)).unwrap();
        let door = Door::open(state.path(), "run").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(door.path()), mode(&folder(state.path()))), (0o600, 0o700));
        connect(state.path(), "run", WAIT).unwrap();
        let path = door.path().to_owned();
        drop(door);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_deep_folder_is_reached_all_the_same() {
        let state = tempfile::tempdir().unwrap();
        let deep = state.path().join("d".repeat(120)).join("e".repeat(120));
        let door = Door::open(&deep, "run").unwrap();
        assert!(door.path().as_os_str().len() > PATH_OCTETS_MAX && door.path().exists());
        connect(&deep, "run", WAIT).unwrap();
        assert!(Door::open(&deep, &"x".repeat(200)).is_err());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_anothers_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let first = Door::open(state.path(), "run").unwrap();
        let second = Door::open(state.path(), "run").unwrap();
        drop(first);
        assert!(second.path().exists(), "the file is no longer the first one's");
        connect(state.path(), "run", WAIT).unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_takes_nobody_in_is_not_waited_for_for_ever() {
        let state = tempfile::tempdir().unwrap();
        let _door = Door::open(state.path(), "run").unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect(state.path(), "run", Duration::from_millis(50)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(waiting.len() >= BACKLOG as usize, "{}", waiting.len());
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_taken() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", folder(state.path())).unwrap();
        assert!(Door::open(state.path(), "run").is_err());
    }
}
