//! One end of a transfer, with the bytes checked.

use super::pattern;
use stack::Errno;
use stack::socket::FlowId;
use stack::socket::tcp::How;
use stack::stack::Stack;

/// One end of a transfer: sends `len` bytes and a FIN, and checks what it receives.
pub struct Party {
    pub flow: FlowId,
    len: usize,
    sent: usize,
    pub received: usize,
    /// How it ended.
    pub end: Option<Result<(), Errno>>,
}

impl Party {
    pub fn new(flow: FlowId, len: usize) -> Self {
        Party { flow, len, sent: 0, received: 0, end: None }
    }

    /// Sends and receives as much as can be now.
    pub fn act(&mut self, stack: &mut Stack) {
        if self.end.is_some() {
            return;
        }
        self.end = match self.send(stack).and_then(|()| self.receive(stack)) {
            Ok(true) if self.sent == self.len => Some(Ok(())),
            Ok(_) => None,
            Err(errno) => Some(Err(errno)),
        }
    }

    fn send(&mut self, stack: &mut Stack) -> Result<(), Errno> {
        while self.sent < self.len {
            let bytes: Vec<u8> = (self.sent..self.len.min(self.sent + 5000)).map(pattern).collect();
            match stack.tcp_send(self.flow, &bytes) {
                Ok(len) => self.sent += len,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
            if self.sent == self.len {
                stack.tcp_shutdown(self.flow, How::Write)?;
            }
        }
        Ok(())
    }

    /// True at the end of the stream.
    fn receive(&mut self, stack: &mut Stack) -> Result<bool, Errno> {
        let mut buf = [0; 3000];
        loop {
            match stack.tcp_recv(self.flow, &mut buf) {
                Ok(0) => return Ok(true),
                Ok(len) => {
                    let expected = (self.received..).map(pattern);
                    assert!(buf[..len].iter().copied().eq(expected.take(len)), "wrong bytes after {}", self.received);
                    self.received += len;
                }
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
    }
}
