//! Messages in a stream (RFC 3261 §18.3), and the keep-alives between them (RFC 5626 §3.5.1).

use memchr::memchr;

use crate::{Index, ParseError};

/// Longest start line and headers, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;

/// What a buffer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The beginning of something.
    Incomplete,
    /// A double CRLF, which is answered by a single one. Four bytes.
    Ping,
    /// A line end that is no part of a message: the answer to a ping, or nothing. So many bytes.
    Blank(usize),
    /// A message of so many bytes.
    Message(usize),
    /// No message; what comes after it cannot be found.
    Malformed(ParseError),
}

/// Finds the messages in a buffer that grows at its end and is consumed at its beginning. However small the pieces are that
/// a message comes in, each byte of its head is looked at twice at most.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes of the buffer in which no head ends.
    scanned: usize,
    /// Length of the message that the buffer begins with, once it is known.
    length: Option<usize>,
    index: Index,
}

impl Framer {
    /// What `buffer` begins with. After anything but `Incomplete` its bytes must be consumed before the next call.
    pub fn next(&mut self, buffer: &[u8]) -> Frame {
        if let Some(length) = self.length {
            return self.whole(buffer, length);
        }
        match buffer {
            [b'\r', b'\n', b'\r', b'\n', ..] => return Frame::Ping,
            [b'\r', b'\n', b'\r'] | [b'\r', b'\n'] | [b'\r'] | [] => return Frame::Incomplete,
            [b'\r', b'\n', ..] => return Frame::Blank(2),
            [b'\n' | 0, ..] => return Frame::Blank(1),
            _ => {}
        }
        let Some(end) = self.head_end(buffer) else {
            let too_long = buffer.len() > LONGEST_HEAD;
            return if too_long { Frame::Malformed(ParseError::TooLong) } else { Frame::Incomplete };
        };
        if end > LONGEST_HEAD {
            return Frame::Malformed(ParseError::TooLong);
        }
        match self.index.length_on_stream(&buffer[..end]) {
            Ok(length) => {
                self.length = Some(length);
                self.whole(buffer, length)
            }
            Err(error) => Frame::Malformed(error),
        }
    }

    fn whole(&mut self, buffer: &[u8], length: usize) -> Frame {
        if buffer.len() < length {
            return Frame::Incomplete;
        }
        self.length = None;
        self.scanned = 0;
        Frame::Message(length)
    }

    /// Where the empty line after the headers ends: as [`Index`] sees line ends.
    fn head_end(&mut self, buffer: &[u8]) -> Option<usize> {
        while let Some(newline) = memchr(b'\n', &buffer[self.scanned..]).map(|at| self.scanned + at) {
            match &buffer[newline + 1..] {
                [b'\n', ..] => return Some(newline + 2),
                [b'\r', b'\n', ..] => return Some(newline + 3),
                // Whether it is the empty line is not there yet.
                [] | [b'\r'] => {
                    self.scanned = newline;
                    return None;
                }
                _ => self.scanned = newline + 1,
            }
        }
        self.scanned = buffer.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that a stream of these bytes holds, read in pieces.
    fn read(stream: &[u8], pieces: &[usize]) -> Vec<Frame> {
        let (mut framer, mut buffer, mut frames) = (Framer::default(), Vec::new(), Vec::new());
        let (mut at, mut pieces) = (0, pieces.iter().cycle());
        while at < stream.len() {
            let end = (at + pieces.next().copied().unwrap_or(1).max(1)).min(stream.len());
            buffer.extend_from_slice(&stream[at..end]);
            at = end;
            loop {
                let frame = framer.next(&buffer);
                let used = match frame {
                    Frame::Incomplete => break,
                    Frame::Ping => 4,
                    Frame::Blank(used) | Frame::Message(used) => used,
                    Frame::Malformed(_) => {
                        frames.push(frame);
                        return frames;
                    }
                };
                frames.push(frame);
                buffer.drain(..used);
            }
        }
        frames
    }

    fn message(body: &str, length: &str) -> String {
        format!("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP b;branch=z9hG4bK1\r\n{length}\r\n{body}")
    }

    #[test]
    fn the_length_must_be_said_once() {
        let whole = message("12345", "l : 5\r\n");
        assert_eq!(read(whole.as_bytes(), &[7]), [Frame::Message(whole.len())]);
        let folded = message("12345", "Content-Length:\r\n  5\r\n");
        assert_eq!(read(folded.as_bytes(), &[1]), [Frame::Message(folded.len())]);
        let twice = message("12345", "Content-Length: 5\r\nl: 5\r\n");
        assert_eq!(read(twice.as_bytes(), &[1]), [Frame::Message(twice.len())]);
        for bad in ["", "l: 5\r\nl: 6\r\n", "l: -5\r\n", "l: 65536\r\n", "l: 99999999999999999999\r\n"] {
            let frames = read(message("12345", bad).as_bytes(), &[3]);
            assert!(matches!(frames[..], [Frame::Malformed(_)]), "{bad}: {frames:?}");
        }
        assert!(matches!(read(&[b'x'; 40_000], &[100])[..], [Frame::Malformed(ParseError::TooLong)]));
    }

    proptest! {
        /// However a stream is cut, the same messages are in it, and each ends where a parser of datagrams says.
        #[test]
        fn pieces_do_not_matter(
            parts in prop::collection::vec(prop_oneof![Just(None), Just(Some(0)), (0usize..300).prop_map(Some)], 1..8),
            pieces in prop::collection::vec(1usize..200, 1..20),
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for part in parts {
                match part {
                    None => {
                        stream.extend_from_slice(b"\r\n\r\n");
                        expected.push(Frame::Ping);
                    }
                    Some(length) => {
                        let text = message(&"\r\n\r\nx".repeat(length)[..length], &format!("Content-Length: {length}\r\n"));
                        let mut index = Index::new();
                        index.parse(text.as_bytes()).unwrap();
                        prop_assert_eq!(index.message(text.as_bytes()).bytes().len(), text.len());
                        expected.push(Frame::Message(text.len()));
                        stream.extend_from_slice(text.as_bytes());
                    }
                }
            }
            prop_assert_eq!(read(&stream, &pieces), expected);
        }

        /// Nothing makes it panic, and what it calls a message is one.
        #[test]
        fn garbage_is_survived(stream in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..600), pieces in prop::collection::vec(1usize..50, 1..5)) {
            read(&stream, &pieces);
            let stream = [b"OPTIONS a SIP/2.0\r\nl: 3\r\n".as_slice(), &stream].concat();
            read(&stream, &pieces);
        }
    }
}
