//! The writing half of a connection: straight to the socket while it takes everything, else through a bounded queue.

use std::collections::VecDeque;
use std::io;

use tokio::net::TcpStream;

use super::session::Session;

/// What a connection holds under its lock.
pub(super) struct Output {
    pub session: Session,
    queue: VecDeque<Box<[u8]>>,
    /// Bytes of the first message that have gone.
    gone: usize,
    /// Bytes that wait.
    waiting: usize,
    /// TLS has records that the socket did not take.
    unflushed: bool,
    pub closed: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It has gone.
    Sent,
    /// It waits; the connection's task must see to it.
    Waits,
    /// The connection has ended.
    Closed,
    /// Too much waits: the peer does not read.
    Full,
}

impl Output {
    pub fn new(session: Session) -> Output {
        Output { session, queue: VecDeque::new(), gone: 0, waiting: 0, unflushed: false, closed: false }
    }

    /// Sends a message, or lets it wait. Without a stream the connection does not stand yet.
    pub fn send(&mut self, stream: Option<&TcpStream>, message: &[u8], most: usize) -> io::Result<Taken> {
        if self.closed {
            return Ok(Taken::Closed);
        }
        let mut written = 0;
        if let Some(stream) = stream.filter(|_| self.queue.is_empty() && self.session.is_ready()) {
            written = self.session.write(stream, message)?;
            if written == message.len() {
                self.unflushed = !self.session.flush(stream)?;
                return Ok(if self.unflushed { Taken::Waits } else { Taken::Sent });
            }
        }
        if self.waiting + message.len() > most {
            return Ok(Taken::Full);
        }
        self.waiting += message.len() - written;
        if self.queue.is_empty() {
            self.gone = written;
        }
        self.queue.push_back(message.into());
        Ok(Taken::Waits)
    }

    /// Sends what waits, as far as it goes now.
    pub fn pump(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.unflushed = !self.session.flush(stream)?;
        while !self.unflushed && self.session.is_ready() {
            let Some(first) = self.queue.front() else { return Ok(()) };
            let written = self.session.write(stream, &first[self.gone..])?;
            self.gone += written;
            self.waiting -= written;
            if self.gone < first.len() {
                return Ok(());
            }
            self.gone = 0;
            self.queue.pop_front();
            self.unflushed = !self.session.flush(stream)?;
        }
        Ok(())
    }

    /// Whether the socket must be waited for to take more.
    pub fn wants_room(&self) -> bool {
        self.unflushed || (!self.queue.is_empty() && self.session.is_ready())
    }

    /// Ends it; what had not begun to go out is returned.
    pub fn close(&mut self) -> Vec<Box<[u8]>> {
        self.closed = true;
        let begun = usize::from(self.gone > 0);
        self.queue.drain(..).skip(begun).collect()
    }
}
