//! The octets of a list: from a file or standard input, decompressed, in pieces, by a thread of its own.
//!
//! Reading apart does two things: decompression runs beside parsing, and whoever parses can wait for a
//! slow pipe with a limit, to seal what has come. Past the first octets the thread reads once they have been
//! taken and more is wanted: of many lists that are open, those whose turn has not come take little memory.
//! It ends when the list does or when nobody wants the pieces any more; one that waits in a read of a silent
//! pipe ends with that read.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Octets of a piece: some five thousand rows, long enough to forget the cost of handing it over.
const PIECE_OCTETS: usize = 256 * 1024;
/// Read before anybody asks for more: a header, and some rows.
const FIRST_OCTETS: usize = 16 * 1024;
/// Pieces read ahead: enough to keep both threads busy, a megabyte of memory.
const PIECES_AHEAD: usize = 4;

/// How a list is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By extension, or else by the first octets (RFC 1952 §2.3.1, RFC 8878 §3.1.1).
    fn detect(path: &Path, head: &[u8]) -> Self {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if extension == "gz" || head.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if extension == "zst" || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// What a wait for the next piece came to.
#[derive(Debug)]
pub(crate) enum Next {
    Piece(Vec<u8>),
    /// Nothing has come in the time given.
    Nothing,
    End,
}

/// The pieces of one list.
#[derive(Debug)]
pub(crate) struct Stream {
    pieces: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    /// Tells the thread that more than [`FIRST_OCTETS`] is wanted.
    go_on: SyncSender<()>,
    /// Octets of the first given, at most so many.
    given: Cell<usize>,
    /// Octets read so far, before decompression.
    read: Arc<AtomicU64>,
    /// Octets there are to read; `None` for standard input.
    pub len: Option<u64>,
}

impl Stream {
    /// Opens `path`, or takes `input` in its place, and begins to read.
    ///
    /// # Errors
    /// Those of opening the file, reading its first octets and starting a thread.
    pub(crate) fn open(path: &Path, input: Option<Box<dyn Read + Send>>) -> io::Result<Self> {
        let (mut raw, len): (Box<dyn Read + Send>, _) = match input {
            Some(input) => (input, None),
            None => {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                (Box::new(file), metadata.is_file().then_some(metadata.len()))
            }
        };
        let mut head = Vec::new();
        raw.by_ref().take(4).read_to_end(&mut head)?;
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: io::Cursor::new(head.clone()).chain(raw), read: Arc::clone(&read) };
        let source: Box<dyn Read + Send> = match Compression::detect(path, &head) {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(counted)?),
        };
        let (pieces_in, pieces) = sync_channel(PIECES_AHEAD);
        let (emptied, spare) = sync_channel(PIECES_AHEAD + 2);
        let (go_on, wanted) = sync_channel(1);
        let pump = Pump { source, pieces: pieces_in, spare, wanted };
        std::thread::Builder::new().name("list".into()).spawn(move || pump.run())?;
        Ok(Self { pieces, emptied, go_on, given: Cell::new(0), read, len })
    }

    pub(crate) fn read_octets(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The next piece, never an empty one.
    ///
    /// # Errors
    /// Those of reading and decompressing; nothing comes after one.
    pub(crate) fn next(&self, wait: Duration) -> io::Result<Next> {
        if self.given.get() >= FIRST_OCTETS {
            // Once it has been told, or has ended, it need not hear it again.
            let _ = self.go_on.try_send(());
        }
        match self.pieces.recv_timeout(wait) {
            Ok(piece) => {
                let octets = piece.as_ref().map_or(0, Vec::len);
                self.given.set((self.given.get() + octets).min(FIRST_OCTETS));
                piece.map(Next::Piece)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
        }
    }

    /// Hands the memory of a piece back to be filled again.
    pub(crate) fn give_back(&self, piece: Vec<u8>) {
        // When the reader has enough of them or is gone, the piece is simply freed.
        let _ = self.emptied.try_send(piece);
    }
}

/// The reading side.
struct Pump {
    source: Box<dyn Read + Send>,
    pieces: SyncSender<io::Result<Vec<u8>>>,
    spare: Receiver<Vec<u8>>,
    wanted: Receiver<()>,
}

impl Pump {
    fn run(mut self) {
        let mut given = 0;
        while given < FIRST_OCTETS {
            match self.give(FIRST_OCTETS - given) {
                Some(octets) => given += octets,
                None => return,
            }
        }
        if self.wanted.recv().is_ok() {
            while self.give(PIECE_OCTETS).is_some() {}
        }
    }

    /// Reads a piece of so many octets at most; how many it has. `None` when nothing can follow, or nobody
    /// wants it.
    fn give(&mut self, octets: usize) -> Option<usize> {
        let mut piece = self.spare.try_recv().unwrap_or_default();
        piece.resize(octets, 0);
        loop {
            match self.source.read(&mut piece) {
                Ok(0) => return None,
                Ok(octets) => {
                    piece.truncate(octets);
                    return self.pieces.send(Ok(piece)).is_ok().then_some(octets);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = self.pieces.send(Err(error));
                    return None;
                }
            }
        }
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.inner.read(buffer)?;
        self.read.fetch_add(octets as u64, Ordering::Relaxed);
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets without end, as long as the test lasts.
    fn endless() -> Stream {
        Stream::open(Path::new("-"), Some(Box::new(io::repeat(b'a')))).unwrap()
    }

    fn piece(stream: &Stream) -> usize {
        match stream.next(Duration::from_secs(60)).unwrap() {
            Next::Piece(piece) => piece.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_list_whose_turn_has_not_come_is_not_read_ahead() {
        let (waiting, read) = (endless(), endless());
        let mut first = 0;
        while first < FIRST_OCTETS {
            first += piece(&waiting);
        }
        let mut octets = 0;
        while octets < 8 << 20 {
            octets += piece(&read);
        }
        assert_eq!((first, waiting.read_octets()), (FIRST_OCTETS, FIRST_OCTETS as u64));
        while octets < 16 << 20 {
            octets += piece(&waiting);
        }
    }

    #[test]
    fn a_list_nobody_reads_further_ends_its_thread() {
        struct Told(std::sync::mpsc::Sender<()>);
        impl Read for Told {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(b'a');
                Ok(buffer.len())
            }
        }
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        for pieces in [0, 1, 3, 9] {
            let (dropped, is_dropped) = std::sync::mpsc::channel();
            let stream = Stream::open(Path::new("-"), Some(Box::new(Told(dropped)))).unwrap();
            for _ in 0..pieces {
                piece(&stream);
            }
            drop(stream);
            assert_eq!(is_dropped.recv_timeout(Duration::from_secs(60)), Ok(()), "after {pieces}");
        }
    }
}
