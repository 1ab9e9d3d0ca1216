//! Reads the files for a delivery: whole lines, in batches, from where it was.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::index::{Cursor, Index, Step};

/// Longest line, and longest batch, in bytes.
pub const LONGEST_LINE: usize = 1 << 20;

/// A delivery's eyes.
pub struct Spool {
    index: Arc<Index>,
    open: Option<(u64, File)>,
}

/// A record as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its id.
    pub id: String,
    /// When the call ended.
    pub ended_at: Timestamp,
    /// The JSON text, without the line's end.
    pub text: Box<str>,
}

/// Lines that follow each other.
#[derive(Debug, Default)]
pub struct Batch {
    /// The lines.
    pub lines: Vec<Line>,
    /// Lines that are no records.
    pub damaged: u64,
    /// Where the next batch begins.
    pub end: Cursor,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    ended_at: Timestamp,
}

impl Spool {
    /// Over an index.
    pub fn new(index: Arc<Index>) -> Spool {
        Spool { index, open: None }
    }

    /// The lines from a cursor on, at most `most`, and all in one file; empty where there is none yet.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&mut self, mut cursor: Cursor, most: usize) -> io::Result<Batch> {
        loop {
            match self.index.step(cursor) {
                Step::Wait => return Ok(Batch { end: cursor, ..Batch::default() }),
                Step::Skip(next) => cursor = next,
                Step::Read { path, to } => {
                    let file = match self.open.take_if(|(number, _)| *number == cursor.file) {
                        Some((_, file)) => file,
                        None => match File::open(&path) {
                            // Somebody has taken it away: what it held is not ours any more.
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                                tracing::warn!(file = %path.display(), "a file of call records has vanished undelivered");
                                self.index.remove(cursor.file);
                                continue;
                            }
                            opened => opened?,
                        },
                    };
                    let batch = read_lines(&file, cursor, to, most);
                    self.open = Some((cursor.file, file));
                    return batch;
                }
            }
        }
    }
}

fn read_lines(file: &File, from: Cursor, to: u64, most: usize) -> io::Result<Batch> {
    let mut block = vec![0; (to - from.offset).min(LONGEST_LINE as u64) as usize];
    let length = read_up_to(file, &mut block, from.offset)?;
    block.truncate(length);
    let mut batch = Batch { end: from, ..Batch::default() };
    let mut start = 0;
    for at in memchr::memchr_iter(b'\n', &block).take(most) {
        match parse(&block[start..at]) {
            Some(line) => batch.lines.push(line),
            None => batch.damaged += 1,
        }
        start = at + 1;
        batch.end.lines += 1;
    }
    if start == 0 {
        // No end of a line within the longest, or in a file that has ended: nothing that we wrote.
        batch.damaged = 1;
        start = block.len();
    }
    batch.end.offset += start as u64;
    if length == 0 {
        // The file is shorter than it was.
        batch.end.offset = to;
    }
    Ok(batch)
}

fn read_up_to(file: &File, block: &mut [u8], from: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < block.len() {
        match file.read_at(&mut block[done..], from + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn parse(line: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(line).ok()?;
    let head: Head = serde_json::from_str(text).ok()?;
    Some(Line { id: head.id, ended_at: head.ended_at, text: text.into() })
}
