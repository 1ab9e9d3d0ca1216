//! The batched system calls and the error queue of UDP sockets: all `unsafe` of the workspace.
//!
//! Pointers that the kernel gets lead into boxed slices of the value that makes the call; these are
//! never resized, so a value may move while the pointers stay true.

#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6, socklen_t};
use proxy::Transmit;

/// Datagrams received by one call at most.
pub(crate) const RECEIVE_BATCH: usize = 32;
/// Datagrams sent by one call at most.
pub(crate) const SEND_BATCH: usize = 64;
/// No UDP datagram is longer (IPv6 jumbograms aside).
const BUFFER: usize = 64 << 10;
/// Between buffers: were it a power of two, all would fall on the same cache sets.
const STRIDE: usize = BUFFER + 1088;

/// An address as the kernel reads and writes it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

impl Name {
    fn empty() -> Name {
        // SAFETY: all-zero bytes are a valid value of both members.
        unsafe { zeroed() }
    }

    fn set(&mut self, address: SocketAddr) -> socklen_t {
        match address {
            SocketAddr::V4(address) => {
                self.v4 = sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<sockaddr_in>() as socklen_t
            }
            SocketAddr::V6(address) => {
                self.v6 = sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<sockaddr_in6>() as socklen_t
            }
        }
    }

    fn get(&self) -> Option<SocketAddr> {
        // SAFETY: the family is at the same place in both members, and any bytes are a valid u16.
        let family = c_int::from(unsafe { self.v4.sin_family });
        if family == libc::AF_INET {
            // SAFETY: any bytes are a valid sockaddr_in.
            let name = unsafe { self.v4 };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(name.sin_port))))
        } else if family == libc::AF_INET6 {
            // SAFETY: the value was all zero and the kernel writes integers only: valid.
            let name = unsafe { self.v6 };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            // The flow label of a peer is no part of its address.
            Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id)))
        } else {
            None
        }
    }
}

fn empty_header() -> mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid mmsghdr.
    unsafe { zeroed() }
}

const NOWHERE: iovec = iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Buffers of one receiving thread.
pub(crate) struct Receiver {
    bytes: Box<[u8]>,
    names: Box<[Name]>,
    parts: Box<[iovec]>,
    headers: Box<[mmsghdr]>,
    received: usize,
}

/// One received datagram.
pub(crate) struct Received<'a> {
    pub bytes: &'a [u8],
    pub source: Option<SocketAddr>,
    pub truncated: bool,
}

impl Receiver {
    /// Zeroed pages cost nothing before they are written, so long buffers are free.
    pub fn new() -> Receiver {
        Receiver {
            bytes: vec![0; RECEIVE_BATCH * STRIDE].into(),
            names: vec![Name::empty(); RECEIVE_BATCH].into(),
            parts: vec![NOWHERE; RECEIVE_BATCH].into(),
            headers: vec![empty_header(); RECEIVE_BATCH].into(),
            received: 0,
        }
    }

    /// Waits for one datagram, within the time-out of the socket, and takes what else is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        let bytes = self.bytes.as_mut_ptr();
        for (at, part) in self.parts.iter_mut().enumerate() {
            *part = iovec { iov_base: bytes.wrapping_add(at * STRIDE).cast(), iov_len: BUFFER };
        }
        let names = self.names.as_mut_ptr();
        let parts = self.parts.as_mut_ptr();
        for (at, header) in self.headers.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = names.wrapping_add(at).cast();
            header.msg_namelen = size_of::<Name>() as socklen_t;
            header.msg_iov = parts.wrapping_add(at);
            header.msg_iovlen = 1;
        }
        // SAFETY: each header names one buffer and one address, inside boxes that live in `self`,
        // with their true lengths; nothing else touches these during the call.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                RECEIVE_BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// The datagrams of the last call.
    pub fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        self.headers.iter().take(self.received).enumerate().map(|(at, header)| {
            let len = (header.msg_len as usize).min(BUFFER);
            Received {
                bytes: &self.bytes[at * STRIDE..at * STRIDE + len],
                source: self.names[at].get(),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            }
        })
    }
}

/// Message headers of one sending thread.
pub(crate) struct Batch {
    names: Box<[Name]>,
    parts: Box<[iovec]>,
    headers: Box<[mmsghdr]>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch {
            names: vec![Name::empty(); SEND_BATCH].into(),
            parts: vec![NOWHERE; SEND_BATCH].into(),
            headers: vec![empty_header(); SEND_BATCH].into(),
        }
    }

    /// Sends the first of `sends`, straight from `arena`, as many as one call takes. An error
    /// concerns the very first of them, or is an earlier datagram's that came back.
    pub fn send(&mut self, socket: BorrowedFd<'_>, arena: &[u8], sends: &[Transmit]) -> io::Result<usize> {
        let count = sends.len().min(SEND_BATCH);
        for (at, send) in sends[..count].iter().enumerate() {
            let bytes = arena.get(send.range.clone()).unwrap_or_default();
            self.parts[at] = iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            self.headers[at].msg_hdr.msg_namelen = self.names[at].set(send.hop.address);
        }
        // Taken after the last use of the boxes by name, which would end them.
        let names = self.names.as_mut_ptr();
        let parts = self.parts.as_mut_ptr();
        for (at, header) in self.headers[..count].iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = names.wrapping_add(at).cast();
            header.msg_iov = parts.wrapping_add(at);
            header.msg_iovlen = 1;
        }
        // SAFETY: the first `count` headers name one address each, inside boxes of `self`, and one
        // slice of `arena`, which is borrowed; the kernel only reads these, and writes msg_len.
        let n = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_NOSIGNAL)
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

/// Has ICMP errors told to this socket, which is not connected, and datagrams fragmented on the
/// way where they must be: SIP messages may be long, and a "too big" often comes back to nobody.
pub(crate) fn report_icmp(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        return set(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, 1);
    }
    let _ = set(socket, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
    set(socket, libc::SOL_IP, libc::IP_RECVERR, 1)
}

fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let pointer: *const c_int = &value;
    // SAFETY: the pointer and its length are those of a c_int that outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer.cast(), size_of::<c_int>() as socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for the control messages of one entry; aligned as they must be.
#[repr(C, align(8))]
struct Control([u8; 512]);

/// Takes one entry from the error queue: `buffer[..n]` is the beginning of the datagram that failed,
/// and the flag says whether that means that its transport failed (RFC 3261 §18.4). `None`: the
/// queue is empty.
pub(crate) fn take_error(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(usize, bool)>> {
    let mut control = Control([0; 512]);
    let mut part = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: null pointers and zero lengths are a valid msghdr.
    let mut header: msghdr = unsafe { zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the header names one buffer and one control buffer, both exclusively ours, with their
    // true lengths.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let Ok(n) = usize::try_from(n) else {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    };
    let mut fatal = false;
    // SAFETY: the kernel has filled the header; `control` lives and is aligned.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(&header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole cmsghdr inside `control`.
        let (level, kind) = unsafe { ((*at).cmsg_level, (*at).cmsg_type) };
        if matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)) {
            // SAFETY: a control message of this type begins with a sock_extended_err, by contract
            // of the kernel; the read need not be aligned.
            let error = unsafe { ptr::read_unaligned(libc::CMSG_DATA(at).cast::<libc::sock_extended_err>()) };
            fatal |= is_fatal(&error);
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        at = unsafe { libc::CMSG_NXTHDR(&header, at) };
    }
    Ok(Some((n.min(buffer.len()), fatal)))
}

/// Unreachable host, network, port or protocol, and parameter problem count; time exceeded, source
/// quench and "too big" do not (RFC 3261 §18.4): the next retransmission may get through.
fn is_fatal(error: &libc::sock_extended_err) -> bool {
    match error.ee_origin {
        libc::SO_EE_ORIGIN_LOCAL => true,
        libc::SO_EE_ORIGIN_ICMP => (error.ee_type == 3 && error.ee_code != 4) || error.ee_type == 12,
        libc::SO_EE_ORIGIN_ICMP6 => matches!(error.ee_type, 1 | 4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["192.0.2.7:5060", "[2001:db8::7]:5061", "0.0.0.0:0", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = Name::empty();
            name.set(address);
            assert_eq!(name.get(), Some(address));
        }
        assert_eq!(Name::empty().get(), None);
    }

    #[test]
    fn only_errors_that_stay_are_fatal() {
        let error = |ee_origin, ee_type, ee_code| libc::sock_extended_err {
            ee_errno: 0,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        };
        assert!(is_fatal(&error(libc::SO_EE_ORIGIN_ICMP, 3, 3)), "port unreachable");
        assert!(!is_fatal(&error(libc::SO_EE_ORIGIN_ICMP, 3, 4)), "fragmentation needed");
        assert!(!is_fatal(&error(libc::SO_EE_ORIGIN_ICMP, 11, 0)), "time exceeded");
        assert!(is_fatal(&error(libc::SO_EE_ORIGIN_ICMP6, 1, 4)), "port unreachable, v6");
        assert!(!is_fatal(&error(libc::SO_EE_ORIGIN_ICMP6, 2, 0)), "packet too big");
    }
}
