//! Which files there are, how far each may be read, and how far each delivery has read.
//!
//! The writer publishes an end only after the bytes are written, and only at the end of a line; readers never go beyond
//! it, so they see whole lines however a write ends.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

/// How far a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Number of the file.
    pub file: u64,
    /// Bytes of it that are delivered.
    pub offset: u64,
    /// Lines of it that are delivered.
    pub lines: u64,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How far it may be read.
    pub bytes: u64,
    /// Lines up to there; none where nobody has counted them yet.
    pub lines: Option<u64>,
    /// Whether it may still grow.
    pub open: bool,
}

/// What a reader is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read this file up to there.
    Read {
        /// Where it is.
        path: PathBuf,
        /// How far.
        to: u64,
    },
    /// Go on from here.
    Skip(Cursor),
    /// There is nothing to read.
    Wait,
}

/// What writer and readers share.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: VecDeque<Entry>,
    cursors: Vec<Cursor>,
    /// Nothing comes any more; readers leave when they have read all, or then.
    leave: Option<Instant>,
}

impl Index {
    /// Of files in the order of their numbers, and of the cursors of deliveries.
    pub fn new(files: VecDeque<Entry>, cursors: Vec<Cursor>) -> Index {
        Index { state: Mutex::new(State { files, cursors, leave: None }), changed: Condvar::new() }
    }

    /// Adds a file, which is open.
    pub fn add(&self, number: u64, path: PathBuf) {
        self.state.lock().files.push_back(Entry { number, path, bytes: 0, lines: Some(0), open: true });
    }

    /// A file has grown to `bytes`, by so many lines.
    pub fn grow(&self, number: u64, bytes: u64, lines: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.files.iter_mut().rfind(|entry| entry.number == number) {
            entry.bytes = bytes;
            entry.lines = entry.lines.map(|before| before + lines);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// A file grows no more.
    pub fn close(&self, number: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.files.iter_mut().rfind(|entry| entry.number == number) {
            entry.open = false;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Forgets a file.
    pub fn remove(&self, number: u64) {
        self.state.lock().files.retain(|entry| entry.number != number);
        self.changed.notify_all();
    }

    /// Files, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.files.len(), state.files.iter().map(|entry| entry.bytes).sum())
    }

    /// The oldest file, unless it may still grow.
    pub fn oldest(&self) -> Option<Entry> {
        self.state.lock().files.front().filter(|entry| !entry.open).cloned()
    }

    /// The cursor of the slowest delivery; none where there is no delivery.
    pub fn slowest(&self) -> Option<Cursor> {
        self.state.lock().cursors.iter().min().copied()
    }

    /// Bytes that the slowest delivery has not read.
    pub fn unread_bytes(&self) -> u64 {
        let state = self.state.lock();
        let Some(slowest) = state.cursors.iter().min() else { return 0 };
        let unread = state.files.iter().filter(|entry| entry.number >= slowest.file);
        unread.map(|entry| entry.bytes.saturating_sub(slowest.before(entry.number).0)).sum()
    }

    /// The cursor of a delivery.
    pub fn cursor(&self, reader: usize) -> Cursor {
        self.state.lock().cursors[reader]
    }

    /// A delivery has come so far.
    pub fn advance(&self, reader: usize, cursor: Cursor) {
        self.state.lock().cursors[reader] = cursor;
    }

    /// Lines that a delivery has not read.
    pub fn backlog(&self, reader: usize) -> u64 {
        let state = self.state.lock();
        let cursor = state.cursors[reader];
        let unread = state.files.iter().filter(|entry| entry.number >= cursor.file);
        unread.map(|entry| entry.lines.unwrap_or(0).saturating_sub(cursor.before(entry.number).1)).sum()
    }

    /// Files from a cursor on whose lines nobody has counted.
    pub fn uncounted(&self, from: Cursor) -> Vec<Entry> {
        let state = self.state.lock();
        state.files.iter().filter(|entry| entry.number >= from.file && entry.lines.is_none()).cloned().collect()
    }

    /// Takes a count over.
    pub fn counted(&self, number: u64, lines: u64) {
        if let Some(entry) = self.state.lock().files.iter_mut().find(|entry| entry.number == number) {
            entry.lines = Some(lines);
        }
    }

    /// What a reader at a cursor is to do.
    pub fn step(&self, cursor: Cursor) -> Step {
        self.state.lock().step(cursor)
    }

    /// Waits until there is something to read at a cursor: false where there never will be, or at the time to leave.
    pub fn wait(&self, cursor: Cursor) -> bool {
        let mut state = self.state.lock();
        loop {
            match (state.step(cursor), state.leave) {
                (_, Some(leave)) if Instant::now() >= leave => return false,
                (Step::Wait, Some(_)) => return false,
                (Step::Wait, None) => self.changed.wait(&mut state),
                _ => return true,
            }
        }
    }

    /// Waits out a failure: false where the reader is to leave.
    pub fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.leave.is_none() {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return state.leave.is_none();
            }
        }
        false
    }

    /// Nothing comes any more: readers leave when they have read all, when their receiver fails, or at `at`.
    pub fn leave(&self, at: Instant) {
        self.state.lock().leave = Some(at);
        self.changed.notify_all();
    }

    /// Whether readers are to leave at once.
    pub fn is_over(&self) -> bool {
        self.state.lock().leave.is_some_and(|leave| Instant::now() >= leave)
    }
}

impl State {
    fn step(&self, cursor: Cursor) -> Step {
        let next = || {
            let next = self.files.iter().find(|entry| entry.number > cursor.file);
            next.map_or(Step::Wait, |entry| Step::Skip(Cursor { file: entry.number, ..Cursor::default() }))
        };
        match self.files.iter().find(|entry| entry.number == cursor.file) {
            Some(entry) if cursor.offset < entry.bytes => Step::Read { path: entry.path.clone(), to: entry.bytes },
            Some(entry) if entry.open => Step::Wait,
            _ => next(),
        }
    }
}

impl Cursor {
    /// Bytes and lines of a file that lie before this.
    pub fn before(&self, number: u64) -> (u64, u64) {
        if self.file == number { (self.offset, self.lines) } else { (0, 0) }
    }

    /// Reads the cursor of a delivery; one that is not there, or damaged, is before all files.
    pub fn load(path: &Path) -> Cursor {
        let text = std::fs::read(path).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Puts it in the place of the one that is kept.
    ///
    /// # Errors
    /// The file's.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        use std::io::Write;
        let beside = path.with_extension("cursor.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(beside, path)
    }
}
