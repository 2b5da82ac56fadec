//! A smoltcp socket over memory that comes back when it is taken apart, with what stands in it.
//!
//! smoltcp's buffers can be neither resized nor taken out. So they are slices that this file made of regions, and when
//! the socket is dropped the regions are whole again.

use super::arena::Region;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};

/// Where the bytes of a ring stand: from where on, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    start: usize,
    len: usize,
    capacity: usize,
}

impl Ring {
    const EMPTY: Ring = Ring { start: 0, len: 0, capacity: 0 };

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its bytes from the `from`th up to the `to`th, in two parts.
    pub fn of<'a>(&self, region: &'a Region, from: usize, to: usize) -> [&'a [u8]; 2] {
        let memory = &region.bytes()[..self.capacity];
        let (start, end) = (self.start + from, self.start + to.min(self.len));
        match self.capacity {
            capacity if start >= capacity => [&memory[start - capacity..end - capacity], &[]],
            capacity if end > capacity => [&memory[start..], &memory[..end - capacity]],
            _ => [&memory[start..end], &[]],
        }
    }
}

/// A set of one socket, and its buffers' memory.
pub struct LentSocket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    receive: Region,
    send: Region,
}

impl LentSocket {
    /// A closed socket without buffers.
    pub fn new() -> Self {
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(Socket::new(SocketBuffer::new(&mut [][..]), SocketBuffer::new(&mut [][..])));
        LentSocket { set, handle, receive: Region::empty(), send: Region::empty() }
    }

    /// The socket set for smoltcp's interface. The socket in it is not to be moved out.
    pub fn set(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }

    /// The socket.
    #[inline]
    pub fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    /// The socket. It is not to be moved out.
    #[inline]
    pub fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Where the bytes stand that are to be read, and those that are to be sent or acknowledged: of a socket on which
    /// send(2) works, or that has nothing to send.
    pub fn rings(&mut self) -> [Ring; 2] {
        let (received, sending) = (self.receive.address(), self.send.address());
        let socket = self.set.get_mut::<Socket<'static>>(self.handle);
        let (unread, unsent) = (socket.recv_queue(), socket.send_queue());
        let capacity = socket.recv_capacity();
        let start = socket.recv(|bytes| (0, bytes.as_ptr() as usize)).ok();
        let receive = start.filter(|_| unread > 0);
        let receive = receive.map_or(Ring::EMPTY, |at| Ring { start: at - received, len: unread, capacity });
        let capacity = socket.send_capacity();
        // What is free begins where the last byte ends.
        let end = socket.send(|free| (0, free.as_ptr() as usize)).ok();
        let end = end.filter(|_| unsent > 0);
        let start = |end: usize| (end - sending + capacity - unsent) % capacity;
        let send = end.map_or(Ring::EMPTY, |end| Ring { start: start(end), len: unsent, capacity });
        [receive, send]
    }

    /// Puts a new closed socket in place of the old one, over other memory of which it uses so many bytes; returns that
    /// of the old one.
    pub fn replace(&mut self, receive: (Region, usize), send: (Region, usize)) -> [Region; 2] {
        let ((receive, receive_len), (send, send_len)) = (receive, send);
        // The old socket dies first, so that its memory may be the new one's.
        *self.socket_mut() = Socket::new(SocketBuffer::new(&mut [][..]), SocketBuffer::new(&mut [][..]));
        let old = [std::mem::replace(&mut self.receive, receive), std::mem::replace(&mut self.send, send)];
        // SAFETY: the only user of the slice is the socket, which stays in its set, and dies before the region is used.
        let receive = unsafe { self.receive.lend(receive_len) };
        // SAFETY: the same.
        let send = unsafe { self.send.lend(send_len) };
        *self.socket_mut() = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: usize, len: usize, from: usize, to: usize, expected: [&[u8]; 2]) {
        let mut region = Region::map(4096).unwrap();
        // SAFETY: the slice is used no more when the region is.
        let memory = unsafe { region.lend(8) };
        memory.copy_from_slice(b"abcdefgh");
        let ring = Ring { start, len, capacity: 8 };
        assert_eq!(ring.of(&region, from, to), expected);
    }

    #[test]
    fn a_ring_wraps() {
        check(0, 8, 0, 8, [b"abcdefgh", b""]);
        check(0, 0, 0, 0, [b"", b""]);
        check(6, 4, 0, 4, [b"gh", b"ab"]);
        check(6, 4, 0, 2, [b"gh", b""]);
        check(6, 4, 1, 9, [b"h", b"ab"]);
        check(6, 4, 2, 4, [b"ab", b""]);
        check(6, 4, 3, 4, [b"b", b""]);
    }
}
