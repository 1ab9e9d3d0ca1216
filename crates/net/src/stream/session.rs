//! What lies between a socket and its bytes: nothing, or TLS.

use std::io::{self, ErrorKind, Read, Write};

use tokio::net::TcpStream;

/// Read at once, before others get their turn.
const CHUNK: usize = 16 * 1024;
/// TLS records read at once.
const RECORDS: usize = 8;

pub(super) enum Session {
    Plain,
    Tls(Box<rustls::Connection>),
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Bytes, or progress of the handshake.
    Something,
    /// There is nothing now.
    Nothing,
    /// The peer sends no more.
    End,
}

/// The socket as rustls wants it: what would block says so.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// Whether messages may be sent.
    pub fn is_ready(&self) -> bool {
        match self {
            Session::Plain => true,
            Session::Tls(session) => !session.is_handshaking(),
        }
    }

    /// Appends what has come to `buffer`.
    pub fn read(&mut self, stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Found> {
        match self {
            Session::Plain => {
                buffer.reserve(CHUNK);
                match stream.try_read_buf(buffer) {
                    Ok(0) => Ok(Found::End),
                    Ok(_) => Ok(Found::Something),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Found::Nothing),
                    Err(error) => Err(error),
                }
            }
            Session::Tls(session) => {
                let mut found = Found::Nothing;
                for _ in 0..RECORDS {
                    match session.read_tls(&mut Socket(stream)) {
                        Ok(0) => return Ok(if found == Found::Nothing { Found::End } else { found }),
                        Ok(_) => found = Found::Something,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                    let processed = session.process_new_packets();
                    let state = processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                    let start = buffer.len();
                    buffer.resize(start + state.plaintext_bytes_to_read(), 0);
                    session.reader().read_exact(&mut buffer[start..])?;
                    if state.peer_has_closed() {
                        return Ok(if buffer.len() > start { Found::Something } else { Found::End });
                    }
                }
                Ok(found)
            }
        }
    }

    /// Takes as much of `bytes` as goes out now; how much is returned. TLS takes all or nothing.
    pub fn write(&mut self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Session::Plain => match stream.try_write(bytes) {
                Ok(written) => Ok(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(error) => Err(error),
            },
            Session::Tls(session) => {
                if session.wants_write() && !flush_tls(session, stream)? {
                    return Ok(0);
                }
                session.writer().write_all(bytes)?;
                flush_tls(session, stream)?;
                Ok(bytes.len())
            }
        }
    }

    /// Sends what TLS has left; whether all of it went.
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        match self {
            Session::Plain => Ok(true),
            Session::Tls(session) => flush_tls(session, stream),
        }
    }

    /// Says goodbye, if it can be said at once.
    pub fn close(&mut self, stream: &TcpStream) {
        if let Session::Tls(session) = self {
            session.send_close_notify();
            // The peer may have gone already.
            let _ = flush_tls(session, stream);
        }
    }
}

fn flush_tls(session: &mut rustls::Connection, stream: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut Socket(stream)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
