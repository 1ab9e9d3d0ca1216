//! Binding, before anything else is built: a start that cannot listen must say so first.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::syscall;

/// Receiving returns after this time at the latest, so that timers run on an idle socket.
pub(crate) const IDLE: Duration = Duration::from_millis(20);
/// Sending waits for room in the socket's buffer for this time at most.
const SEND_WAIT: Duration = Duration::from_millis(20);
/// Asked of the kernel for each direction; it may grant less (`net.core.rmem_max`, `wmem_max`).
const BUFFER: usize = 4 << 20;

/// A UDP socket that listens, not yet driven.
#[derive(Debug)]
pub struct BoundSocket {
    socket: UdpSocket,
    address: SocketAddr,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}:{}: {}", self.transport, self.address, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Binds a UDP socket; port 0 takes a free one. An IPv6 socket takes IPv6 alone.
///
/// # Errors
/// When the address is taken, is not ours, or may not be bound by this user.
pub fn bind(address: SocketAddr) -> Result<BoundSocket, BindError> {
    open(address).map_err(|source| BindError { transport: "udp", address, source })
}

fn open(address: SocketAddr) -> io::Result<BoundSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Mapped IPv4 sources would defeat comparisons of addresses.
        socket.set_only_v6(true)?;
    }
    socket.set_read_timeout(Some(IDLE))?;
    socket.set_write_timeout(Some(SEND_WAIT))?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    syscall::report_icmp(socket.as_fd(), address.is_ipv6())?;
    // No SO_REUSEADDR: with UDP it would let two processes share an address without a word.
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    let address = socket.local_addr()?;
    Ok(BoundSocket { socket, address })
}

impl BoundSocket {
    /// The bound address, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
