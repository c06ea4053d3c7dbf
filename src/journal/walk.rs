//! Going through the journal's files line by line and holding them to their promises.
//!
//! Files are read in order with plain reads, every checksum and every sequence number checked. The last
//! file may end in the middle of a line, because the process or the machine died: a torn end. Anything
//! else that does not check is an error that names file and octet, because recipients whose records
//! were lost would be mailed twice. What tells the two apart is the synced line: where one follows, the
//! bad octets had been on the device.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::{Frame, Framed, LINE_OCTETS_MAX};
use super::{FILE_HEADER_OCTETS, JournalError, MAGIC, Unreadable, files};

/// Octets read at a time.
const READ_OCTETS: usize = 1 << 20;

/// A torn end that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub file: PathBuf,
    /// Octets kept.
    pub offset: u64,
    /// Octets cut off.
    pub octets: u64,
}

/// Goes through the files line by line and holds them to their promises.
#[derive(Debug)]
pub(super) struct Walk {
    files: std::vec::IntoIter<(u32, PathBuf)>,
    current: Option<Reading>,
    /// Sequence of the next line.
    pub(super) expected: u64,
    pub(super) last_number: u32,
    pub(super) torn: Option<Torn>,
}

impl Walk {
    pub(super) fn new(folder: &Path) -> Result<Self, JournalError> {
        let files = files(folder)?;
        let last_number = files.last().map_or(0, |&(number, _)| number);
        Ok(Self { files: files.into_iter(), current: None, expected: 1, last_number, torn: None })
    }

    /// The next line; `None` after the last.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, JournalError> {
        let octets = loop {
            let Some(reading) = &mut self.current else {
                let Some((_, path)) = self.files.next() else { return Ok(None) };
                self.current = Some(Reading::open(path)?);
                self.file_header()?;
                continue;
            };
            match reading.step()? {
                Step::Line(octets) => break octets,
                Step::End => self.current = None,
                Step::Bad => self.bad_octets()?,
            }
        };
        // Just found or about to be returned: there is a file.
        let Some(reading) = &self.current else { return Ok(None) };
        let frame = Frame::of(&reading.buffer[reading.start - octets..reading.start]);
        if frame.sequence() != self.expected {
            return Err(JournalError::Gap {
                file: reading.path.clone(),
                offset: reading.offset - octets as u64,
                expected: self.expected,
                found: frame.sequence(),
            });
        }
        self.expected += 1;
        Ok(Some(frame))
    }

    fn file_header(&mut self) -> Result<(), JournalError> {
        let Some(reading) = &mut self.current else { return Ok(()) };
        reading.fill()?;
        let Some(header) = reading.buffer[..reading.end].first_chunk::<FILE_HEADER_OCTETS>() else {
            if reading.end > 0 {
                self.bad_octets()?;
            }
            // Made, and nothing written.
            self.current = None;
            return Ok(());
        };
        let [magic, first] = [&header[..8], &header[8..]];
        if magic != MAGIC {
            let (file, offset) = (reading.path.clone(), 0);
            return Err(JournalError::Unreadable { file, offset, what: Unreadable::Magic });
        }
        let found = first.iter().rev().fold(0, |number, &octet| number << 8 | u64::from(octet));
        if found != self.expected {
            let (file, expected) = (reading.path.clone(), self.expected);
            return Err(JournalError::Gap { file, offset: 8, expected, found });
        }
        reading.take(FILE_HEADER_OCTETS);
        Ok(())
    }

    /// Octets that are no line: the torn end of the last file, or damage.
    fn bad_octets(&mut self) -> Result<(), JournalError> {
        let Some(reading) = self.current.take() else { return Ok(()) };
        let (file, offset) = (reading.path.clone(), reading.offset);
        if self.files.len() > 0 || reading.synced_line_follows(self.expected)? {
            return Err(JournalError::Damaged { file, offset });
        }
        let length = std::fs::metadata(&file).map_err(JournalError::io("read", &file))?.len();
        self.torn = Some(Torn { octets: length.saturating_sub(offset), file, offset });
        Ok(())
    }

    /// About the line just returned.
    pub(super) fn unreadable(&self, what: Unreadable) -> JournalError {
        let (file, offset) = match &self.current {
            Some(reading) => (reading.path.clone(), reading.line_offset),
            None => (PathBuf::new(), 0),
        };
        JournalError::Unreadable { file, offset, what }
    }
}

/// One file, read through a buffer.
#[derive(Debug)]
struct Reading {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of `start`, in the file.
    offset: u64,
    /// Of the line last stepped over.
    line_offset: u64,
    ended: bool,
}

enum Step {
    /// The line is the last so many octets before `start`.
    Line(usize),
    End,
    Bad,
}

impl Reading {
    fn open(path: PathBuf) -> Result<Self, JournalError> {
        let file = File::open(&path).map_err(JournalError::io("open", &path))?;
        let buffer = vec![0; READ_OCTETS];
        Ok(Self { file, path, buffer, start: 0, end: 0, offset: 0, line_offset: 0, ended: false })
    }

    fn step(&mut self) -> Result<Step, JournalError> {
        loop {
            match Framed::at(&self.buffer[self.start..self.end]) {
                Framed::Whole(octets) => {
                    self.line_offset = self.offset;
                    self.take(octets);
                    return Ok(Step::Line(octets));
                }
                Framed::Bad => return Ok(Step::Bad),
                Framed::Short if !self.ended => self.fill()?,
                Framed::Short if self.start == self.end => return Ok(Step::End),
                Framed::Short => return Ok(Step::Bad),
            }
        }
    }

    fn take(&mut self, octets: usize) {
        self.start += octets;
        self.offset += octets as u64;
    }

    /// Reads on until the buffer is full or the file ends.
    fn fill(&mut self) -> Result<(), JournalError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < self.buffer.len() {
            match self.file.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(octets) => self.end += octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(JournalError::io("read", &self.path)(error)),
            }
        }
        Ok(())
    }

    /// Whether, anywhere behind `start`, a line says that what is before it had reached the device.
    fn synced_line_follows(mut self, expected: u64) -> Result<bool, JournalError> {
        self.file.seek(SeekFrom::Start(self.offset)).map_err(JournalError::io("read", &self.path))?;
        (self.start, self.end, self.ended) = (0, 0, false);
        self.fill()?;
        if let Framed::Whole(_) = Framed::at(&self.buffer[..self.end]) {
            // Seen while a writer was about it, and whole by now.
            return Ok(false);
        }
        loop {
            // Lines that begin in the last octets are looked at when they are whole in the buffer.
            let begins = if self.ended { self.end } else { self.end.saturating_sub(LINE_OCTETS_MAX) };
            for at in 0..begins {
                let octets = &self.buffer[at..self.end];
                if let Framed::Whole(octets_of_line) = Framed::at(octets) {
                    let frame = Frame::of(&octets[..octets_of_line]);
                    if frame.is_synced() && frame.sequence() > expected {
                        return Ok(true);
                    }
                }
            }
            if self.ended {
                return Ok(false);
            }
            self.take(begins);
            self.fill()?;
        }
    }
}
