//! Messages over UDP, TCP and TLS, blocking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, bail};

/// Longest silence.
const PATIENCE: Duration = Duration::from_secs(10);

pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A way to the other side.
pub enum Wire {
    /// A socket, and where its messages go: whence the last came.
    Datagrams(UdpSocket, SocketAddr),
    /// A connection, and what has come of it.
    Stream(Box<dyn Stream>, Vec<u8>),
}

impl Wire {
    pub fn datagrams(socket: UdpSocket, peer: SocketAddr) -> Result<Wire> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let socket: socket2::Socket = socket.into();
        socket.set_recv_buffer_size(4 << 20)?;
        Ok(Wire::Datagrams(socket.into(), peer))
    }

    /// `dress` makes TLS of a connection, or leaves it.
    pub fn stream(socket: TcpStream, dress: impl FnOnce(TcpStream) -> Result<Box<dyn Stream>>) -> Result<Wire> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Wire::Stream(dress(socket)?, Vec::new()))
    }

    pub fn send(&mut self, message: &str) -> Result<()> {
        match self {
            Wire::Datagrams(socket, peer) => drop(socket.send_to(message.as_bytes(), *peer)?),
            Wire::Stream(stream, _) => {
                stream.write_all(message.as_bytes())?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    /// The next message; none when the other side has ended.
    pub fn receive(&mut self) -> Result<Option<String>> {
        match self {
            Wire::Datagrams(socket, peer) => {
                let mut buffer = [0; 8192];
                let (length, from) = socket.recv_from(&mut buffer)?;
                *peer = from;
                Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned()))
            }
            Wire::Stream(stream, buffer) => loop {
                let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                buffer.drain(..blank);
                if let Some(length) = whole(buffer)? {
                    return Ok(Some(String::from_utf8_lossy(&buffer.drain(..length).collect::<Vec<_>>()).into_owned()));
                }
                let mut chunk = [0; 16_384];
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) if buffer.is_empty() => return Ok(None),
                    Ok(0) => bail!("ended in the middle of a message"),
                    Ok(length) => buffer.extend_from_slice(&chunk[..length]),
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}

/// The length of the first message, if it is whole.
fn whole(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head])?;
    let length: usize = super::calls::header(text, "Content-Length").parse()?;
    Ok((bytes.len() >= head + 4 + length).then_some(head + 4 + length))
}
