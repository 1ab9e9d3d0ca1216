//! A stream of bytes cut into pieces; the tests and the fuzz target share it.

use sip::{Frame, Framer, Index};

/// Longest message, and hence the most that a connection holds of an unfinished one.
const LONGEST: usize = 65_535;
/// Longest stream that is made of an input.
const STREAM: usize = 150_000;

/// Reads a stream whole, cut as the input says, and byte by byte; panics where an invariant does not hold.
///
/// An input is a number of pieces, their lengths and the stream. In the stream 0xff stands before a byte and a number: so many times 256
/// of that byte, to come to the bounds with few bytes.
pub fn everything(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (pieces, rest) = rest.split_at(usize::from(*count % 32).min(rest.len()));
    let stream = unfold(rest);
    let whole = read(&stream, std::iter::repeat(stream.len()));
    let cut = read(&stream, pieces.iter().map(|length| usize::from(*length)).chain([1]).cycle());
    assert_eq!(whole, cut, "the cuts matter");
    // Byte by byte, where that is quick.
    if stream.len() < 10_000 {
        assert_eq!(whole, read(&stream, std::iter::repeat(1)), "the cuts matter");
    }
    bounds(&stream, &whole);
}

fn unfold(mut folded: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while stream.len() < STREAM {
        match folded {
            [] => break,
            [0xff, byte, times, rest @ ..] => {
                stream.resize(stream.len() + usize::from(*times) * 256, *byte);
                folded = rest;
            }
            [byte, rest @ ..] => {
                stream.push(*byte);
                folded = rest;
            }
        }
    }
    stream
}

/// What a stream holds, up to what is malformed.
fn read(stream: &[u8], mut pieces: impl Iterator<Item = usize>) -> Vec<Frame> {
    let (mut framer, mut frames) = (Framer::default(), Vec::new());
    let (mut begin, mut end) = (0, 0);
    while end < stream.len() {
        end = (end + pieces.next().unwrap_or(1).max(1)).min(stream.len());
        loop {
            let frame = framer.next(&stream[begin..end]);
            match frame {
                Frame::Incomplete => {
                    assert!(end - begin <= LONGEST, "{} bytes wait for their end", end - begin);
                    break;
                }
                Frame::Ping => begin += 4,
                Frame::Blank(used) | Frame::Message(used) => {
                    assert!(used > 0, "nothing was consumed");
                    begin += used;
                }
                Frame::Malformed(_) => {
                    frames.push(frame);
                    return frames;
                }
            }
            frames.push(frame);
            assert!(begin <= end, "more was consumed than there is");
        }
    }
    frames
}

/// Every message is one to the parser of datagrams too, and ends where that says.
fn bounds(stream: &[u8], frames: &[Frame]) {
    let (mut index, mut begin) = (Index::new(), 0);
    for frame in frames {
        match frame {
            Frame::Ping => begin += 4,
            Frame::Blank(used) => {
                assert!(stream[begin..begin + used].iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                begin += used;
            }
            Frame::Message(used) => {
                let bytes = &stream[begin..begin + used];
                assert!(bytes.len() <= LONGEST);
                assert_eq!(index.parse(bytes), Ok(()));
                assert_eq!(index.message(bytes).bytes().len(), bytes.len());
                begin += used;
            }
            Frame::Incomplete | Frame::Malformed(_) => {}
        }
    }
}
