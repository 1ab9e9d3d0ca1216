//! Lists: pages of a limited length, or everything in pieces.
//!
//! The registry is read in portions of a few hundred records, each under the lock for a fraction of a millisecond and
//! rendered outside it, so that a list of 100,000 holds up no heartbeat. A long list is rendered as fast as its reader
//! takes it and never stands in memory whole; a record that changes meanwhile shows its state of the moment it is passed.

use axum::body::Body;
use bytes::Bytes;

use crate::wire;

/// Most records looked at in one holding of the lock.
const PORTION: usize = 256;

/// Records of the registry in the order of their ids, and how they are shown.
pub(crate) trait Source: Send + 'static {
    /// A record at one moment.
    type Entry: Send + 'static;

    /// The records after an id, at most so many, whether they are wanted or not.
    fn portion(&self, after: Option<&str>, most: usize) -> Vec<Self::Entry>;
    fn wanted(&self, entry: &Self::Entry) -> bool;
    fn id(entry: &Self::Entry) -> &str;
    fn write(&self, entry: &Self::Entry, out: &mut Vec<u8>);
}

/// A list as a body: `{"name":[…],"next":"…"}`. Without a limit everything is sent.
pub(crate) async fn body<S: Source>(mut walk: Walk<S>, name: &str, limit: Option<usize>) -> Body {
    let mut out = format!("{{\"{name}\":[").into_bytes();
    let Some(limit) = limit else {
        let parts = Parted { walk, head: Some(out), first: true, done: false };
        return Body::from_stream(tokio_stream::iter(parts.map(Ok::<_, std::convert::Infallible>)));
    };
    walk.portion = PORTION.min(limit + 1);
    let mut last: Option<S::Entry> = None;
    let mut count = 0;
    while let Some(entries) = walk.next() {
        for entry in entries {
            if count == limit {
                // There is more than fits the page.
                out.extend_from_slice(b"],\"next\":");
                wire::push_string(&mut out, last.as_ref().map_or("", S::id));
                out.push(b'}');
                return out.into();
            }
            if count > 0 {
                out.push(b',');
            }
            walk.source.write(&entry, &mut out);
            count += 1;
            last = Some(entry);
        }
        // A filter that few records pass may walk over many.
        tokio::task::yield_now().await;
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// A walk over the records that are wanted, portion by portion.
pub(crate) struct Walk<S> {
    source: S,
    after: Option<Box<str>>,
    /// Records of the next portion: for a page no more than that takes if all are wanted, then more and more.
    portion: usize,
    ended: bool,
}

impl<S: Source> Walk<S> {
    pub(crate) fn new(source: S, after: Option<&str>) -> Walk<S> {
        Walk { source, after: after.map(Box::from), portion: PORTION, ended: false }
    }
}

impl<S: Source> Iterator for Walk<S> {
    type Item = Vec<S::Entry>;

    /// The next portion; it may be empty though there is more.
    fn next(&mut self) -> Option<Vec<S::Entry>> {
        if self.ended {
            return None;
        }
        let portion = self.portion;
        self.portion = PORTION.min(2 * portion);
        let mut entries = self.source.portion(self.after.as_deref(), portion);
        self.ended = entries.len() < portion;
        self.after = entries.last().map(|entry| S::id(entry).into());
        entries.retain(|entry| self.source.wanted(entry));
        Some(entries)
    }
}

/// A whole list in pieces, made when they are asked for.
struct Parted<S> {
    walk: Walk<S>,
    head: Option<Vec<u8>>,
    first: bool,
    done: bool,
}

impl<S: Source> Iterator for Parted<S> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = self.head.take().unwrap_or_default();
        // An empty piece says nothing to the client, so go on to one that does.
        while let Some(entries) = self.walk.next() {
            for entry in &entries {
                if !std::mem::take(&mut self.first) {
                    out.push(b',');
                }
                self.walk.source.write(entry, &mut out);
            }
            if !entries.is_empty() && !self.walk.ended {
                return Some(out.into());
            }
        }
        self.done = true;
        out.extend_from_slice(b"]}");
        Some(out.into())
    }
}
