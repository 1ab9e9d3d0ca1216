//! The files: one grows, the others do not, and the oldest go.
//!
//! A file is made with its first record and has a number of its own, in its name: names sort in their order, no file is ever
//! renamed, and a delivery's place in it stays true. A process never goes on with the file of another.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::index::{Cursor, Entry, Index};

/// Always leads to the file that grows.
const CURRENT: &str = "calls.jsonl";

/// When files end, and when they go.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A file ends before it is larger, in bytes.
    pub rotate_bytes: u64,
    /// A file ends when it is as old.
    pub rotate_after: Duration,
    /// So many files are kept; 0: any number.
    pub keep_files: usize,
    /// So many bytes are kept, as far as deliveries let it.
    pub keep_bytes: u64,
    /// So many bytes are kept at most.
    pub max_bytes: u64,
}

/// The files of a directory.
pub struct Files {
    directory: PathBuf,
    rules: Rules,
    index: Arc<Index>,
    current: Option<Current>,
    next: u64,
}

struct Current {
    number: u64,
    file: File,
    bytes: u64,
    since: Timestamp,
    unsynced: bool,
}

/// Lines of a file that was removed before every delivery had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of answered calls.
    pub answered: u64,
    /// Of others.
    pub unanswered: u64,
}

/// Lists the files of a directory, makes it where it is missing, and cuts the torn last line of a process that was killed.
///
/// # Errors
/// The directory's.
pub fn list(directory: &Path) -> io::Result<VecDeque<Entry>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(number_of) else { continue };
        if entry.file_type()?.is_file() {
            let bytes = entry.metadata()?.len();
            files.push(Entry { number, path: entry.path(), bytes, lines: None, open: false });
        }
    }
    files.sort_by_key(|entry| entry.number);
    if let Some(newest) = files.last_mut() {
        newest.bytes = mend(&newest.path)?;
    }
    Ok(files.into())
}

/// `calls-NUMBER-TIME.jsonl`.
fn number_of(name: &str) -> Option<u64> {
    let (number, _) = name.strip_prefix("calls-")?.strip_suffix(".jsonl")?.split_once('-')?;
    number.parse().ok()
}

/// Cuts what follows the last whole line; gives the length.
fn mend(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = [0; 8192];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < length {
        warn!(file = %path.display(), bytes = length - end, "a line that was not written whole is cut off");
        file.set_len(end)?;
    }
    Ok(end)
}

impl Files {
    /// Of a directory that was listed.
    pub fn new(directory: PathBuf, rules: Rules, index: Arc<Index>, next: u64) -> Files {
        Files { directory, rules, index, current: None, next }
    }

    /// Appends whole lines. After an error none of them is there, and they may be appended again.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&mut self, lines: &[u8], count: u64, now: Timestamp) -> io::Result<()> {
        let full = |current: &Current| current.bytes + lines.len() as u64 > self.rules.rotate_bytes;
        if self.current.as_ref().is_some_and(|current| full(current) || is_disturbed(current)) || self.is_due(now) {
            self.rotate();
        }
        if self.current.is_none() {
            self.current = Some(self.begin(now)?);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        if let Err(error) = current.file.write_all(lines) {
            if current.file.set_len(current.bytes).is_err() {
                // What is beyond the published end is never read.
                self.rotate();
            }
            return Err(error);
        }
        current.bytes += lines.len() as u64;
        current.unsynced = true;
        self.index.grow(current.number, current.bytes, count);
        Ok(())
    }

    /// Ends the file that grows; the next record begins another.
    pub fn rotate(&mut self) {
        self.sync();
        if let Some(current) = self.current.take() {
            self.index.close(current.number);
        }
    }

    /// When the file that grows is to end.
    pub fn due(&self) -> Option<Timestamp> {
        self.current
            .as_ref()
            .map(|current| current.since.saturating_add(self.rules.rotate_after).unwrap_or(Timestamp::MAX))
    }

    /// Whether it is to end now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|due| now >= due)
    }

    /// Whether there is something that a loss of power would take.
    pub fn is_unsynced(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.unsynced)
    }

    /// Brings it to the disk.
    pub fn sync(&mut self) {
        if let Some(current) = self.current.as_mut().filter(|current| current.unsynced) {
            current.unsynced = false;
            if let Err(error) = current.file.sync_data() {
                warn!(%error, "call records may not be on the disk");
            }
        }
    }

    /// Removes what is not kept; tells what of it some delivery had not read.
    pub fn prune(&mut self) -> Lost {
        let mut lost = Lost::default();
        loop {
            let (count, bytes) = self.index.size();
            let slowest = self.index.slowest();
            let Some(oldest) = self.index.oldest() else { return lost };
            let many = self.rules.keep_files > 0 && count > self.rules.keep_files || bytes > self.rules.keep_bytes;
            let unread = slowest
                .is_some_and(|slowest| oldest.number >= slowest.file && slowest.before(oldest.number).0 < oldest.bytes);
            if !(many && !unread || bytes > self.rules.max_bytes) {
                return lost;
            }
            if unread {
                let found =
                    tally(&oldest.path, slowest.unwrap_or_default().before(oldest.number).0).unwrap_or_default();
                lost.answered += found.answered;
                lost.unanswered += found.unanswered;
            }
            if let Err(error) = std::fs::remove_file(&oldest.path)
                && error.kind() != ErrorKind::NotFound
            {
                warn!(file = %oldest.path.display(), %error, "a file of call records cannot be removed");
            }
            self.index.remove(oldest.number);
        }
    }

    /// Whether deliveries have left so much unread that only answered calls are still written.
    pub fn is_crowded(&self) -> bool {
        self.index.unread_bytes() >= self.rules.max_bytes / 4 * 3
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<Current> {
        loop {
            let number = self.next;
            let name = format!("calls-{number:010}-{}.jsonl", now.strftime("%Y%m%dT%H%M%SZ"));
            let path = self.directory.join(&name);
            let opened = OpenOptions::new().create_new(true).append(true).mode(0o640).open(&path);
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.next += 1;
                    continue;
                }
                opened => opened?,
            };
            self.next += 1;
            File::open(&self.directory)?.sync_all()?;
            self.point(&name);
            self.index.add(number, path);
            return Ok(Current { number, file, bytes: 0, since: now, unsynced: false });
        }
    }

    /// Leads [`CURRENT`] to a file. A convenience: nothing else depends on it.
    fn point(&self, name: &str) {
        let beside = self.directory.join(".calls.jsonl.new");
        let _ = std::fs::remove_file(&beside);
        let led = symlink(name, &beside).and_then(|()| std::fs::rename(&beside, self.directory.join(CURRENT)));
        if let Err(error) = led {
            warn!(%error, "{CURRENT} does not lead to the newest call records");
        }
    }
}

/// Whether somebody else has removed or cut the file.
fn is_disturbed(current: &Current) -> bool {
    current.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0 || metadata.len() != current.bytes)
}

/// Lines of a file.
///
/// # Errors
/// The file's.
pub fn count_lines(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut lines = 0;
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', block).count() as u64;
        let length = block.len();
        reader.consume(length);
    }
}

/// Lines of a file from an offset on, by whether the call was answered. A quotation mark inside a JSON text has a
/// backslash before it, so the member is found nowhere else.
fn tally(path: &Path, from: u64) -> io::Result<Lost> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut lost = Lost::default();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let answered = memchr::memmem::find(&line, b"\"answered_at\":").is_some();
        if answered {
            lost.answered += 1
        } else {
            lost.unanswered += 1
        }
        line.clear();
    }
    Ok(lost)
}

/// The number of the first file to make: beyond all that are there, and all that a delivery has seen.
pub fn next_number(files: &VecDeque<Entry>, cursors: &[Cursor]) -> u64 {
    let files = files.iter().map(|entry| entry.number);
    files.chain(cursors.iter().map(|cursor| cursor.file)).max().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Step;

    const RULES: Rules = Rules {
        rotate_bytes: 100,
        rotate_after: Duration::from_secs(3600),
        keep_files: 0,
        keep_bytes: 1 << 30,
        max_bytes: 1 << 30,
    };

    struct House {
        dir: tempfile::TempDir,
        index: Arc<Index>,
        files: Files,
    }

    fn house(rules: Rules, cursors: Vec<Cursor>) -> House {
        let dir = tempfile::tempdir().unwrap();
        let index = Arc::new(Index::new(list(dir.path()).unwrap(), cursors));
        let files = Files::new(dir.path().to_owned(), rules, index.clone(), 1);
        House { dir, index, files }
    }

    impl House {
        fn append(&mut self, text: &str, at: i64) {
            let count = text.lines().count() as u64;
            self.files.append(text.as_bytes(), count, Timestamp::from_second(at).unwrap()).unwrap();
        }

        /// Contents of the files, in the order of their names.
        fn texts(&self) -> Vec<String> {
            let mut paths: Vec<PathBuf> =
                std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
            paths.retain(|path| number_of(path.file_name().unwrap().to_str().unwrap()).is_some());
            paths.sort();
            paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
        }
    }

    #[test]
    fn a_file_ends_before_it_is_too_large() {
        let mut h = house(RULES, Vec::new());
        let line = format!("{}\n", "x".repeat(39));
        for _ in 0..5 {
            h.append(&line, 0);
        }
        let long = format!("{}\n", "y".repeat(200));
        h.append(&long, 0);
        h.append(&line, 0);
        assert_eq!(h.texts(), [line.repeat(2), line.repeat(2), line.clone(), long, line.clone()]);
        assert_eq!(h.index.size(), (5, 441));
        assert_eq!(std::fs::read_to_string(h.dir.path().join(CURRENT)).unwrap(), line, "the link leads to the newest");
    }

    #[test]
    fn a_file_ends_when_it_is_old_and_without_records_there_is_none() {
        let mut h = house(RULES, Vec::new());
        h.files.rotate();
        assert_eq!(h.texts(), [""; 0]);
        h.append("a\n", 1000);
        assert!(!h.files.is_due(Timestamp::from_second(4599).unwrap()));
        assert!(h.files.is_due(Timestamp::from_second(4600).unwrap()));
        h.append("b\n", 4599);
        h.append("c\n", 4600);
        h.files.rotate();
        h.files.rotate();
        h.append("d\n", 4601);
        assert_eq!(h.texts(), ["a\nb\n", "c\n", "d\n"]);
    }

    #[test]
    fn a_file_that_was_taken_away_or_cut_is_not_written_to() {
        let mut h = house(RULES, Vec::new());
        h.append("a\n", 0);
        std::fs::remove_file(h.index.step_path()).unwrap();
        h.append("b\n", 0);
        assert_eq!(h.texts(), ["b\n"]);
        h.append("c\n", 0);
        File::options().write(true).truncate(true).open(h.dir.path().join(CURRENT)).unwrap();
        h.append("d\n", 0);
        assert_eq!(h.texts(), ["", "d\n"]);
    }

    impl Index {
        /// The path of the first file.
        fn step_path(&self) -> PathBuf {
            let Step::Skip(cursor) = self.step(Cursor::default()) else { panic!("no file") };
            let Step::Read { path, .. } = self.step(cursor) else { panic!("an empty file") };
            path
        }
    }

    #[test]
    fn the_last_line_that_was_torn_is_cut_and_the_next_process_begins_a_file() {
        for torn in ["", "{\"half\":", "\0\0\0", &"z".repeat(20_000)] {
            let mut h = house(RULES, Vec::new());
            h.append("first\nsecond\n", 0);
            let path = h.dir.path().join(CURRENT);
            OpenOptions::new().append(true).open(path).unwrap().write_all(torn.as_bytes()).unwrap();
            let found = list(h.dir.path()).unwrap();
            assert_eq!(h.texts(), ["first\nsecond\n"]);
            assert_eq!((found.len(), found[0].bytes, next_number(&found, &[])), (1, 13, 2));
            let index = Arc::new(Index::new(found, Vec::new()));
            let mut files = Files::new(h.dir.path().to_owned(), RULES, index, 2);
            files.append(b"third\n", 1, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(h.texts(), ["first\nsecond\n", "third\n"]);
        }
        let mut h = house(RULES, Vec::new());
        h.append("torn", 0);
        list(h.dir.path()).unwrap();
        assert_eq!(h.texts(), [""], "nothing but a torn line");
    }

    #[test]
    fn what_somebody_else_keeps_there_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["calls.jsonl", "calls-1.jsonl", "calls-x-y.jsonl", "calls-2-a.jsonl.gz", "notes"] {
            std::fs::write(dir.path().join(name), "torn").unwrap();
        }
        std::fs::create_dir(dir.path().join("calls-3-a.jsonl")).unwrap();
        assert!(list(dir.path()).unwrap().is_empty());
        assert_eq!(next_number(&VecDeque::new(), &[Cursor { file: 7, ..Cursor::default() }]), 8);
    }

    #[test]
    fn old_files_go_by_count_and_by_size() {
        let mut h = house(Rules { rotate_bytes: 2, keep_files: 3, ..RULES }, Vec::new());
        for line in ["a\n", "b\n", "c\n", "d\n", "e\n"] {
            h.append(line, 0);
        }
        assert_eq!(h.files.prune(), Lost::default());
        assert_eq!(h.texts(), ["c\n", "d\n", "e\n"]);
        let mut h = house(Rules { rotate_bytes: 2, keep_bytes: 5, ..RULES }, Vec::new());
        for line in ["a\n", "b\n", "c\n"] {
            h.append(line, 0);
        }
        h.files.prune();
        assert_eq!(h.texts(), ["b\n", "c\n"]);
        let mut h = house(Rules { keep_bytes: 0, max_bytes: 1, ..RULES }, Vec::new());
        h.append("a\n", 0);
        h.files.prune();
        assert_eq!(h.texts(), ["a\n"], "the one that grows stays");
    }

    #[test]
    fn a_file_waits_for_the_slowest_delivery() {
        let rules = Rules { rotate_bytes: 2, keep_files: 1, ..RULES };
        let mut h = house(rules, vec![Cursor::default(), Cursor { file: 3, offset: 2, lines: 1 }]);
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            h.append(line, 0);
        }
        h.files.prune();
        assert_eq!(h.texts().len(), 4, "one delivery has read nothing");
        assert_eq!((h.index.backlog(0), h.index.backlog(1), h.index.unread_bytes()), (4, 1, 8));
        h.index.advance(0, Cursor { file: 2, offset: 2, lines: 1 });
        assert_eq!(h.files.prune(), Lost::default());
        assert_eq!(h.texts(), ["c\n", "d\n"]);
    }

    #[test]
    fn the_limit_of_the_disk_is_kept_and_what_it_costs_is_counted() {
        let rules = Rules { rotate_bytes: 60, keep_bytes: 60, max_bytes: 120, ..RULES };
        let mut h = house(rules, vec![Cursor::default()]);
        let answered = "{\"answered_at\":1}\n";
        let other = "{\"x\":\"\\\"answered_at\\\":\"}\n";
        h.append(&format!("{answered}{other}"), 0);
        assert!(!h.files.is_crowded());
        h.index.advance(0, Cursor { file: 1, offset: answered.len() as u64, lines: 1 });
        for _ in 0..3 {
            h.append(&format!("{answered}{answered}{answered}"), 0);
        }
        assert!(h.files.is_crowded());
        assert_eq!(h.files.prune(), Lost { answered: 3, unanswered: 1 }, "what was delivered of them is not lost");
        assert_eq!(h.index.size(), (2, 108));
        assert_eq!(h.index.backlog(0), 6);
    }

    #[test]
    fn a_write_that_fails_leaves_no_half_line() {
        let mut h = house(RULES, Vec::new());
        h.append("a\n", 0);
        h.files.rotate();
        let file = File::options().write(true).open("/dev/full").unwrap();
        let begun = h.files.begin(Timestamp::UNIX_EPOCH).unwrap();
        h.files.current = Some(Current { file, ..begun });
        assert!(h.files.append(b"b\n", 1, Timestamp::UNIX_EPOCH).is_err());
        h.append("b\n", 0);
        assert_eq!(h.texts(), ["a\n", "", "b\n"]);
        assert_eq!(h.index.size(), (3, 4));
    }
}
