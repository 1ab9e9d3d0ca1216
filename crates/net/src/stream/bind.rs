//! Binding, before anything else is built.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::socket::BindError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A TCP socket that listens, not yet driven.
#[derive(Debug)]
pub struct BoundStream {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

/// Binds a TCP socket; port 0 takes a free one. An IPv6 socket takes IPv6 alone.
///
/// # Errors
/// When the address is taken, is not ours, or may not be bound by this user.
pub fn bind_stream(address: SocketAddr) -> Result<BoundStream, BindError> {
    open(address).map_err(|source| BindError { transport: "tcp", address, source })
}

fn open(address: SocketAddr) -> io::Result<BoundStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process linger; a second listener is refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(BoundStream { socket, address })
}

impl BoundStream {
    /// The bound address, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}
